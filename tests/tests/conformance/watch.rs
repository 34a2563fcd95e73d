//! Watches.

use std::collections::BTreeMap;

use coord_tests::rpc::{
    Api, PutRequest, RequestOp, TxnRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchResponse,
};

use crate::ask::{
    COMPACTED, Watches, compact, create, delete, events, from, now, progress, put, rest, revision,
    silent, told,
};

/// Both keys in one revision.
async fn put_both(api: &Api, [a, b]: [&'static str; 2], value: Vec<u8>) -> i64 {
    let put = |key: &'static str| PutRequest {
        key: key.into(),
        value: value.clone().into(),
        ..rest()
    };
    let txn = TxnRequest {
        success: vec![put(a).into(), put(b).into()],
        ..rest()
    };
    revision(&api.txn(txn).await.unwrap().header)
}

/// What refused a watch.
async fn refusal(watches: &mut Watches, request: WatchCreateRequest) -> String {
    let refused = create(watches, request).await;
    assert!(refused.canceled, "{refused:?}");
    assert_eq!((refused.watch_id, refused.compact_revision), (-1, 0));
    refused.cancel_reason
}

pub(crate) async fn a_watch_begins_after_now(api: &Api) {
    let before = put(api, "a", "1").await;
    let mut watches = api.watch();
    let created = create(&mut watches, from("a", "", 0)).await;
    assert_eq!((created.watch_id, revision(&created.header)), (0, before));
    assert!(!created.canceled && created.cancel_reason.is_empty());
    let at = put(api, "a", "2").await;
    put(api, "b", "2").await;
    let deleted = delete(api, "a", "").await;
    // Each revision by itself, at its own time.
    for (at, wanted) in [
        (at, format!("put a=2@{at}")),
        (deleted, format!("delete a@{deleted}")),
    ] {
        let message = watches.next().await.unwrap();
        assert_eq!(
            (revision(&message.header), told(&message)),
            (at, vec![wanted])
        );
    }
    // The event of a deletion has the key and its revision, and nothing else.
    put(api, "a", "3").await;
    watches.next().await.unwrap();
    delete(api, "a", "").await;
    let event = watches.next().await.unwrap().events.remove(0);
    let kv = event.kv.expect("every event has a key");
    assert_eq!(
        (kv.create_revision, kv.version, kv.lease, &*kv.value),
        (0, 0, 0, &b""[..])
    );
}

pub(crate) async fn a_watch_begins_in_the_past(api: &Api) {
    let first = put(api, "a", "1").await;
    put(api, "x", "1").await;
    put(api, "a", "2").await;
    let last = delete(api, "a", "").await;
    let mut watches = api.watch();
    create(&mut watches, from("a", "b", first)).await;
    let message = watches.next().await.unwrap();
    // The history is one message, sent now.
    assert_eq!(revision(&message.header), last);
    let wanted = [
        format!("put a=1@{first}"),
        format!("put a=2@{}", first + 2),
        format!("delete a@{last}"),
    ];
    assert_eq!(told(&message), wanted);
    let next = put(api, "a", "3").await;
    assert_eq!(
        events(&mut watches, next).await,
        [format!("put a=3@{next}")]
    );
}

pub(crate) async fn a_watch_begins_in_the_future(api: &Api) {
    let at = put(api, "a", "0").await;
    let mut watches = api.watch();
    create(&mut watches, from("a", "", at + 3)).await;
    for value in ["1", "2", "3", "4"] {
        put(api, "a", value).await;
    }
    let wanted = [format!("put a=3@{}", at + 3), format!("put a=4@{}", at + 4)];
    assert_eq!(events(&mut watches, at + 4).await, wanted);
}

pub(crate) async fn a_watch_begins_at_the_compacted_revision(api: &Api) {
    put(api, "a", "0").await;
    let at = put(api, "a", "1").await;
    let last = put(api, "a", "2").await;
    compact(api, at).await;
    let mut watches = api.watch();
    let request = WatchCreateRequest {
        prev_kv: true,
        ..from("a", "", at)
    };
    create(&mut watches, request).await;
    let message = watches.next().await.unwrap();
    let wanted = [format!("put a=1@{at}"), format!("put a=2@{last}")];
    assert_eq!(told(&message), wanted);
    // What was before the compacted revision cannot be read.
    assert_eq!(message.events[0].prev_kv, None);
    assert!(message.events[1].prev_kv.is_some());
}

pub(crate) async fn a_watch_before_the_compacted_revision_is_cancelled(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "2").await;
    compact(api, second).await;
    let mut watches = api.watch();
    let created = create(&mut watches, from("a", "", first)).await;
    assert!(!created.canceled);
    let cancelled = watches.next().await.unwrap();
    assert!(cancelled.canceled && !cancelled.created);
    assert_eq!(cancelled.watch_id, created.watch_id);
    assert_eq!(
        (cancelled.compact_revision, &*cancelled.cancel_reason),
        (second, "")
    );
    assert_eq!(revision(&cancelled.header), 0);
    put(api, "a", "3").await;
    silent(&mut watches).await;
}

pub(crate) async fn a_compacted_watch_holds_its_id_and_the_progress(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "2").await;
    compact(api, second).await;
    let mut watches = api.watch();
    let gone = WatchCreateRequest {
        watch_id: 5,
        ..from("a", "", first)
    };
    create(&mut watches, gone.clone()).await;
    assert!(watches.next().await.unwrap().canceled);
    let other = create(&mut watches, from("b", "", 0)).await;
    assert_eq!(other.watch_id, 0);
    const TAKEN: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(refusal(&mut watches, gone.clone()).await, TAKEN);
    watches.send(WatchProgressRequest {});
    silent(&mut watches).await;

    watches.send(WatchCancelRequest { watch_id: 5 });
    let cancelled = watches.next().await.unwrap();
    assert!(cancelled.canceled && cancelled.watch_id == 5);
    assert_eq!(cancelled.compact_revision, 0);
    assert_eq!(revision(&progress(&mut watches).await.header), second);
    let again = WatchCreateRequest {
        start_revision: 0,
        ..gone
    };
    assert_eq!(create(&mut watches, again).await.watch_id, 5);
}

pub(crate) async fn a_negative_revision_is_refused(api: &Api) {
    put(api, "a", "1").await;
    let mut watches = api.watch();
    for start in [-1, i64::MIN] {
        let refused = refusal(&mut watches, from("a", "", start)).await;
        assert_eq!(refused, COMPACTED);
        // Before anything else is looked at.
        let refused = refusal(&mut watches, from("b", "a", start)).await;
        assert_eq!(refused, COMPACTED);
    }
}

pub(crate) async fn ranges_of_keys(api: &Api) {
    let before = now(api).await;
    for key in ["a", "a\0", "ab", "b", "c"] {
        put(api, key, "").await;
    }
    for (key, end, wanted) in [
        ("a", "", "a"),
        ("a", "b", "a a\0 ab"),
        ("b", "\0", "b c"),
        ("\0", "\0", "a a\0 ab b c"),
        // No key is the smallest.
        ("", "\0", "a a\0 ab b c"),
        ("", "b", "a a\0 ab"),
    ] {
        let mut watches = api.watch();
        create(&mut watches, from(key, end, before + 1)).await;
        let message = watches.next().await.unwrap();
        let keys: Vec<_> = message.events.iter().flat_map(|event| &event.kv).collect();
        assert_eq!(crate::ask::joined(keys.iter().map(|kv| &kv.key)), wanted);
    }
}

pub(crate) async fn empty_ranges_are_refused(api: &Api) {
    let mut watches = api.watch();
    for (key, end) in [("b", "a"), ("a", "a")] {
        let refused = refusal(&mut watches, from(key, end, 0)).await;
        assert_eq!(refused, "mvcc: watcher range is empty");
    }
    // The stream goes on.
    assert_eq!(create(&mut watches, from("a", "", 0)).await.watch_id, 0);
}

pub(crate) async fn previous_values(api: &Api) {
    let mut watches = api.watch();
    let with = WatchCreateRequest {
        prev_kv: true,
        ..from("a", "", 0)
    };
    create(&mut watches, with).await;
    let mut before = None;
    for value in ["1", "2"] {
        put(api, "a", value).await;
        let event = watches.next().await.unwrap().events.remove(0);
        assert_eq!(event.prev_kv, before);
        before = event.kv;
    }
    delete(api, "a", "").await;
    let event = watches.next().await.unwrap().events.remove(0);
    assert_eq!(event.prev_kv, before);
    put(api, "a", "3").await;
    assert_eq!(watches.next().await.unwrap().events[0].prev_kv, None);
}

pub(crate) async fn filters(api: &Api) {
    let first = put(api, "a", "1").await;
    let deleted = delete(api, "a", "").await;
    for start in [first, 0] {
        let mut watches = api.watch();
        for (id, filters) in [(1, vec![0]), (2, vec![1]), (3, vec![0, 1]), (4, vec![9])] {
            watches.send(WatchCreateRequest {
                filters,
                watch_id: id,
                ..from("a", "", start)
            });
        }
        let mut told_to: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        let mut at = (first, deleted);
        let mut created = 0;
        while created < 4 || told_to.values().map(Vec::len).sum::<usize>() < 4 {
            let message = watches.next().await.unwrap();
            created += usize::from(message.created);
            if !message.created {
                let told_to = told_to.entry(message.watch_id).or_default();
                told_to.extend(told(&message));
            }
            if created == 4 && message.created && start == 0 {
                at = (put(api, "a", "1").await, delete(api, "a", "").await);
            }
        }
        let (put, deleted) = (format!("put a=1@{}", at.0), format!("delete a@{}", at.1));
        let wanted = [
            (1, vec![deleted.clone()]),
            (2, vec![put.clone()]),
            (4, vec![put, deleted]),
        ];
        assert_eq!(told_to, BTreeMap::from(wanted));
        silent(&mut watches).await;
    }
}

pub(crate) async fn ids(api: &Api) {
    let mut watches = api.watch();
    let mut id = async |watch_id| {
        let request = WatchCreateRequest {
            watch_id,
            ..from("a", "", 0)
        };
        create(&mut watches, request).await.watch_id
    };
    // Zero: the server chooses, and passes over those that are taken.
    assert_eq!(id(0).await, 0);
    assert_eq!(id(2).await, 2);
    assert_eq!(id(1).await, 1);
    assert_eq!(id(0).await, 3);
    assert_eq!(id(-7).await, -7);
    assert_eq!(id(i64::MAX).await, i64::MAX);
    assert_eq!(id(0).await, 4);
    // Another stream has its own.
    assert_eq!(create(&mut api.watch(), from("a", "", 0)).await.watch_id, 0);
    let at = put(api, "a", "1").await;
    let mut told_to = Vec::new();
    for _ in 0..7 {
        let message = watches.next().await.unwrap();
        assert_eq!(told(&message), [format!("put a=1@{at}")]);
        told_to.push(message.watch_id);
    }
    told_to.sort_unstable();
    assert_eq!(told_to, [-7, 0, 1, 2, 3, 4, i64::MAX]);
}

pub(crate) async fn ids_that_are_taken(api: &Api) {
    let mut watches = api.watch();
    let seventh = WatchCreateRequest {
        watch_id: 7,
        ..from("a", "", 0)
    };
    create(&mut watches, seventh.clone()).await;
    const TAKEN: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(refusal(&mut watches, seventh.clone()).await, TAKEN);
    // An empty range is seen first.
    let empty = WatchCreateRequest {
        range_end: "a".into(),
        ..seventh.clone()
    };
    let refused = refusal(&mut watches, empty).await;
    assert_eq!(refused, "mvcc: watcher range is empty");
    watches.send(WatchCancelRequest { watch_id: 7 });
    assert!(watches.next().await.unwrap().canceled);
    assert_eq!(create(&mut watches, seventh).await.watch_id, 7);
}

pub(crate) async fn cancels(api: &Api) {
    let at = put(api, "a", "1").await;
    let mut watches = api.watch();
    create(&mut watches, from("a", "", 0)).await;
    create(&mut watches, from("a", "", 0)).await;
    watches.send(WatchCancelRequest { watch_id: 0 });
    let cancelled = watches.next().await.unwrap();
    let wanted = WatchResponse {
        header: cancelled.header.clone(),
        canceled: true,
        ..rest()
    };
    assert_eq!(cancelled, wanted);
    assert_eq!(revision(&cancelled.header), at);
    // Of one that is not there nothing is said.
    for unknown in [0, 9, -1] {
        watches.send(WatchCancelRequest { watch_id: unknown });
    }
    let next = put(api, "a", "2").await;
    let message = watches.next().await.unwrap();
    assert_eq!(
        (message.watch_id, told(&message)),
        (1, vec![format!("put a=2@{next}")])
    );
    silent(&mut watches).await;
}

pub(crate) async fn a_revision_is_one_message(api: &Api) {
    let mut live = api.watch();
    create(&mut live, from("a", "\0", 0)).await;
    let at = put_both(api, ["b", "a"], b"1".to_vec()).await;
    let deleted = delete(api, "a", "\0").await;
    let mut late = api.watch();
    create(&mut late, from("a", "\0", at)).await;
    // Of a transaction in its order, of a range in that of the keys.
    let wanted = [
        [format!("put b=1@{at}"), format!("put a=1@{at}")],
        [format!("delete a@{deleted}"), format!("delete b@{deleted}")],
    ];
    for wanted in &wanted {
        assert_eq!(told(&live.next().await.unwrap()), wanted);
    }
    assert_eq!(told(&late.next().await.unwrap()), wanted.concat());
}

pub(crate) async fn a_large_revision_is_cut_for_those_who_ask(api: &Api) {
    // Two thirds of what fits in one request.
    let half = || vec![b'x'; 700 * 1024];
    let before = put(api, "a", "1").await;
    let prev = |fragment, start| WatchCreateRequest {
        fragment,
        prev_kv: true,
        ..from("a", "\0", start)
    };
    let mut live = api.watch();
    create(&mut live, prev(true, 0)).await;
    let mut whole = api.watch();
    create(&mut whole, prev(false, 0)).await;
    put_both(api, ["a", "b"], half()).await;
    let last = put_both(api, ["a", "b"], half()).await;
    let shape = |message: &WatchResponse| {
        let at =
            |event: &coord_tests::rpc::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let revisions: Vec<_> = message.events.iter().map(at).collect();
        (message.fragment, revisions)
    };
    // The first is below the limit; with the values before them the second's events are not.
    assert_eq!(
        shape(&live.next().await.unwrap()),
        (false, vec![last - 1; 2])
    );
    assert_eq!(shape(&live.next().await.unwrap()), (true, vec![last]));
    assert_eq!(shape(&live.next().await.unwrap()), (false, vec![last]));
    assert_eq!(
        shape(&whole.next().await.unwrap()),
        (false, vec![last - 1; 2])
    );
    assert_eq!(shape(&whole.next().await.unwrap()), (false, vec![last; 2]));

    let mut late = api.watch();
    create(&mut late, prev(true, before + 1)).await;
    let mut revisions = Vec::new();
    loop {
        let (fragment, some) = shape(&late.next().await.unwrap());
        revisions.extend(some);
        if !fragment && revisions.len() == 4 {
            break;
        }
    }
    assert_eq!(revisions, [last - 1, last - 1, last, last]);
}

pub(crate) async fn progress_is_told_once_all_are_abreast(api: &Api) {
    let at = put(api, "a", "1").await;
    let mut watches = api.watch();
    create(&mut watches, from("a", "", 0)).await;
    watches.send(WatchProgressRequest {});
    let answer = watches.next().await.unwrap();
    let wanted = WatchResponse {
        header: answer.header.clone(),
        watch_id: -1,
        ..rest()
    };
    assert_eq!(answer, wanted);
    assert_eq!(revision(&answer.header), at);

    // One that begins in the future holds all up, and be it the next revision. The request is
    // forgotten, not answered later.
    for start in [at + 1, at + 3] {
        create(&mut watches, from("b", "", start)).await;
        watches.send(WatchProgressRequest {});
        silent(&mut watches).await;
        while put(api, "x", "1").await < start {}
        silent(&mut watches).await;
        let answer = progress(&mut watches).await;
        assert_eq!(revision(&answer.header), start);
    }
}

pub(crate) async fn nobody_to_tell_of_progress(api: &Api) {
    put(api, "a", "1").await;
    let mut watches = api.watch();
    watches.send(WatchProgressRequest {});
    silent(&mut watches).await;
    create(&mut watches, from("a", "", 0)).await;
    watches.send(WatchCancelRequest { watch_id: 0 });
    assert!(watches.next().await.unwrap().canceled);
    watches.send(WatchProgressRequest {});
    silent(&mut watches).await;
}

pub(crate) async fn a_stream_goes_on_after_its_requests(api: &Api) {
    let mut watches = api.watch();
    create(&mut watches, from("a", "", 0)).await;
    watches.finish();
    for _ in 0..2 {
        let at = put(api, "a", "1").await;
        assert_eq!(
            told(&watches.next().await.unwrap()),
            [format!("put a=1@{at}")]
        );
    }
}

pub(crate) async fn what_lies_between_is_in_order(api: &Api) {
    // More revisions than one message has, of which some lie in the past and some come.
    let first = put(api, "a", "0").await;
    for _ in 0..20 {
        let hundred = (0..100).map(|n: usize| -> RequestOp {
            let put = PutRequest {
                key: format!("a{n}").into(),
                ..rest()
            };
            put.into()
        });
        let txn = TxnRequest {
            success: hundred.collect(),
            ..rest()
        };
        api.txn(txn).await.unwrap();
    }
    let mut watches = api.watch();
    create(&mut watches, from("a", "b", first)).await;
    for _ in 0..10 {
        put(api, "a", "1").await;
    }
    let last = put(api, "a", "1").await;
    let told = events(&mut watches, last).await;
    assert_eq!(told.len(), 1 + 2000 + 11);
    let at = |told: &String| {
        told.rsplit_once('@')
            .and_then(|(_, at)| at.parse::<i64>().ok())
    };
    let revisions: Vec<_> = told
        .iter()
        .map(|told| at(told).expect("a revision"))
        .collect();
    assert!(revisions.is_sorted());
    assert_eq!(
        (revisions[0], *revisions.last().expect("some")),
        (first, last)
    );
}
