//! Reading.

use coord_tests::rpc::{
    Api, DeleteRangeRequest, KeyValue, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest,
};
use tonic::Code;

use crate::ask::{
    COMPACTED, FUTURE, NO_KEY, all, compact, get, keys, now, put, refused, rest, revision,
};

pub(crate) async fn an_empty_store_is_at_revision_one(api: &Api) {
    let found = api.range(all("\0", "\0")).await.unwrap();
    assert_eq!(revision(&found.header), 1);
    assert_eq!((found.kvs.len(), found.count, found.more), (0, 0, false));
    let at_one = RangeRequest {
        revision: 1,
        ..all("\0", "\0")
    };
    assert_eq!(api.range(at_one).await.unwrap().count, 0);
    let at_two = RangeRequest {
        revision: 2,
        ..all("\0", "\0")
    };
    refused(api.range(at_two).await, Code::OutOfRange, FUTURE);

    let nothing = DeleteRangeRequest {
        key: "a".into(),
        ..rest()
    };
    let deleted = api.delete_range(nothing).await.unwrap();
    assert_eq!((revision(&deleted.header), deleted.deleted), (1, 0));

    assert_eq!(put(api, "a", "1").await, 2);
    let first = KeyValue {
        key: "a".into(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        value: "1".into(),
        lease: 0,
    };
    assert_eq!(get(api, "a").await, Some(first));
}

pub(crate) async fn a_header_has_the_current_revision(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "2").await;
    let old = RangeRequest {
        revision: first,
        ..all("a", "")
    };
    let old = api.range(old).await.unwrap();
    assert_eq!(revision(&old.header), second);
    assert_eq!(old.kvs[0].value, "1");
    let header = old.header.expect("a header");
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);

    let granted = api.grant(LeaseGrantRequest { id: 7, ttl: 60 }).await;
    assert_eq!(revision(&granted.unwrap().header), second);
    let revoked = api.revoke(LeaseRevokeRequest { id: 7 }).await;
    assert_eq!(revision(&revoked.unwrap().header), second);
}

pub(crate) async fn a_key_is_needed(api: &Api) {
    let nameless = api.range(RangeRequest::default()).await;
    refused(nameless, Code::InvalidArgument, NO_KEY);
    let nameless = api.range(all("", "b")).await;
    refused(nameless, Code::InvalidArgument, NO_KEY);
}

pub(crate) async fn range_ends(api: &Api) {
    for key in ["a", "a\0", "ab", "b", "c"] {
        put(api, key, "").await;
    }
    for (key, end, wanted) in [
        ("a", "", "a"),
        ("aa", "", ""),
        ("a", "b", "a a\0 ab"),
        ("a", "a\0", "a"),
        ("a", "a", ""),
        ("b", "a", ""),
        ("b", "\0", "b c"),
        ("\0", "\0", "a a\0 ab b c"),
        ("\0", "b", "a a\0 ab"),
        ("d", "\0", ""),
        ("a", "zz", "a a\0 ab b c"),
    ] {
        let found = api.range(all(key, end)).await.unwrap();
        assert_eq!(keys(&found), wanted, "from {key:?} to {end:?}");
        assert_eq!(found.count as usize, found.kvs.len());
    }
}

pub(crate) async fn limits_and_counts(api: &Api) {
    for key in ["a", "b", "c"] {
        put(api, key, "1").await;
    }
    for (limit, wanted, more) in [
        (0, "a b c", false),
        (-1, "a b c", false),
        (1, "a", true),
        (2, "a b", true),
        (3, "a b c", false),
        (4, "a b c", false),
    ] {
        let request = RangeRequest {
            limit,
            ..all("a", "\0")
        };
        let found = api.range(request).await.unwrap();
        assert_eq!((&*keys(&found), found.more, found.count), (wanted, more, 3));
    }
    for limit in [0, 1] {
        let request = RangeRequest {
            count_only: true,
            limit,
            ..all("a", "\0")
        };
        let found = api.range(request).await.unwrap();
        assert_eq!((found.kvs.len(), found.more, found.count), (0, false, 3));
    }
    let serializable = RangeRequest {
        serializable: true,
        ..all("a", "\0")
    };
    assert_eq!(keys(&api.range(serializable).await.unwrap()), "a b c");
}

pub(crate) async fn bounds_of_revisions_filter_after_the_count(api: &Api) {
    let a = put(api, "a", "1").await;
    let b = put(api, "b", "1").await;
    let c = put(api, "c", "1").await;
    let again = put(api, "a", "2").await;
    let bounded = async |request: RangeRequest| {
        let found = api.range(request).await.unwrap();
        (keys(&found), found.more, found.count)
    };
    let request = all("a", "\0");

    let least = RangeRequest {
        min_mod_revision: c,
        ..request.clone()
    };
    assert_eq!(bounded(least).await, ("a c".to_owned(), false, 3));
    let most = RangeRequest {
        max_mod_revision: b,
        ..request.clone()
    };
    assert_eq!(bounded(most).await, ("b".to_owned(), false, 3));
    let least_created = RangeRequest {
        min_create_revision: b,
        ..request.clone()
    };
    assert_eq!(bounded(least_created).await, ("b c".to_owned(), false, 3));
    let most_created = RangeRequest {
        max_create_revision: a,
        ..request.clone()
    };
    assert_eq!(bounded(most_created).await, ("a".to_owned(), false, 3));
    let both = RangeRequest {
        min_mod_revision: c,
        max_mod_revision: again,
        min_create_revision: c,
        ..request.clone()
    };
    assert_eq!(bounded(both).await, ("c".to_owned(), false, 3));
    // Filtered before the limit is applied.
    let limited = RangeRequest {
        min_create_revision: b,
        limit: 1,
        ..request.clone()
    };
    assert_eq!(bounded(limited).await, ("b".to_owned(), true, 3));
    let exact = RangeRequest {
        min_create_revision: b,
        limit: 2,
        ..request.clone()
    };
    assert_eq!(bounded(exact).await, ("b c".to_owned(), false, 3));
    // A negative upper bound is a bound.
    let none = RangeRequest {
        max_mod_revision: -1,
        ..request
    };
    assert_eq!(bounded(none).await, (String::new(), false, 3));
}

pub(crate) async fn keys_without_values(api: &Api) {
    let at = put(api, "a", "1").await;
    let request = RangeRequest {
        keys_only: true,
        ..all("a", "")
    };
    let bare = KeyValue {
        key: "a".into(),
        create_revision: at,
        mod_revision: at,
        version: 1,
        ..rest()
    };
    assert_eq!(api.range(request).await.unwrap().kvs, [bare]);
}

/// Four keys that every target puts in another order: by version `b c d a`, by creation `c a d b`,
/// by last change `c b d a`, by value `d c b a`.
async fn four_keys(api: &Api) {
    for (key, value) in [
        ("c", "2"),
        ("a", ""),
        ("d", "0"),
        ("a", ""),
        ("b", "3"),
        ("d", "1"),
        ("a", "4"),
    ] {
        put(api, key, value).await;
    }
}

pub(crate) async fn orders(api: &Api) {
    four_keys(api).await;
    let ascending = ["a b c d", "b c d a", "c a d b", "c b d a", "d c b a"];
    for (target, ascending) in (0..).zip(ascending) {
        let mut wanted: Vec<_> = ascending.split(' ').collect();
        let sorted = async |order| {
            let request = RangeRequest {
                sort_order: order,
                sort_target: target,
                ..all("a", "\0")
            };
            keys(&api.range(request).await.unwrap())
        };
        assert_eq!(sorted(1).await, ascending, "by {target}");
        // Without an order it is upwards.
        assert_eq!(sorted(0).await, ascending, "by {target}");
        if target == 1 {
            // b and c have one version, and equals keep their order.
            wanted = vec!["a", "d", "b", "c"];
        } else {
            wanted.reverse();
        }
        assert_eq!(sorted(2).await, wanted.join(" "), "by {target}");
    }
}

pub(crate) async fn a_target_without_an_order_sorts_only_what_was_read(api: &Api) {
    four_keys(api).await;
    let first_two = async |order| {
        let request = RangeRequest {
            sort_order: order,
            sort_target: 4,
            limit: 2,
            ..all("a", "\0")
        };
        let found = api.range(request).await.unwrap();
        assert!(found.more);
        keys(&found)
    };
    // a, b and c were read.
    assert_eq!(first_two(0).await, "c b");
    assert_eq!(first_two(1).await, "d c");
    assert_eq!(first_two(2).await, "a b");
}

pub(crate) async fn an_unknown_order_is_none(api: &Api) {
    four_keys(api).await;
    for (sort_order, sort_target) in [(3, 0), (-1, 0), (3, 4), (9, 1)] {
        let request = RangeRequest {
            sort_order,
            sort_target,
            ..all("a", "\0")
        };
        let found = api.range(request.clone()).await.unwrap();
        assert_eq!(keys(&found), "a b c d");
        let limited = RangeRequest {
            limit: 2,
            ..request
        };
        assert_eq!(keys(&api.range(limited).await.unwrap()), "a b");
    }
}

pub(crate) async fn revisions(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "2").await;
    let third = put(api, "b", "3").await;
    let at = async |revision| {
        let request = RangeRequest {
            revision,
            ..all("a", "\0")
        };
        api.range(request).await
    };
    assert_eq!(at(first).await.unwrap().kvs[0].value, "1");
    assert_eq!(keys(&at(second).await.unwrap()), "a");
    assert_eq!(keys(&at(third).await.unwrap()), "a b");
    for latest in [0, -1, i64::MIN] {
        assert_eq!(keys(&at(latest).await.unwrap()), "a b");
    }
    for future in [third + 1, i64::MAX] {
        refused(at(future).await, Code::OutOfRange, FUTURE);
    }
    compact(api, second).await;
    refused(at(first).await, Code::OutOfRange, COMPACTED);
    refused(at(1).await, Code::OutOfRange, COMPACTED);
    assert_eq!(at(second).await.unwrap().kvs[0].value, "2");
    assert_eq!(now(api).await, third);
}
