//! Deleting.

use coord_tests::rpc::{Api, DeleteRangeRequest};
use tonic::Code;

use crate::ask::{NO_KEY, all, delete, get, joined, keys, now, put, refused, rest, revision};

pub(crate) async fn nothing_deleted_is_no_revision(api: &Api) {
    let before = put(api, "a", "1").await;
    for (key, end) in [("b", ""), ("b", "c"), ("b", "a"), ("a", "a")] {
        assert_eq!(
            delete(api, key, end).await,
            before,
            "from {key:?} to {end:?}"
        );
    }
    assert_eq!(now(api).await, before);
}

pub(crate) async fn a_range_is_one_revision(api: &Api) {
    let mut last = 0;
    for key in ["a", "b", "c", "d"] {
        last = put(api, key, "1").await;
    }
    assert_eq!(delete(api, "b", "d").await, last + 1);
    assert_eq!(keys(&api.range(all("\0", "\0")).await.unwrap()), "a d");
    assert_eq!(delete(api, "b", "\0").await, last + 2);
    assert_eq!(keys(&api.range(all("\0", "\0")).await.unwrap()), "a");
}

pub(crate) async fn what_a_deletion_returns(api: &Api) {
    put(api, "a", "1").await;
    put(api, "b", "2").await;
    let before = api.range(all("a", "\0")).await.unwrap().kvs;
    let request = DeleteRangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        prev_kv: true,
    };
    let deleted = api.delete_range(request.clone()).await.unwrap();
    assert_eq!((deleted.deleted, deleted.prev_kvs), (2, before));
    let again = api.delete_range(request).await.unwrap();
    assert_eq!((again.deleted, again.prev_kvs.len()), (0, 0));

    put(api, "a", "1").await;
    let silent = DeleteRangeRequest {
        key: "a".into(),
        ..rest()
    };
    let deleted = api.delete_range(silent).await.unwrap();
    assert_eq!(
        (
            deleted.deleted,
            &*joined(deleted.prev_kvs.iter().map(|kv| &kv.key))
        ),
        (1, "")
    );
    assert_eq!(revision(&deleted.header), now(api).await);
}

pub(crate) async fn a_key_that_comes_back_is_new(api: &Api) {
    put(api, "a", "1").await;
    put(api, "a", "2").await;
    delete(api, "a", "").await;
    assert_eq!(get(api, "a").await, None);
    let again = put(api, "a", "3").await;
    let kv = get(api, "a").await.unwrap();
    let revisions = (kv.create_revision, kv.mod_revision, kv.version);
    assert_eq!(revisions, (again, again, 1));
}

pub(crate) async fn a_key_is_needed(api: &Api) {
    let nameless = DeleteRangeRequest {
        range_end: "b".into(),
        ..rest()
    };
    let nameless = api.delete_range(nameless).await;
    refused(nameless, Code::InvalidArgument, NO_KEY);
}
