//! What cannot be seen from outside, or not at will: readers that fall behind, the retention, the
//! test controls. What etcd's clients see is compared with a real etcd elsewhere.

use std::time::Duration;

use etcd_client::proto::{
    PbEvent, PbLeaseGrantRequest, PbLeaseKeepAliveRequest, PbLeaseTimeToLiveRequest, PbPutRequest,
    PbRangeRequest, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse,
};

use super::{Core, Refusal, StreamId};

const START: Duration = Duration::ZERO;

fn put(core: &mut Core, key: &str, value: &str) -> i64 {
    put_leased(core, key, value, 0)
}

fn put_leased(core: &mut Core, key: &str, value: &str, lease: i64) -> i64 {
    let request = PbPutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..PbPutRequest::default()
    };
    core.put(request).unwrap().header.unwrap().revision
}

fn get(core: &Core, key: &str, revision: i64) -> Result<Option<String>, Refusal> {
    let request = PbRangeRequest {
        key: key.into(),
        revision,
        ..PbRangeRequest::default()
    };
    let found = core.range(&request)?.kvs;
    Ok(found
        .first()
        .map(|kv| String::from_utf8(kv.value.clone()).unwrap()))
}

fn grant(core: &mut Core, id: i64, ttl: i64) {
    core.grant(START, PbLeaseGrantRequest { id, ttl }).unwrap();
}

fn left(core: &Core, now: u64, id: i64) -> (i64, Vec<Vec<u8>>) {
    let request = PbLeaseTimeToLiveRequest { id, keys: true };
    let response = core.time_to_live(Duration::from_secs(now), request);
    (response.ttl, response.keys)
}

/// Opens a stream with one watch of everything.
fn watch(core: &mut Core, start: i64, fragment: bool) -> StreamId {
    let stream = core.open_stream();
    // The type of the request has no name outside of its crate.
    let mut request = PbWatchRequestUnion::CreateRequest(Default::default());
    if let PbWatchRequestUnion::CreateRequest(create) = &mut request {
        create.key = vec![0];
        create.range_end = vec![0];
        create.start_revision = start;
        create.fragment = fragment;
        create.prev_kv = true;
        create.progress_notify = true;
    }
    let request_union = Some(request);
    core.watch(stream, PbWatchRequest { request_union });
    assert!(core.next(stream).unwrap().created);
    stream
}

fn pull(core: &mut Core, stream: StreamId) -> Vec<PbWatchResponse> {
    std::iter::from_fn(|| core.next(stream)).collect()
}

fn revisions(events: &[PbEvent]) -> Vec<i64> {
    let revision = |event: &PbEvent| event.kv.as_ref().unwrap().mod_revision;
    events.iter().map(revision).collect()
}

#[test]
fn a_reader_that_falls_behind_is_shown_everything_once_and_in_order() {
    let mut core = Core::new();
    let stream = watch(&mut core, 0, false);
    for n in 0..20_000 {
        put(&mut core, &format!("key{}", n % 7), "value");
    }
    let held = core.watchers.queued_bytes();
    assert!(held < 5_000_000, "{held} bytes are queued for one stream");
    let shown = pull(&mut core, stream);
    let shown: Vec<_> = shown.iter().flat_map(|m| revisions(&m.events)).collect();
    assert_eq!(shown, (2..=20_001).collect::<Vec<_>>());
    assert_eq!(core.watchers.queued_bytes(), 0);
    // It has caught up: what happens now is shown as it happens.
    put(&mut core, "key", "value");
    let live = pull(&mut core, stream);
    assert_eq!(live[0].header.as_ref().unwrap().revision, 20_002);
}

#[test]
fn what_is_kept_for_readers_that_fall_behind_is_bounded_however_large_the_values_are() {
    let mut core = Core::new();
    core.set_retention(1_000_000);
    let stream = watch(&mut core, 0, false);
    let large = "x".repeat(1_000_000);
    for _ in 0..20 {
        put(&mut core, "key", &large);
    }
    let held = core.watchers.queued_bytes();
    assert!(held < 6_000_000, "{held} bytes are queued for one stream");
    assert!(pull(&mut core, stream).last().unwrap().canceled);
}

#[test]
fn a_reader_that_fell_behind_the_compaction_is_told() {
    let mut core = Core::new();
    core.set_retention(50_000);
    let stream = watch(&mut core, 0, false);
    let value = "x".repeat(5_000);
    for _ in 0..2_000 {
        put(&mut core, "key", &value);
    }
    let shown = pull(&mut core, stream);
    let last = shown.last().unwrap();
    assert!(last.canceled);
    assert!(last.compact_revision >= 1_800, "{last:?}");
    let events: Vec<_> = shown.iter().flat_map(|m| revisions(&m.events)).collect();
    assert_eq!(events, (2..).take(events.len()).collect::<Vec<_>>());
    assert!((500..1_000).contains(&events.len()), "{}", events.len());
}

#[test]
fn the_retention_bounds_the_history_and_keeps_the_present() {
    let mut core = Core::new();
    core.set_retention(50_000);
    let old = put(&mut core, "old", "stays");
    put(&mut core, "deleted", "x");
    core.delete_range(&etcd_client::proto::PbDeleteRequest {
        key: "deleted".into(),
        ..Default::default()
    })
    .unwrap();
    let mut largest = 0;
    for n in 0..10_000 {
        put(&mut core, "key", &n.to_string());
        largest = largest.max(core.store.versions().count());
    }
    assert!(largest <= 170, "{largest} versions");
    let now = core.revision();
    assert_eq!(get(&core, "old", 0), Ok(Some("stays".into())));
    assert_eq!(get(&core, "key", now - 99), Ok(Some("9900".into())));
    assert_eq!(get(&core, "old", old), Err(Refusal::COMPACTED));
    assert_eq!(core.store.versions().filter(|v| v.version == 0).count(), 0);
}

#[test]
fn a_revision_is_cut_in_fragments_for_who_asked_and_for_nobody_else() {
    let mut core = Core::new();
    let (cut, whole) = (watch(&mut core, 0, true), watch(&mut core, 0, false));
    grant(&mut core, 7, 100);
    let large = "x".repeat(1_000_000);
    for key in ["a", "b", "c", "d", "e"] {
        put_leased(&mut core, key, &large, 7);
    }
    pull(&mut core, cut);
    pull(&mut core, whole);
    assert!(core.end_lease(7));
    let fragments = pull(&mut core, cut);
    assert_eq!(pull(&mut core, whole).len(), 1);
    let marks: Vec<_> = fragments.iter().map(|m| m.fragment).collect();
    assert!(marks.len() > 1, "five values of a megabyte in one message");
    assert_eq!(marks.iter().filter(|mark| !**mark).count(), 1);
    assert!(!marks[marks.len() - 1]);
    let events: usize = fragments.iter().map(|m| m.events.len()).sum();
    assert_eq!(events, 5);
}

#[test]
fn a_lease_ends_when_its_time_is_over_and_takes_its_keys_in_one_revision() {
    let mut core = Core::new();
    grant(&mut core, 1, 10);
    grant(&mut core, 2, 20);
    put_leased(&mut core, "a", "x", 1);
    put_leased(&mut core, "b", "x", 1);
    put_leased(&mut core, "moved", "x", 1);
    let before = put_leased(&mut core, "moved", "x", 2);
    core.expire(Duration::from_millis(9_999));
    assert_eq!(core.revision(), before);
    assert_eq!(core.next_expiry(), Some(Duration::from_secs(10)));
    core.expire(Duration::from_secs(10));
    assert_eq!(core.revision(), before + 1);
    assert_eq!(get(&core, "a", 0), Ok(None));
    assert_eq!(get(&core, "moved", 0), Ok(Some("x".into())));
    assert_eq!(left(&core, 12, 2), (8, vec![b"moved".to_vec()]));
    assert_eq!(left(&core, 12, 1), (-1, vec![]));
}

#[test]
fn a_restored_server_is_what_it_was() {
    let mut core = Core::new();
    grant(&mut core, 1, 10);
    put_leased(&mut core, "leased", "x", 1);
    let then = put(&mut core, "key", "old");
    put(&mut core, "key", "new");
    put(&mut core, "later", "x");
    core.end_lease(1);
    grant(&mut core, 2, 10);
    core.restore(Duration::from_secs(5), then).unwrap();
    assert_eq!(core.revision(), then);
    assert_eq!(get(&core, "key", 0), Ok(Some("old".into())));
    assert_eq!(get(&core, "later", 0), Ok(None));
    assert_eq!(left(&core, 5, 1), (10, vec![b"leased".to_vec()]));
    assert_eq!(left(&core, 5, 2).0, -1);
    // It goes on from there, with revisions that others have seen before.
    assert_eq!(put(&mut core, "key", "other"), then + 1);
    core.expire(Duration::from_secs(15));
    assert_eq!(get(&core, "leased", 0), Ok(None));
    assert_eq!(core.restore(START, 100), Err(Refusal::FUTURE_REVISION));
}

#[test]
fn a_lease_that_no_revision_has_seen_does_not_come_back() {
    let mut core = Core::new();
    let now = put(&mut core, "key", "x");
    for id in 1..100 {
        grant(&mut core, id, 10);
        assert!(core.end_lease(id));
    }
    core.restore(START, now).unwrap();
    assert!(core.leases().leases.is_empty());
}

#[test]
fn the_next_expiry_is_that_of_the_lease_with_the_least_time() {
    let mut core = Core::new();
    let seconds = |core: &Core| core.next_expiry().map(|at| at.as_secs());
    let renew = |core: &mut Core, now, id| {
        let request = PbLeaseKeepAliveRequest { id };
        assert!(core.keep_alive(Duration::from_secs(now), request).ttl > 0);
    };
    assert_eq!(seconds(&core), None);
    for (id, ttl) in [(3, 30), (1, 10), (2, 20)] {
        grant(&mut core, id, ttl);
    }
    let then = put_leased(&mut core, "key", "x", 2);
    assert_eq!(seconds(&core), Some(10));
    renew(&mut core, 9, 1);
    renew(&mut core, 18, 1);
    assert_eq!(seconds(&core), Some(20));
    assert!(core.end_lease(2));
    assert_eq!(seconds(&core), Some(28));
    core.restore(Duration::from_secs(19), then).unwrap();
    assert_eq!(seconds(&core), Some(29));
    let order: Vec<_> = core.leases().leases.iter().map(|l| l.id).collect();
    assert_eq!(order, [1, 2, 3]);
    core.expire(Duration::from_secs(39));
    assert_eq!(seconds(&core), Some(49));
}

#[test]
fn a_watch_is_told_how_far_it_is_when_it_has_begun_and_heard_of_nothing() {
    let mut core = Core::new();
    let now = put(&mut core, "key", "x");
    let (live, later) = (watch(&mut core, 0, false), watch(&mut core, now + 2, false));
    put(&mut core, "key", "shown to one");
    assert_eq!(pull(&mut core, live).len(), 1);
    core.notify_progress();
    assert_eq!(pull(&mut core, live), [], "it has just heard");
    assert_eq!(pull(&mut core, later), [], "it has not begun");
    put(&mut core, "key", "shown to both");
    for stream in [live, later] {
        assert_eq!(pull(&mut core, stream).len(), 1);
    }
    for told in [0, 1, 1] {
        core.notify_progress();
        for stream in [live, later] {
            assert_eq!(pull(&mut core, stream).len(), told);
        }
    }
}

#[test]
fn a_swallowed_event_is_shown_to_no_watch_and_the_next_one_is() {
    let mut core = Core::new();
    let live = watch(&mut core, 0, false);
    core.swallow(b"key");
    let other = put(&mut core, "other", "x");
    put(&mut core, "key", "swallowed");
    let next = put(&mut core, "key", "shown");
    let late = watch(&mut core, other, false);
    for stream in [live, late] {
        let shown = pull(&mut core, stream);
        let shown: Vec<_> = shown.iter().flat_map(|m| revisions(&m.events)).collect();
        assert_eq!(shown, [other, next]);
    }
    assert_eq!(get(&core, "key", 0), Ok(Some("shown".into())));
}

#[test]
fn a_closed_stream_leaves_nothing() {
    let mut core = Core::new();
    let stream = watch(&mut core, 0, false);
    assert_eq!(core.watch_count(), (1, 1));
    core.close_stream(stream);
    assert_eq!(core.watch_count(), (0, 0));
    put(&mut core, "key", "x");
    assert_eq!(core.next(stream), None);
    assert_eq!(core.take_woken(), []);
}
