//! Compacting.

use coord_tests::rpc::{
    Api, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use tonic::Code;

use crate::ask::{
    COMPACTED, FUTURE, all, compact, create, delete, events, from, keys, now, put, refused, rest,
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

pub(crate) async fn of_a_key_put_and_deleted_at_the_compacted_revision_the_deletion_is_left(
    api: &Api,
) {
    // etcd does not see that these have a key in common.
    let put_a = PutRequest {
        key: "a".into(),
        ..rest()
    };
    let delete_all = DeleteRangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        ..rest()
    };
    let txn = TxnRequest {
        success: vec![put_a.into(), delete_all.into()],
        ..rest()
    };
    let at = revision(&api.txn(txn).await.unwrap().header);
    let told = async || {
        let mut watches = api.watch();
        create(&mut watches, from("\0", "\0", at)).await;
        events(&mut watches, at).await
    };
    let deletion = format!("delete a@{at}");
    assert_eq!(told().await, [format!("put a=@{at}"), deletion.clone()]);
    compact(api, at).await;
    assert_eq!(told().await, [deletion]);
}
