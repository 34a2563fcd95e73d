//! Leases.

use coord_tests::{
    eventually,
    rpc::{
        Api, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
        LeaseTimeToLiveRequest,
    },
};
use tonic::Code;

use crate::ask::{
    NO_LEASE, create, from, get, grant, joined, now, put, put_leased, refused, revision, told,
};

async fn left(api: &Api, id: i64) -> (i64, i64, String) {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let mut left = api.time_to_live(request).await.unwrap();
    assert_eq!(left.id, id);
    left.keys.sort();
    (left.ttl, left.granted_ttl, joined(&left.keys))
}

pub(crate) async fn ids_are_chosen(api: &Api) {
    let before = now(api).await;
    for id in [7, -7, i64::MAX, i64::MIN] {
        let granted = api.grant(LeaseGrantRequest { id, ttl: 60 }).await.unwrap();
        assert_eq!((granted.id, granted.ttl, &*granted.error), (id, 60, ""));
        assert_eq!(revision(&granted.header), before);
        let again = api.grant(LeaseGrantRequest { id, ttl: 90 }).await;
        const EXISTS: &str = "etcdserver: lease already exists";
        refused(again, Code::FailedPrecondition, EXISTS);
    }
    let one = api.grant(LeaseGrantRequest { id: 0, ttl: 60 }).await;
    let other = api.grant(LeaseGrantRequest { id: 0, ttl: 60 }).await;
    let (one, other) = (one.unwrap().id, other.unwrap().id);
    assert!(one > 0 && other > 0 && one != other, "{one} {other}");
}

pub(crate) async fn ttls_have_bounds(api: &Api) {
    // The shortest is that of an etcd with the election timeout that it is shipped with.
    for (id, ttl, wanted) in [(1, 0, 2), (2, -5, 2), (3, 1, 2), (4, 2, 2), (5, 3, 3)] {
        let granted = api.grant(LeaseGrantRequest { id, ttl }).await.unwrap();
        assert_eq!(granted.ttl, wanted, "for {ttl}");
    }
    const LONGEST: i64 = 9_000_000_000;
    let request = LeaseGrantRequest {
        id: 6,
        ttl: LONGEST,
    };
    assert_eq!(api.grant(request).await.unwrap().ttl, LONGEST);
    for ttl in [LONGEST + 1, i64::MAX] {
        let longer = api.grant(LeaseGrantRequest { id: 7, ttl }).await;
        const TOO_LARGE: &str = "etcdserver: too large lease TTL";
        refused(longer, Code::OutOfRange, TOO_LARGE);
    }
    assert_eq!(left(api, 7).await.0, -1);
}

pub(crate) async fn what_is_left_of_a_lease(api: &Api) {
    grant(api, 7, 60).await;
    assert!((30..=60).contains(&left(api, 7).await.0));
    assert_eq!(left(api, 7).await.2, "");
    put_leased(api, "b", 7).await;
    put_leased(api, "a", 7).await;
    let (ttl, granted, keys) = left(api, 7).await;
    assert!((30..=60).contains(&ttl));
    assert_eq!((granted, &*keys), (60, "a b"));
    let without = LeaseTimeToLiveRequest { id: 7, keys: false };
    assert!(api.time_to_live(without).await.unwrap().keys.is_empty());
}

pub(crate) async fn a_lease_that_is_not_there(api: &Api) {
    let before = now(api).await;
    for id in [7, 0, -1] {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let left = api.time_to_live(request).await.unwrap();
        assert_eq!((left.id, left.ttl, left.granted_ttl), (id, -1, 0));
        assert_eq!(revision(&left.header), before);
        let revoked = api.revoke(LeaseRevokeRequest { id }).await;
        refused(revoked, Code::NotFound, NO_LEASE);
        let kept = api.keep_alive(id).await.unwrap();
        assert_eq!((kept.id, kept.ttl), (id, 0));
        assert_eq!(revision(&kept.header), before);
    }
}

pub(crate) async fn keep_alives(api: &Api) {
    grant(api, 7, 60).await;
    grant(api, 8, 90).await;
    let mut stream = api.keep_alives();
    for id in [7, 9, 8, 7] {
        stream.send(LeaseKeepAliveRequest { id });
    }
    for (id, ttl) in [(7, 60), (9, 0), (8, 90), (7, 60)] {
        let kept = stream.next().await.unwrap();
        assert_eq!((kept.id, kept.ttl), (id, ttl));
        assert_eq!(revision(&kept.header), now(api).await);
    }
}

pub(crate) async fn all_leases_by_their_end(api: &Api) {
    let ids = async || {
        let leases = api.leases(LeaseLeasesRequest {}).await.unwrap().leases;
        leases.iter().map(|lease| lease.id).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, [0; 0]);
    for (id, ttl) in [(1, 300), (2, 100), (3, 200)] {
        grant(api, id, ttl).await;
    }
    assert_eq!(ids().await, [2, 3, 1]);
    api.revoke(LeaseRevokeRequest { id: 3 }).await.unwrap();
    assert_eq!(ids().await, [2, 1]);
}

pub(crate) async fn a_revocation_is_one_revision(api: &Api) {
    grant(api, 7, 60).await;
    for key in ["c", "a", "b"] {
        put_leased(api, key, 7).await;
    }
    let before = put(api, "d", "1").await;
    let mut watches = api.watch();
    create(&mut watches, from("\0", "\0", 0)).await;
    let revoked = api.revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    assert_eq!(revision(&revoked.header), before + 1);
    let at = before + 1;
    let message = watches.next().await.unwrap();
    let wanted = ["a", "b", "c"].map(|key| format!("delete {key}@{at}"));
    assert_eq!(told(&message), wanted);
    assert!(get(api, "d").await.is_some());
    assert_eq!(left(api, 7).await.0, -1);
}

pub(crate) async fn a_revocation_without_keys_is_none(api: &Api) {
    let before = put(api, "a", "1").await;
    grant(api, 7, 60).await;
    let revoked = api.revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    assert_eq!(revision(&revoked.header), before);
}

pub(crate) async fn a_put_detaches(api: &Api) {
    grant(api, 7, 60).await;
    grant(api, 8, 60).await;
    for key in ["a", "b", "c"] {
        put_leased(api, key, 7).await;
    }
    put(api, "a", "1").await;
    put_leased(api, "b", 8).await;
    assert_eq!(
        (left(api, 7).await.2, left(api, 8).await.2),
        ("c".into(), "b".into())
    );
    api.revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    assert_eq!(get(api, "a").await.unwrap().lease, 0);
    assert_eq!(get(api, "b").await.unwrap().lease, 8);
    assert_eq!(get(api, "c").await, None);
}

pub(crate) async fn a_keep_alive_begins_the_time_anew(api: &Api) {
    grant(api, 7, 4).await;
    eventually("much of it is over", async || left(api, 7).await.0 <= 1).await;
    // Repeated: on a busy machine seconds may go by before what is left is read.
    eventually("it begins anew", async || {
        assert_eq!(api.keep_alive(7).await.unwrap().ttl, 4);
        left(api, 7).await.0 >= 3
    })
    .await;
}

pub(crate) async fn a_stream_of_keep_alives_ends_with_its_requests(api: &Api) {
    grant(api, 7, 60).await;
    let mut stream = api.keep_alives();
    stream.send(LeaseKeepAliveRequest { id: 7 });
    stream.finish();
    assert_eq!(stream.next().await.unwrap().ttl, 60);
    refused(stream.next().await, Code::Ok, "the stream has ended");
}

pub(crate) async fn leases_that_run_out_are_one_revision_each(api: &Api) {
    grant(api, 7, 2).await;
    grant(api, 8, 2).await;
    grant(api, 9, 60).await;
    grant(api, 10, 2).await;
    for (key, lease) in [("c", 7), ("x", 8), ("a", 7), ("y", 8), ("b", 7), ("d", 9)] {
        put_leased(api, key, lease).await;
    }
    let before = now(api).await;
    let mut watches = api.watch();
    create(&mut watches, from("\0", "\0", 0)).await;
    for lease in [7, 8, 10] {
        eventually("the lease has run out", async || {
            left(api, lease).await.0 == -1
        })
        .await;
    }
    // The one without keys is none; of the others any may be the first.
    assert_eq!(now(api).await, before + 2);
    let mut seen = Vec::new();
    for at in [before + 1, before + 2] {
        let message = watches.next().await.unwrap();
        let told = told(&message).join(" ");
        seen.push(told.replace(&format!("@{at}"), ""));
    }
    seen.sort();
    assert_eq!(seen, ["delete a delete b delete c", "delete x delete y"]);
    assert_eq!(left(api, 9).await.2, "d");
}
