//! The test kit does what it says.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use coord_tests::{
    Backend, Cluster, Etcd, EtcdConfig, Flow, Proxy, Worker, eventually, eventually_within, median,
    on_both,
};
use etcd_client::{Client, ConnectOptions, GetOptions, PutOptions};

async fn value(client: &mut Client, key: &str) -> Option<String> {
    let answer = client.get(key, None).await.expect("a read succeeds");
    answer
        .kvs()
        .first()
        .map(|kv| kv.value_str().expect("text").to_owned())
}

#[tokio::test]
async fn an_etcd_is_killed_and_restarted_with_its_data() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let endpoint = etcd.endpoint();
    let mut client = etcd.client().await;
    client
        .put("key", "kept", None)
        .await
        .expect("a put succeeds");

    etcd.kill();
    client.get("key", None).await.expect_err("nothing answers");
    etcd.restart().await;

    assert_eq!(etcd.endpoint(), endpoint);
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("kept"));
    assert_eq!(
        etcd.etcdctl(&["get", "--print-value-only", "key"])
            .await
            .trim(),
        "kept"
    );
    etcd.restart().await;
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("kept"));
    let dir = etcd.dir().to_owned();
    assert!(dir.exists());
    drop(etcd);
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_stopped_etcd_is_silent_until_it_goes_on() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let mut client = etcd.client().await;
    etcd.stop();
    let mut asked = tokio::spawn(async move { client.get("key", None).await });
    tokio::time::timeout(Duration::from_millis(200), &mut asked)
        .await
        .expect_err("silent");
    etcd.cont();
    asked.await.expect("not cancelled").expect("answered");

    etcd.stop();
    etcd.kill();
    etcd.restart().await;
}

#[tokio::test]
async fn a_lease_of_one_second_is_granted() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let granted = etcd
        .client()
        .await
        .lease_grant(1, None)
        .await
        .expect("granted");
    assert_eq!(granted.ttl(), 1);
}

#[tokio::test]
async fn several_etcds_run_side_by_side() {
    let start = || Etcd::start_or_skip(EtcdConfig::new());
    let (one, two, three, four) = tokio::join!(start(), start(), start(), start());
    let mut endpoints: Vec<_> = [one, two, three, four]
        .iter()
        .flatten()
        .map(Etcd::endpoint)
        .collect();
    let all = endpoints.len();
    endpoints.sort();
    endpoints.dedup();
    assert_eq!(endpoints.len(), all);
}

/// On a cluster, which answers once it has elected a leader.
async fn put_kept(member: &Etcd) {
    let client = member.client().await;
    eventually("a put succeeds", async || {
        client.clone().put("key", "kept", None).await
    })
    .await;
}

async fn has_kept(member: &Etcd) {
    let client = member.client().await;
    let answer = eventually("a read succeeds", async || {
        client.clone().get("key", None).await
    })
    .await;
    assert_eq!(answer.kvs()[0].value(), b"kept");
}

#[tokio::test]
async fn three_members_elect_another_leader() {
    let Some(cluster) = Cluster::start_or_skip(3, EtcdConfig::new()).await else {
        return;
    };
    assert_eq!(cluster.endpoints().len(), 3);
    let first = cluster.leader().await;
    put_kept(cluster.member(first)).await;

    cluster.member(first).kill();
    let second = eventually("another leads", async || {
        let leader = cluster.leader().await;
        (leader != first).then_some(leader)
    })
    .await;
    has_kept(cluster.member(second)).await;
    cluster.member(first).restart().await;
    has_kept(cluster.member(first)).await;
}

#[tokio::test]
async fn a_whole_cluster_comes_back_with_its_data() {
    let Some(cluster) = Cluster::start_or_skip(3, EtcdConfig::new()).await else {
        return;
    };
    put_kept(cluster.member(0)).await;
    cluster.members().iter().for_each(Etcd::kill);
    // None of them answers before another is there.
    cluster.members().iter().for_each(Etcd::launch);
    for member in cluster.members() {
        member.ready().await;
        has_kept(member).await;
    }
}

#[test]
fn an_etcd_that_is_named_is_used_or_the_test_fails() {
    let output = std::process::Command::new(std::env::current_exe().expect("this test's path"))
        .args(["--exact", "a_lease_of_one_second_is_granted"])
        .env("COORD_ETCD_BIN", "/nowhere/etcd")
        .env_remove("COORD_REQUIRE_ETCD")
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let output = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.contains("COORD_ETCD_BIN cannot be used: /nowhere/etcd"),
        "{output}"
    );
}

#[tokio::test]
async fn tls_wants_the_certificates_of_its_authority() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new().tls()).await else {
        return;
    };
    assert!(etcd.endpoint().starts_with("https://"));
    let mut client = etcd.client().await;
    client
        .put("key", "secret", None)
        .await
        .expect("a put succeeds");
    assert_eq!(
        etcd.etcdctl(&["get", "--print-value-only", "key"])
            .await
            .trim(),
        "secret"
    );

    let tls = etcd.tls().expect("it has certificates");
    assert_eq!(fs::read_to_string(tls.ca_path()).expect("a file"), tls.ca());
    let authority = etcd_client::Certificate::from_pem(tls.ca());
    let nameless = etcd_client::TlsOptions::new().ca_certificate(authority);
    let options = ConnectOptions::new().with_tls(nameless);
    let mut stranger = Client::connect([etcd.endpoint()], Some(options))
        .await
        .expect("lazy");
    stranger
        .get("key", None)
        .await
        .expect_err("a client without a certificate is refused");
}

#[tokio::test]
async fn auth_wants_the_root_user() {
    let config = EtcdConfig::new().auth();
    let Some(etcd) = Etcd::start_or_skip(config).await else {
        return;
    };
    etcd.client()
        .await
        .put("key", "kept", None)
        .await
        .expect("root may write");
    assert_eq!(
        etcd.etcdctl(&["get", "--print-value-only", "key"])
            .await
            .trim(),
        "kept"
    );
    let mut stranger = Client::connect([etcd.endpoint()], None)
        .await
        .expect("lazy");
    stranger
        .get("key", None)
        .await
        .expect_err("one who names no user may not read");

    etcd.restart().await;
    assert_eq!(
        value(&mut etcd.client().await, "key").await.as_deref(),
        Some("kept")
    );
}

#[tokio::test]
async fn tls_and_auth_go_together_in_a_cluster() {
    let config = EtcdConfig::new().tls().auth();
    let Some(cluster) = Cluster::start_or_skip(3, config).await else {
        return;
    };
    for member in cluster.members() {
        put_kept(member).await;
    }
}

#[tokio::test]
async fn arguments_reach_etcd() {
    let config = EtcdConfig::new().argument("--max-txn-ops=2");
    let Some(etcd) = Etcd::start_or_skip(config).await else {
        return;
    };
    let three = ["a", "b", "c"].map(|key| etcd_client::TxnOp::put(key, "", None));
    let txn = etcd_client::Txn::new().and_then(three);
    let error = etcd
        .client()
        .await
        .txn(txn)
        .await
        .expect_err("one operation too many");
    assert!(error.to_string().contains("too many operations"), "{error}");
}

/// A client behind a proxy, and one beside it.
async fn behind_a_proxy(etcd: &Etcd) -> (Proxy, Client, Client) {
    let proxy = Proxy::start(&etcd.endpoint()).await;
    let mut behind = Client::connect([proxy.endpoint()], None)
        .await
        .expect("lazy");
    behind
        .put("key", "first", None)
        .await
        .expect("the proxy lets it through");
    (proxy, behind, etcd.client().await)
}

#[tokio::test]
async fn held_replies_arrive_late() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let (proxy, mut behind, mut beside) = behind_a_proxy(&etcd).await;

    proxy.replies(Flow::Hold);
    let put = tokio::spawn(async move { behind.put("key", "second", None).await });
    eventually("the put is applied", async || {
        value(&mut beside, "key").await.as_deref() == Some("second")
    })
    .await;
    assert!(!put.is_finished());
    proxy.heal().await;
    put.await
        .expect("not cancelled")
        .expect("its answer arrives in the end");

    proxy.requests(Flow::Hold);
    let arrived = proxy.sent().arrived;
    let mut behind = Client::connect([proxy.endpoint()], None)
        .await
        .expect("lazy");
    let put = tokio::spawn(async move { behind.put("key", "third", None).await });
    eventually("the proxy has the request", async || {
        proxy.sent().arrived > arrived
    })
    .await;
    assert_eq!(value(&mut beside, "key").await.as_deref(), Some("second"));
    proxy.heal().await;
    put.await
        .expect("not cancelled")
        .expect("it arrives in the end");
    assert_eq!(value(&mut beside, "key").await.as_deref(), Some("third"));
}

#[tokio::test]
async fn what_was_on_its_way_arrives_after_its_sender_has_gone() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let (proxy, mut behind, mut beside) = behind_a_proxy(&etcd).await;
    let mut again = behind.clone();
    let (arrived, large) = (proxy.sent().arrived, "late".repeat(1_000));
    proxy.requests(Flow::Hold);
    let put = tokio::spawn({
        let large = large.clone();
        async move { behind.put("key", large, None).await }
    });
    eventually("the proxy has the request", async || {
        proxy.sent().arrived - arrived > large.len() as u64
    })
    .await;
    // The end of a request is sent by itself: it is there once another request is.
    let (arrived, mut last) = (proxy.sent().arrived, again.clone());
    let last = tokio::spawn(async move { last.get("key", None).await });
    eventually("the proxy has another", async || {
        proxy.sent().arrived - arrived > 40
    })
    .await;
    let mut late = proxy.detach().await;
    assert!(late.bytes() > large.len());
    last.await
        .expect("not cancelled")
        .expect_err("its connection is closed");
    assert_eq!(proxy.connections(), 0);
    put.await
        .expect("not cancelled")
        .expect_err("its connection is closed");

    // The same client, over the same link.
    proxy.heal().await;
    eventually("a second put", async || {
        again.put("key", "second", None).await
    })
    .await;
    assert_eq!(value(&mut beside, "key").await.as_deref(), Some("second"));
    late.deliver().await;
    eventually("the first put is applied after the second", async || {
        value(&mut beside, "key").await.as_ref() == Some(&large)
    })
    .await;
}

#[tokio::test]
async fn lost_replies_end_the_connection_when_the_link_heals() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let (proxy, mut behind, mut beside) = behind_a_proxy(&etcd).await;

    proxy.replies(Flow::Discard);
    let mut again = behind.clone();
    let put = tokio::spawn(async move { behind.put("key", "second", None).await });
    eventually("the put is applied and its answer lost", async || {
        proxy.answered().discarded > 0
            && value(&mut beside, "key").await.as_deref() == Some("second")
    })
    .await;
    assert!(!put.is_finished());
    proxy.heal().await;
    put.await
        .expect("not cancelled")
        .expect_err("its answer is lost for good");
    eventually("the client works again", async || {
        again.get("key", None).await
    })
    .await;
}

#[tokio::test]
async fn a_cut_ends_every_connection_and_admits_new_ones() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let (proxy, mut behind, _) = behind_a_proxy(&etcd).await;
    let (_watcher, mut events) = behind.watch("key", None).await.expect("a watch").split();
    events.message().await.expect("alive").expect("created");

    assert_eq!((proxy.cut().await, proxy.connections()), (1, 0));
    eventually("the watch ends", async || {
        !matches!(events.message().await, Ok(Some(_)))
    })
    .await;
    eventually("the client works again", || {
        let mut behind = behind.clone();
        async move {
            behind
                .get("key", Some(GetOptions::new().with_count_only()))
                .await
        }
    })
    .await;
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn refused_connections_are_refused_by_the_system() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = Proxy::start(&server.local_addr().expect("bound").to_string()).await;
    let mut open = TcpStream::connect(proxy.address()).expect("accepted");
    let (mut served, _) = server.accept().expect("the proxy connects");

    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.address()).expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    open.write_all(b"still")
        .expect("an open connection is not touched");
    let mut bytes = [0; 5];
    served.read_exact(&mut bytes).expect("it arrives");
    proxy.heal().await;
    TcpStream::connect(proxy.address()).expect("accepted again");
}

#[tokio::test]
async fn a_half_open_connection_is_silent() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = Proxy::start(&server.local_addr().expect("bound").to_string()).await;
    let mut client = TcpStream::connect(proxy.address()).expect("accepted");
    let (mut served, _) = server.accept().expect("the proxy connects");

    proxy.half_open();
    assert_eq!(served.read(&mut [0; 8]).expect("closed in order"), 0);
    client
        .write_all(b"anyone?")
        .expect("the client does not know");
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("set");
    let silence = client
        .read(&mut [0; 8])
        .expect_err("neither an answer nor an end");
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(proxy.connections(), 1);
    drop(client);
    eventually("the proxy lets go", async || proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_delay_delays_each_way_and_keeps_the_order() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = Proxy::start(&server.local_addr().expect("bound").to_string()).await;
    let mut client = TcpStream::connect(proxy.address()).expect("accepted");
    let (mut served, _) = server.accept().expect("the proxy connects");

    let delay = Duration::from_millis(150);
    proxy.flow(Flow::Delay(delay));
    let started = Instant::now();
    client.write_all(b"12").expect("sent");
    client.write_all(b"34").expect("sent");
    let mut bytes = [0; 4];
    served.read_exact(&mut bytes).expect("it arrives");
    assert_eq!(&bytes, b"1234");
    assert!(started.elapsed() >= delay);
    served.write_all(b"back").expect("sent");
    client.read_exact(&mut bytes).expect("it arrives");
    assert!(started.elapsed() >= 2 * delay);

    served.write_all(b"late").expect("sent");
    proxy.heal().await;
    client.read_exact(&mut bytes).expect("it arrives");
    drop(served);
    assert_eq!(client.read(&mut bytes).expect("the end comes through"), 0);
}

on_both! {
    a_backend_is_away_and_comes_back_with_its_data,
    a_stopped_backend_is_silent_until_it_goes_on,
    a_lease_that_is_expired_takes_its_keys_along,
    a_backend_is_put_back_to_what_it_was,
    a_backend_without_its_data_is_as_new,
}

/// Puts a key under a lease of so many seconds.
async fn put_leased(client: &mut Client, key: &str, seconds: i64) -> i64 {
    let lease = client.lease_grant(seconds, None).await;
    let lease = lease.expect("a grant succeeds").id();
    let leased = Some(PutOptions::new().with_lease(lease));
    let put = client.put(key, "leased", leased).await;
    put.expect("a put succeeds");
    lease
}

async fn a_backend_is_away_and_comes_back_with_its_data(server: Backend) {
    let (endpoint, mut client) = (server.endpoint(), server.client().await);
    let lease = put_leased(&mut client, "key", 6).await;
    let address = endpoint.trim_start_matches("http://").to_owned();
    server.kill();
    client.get("key", None).await.expect_err("nothing answers");
    let closed = TcpStream::connect(&address)
        .and_then(|mut stream| stream.read_exact(&mut [0]))
        .expect_err("nothing to read");
    assert_ne!(closed.kind(), std::io::ErrorKind::WouldBlock);
    // Longer than the lease would have lived.
    let away = Instant::now();
    eventually("seven seconds", async || {
        away.elapsed() > Duration::from_secs(7)
    })
    .await;
    server.restart().await;

    assert_eq!(server.endpoint(), endpoint);
    let mut client = server.client().await;
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("leased"));
    let left = client.lease_time_to_live(lease, None).await;
    assert!(left.expect("an answer").ttl() >= 1);
}

async fn a_stopped_backend_is_silent_until_it_goes_on(server: Backend) {
    let mut client = server.client().await;
    server.stop();
    let mut asked = tokio::spawn(async move { client.get("key", None).await });
    tokio::time::timeout(Duration::from_millis(200), &mut asked)
        .await
        .expect_err("silent");
    server.cont();
    asked.await.expect("not cancelled").expect("answered");
}

async fn a_lease_that_is_expired_takes_its_keys_along(server: Backend) {
    let mut client = server.client().await;
    let lease = put_leased(&mut client, "key", 300).await;
    server.expire_lease(lease).await;
    assert_eq!(value(&mut client, "key").await, None);
}

async fn a_backend_is_put_back_to_what_it_was(server: Backend) {
    let mut client = server.client().await;
    client.put("kept", "first", None).await.expect("put");
    let kept = put_leased(&mut client, "leased", 300).await;
    let saved = server.save().await;
    let mut client = server.client().await;
    let second = client.put("kept", "second", None).await.expect("put");
    let second = second.header().expect("a header").revision();
    let lost = put_leased(&mut client, "later", 300).await;
    server.restore(&saved).await;

    let mut client = server.client().await;
    assert_eq!(value(&mut client, "kept").await.as_deref(), Some("first"));
    assert_eq!(
        value(&mut client, "leased").await.as_deref(),
        Some("leased")
    );
    assert_eq!(value(&mut client, "later").await, None);
    let leases = client.leases().await.expect("an answer");
    let leases: Vec<_> = leases.leases().iter().map(|lease| lease.id()).collect();
    assert_eq!(leases, [kept], "{lost} was never granted");
    // Its revision is given out anew.
    let again = client.put("kept", "again", None).await.expect("put");
    assert_eq!(again.header().expect("a header").revision(), second);
}

async fn a_backend_without_its_data_is_as_new(server: Backend) {
    let mut client = server.client().await;
    put_leased(&mut client, "key", 300).await;
    server.lose_data().await;
    let mut client = server.client().await;
    let all = GetOptions::new().with_all_keys();
    let found = client.get("", Some(all)).await.expect("a read succeeds");
    assert_eq!(found.count(), 0);
    assert_eq!(found.header().expect("a header").revision(), 1);
    let leases = client.leases().await.expect("an answer");
    assert!(leases.leases().is_empty());
}

#[tokio::test]
async fn a_worker_talks_stops_and_dies() {
    let mut worker = Worker::spawn("echo", &["loudly"]);
    worker.say("held 7");
    assert_eq!(worker.expect("HELD").await, "7");

    worker.stop();
    worker.say("now");
    assert_eq!(worker.try_line(), None);
    worker.cont();
    assert_eq!(worker.line().await, "NOW");
    worker.kill();
    assert!(!worker.ended().await.success());

    let polite = Worker::spawn("echo", &[]);
    assert!(polite.finish().await.success());
    let mut failing = Worker::spawn("echo", &[]);
    failing.say("fail");
    assert!(!failing.ended().await.success());
    assert!(failing.errors().contains("told to fail"));
    assert_eq!(Worker::spawn("no such", &[]).ended().await.code(), Some(2));
}

#[tokio::test]
async fn what_a_killed_process_had_started_is_gone() {
    if coord_tests::etcd::installed().is_none() {
        return;
    }
    let mut worker = Worker::spawn("etcd", &[]);
    let started = worker.expect("started").await;
    let (endpoint, dir) = started.split_once(' ').expect("an endpoint and a folder");
    let address = endpoint.trim_start_matches("http://").to_owned();
    TcpStream::connect(&address).expect("it listens");
    worker.kill();
    eventually("the etcd is gone", async || {
        TcpStream::connect(&address).is_err()
    })
    .await;
    eventually("its data is gone", async || !Path::new(dir).exists()).await;
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: the moon is blue, at tests/tests/kit.rs")]
async fn a_condition_that_never_holds_is_named() {
    eventually_within(Duration::from_millis(20), "the moon is blue", async || {
        false
    })
    .await;
}

#[test]
fn the_median_is_in_the_middle() {
    assert_eq!(median(&[3, 1, 2]), 2);
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.0);
    assert_eq!(median(&[Duration::from_secs(5)]), Duration::from_secs(5));
}
