//! Compacting.

use coord_tests::rpc::{Api, CompactionRequest, RangeRequest};
use tonic::Code;

use crate::ask::{
    COMPACTED, FUTURE, all, compact, create, delete, events, from, keys, now, put, refused,
    revision,
};

pub(crate) async fn revisions_that_can_be_compacted(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "2").await;
    let ask = async |revision| {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        api.compact(request).await
    };
    refused(ask(second + 1).await, Code::OutOfRange, FUTURE);
    let done = ask(first).await.unwrap();
    assert_eq!(revision(&done.header), second);
    for gone in [first, first - 1, 1, 0, -1] {
        refused(ask(gone).await, Code::OutOfRange, COMPACTED);
    }
    ask(second).await.unwrap();
    refused(ask(second).await, Code::OutOfRange, COMPACTED);
    assert_eq!(now(api).await, second);
}

pub(crate) async fn what_is_left(api: &Api) {
    put(api, "a", "1").await;
    put(api, "b", "1").await;
    delete(api, "b", "").await;
    put(api, "a", "2").await;
    let at = put(api, "c", "1").await;
    let after = delete(api, "a", "").await;
    compact(api, at).await;
    let read = async |revision| {
        let request = RangeRequest {
            revision,
            ..all("\0", "\0")
        };
        keys(&api.range(request).await.unwrap())
    };
    assert_eq!(read(at).await, "a c");
    assert_eq!(read(after).await, "c");
    compact(api, after).await;
    assert_eq!(read(after).await, "c");
    assert_eq!(read(0).await, "c");
}

pub(crate) async fn a_tombstone_at_the_compacted_revision_is_left(api: &Api) {
    put(api, "a", "1").await;
    let deleted = delete(api, "a", "").await;
    let last = put(api, "b", "1").await;
    compact(api, deleted).await;
    let mut watches = api.watch();
    create(&mut watches, from("\0", "\0", deleted)).await;
    let told = events(&mut watches, last).await;
    assert_eq!(
        told,
        [format!("delete a@{deleted}"), format!("put b=1@{last}")]
    );
}
