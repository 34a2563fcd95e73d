//! The requests and the expectations that the checks have in common.

use std::{fmt::Debug, time::Duration};

use coord_tests::rpc::{
    Answer, Api, Bytes, CompactionRequest, DeleteRangeRequest, KeyValue, LeaseGrantRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse,
    ResponseHeader, Stream, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tonic::Code;

/// The rest of a request.
pub(crate) fn rest<T: Default>() -> T {
    T::default()
}

/// No keys and no leases, as a check finds it.
pub(crate) async fn clear(api: &Api) {
    let leases = api.leases(LeaseLeasesRequest {}).await.unwrap().leases;
    for lease in leases {
        let revoked = api.revoke(LeaseRevokeRequest { id: lease.id }).await;
        revoked.unwrap();
    }
    delete(api, "\0", "\0").await;
}

pub(crate) async fn put(api: &Api, key: &'static str, value: &'static str) -> i64 {
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        ..rest()
    };
    revision(&api.put(request).await.unwrap().header)
}

pub(crate) async fn put_leased(api: &Api, key: &'static str, lease: i64) -> i64 {
    let request = PutRequest {
        key: key.into(),
        value: "leased".into(),
        lease,
        ..rest()
    };
    revision(&api.put(request).await.unwrap().header)
}

/// Deletes, and returns the revision of the header.
pub(crate) async fn delete(api: &Api, key: &'static str, end: &'static str) -> i64 {
    let request = DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..rest()
    };
    revision(&api.delete_range(request).await.unwrap().header)
}

pub(crate) async fn compact(api: &Api, revision: i64) {
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    api.compact(request).await.unwrap();
}

pub(crate) async fn grant(api: &Api, id: i64, ttl: i64) {
    api.grant(LeaseGrantRequest { id, ttl }).await.unwrap();
}

/// Everything from a key to an end.
pub(crate) fn all(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..rest()
    }
}

pub(crate) async fn get(api: &Api, key: &'static str) -> Option<KeyValue> {
    let found = api.range(all(key, "")).await.unwrap();
    found.kvs.into_iter().next()
}

pub(crate) async fn now(api: &Api) -> i64 {
    revision(&api.range(all("any", "")).await.unwrap().header)
}

pub(crate) fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

/// The keys of an answer, as text.
pub(crate) fn keys(found: &RangeResponse) -> String {
    joined(found.kvs.iter().map(|kv| &kv.key))
}

pub(crate) fn joined<'a>(keys: impl IntoIterator<Item = &'a Bytes>) -> String {
    let text = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
    let keys: Vec<_> = keys.into_iter().map(text).collect();
    keys.join(" ")
}

#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Answer<T>, code: Code, message: &str) {
    let refused = answer.expect_err("a refusal");
    assert_eq!((refused.code, &*refused.message), (code, message));
}

pub(crate) const NO_KEY: &str = "etcdserver: key is not provided";
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
pub(crate) const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
pub(crate) const NO_LEASE: &str = "etcdserver: requested lease not found";

pub(crate) type Watches = Stream<WatchRequest, WatchResponse>;

/// A watch of all keys from `key` to `end`, from a revision on.
pub(crate) fn from(key: &'static str, end: &'static str, start: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision: start,
        ..rest()
    }
}

/// Asks for a watch; the answer, which is the next one.
pub(crate) async fn create(watches: &mut Watches, request: WatchCreateRequest) -> WatchResponse {
    watches.send(request);
    let created = watches.next().await.unwrap();
    assert!(created.created && created.events.is_empty(), "{created:?}");
    created
}

/// The events up to and with those of a revision, each as `put key=value@revision` or
/// `delete key@revision`.
pub(crate) async fn events(watches: &mut Watches, until: i64) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let message = watches.next().await.unwrap();
        assert!(!message.created && !message.canceled, "{message:?}");
        all.extend(told(&message));
        let last = message.events.last().and_then(|event| event.kv.as_ref());
        if !message.fragment && last.is_some_and(|kv| kv.mod_revision >= until) {
            return all;
        }
    }
}

/// The events of a message, in words.
pub(crate) fn told(message: &WatchResponse) -> Vec<String> {
    let mut all = Vec::new();
    for event in &message.events {
        let kv = event.kv.as_ref().expect("every event has a key");
        let [key, value] = [&kv.key, &kv.value].map(|b| String::from_utf8_lossy(b).into_owned());
        all.push(match event.kind {
            0 => format!("put {key}={value}@{}", kv.mod_revision),
            _ => format!("delete {key}@{}", kv.mod_revision),
        });
    }
    all
}

/// Nothing comes before the answer to a request that was just made: the stream has nothing to say.
pub(crate) async fn silent(watches: &mut Watches) {
    // Long after etcd's next look at the watches that lag.
    let more = watches.next_within(Duration::from_millis(300)).await;
    assert!(more.is_none(), "{more:?}");
}

/// Asks for progress until it is answered.
pub(crate) async fn progress(watches: &mut Watches) -> WatchResponse {
    loop {
        watches.send(WatchProgressRequest {});
        if let Some(answer) = watches.next_within(Duration::from_millis(200)).await {
            return answer.unwrap();
        }
    }
}
