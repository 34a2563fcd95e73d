//! The client against a real etcd: what our data becomes there, and what comes back.

use super::*;
use crate::options::Secret;

fn put(key: &str, value: &str, lease: i64) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        lease,
    }
}

fn key(key: &str) -> Span {
    Span::Key(key.into())
}

fn all() -> Span {
    Span::Interval(b"a".to_vec(), b"z".to_vec())
}

#[tokio::test]
async fn ranges_and_transactions_mean_the_same_to_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;

    let lease = client
        .lease_grant(77, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(lease.ttl, Duration::from_secs(60));
    let again = client
        .lease_grant(77, Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(
        (again.certainty, again.reason),
        (Certainty::Refused, Reason::LeaseExists)
    );

    // Create b before a, so that the orders differ.
    let create = |name: &str, lease| Txn {
        when: vec![Compare::create_revision(key(name), CompareOp::Equal, 0)],
        then: vec![put(name, "1", lease)],
        otherwise: vec![Op::Get(Range::new(key(name)))],
    };
    assert!(client.txn(create("b", 77)).await.unwrap().succeeded);
    assert!(client.txn(create("a", 0)).await.unwrap().succeeded);
    let refused = client.txn(create("a", 0)).await.unwrap();
    assert!(!refused.succeeded);
    let [OpReply::Get(found)] = refused.replies.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!(found.kvs[0].value, b"1");
    assert_eq!(found.kvs[0].mod_revision, refused.header.revision);
    let before = refused.header.revision;

    let keys = async |range: Range| {
        let reply = client.range(range).await.unwrap();
        let keys = reply
            .kvs
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
        (keys.collect::<Vec<_>>().join(""), reply.count, reply.more)
    };
    let range = || Range::new(all());
    assert_eq!(keys(range()).await, ("ab".into(), 2, false));
    assert_eq!(
        keys(Range {
            limit: 1,
            ..range()
        })
        .await,
        ("a".into(), 2, true)
    );
    let by_creation = Range {
        order: Order::CreateAscending,
        ..range()
    };
    assert_eq!(keys(by_creation).await.0, "ba");
    let newest = Range {
        order: Order::CreateDescending,
        limit: 1,
        ..range()
    };
    assert_eq!(keys(newest).await.0, "a");
    let recent = Range {
        min_mod_revision: before,
        ..range()
    };
    assert_eq!(keys(recent).await.0, "a");
    let old = Range {
        max_create_revision: before - 1,
        ..range()
    };
    assert_eq!(keys(old).await.0, "b");
    assert_eq!(
        keys(Range {
            revision: before - 1,
            ..range()
        })
        .await
        .0,
        "b"
    );
    assert_eq!(
        keys(Range {
            count_only: true,
            ..range()
        })
        .await,
        (String::new(), 2, false)
    );
    let names = client
        .range(Range {
            keys_only: true,
            serializable: true,
            ..range()
        })
        .await
        .unwrap();
    assert!(names.kvs.iter().all(|kv| kv.value.is_empty()));
    assert_eq!(names.kvs[1].lease, 77);

    // Every target and operator, over a key and over an interval; nested; with deletes.
    let when = |span, op, target| Compare { span, op, target };
    let reply = client
        .txn(Txn {
            when: vec![
                when(key("a"), CompareOp::Equal, Target::Value(b"1".to_vec())),
                when(key("a"), CompareOp::NotEqual, Target::Version(2)),
                when(all(), CompareOp::Less, Target::CreateRevision(before + 1)),
                when(all(), CompareOp::Greater, Target::ModRevision(0)),
                when(key("b"), CompareOp::Equal, Target::Lease(77)),
            ],
            then: vec![
                put("c", "2", 0),
                Op::Txn(Txn {
                    when: vec![when(key("b"), CompareOp::Equal, Target::Lease(1))],
                    then: vec![],
                    otherwise: vec![Op::Get(Range::new(all()))],
                }),
                Op::Delete {
                    span: key("a"),
                    prev: true,
                },
                Op::Delete {
                    span: Span::Interval(b"a".to_vec(), b"c".to_vec()),
                    prev: false,
                },
            ],
            otherwise: vec![],
        })
        .await
        .unwrap();
    assert!(reply.succeeded);
    let [
        OpReply::Put,
        OpReply::Txn(nested),
        OpReply::Delete(one),
        OpReply::Delete(rest),
    ] = reply.replies.as_slice()
    else {
        panic!("{reply:?}")
    };
    assert!(!nested.succeeded);
    assert_eq!(nested.header, Header::default());
    let [OpReply::Get(seen)] = nested.replies.as_slice() else {
        panic!("{nested:?}")
    };
    assert_eq!(seen.kvs.len(), 3, "it sees the put before it");
    assert_eq!((one.deleted, one.prev[0].key.as_slice()), (1, &b"a"[..]));
    assert_eq!((rest.deleted, rest.prev.len()), (1, 0));

    let twice = Txn {
        then: vec![put("d", "1", 0), put("d", "2", 0)],
        ..Txn::default()
    };
    let error = client.txn(twice).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Refused, Reason::Invalid)
    );
    let unknown_lease = Txn {
        then: vec![put("d", "1", 12345)],
        ..Txn::default()
    };
    let error = client.txn(unknown_lease).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Refused, Reason::LeaseNotFound)
    );
    let error = client
        .range(Range {
            revision: 1000,
            ..range()
        })
        .await
        .unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Refused, Reason::FutureRevision)
    );

    // A reply above tonic's own limit of 4 MiB.
    for name in ["m1", "m2", "m3", "m4", "m5"] {
        let then = vec![put(name, &"x".repeat(1024 * 1024), 0)];
        client
            .txn(Txn {
                then,
                ..Txn::default()
            })
            .await
            .unwrap();
    }
    assert_eq!(client.range(range()).await.unwrap().kvs.len(), 6);

    let ConnectionState::Connected {
        version: Some(version),
        ..
    } = client.connection()
    else {
        panic!("{:?}", client.connection())
    };
    let member = names.header.member_id;
    assert_eq!(client.version_of(member).await, Some(version));
    assert_eq!(client.version_of(member + 1).await, None);
}

#[tokio::test]
async fn leases_live_and_die_on_one_stream() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    for id in [1, 2] {
        client
            .lease_grant(id, Duration::from_secs(30))
            .await
            .unwrap();
    }
    let mut stream = client.keep_alives().await.unwrap();
    // The first one is gone, and that is an answer, not an error.
    for id in [99, 1, 2, 1] {
        stream.send(id).await.unwrap();
    }
    let ttl = Some(Duration::from_secs(30));
    for (lease, ttl) in [(99, None), (1, ttl), (2, ttl), (1, ttl)] {
        assert_eq!(stream.next().await.unwrap(), Some(KeepAlive { lease, ttl }));
    }
    client.lease_revoke(1).await.unwrap();
    stream.send(1).await.unwrap();
    let gone = KeepAlive {
        lease: 1,
        ttl: None,
    };
    assert_eq!(stream.next().await.unwrap(), Some(gone));

    let gone = client.lease_revoke(1).await.unwrap_err();
    assert_eq!(
        (gone.certainty, gone.reason),
        (Certainty::Refused, Reason::LeaseNotFound)
    );
    assert_eq!(client.lease_time_to_live(1).await.unwrap().remaining, None);
    let alive = client.lease_time_to_live(2).await.unwrap();
    assert_eq!(alive.granted, Duration::from_secs(30));
    assert!(alive.remaining.is_some_and(|left| left <= alive.granted));
}

#[tokio::test]
async fn a_watch_brings_created_events_progress_and_cancels() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    let request = |span, start_revision, no_put| WatchRequest {
        span,
        start_revision,
        no_put,
    };
    let mut watch = client.watch(request(all(), 0, false)).await.unwrap();
    let created = watch.next().await.unwrap().unwrap();
    assert!(created.created && !created.canceled);
    let mut deletions = client.watch(request(key("a"), 0, true)).await.unwrap();
    assert!(deletions.next().await.unwrap().unwrap().created);

    let then = vec![put("a", "1", 0), put("b", "1", 0)];
    let written = client
        .txn(Txn {
            then,
            ..Txn::default()
        })
        .await
        .unwrap();
    let message = watch.next().await.unwrap().unwrap();
    assert_eq!(message.events.len(), 2);
    for (event, name) in message.events.iter().zip([b"a", b"b"]) {
        assert_eq!(event.kind, EventKind::Put);
        assert_eq!(event.kv.key, name);
        assert_eq!(event.kv.mod_revision, written.header.revision);
    }
    watch.request_progress().await.unwrap();
    let progress = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (progress.watch_id, progress.header.revision),
        (-1, written.header.revision)
    );

    let then = vec![Op::Delete {
        span: key("a"),
        prev: false,
    }];
    client
        .txn(Txn {
            then,
            ..Txn::default()
        })
        .await
        .unwrap();
    let deleted = deletions.next().await.unwrap().unwrap();
    assert_eq!(deleted.events.len(), 1, "the put before it was left out");
    assert_eq!(deleted.events[0].kind, EventKind::Delete);

    // What lagged behind comes in as many messages as etcd likes.
    let big = "x".repeat(900 * 1024);
    for name in ["m1", "m2", "m3"] {
        let then = vec![put(name, &big, 0)];
        client
            .txn(Txn {
                then,
                ..Txn::default()
            })
            .await
            .unwrap();
    }
    let from = deleted.header.revision + 1;
    let mut behind = client.watch(request(all(), from, false)).await.unwrap();
    assert!(behind.next().await.unwrap().unwrap().created);
    let mut revisions = Vec::new();
    while revisions.len() < 3 {
        let message = behind.next().await.unwrap().unwrap();
        revisions.extend(message.events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(revisions, [from, from + 1, from + 2]);

    let now = deleted.header.revision;
    let mut admin = etcd_client::Client::connect([&etcd.endpoint], None)
        .await
        .unwrap();
    admin.compact(now, None).await.unwrap();
    let mut late = client.watch(request(all(), 1, false)).await.unwrap();
    assert!(late.next().await.unwrap().unwrap().created);
    let cancel = late.next().await.unwrap().unwrap();
    assert!(cancel.canceled);
    assert_eq!(cancel.compact_revision, now);
}

#[tokio::test]
async fn a_user_signs_in_and_a_wrong_password_is_denied() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    let mut admin = etcd_client::Client::connect([&etcd.endpoint], None)
        .await
        .unwrap();
    admin.user_add("root", "secret", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.auth_enable().await.unwrap();

    let error = client.range(Range::new(all())).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Refused, Reason::Denied)
    );

    let options = |password: &str| Options {
        endpoints: vec![etcd.endpoint.clone()],
        user: Some("root".into()),
        password: Some(Secret::new(password)),
        ..Options::default()
    };
    let error = here.open(&options("wrong")).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(!format!("{error:?}").contains("wrong"));

    let client = here.open(&options("secret")).await.unwrap();
    client.range(Range::new(all())).await.unwrap();
    client.refresh_token().await.unwrap();
    // A change of the users makes every older token stale; the call signs in again by itself.
    let user = etcd_client::ConnectOptions::new().with_user("root", "secret");
    let mut admin = etcd_client::Client::connect([&etcd.endpoint], Some(user))
        .await
        .unwrap();
    admin.user_add("other", "secret", None).await.unwrap();
    client.range(Range::new(all())).await.unwrap();
    client
        .lease_grant(5, Duration::from_secs(30))
        .await
        .unwrap();
    let mut stream = client.keep_alives().await.unwrap();
    stream.send(5).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().ttl.is_some());
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_checks_both_sides() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, &ca_key);
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (server_cert, server_key) = signed("etcd.test");
    let (client_cert, client_key) = signed("client.test");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca_file = file("ca.pem", &ca_pem);
    let arguments = [
        format!("--cert-file={}", file("server.pem", &server_cert)),
        format!("--key-file={}", file("server.key", &server_key)),
        format!("--trusted-ca-file={ca_file}"),
        "--client-cert-auth".to_owned(),
    ];
    let Some(etcd) = Etcd::start_with("https", &arguments) else {
        return;
    };
    let here = Here::new();
    let mut options = etcd.options();
    options.tls.ca = Some(ca_file.into());
    options.tls.cert = Some(client_cert.into());
    options.tls.key = Some(file("client.key", &client_key).into());
    options.tls.server_name = Some("etcd.test".into());
    let client = open_once_up(&here, &options).await;
    client.range(Range::new(all())).await.unwrap();
    // Without a scheme, TLS is meant since there are certificates.
    options.endpoints = vec![etcd.endpoint.replace("https://", "")];
    here.open(&options).await.unwrap();

    let refused = async |change: fn(&mut Options), words: &str| {
        let mut options = options.clone();
        change(&mut options);
        let error = here.open(&options).await.unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    };
    refused(|options| options.tls.server_name = None, "certificate").await;
    refused(|options| options.tls.ca = None, "certificate").await;
    let no_identity = |options: &mut Options| (options.tls.cert, options.tls.key) = (None, None);
    refused(no_identity, "etcd").await;
    refused(|options| options.tls.key = None, "`tls.key`").await;
    refused(
        |options| options.tls.ca = Some("/no/such".into()),
        "/no/such",
    )
    .await;
    refused(
        |options| options.endpoints = vec!["http://h:1".into()],
        "plain text",
    )
    .await;
}
