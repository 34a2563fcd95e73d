//! Transactions.

use coord_tests::rpc::{
    Answer, Api, Bytes, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse, compare::TargetUnion, response_op,
};
use tonic::Code;

use crate::ask::{
    COMPACTED, FUTURE, NO_KEY, NO_LEASE, all, compact, create, from, get, grant, keys, now, put,
    put_leased, refused, rest, revision, told,
};

const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;

fn compare(key: &'static str, result: i32, target_union: TargetUnion) -> Compare {
    let target = match &target_union {
        TargetUnion::Version(_) => 0,
        TargetUnion::CreateRevision(_) => 1,
        TargetUnion::ModRevision(_) => 2,
        TargetUnion::Value(_) => 3,
        TargetUnion::Lease(_) => 4,
    };
    Compare {
        result,
        target,
        key: key.into(),
        target_union: Some(target_union),
        ..rest()
    }
}

fn puts(key: &'static str, value: &'static str) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..rest()
    };
    put.into()
}

fn deletes(key: &'static str, end: &'static str) -> RequestOp {
    let delete = DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..rest()
    };
    delete.into()
}

fn reads(key: &'static str, end: &'static str) -> RequestOp {
    all(key, end).into()
}

/// A transaction that does these, whatever there is.
fn does(success: impl Into<Vec<RequestOp>>) -> TxnRequest {
    TxnRequest {
        success: success.into(),
        ..rest()
    }
}

/// A nested one that has only this in one of its branches.
fn nested(then: bool, op: RequestOp) -> RequestOp {
    let ops = vec![op];
    let txn = if then {
        does(ops)
    } else {
        TxnRequest {
            failure: ops,
            ..rest()
        }
    };
    txn.into()
}

async fn holds(api: &Api, compare: Compare) -> bool {
    let txn = TxnRequest {
        compare: vec![compare],
        ..rest()
    };
    api.txn(txn).await.unwrap().succeeded
}

/// The answer to the operation at a place, if that was a read.
fn read(txn: &TxnResponse, at: usize) -> (String, ResponseHeader) {
    match &txn.responses[at] {
        ResponseOp {
            response: Some(response_op::Response::Range(range)),
        } => (keys(range), range.header.clone().expect("a header")),
        other => panic!("{other:?} is no answer to a read"),
    }
}

fn inner(txn: &TxnResponse, at: usize) -> &TxnResponse {
    match &txn.responses[at].response {
        Some(response_op::Response::Txn(inner)) => inner,
        other => panic!("{other:?} is no answer to a transaction"),
    }
}

pub(crate) async fn every_target_and_operator(api: &Api) {
    grant(api, 7, 60).await;
    let created = put(api, "a", "1").await;
    let changed = put_leased(api, "a", 7).await;
    type Target = fn(i64) -> TargetUnion;
    let numbers: [(Target, i64); 4] = [
        (TargetUnion::Version, 2),
        (TargetUnion::CreateRevision, created),
        (TargetUnion::ModRevision, changed),
        (TargetUnion::Lease, 7),
    ];
    for (target, is) in numbers {
        for (with, wanted) in [
            (is - 1, [false, true, false, true]),
            (is, [true, false, false, false]),
            (is + 1, [false, false, true, true]),
        ] {
            for (operator, wanted) in [EQUAL, GREATER, LESS, NOT_EQUAL].into_iter().zip(wanted) {
                let compare = compare("a", operator, target(with));
                assert_eq!(holds(api, compare.clone()).await, wanted, "{compare:?}");
            }
        }
    }
    for (with, wanted) in [
        ("lease", [false, true, false, true]),
        ("leased", [true, false, false, false]),
        ("leasf", [false, false, true, true]),
    ] {
        for (operator, wanted) in [EQUAL, GREATER, LESS, NOT_EQUAL].into_iter().zip(wanted) {
            let compare = compare("a", operator, TargetUnion::Value(with.into()));
            assert_eq!(holds(api, compare.clone()).await, wanted, "{compare:?}");
        }
    }
}

pub(crate) async fn a_missing_key_has_zeros_and_no_value(api: &Api) {
    for target in [
        TargetUnion::Version,
        TargetUnion::CreateRevision,
        TargetUnion::ModRevision,
        TargetUnion::Lease,
    ] {
        for (with, wanted) in [
            (-1, [false, true, false, true]),
            (0, [true, false, false, false]),
            (1, [false, false, true, true]),
        ] {
            for (operator, wanted) in [EQUAL, GREATER, LESS, NOT_EQUAL].into_iter().zip(wanted) {
                let single = compare("a", operator, target(with));
                assert_eq!(holds(api, single.clone()).await, wanted, "{single:?}");
                let range = Compare {
                    range_end: "\0".into(),
                    ..single
                };
                assert_eq!(holds(api, range.clone()).await, wanted, "{range:?}");
            }
        }
    }
    for with in ["", "1"] {
        for operator in [EQUAL, GREATER, LESS, NOT_EQUAL] {
            let compare = compare("a", operator, TargetUnion::Value(with.into()));
            assert!(!holds(api, compare.clone()).await, "{compare:?}");
        }
    }
}

pub(crate) async fn a_comparison_of_a_range_holds_for_all(api: &Api) {
    put(api, "a", "1").await;
    put(api, "b", "1").await;
    put(api, "c", "2").await;
    for (key, end, operator, with, wanted) in [
        ("a", "c", EQUAL, "1", true),
        ("a", "\0", EQUAL, "1", false),
        ("a", "\0", LESS, "3", true),
        ("a", "\0", NOT_EQUAL, "2", false),
        ("b", "\0", GREATER, "0", true),
        ("c", "a", EQUAL, "2", false),
    ] {
        let compare = Compare {
            range_end: Bytes::from_static(end.as_bytes()),
            ..compare(key, operator, TargetUnion::Value(with.into()))
        };
        assert_eq!(holds(api, compare.clone()).await, wanted, "{compare:?}");
    }
    // Of several comparisons all must hold.
    let compare = |operator| compare("a", operator, TargetUnion::Version(1));
    let txn = TxnRequest {
        compare: vec![compare(EQUAL), compare(NOT_EQUAL)],
        success: vec![puts("x", "then")],
        failure: vec![puts("x", "else")],
    };
    assert!(!api.txn(txn).await.unwrap().succeeded);
    assert_eq!(get(api, "x").await.unwrap().value, "else");
}

pub(crate) async fn odd_comparisons(api: &Api) {
    put(api, "a", "1").await;
    // An operand of another kind than the target counts as none, that is zero or empty.
    let other = |target, operator| Compare {
        target,
        ..compare("a", operator, TargetUnion::Lease(1))
    };
    assert!(holds(api, other(0, GREATER)).await);
    assert!(!holds(api, other(0, EQUAL)).await);
    assert!(holds(api, other(3, GREATER)).await);
    let none = Compare {
        target_union: None,
        ..other(2, GREATER)
    };
    assert!(holds(api, none).await);
    // A target or an operator that there is not.
    assert!(holds(api, other(5, EQUAL)).await);
    assert!(!holds(api, other(5, NOT_EQUAL)).await);
    assert!(holds(api, other(0, 9)).await);
}

pub(crate) async fn operations_see_those_before_them(api: &Api) {
    let before = put(api, "a", "1").await;
    let txn = does([
        reads("a", "\0"),
        puts("b", "1"),
        reads("a", "\0"),
        deletes("a", ""),
        reads("a", "\0"),
    ]);
    let txn = api.txn(txn).await.unwrap();
    assert!(txn.succeeded);
    assert_eq!(revision(&txn.header), before + 1);
    for (at, keys, revision) in [
        (0, "a", before),
        (2, "a b", before + 1),
        (4, "b", before + 1),
    ] {
        let (found, header) = read(&txn, at);
        assert_eq!((&*found, header.revision), (keys, revision));
        // Of an inner header only the revision is there.
        assert_eq!(
            (header.cluster_id, header.member_id, header.raft_term),
            (0, 0, 0)
        );
    }
    let kv = get(api, "b").await.unwrap();
    assert_eq!(kv.mod_revision, before + 1);
}

pub(crate) async fn reads_are_no_revision(api: &Api) {
    let before = put(api, "a", "1").await;
    for op in [
        reads("a", ""),
        deletes("b", ""),
        does([reads("a", "")]).into(),
    ] {
        let txn = api.txn(does([op])).await.unwrap();
        assert_eq!(revision(&txn.header), before);
    }
    assert_eq!(now(api).await, before);
}

pub(crate) async fn comparisons_of_nested_ones_are_made_before_any_write(api: &Api) {
    let if_missing = TxnRequest {
        compare: vec![compare("a", EQUAL, TargetUnion::Version(0))],
        success: vec![puts("seen", "before")],
        failure: vec![puts("seen", "after")],
    };
    let txn = does([puts("a", "1"), if_missing.into()]);
    let txn = api.txn(txn).await.unwrap();
    assert!(inner(&txn, 1).succeeded);
    assert_eq!(get(api, "seen").await.unwrap().value, "before");
}

pub(crate) async fn nested_ones_read_what_was_done_before_them(api: &Api) {
    put(api, "gone", "1").await;
    let then = does([puts("here", "1"), reads("gone", ""), reads("here", "")]);
    let txn = does([deletes("gone", ""), then.into()]);
    let txn = api.txn(txn).await.unwrap();
    let inner = inner(&txn, 1);
    assert_eq!([&*read(inner, 1).0, &*read(inner, 2).0], ["", "here"]);
}

pub(crate) async fn headers_of_nested_ones_are_empty(api: &Api) {
    let txn = does([does([puts("a", "1"), reads("a", "")]).into()]);
    let txn = api.txn(txn).await.unwrap();
    let inner = inner(&txn, 0);
    assert_eq!(inner.header, Some(ResponseHeader::default()));
    let (keys, header) = read(inner, 1);
    assert_eq!((&*keys, header.revision), ("a", revision(&txn.header)));
}

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";

pub(crate) async fn keys_are_written_once(api: &Api) {
    let before = now(api).await;
    for ops in [
        vec![puts("a", "1"), puts("a", "1")],
        vec![puts("a", "1"), deletes("a", "")],
        vec![deletes("a", ""), puts("a", "1")],
        vec![puts("b", "1"), deletes("a", "c")],
        vec![puts("a", "1"), deletes("a", "c")],
        vec![puts("a", "1"), nested(true, puts("a", "2"))],
        vec![nested(false, puts("a", "1")), puts("a", "2")],
        vec![nested(true, puts("a", "1")), nested(false, puts("a", "2"))],
        vec![nested(true, deletes("a", "")), nested(true, puts("a", "2"))],
        vec![deletes("a", "b"), nested(false, puts("a", "2"))],
        vec![nested(true, nested(true, deletes("a", ""))), puts("a", "2")],
    ] {
        let then = api.txn(does(ops.clone())).await;
        refused(then, Code::InvalidArgument, DUPLICATE);
        let otherwise = TxnRequest {
            failure: ops,
            ..rest()
        };
        let otherwise = api.txn(otherwise).await;
        refused(otherwise, Code::InvalidArgument, DUPLICATE);
    }
    assert_eq!(now(api).await, before);

    let branches = TxnRequest {
        success: vec![puts("a", "1")],
        failure: vec![puts("a", "1")],
        ..rest()
    };
    let both_branches_inside = TxnRequest {
        success: vec![puts("a", "1")],
        failure: vec![puts("a", "2")],
        ..rest()
    };
    for allowed in [
        branches,
        does([both_branches_inside.into()]),
        does([deletes("a", ""), deletes("a", "c")]),
        does([puts("c", "1"), deletes("a", "c")]),
        does([
            nested(true, deletes("a", "")),
            nested(true, deletes("a", "")),
        ]),
    ] {
        api.txn(allowed).await.unwrap();
    }
}

pub(crate) async fn keys_that_are_not_seen_to_be_written_twice(api: &Api) {
    // A deletion from a key to the end: its end is taken literally, and lies before its begin.
    put(api, "b", "0").await;
    for (first, second) in [
        (puts("b", "1"), deletes("a", "\0")),
        (puts("a", "1"), deletes("a", "\0")),
        (deletes("a", "\0"), nested(true, puts("b", "1"))),
    ] {
        api.txn(does([first, second])).await.unwrap();
    }
    assert_eq!(get(api, "b").await.unwrap().version, 1);
    // A nested put before a nested deletion.
    let txn = does([nested(true, puts("b", "1")), nested(true, deletes("b", ""))]);
    let at = revision(&api.txn(txn).await.unwrap().header);
    assert_eq!(get(api, "b").await, None);

    let mut watches = api.watch();
    create(&mut watches, from("b", "", at)).await;
    let message = watches.next().await.unwrap();
    assert_eq!(
        told(&message),
        [format!("put b=1@{at}"), format!("delete b@{at}")]
    );
}

pub(crate) async fn what_fails_fails_before_anything_is_done(api: &Api) {
    let before = put(api, "a", "1").await;
    compact(api, before).await;
    let at = |revision| RangeRequest {
        revision,
        ..all("a", "")
    };
    let leased = PutRequest {
        key: "b".into(),
        lease: 7,
        ..rest()
    };
    let keeps = |key: &'static str| PutRequest {
        key: key.into(),
        ignore_value: true,
        ..rest()
    };
    const KEY_NOT_FOUND: &str = "etcdserver: key not found";
    for (op, code, message) in [
        (at(before + 1).into(), Code::OutOfRange, FUTURE),
        (at(before - 1).into(), Code::OutOfRange, COMPACTED),
        (RequestOp::from(leased.clone()), Code::NotFound, NO_LEASE),
        (keeps("c").into(), Code::InvalidArgument, KEY_NOT_FOUND),
    ] {
        let first = does([puts("x", "1"), op.clone()]);
        refused(api.txn(first).await, code, message);
        let inside = does([puts("x", "1"), nested(true, op.clone())]);
        refused(api.txn(inside).await, code, message);
        // In the branch that is not taken it is not looked at.
        let other = TxnRequest {
            success: vec![puts("y", "1")],
            failure: vec![op],
            ..rest()
        };
        api.txn(other).await.unwrap();
    }
    assert_eq!(get(api, "x").await, None);
    // Writes are looked at before reads, wherever they stand.
    let both = does([at(i64::MAX).into(), leased.into()]);
    refused(api.txn(both).await, Code::NotFound, NO_LEASE);
}

pub(crate) async fn inner_revisions(api: &Api) {
    let first = put(api, "a", "1").await;
    put(api, "b", "1").await;
    let at = |revision| RangeRequest {
        revision,
        ..all("a", "\0")
    };
    let txn = does([puts("c", "1"), at(first).into(), at(0).into()]);
    let txn = api.txn(txn).await.unwrap();
    assert_eq!(read(&txn, 1).0, "a");
    assert_eq!(read(&txn, 2).0, "a b c");
    // Its own revision is in the future as long as it has not begun.
    let own = does([puts("d", "1"), at(now(api).await + 1).into()]);
    refused(api.txn(own).await, Code::OutOfRange, FUTURE);
    // Of its own a range takes a negative revision for the latest.
    compact(api, first).await;
    let negative = api.txn(does([at(-1).into()])).await;
    refused(negative, Code::OutOfRange, COMPACTED);
}

pub(crate) async fn forms_are_checked(api: &Api) {
    let refused_as = async |txn: TxnRequest, message: &str| {
        refused(api.txn(txn).await, Code::InvalidArgument, message);
    };
    let nameless = compare("", EQUAL, TargetUnion::Version(0));
    let nameless = TxnRequest {
        compare: vec![nameless],
        ..rest()
    };
    refused_as(nameless.clone(), NO_KEY).await;
    refused_as(does([nameless.into()]), NO_KEY).await;
    for op in [puts("", "1"), deletes("", "b"), reads("", "")] {
        refused_as(does([op.clone()]), NO_KEY).await;
        refused_as(does([nested(false, op)]), NO_KEY).await;
    }
    refused_as(does([RequestOp::default()]), "etcdserver: key not found").await;
    let both = PutRequest {
        key: "a".into(),
        value: "1".into(),
        ignore_value: true,
        ..rest()
    };
    refused_as(does([both.into()]), "etcdserver: value is provided").await;
    let both = PutRequest {
        key: "a".into(),
        lease: 7,
        ignore_lease: true,
        ..rest()
    };
    refused_as(does([both.into()]), "etcdserver: lease is provided").await;
    // The first that is wrong is named, also before a key that is written twice.
    let two = does([puts("a", "1"), puts("a", "1"), puts("", "1")]);
    refused_as(two, NO_KEY).await;
}

pub(crate) async fn operations_are_counted(api: &Api) {
    const MANY: &str = "etcdserver: too many operations in txn request";
    let reading = |count| vec![reads("a", ""); count];
    let comparing = |count| vec![compare("a", EQUAL, TargetUnion::Version(0)); count];
    let refuses = |answer: Answer<_>| refused(answer, Code::InvalidArgument, MANY);
    api.txn(does(reading(128))).await.unwrap();
    refuses(api.txn(does(reading(129))).await);
    let otherwise = |count| TxnRequest {
        compare: comparing(count),
        failure: reading(count),
        ..rest()
    };
    api.txn(otherwise(128)).await.unwrap();
    refuses(api.txn(otherwise(129)).await);
    let compares = TxnRequest {
        compare: comparing(129),
        ..rest()
    };
    refuses(api.txn(compares).await);

    // What a nested one may have is what its parent leaves.
    let mut ops = reading(99);
    ops.push(does(reading(28)).into());
    api.txn(does(ops)).await.unwrap();
    let mut ops = reading(99);
    ops.push(does(reading(29)).into());
    refuses(api.txn(does(ops)).await);
}

pub(crate) async fn an_empty_one_succeeds(api: &Api) {
    let before = put(api, "a", "1").await;
    let txn = api.txn(rest()).await.unwrap();
    assert_eq!((txn.succeeded, txn.responses.len()), (true, 0));
    assert_eq!(revision(&txn.header), before);
}
