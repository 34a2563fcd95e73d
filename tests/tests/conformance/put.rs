//! Writing one key.

use coord_tests::rpc::{Api, Bytes, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use tonic::Code;

use crate::ask::{NO_KEY, NO_LEASE, get, grant, now, put, put_leased, refused, rest, revision};

pub(crate) async fn every_put_is_a_revision(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "1").await;
    assert_eq!(second, first + 1);
    let kv = get(api, "a").await.unwrap();
    let revisions = (kv.create_revision, kv.mod_revision, kv.version);
    assert_eq!(revisions, (first, second, 2));
}

pub(crate) async fn what_a_put_returns(api: &Api) {
    let request = PutRequest {
        key: "a".into(),
        value: "1".into(),
        prev_kv: true,
        ..rest()
    };
    assert_eq!(api.put(request.clone()).await.unwrap().prev_kv, None);
    let before = get(api, "a").await;
    assert_eq!(api.put(request.clone()).await.unwrap().prev_kv, before);
    let silent = PutRequest {
        prev_kv: false,
        ..request
    };
    assert_eq!(api.put(silent).await.unwrap().prev_kv, None);
}

pub(crate) async fn values_that_are_kept(api: &Api) {
    let keep = PutRequest {
        key: "a".into(),
        ignore_value: true,
        ..rest()
    };
    let before = now(api).await;
    let missing = api.put(keep.clone()).await;
    refused(missing, Code::InvalidArgument, "etcdserver: key not found");
    let both = PutRequest {
        value: "2".into(),
        ..keep.clone()
    };
    let both = api.put(both).await;
    refused(both, Code::InvalidArgument, "etcdserver: value is provided");
    assert_eq!(now(api).await, before);

    grant(api, 7, 60).await;
    put_leased(api, "a", 7).await;
    api.put(keep).await.unwrap();
    let kv = get(api, "a").await.unwrap();
    // The value is kept; the lease is not.
    assert_eq!((&*kv.value, kv.version, kv.lease), (&b"leased"[..], 2, 0));
}

pub(crate) async fn leases_that_are_kept(api: &Api) {
    let keep = PutRequest {
        key: "a".into(),
        value: "2".into(),
        ignore_lease: true,
        ..rest()
    };
    let missing = api.put(keep.clone()).await;
    refused(missing, Code::InvalidArgument, "etcdserver: key not found");
    let both = PutRequest {
        lease: 7,
        ..keep.clone()
    };
    let both = api.put(both).await;
    refused(both, Code::InvalidArgument, "etcdserver: lease is provided");

    grant(api, 7, 60).await;
    put_leased(api, "a", 7).await;
    api.put(keep).await.unwrap();
    let kv = get(api, "a").await.unwrap();
    assert_eq!((&*kv.value, kv.lease), (&b"2"[..], 7));

    let keep_both = PutRequest {
        key: "a".into(),
        ignore_lease: true,
        ignore_value: true,
        ..rest()
    };
    api.put(keep_both).await.unwrap();
    let kv = get(api, "a").await.unwrap();
    assert_eq!((&*kv.value, kv.lease, kv.version), (&b"2"[..], 7, 3));
}

pub(crate) async fn a_lease_must_be_there(api: &Api) {
    let before = now(api).await;
    for lease in [7, -1, i64::MAX] {
        let request = PutRequest {
            key: "a".into(),
            lease,
            ..rest()
        };
        refused(api.put(request).await, Code::NotFound, NO_LEASE);
    }
    assert_eq!(now(api).await, before);
}

pub(crate) async fn a_key_is_needed(api: &Api) {
    let nameless = PutRequest {
        value: "1".into(),
        ignore_value: true,
        ignore_lease: true,
        lease: 7,
        ..rest()
    };
    let nameless = api.put(nameless).await;
    refused(nameless, Code::InvalidArgument, NO_KEY);
}

pub(crate) async fn requests_have_a_size(api: &Api) {
    let sized = async |size: usize| {
        let request = PutRequest {
            key: "a".into(),
            value: vec![b'x'; size].into(),
            ..rest()
        };
        api.put(request).await
    };
    const MIB: usize = 1024 * 1024;
    let fits = sized(MIB + MIB / 2 - 100).await.unwrap();
    assert!(revision(&fits.header) > 0);
    const LARGE: &str = "etcdserver: request is too large";
    refused(sized(MIB + MIB / 2).await, Code::InvalidArgument, LARGE);
    refused(sized(2 * MIB - 100).await, Code::InvalidArgument, LARGE);
    let too_large = sized(2 * MIB + 100).await.expect_err("a refusal");
    assert_eq!(too_large.code, Code::ResourceExhausted);
    let (before, after) = ("grpc: received message larger than max (", " vs. 2097152)");
    let message = &too_large.message;
    assert!(
        message.starts_with(before) && message.ends_with(after),
        "{message}"
    );

    // So has everything that goes into etcd's log, and nothing else has.
    let key = Bytes::from(vec![b'x'; MIB + MIB / 2]);
    let deletion = DeleteRangeRequest {
        key: key.clone(),
        ..rest()
    };
    let deletion = api.delete_range(deletion).await;
    refused(deletion, Code::InvalidArgument, LARGE);
    let read = RangeRequest { key, ..rest() };
    assert_eq!(api.range(read.clone()).await.unwrap().count, 0);
    let reads = TxnRequest {
        success: vec![read.into()],
        ..rest()
    };
    assert!(api.txn(reads.clone()).await.unwrap().succeeded);
    let nested = TxnRequest {
        success: vec![reads.into()],
        ..rest()
    };
    refused(api.txn(nested).await, Code::InvalidArgument, LARGE);
}
