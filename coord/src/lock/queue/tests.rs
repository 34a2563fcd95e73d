//! Every test is a story that once went wrong in a model of the protocol, told by events. The
//! numbers are revisions.

use super::{super::modes::Permits, *};

const NOW: Instant = Instant::from_micros(1);

fn kv(key: &str, create_revision: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision,
        lease: 7,
        ..KeyValue::default()
    }
}

fn keys(of: &[&str]) -> Vec<Vec<u8>> {
    of.iter().map(|key| (*key).into()).collect()
}

pub(super) fn queue() -> Prefix {
    crate::key::Layout::new("", "config/", "coord/", "coord/")
        .lock_queue("q")
        .expect("a valid name")
}

fn view(from: Option<i64>) -> View {
    of(Mode::WRITE, from)
}

fn of(mode: Mode, from: Option<i64>) -> View {
    View::new(queue(), mode, b"me".to_vec(), from, NOW)
}

fn listed(kvs: &[KeyValue], more: bool) -> Listed {
    let kvs = kvs.to_vec();
    Listed { kvs, more }
}

/// A view that waits for `a` (created at 4) since revision 5, with the watch open from there.
fn waiting() -> View {
    let mut view = view(None);
    assert_eq!(view.put(5, &listed(&[kv("a", 4)], false), NOW), Step::Wait);
    view.opened(5);
    assert_eq!(view.step(), Step::Wait);
    view
}

#[test]
fn whoever_is_alone_in_the_transaction_that_put_it_owns_without_a_watch() {
    assert_eq!(view(None).put(5, &listed(&[], false), NOW), Step::Own);
    assert_eq!(view(Some(2)).put(5, &listed(&[], false), NOW), Step::Own);
}

#[test]
fn the_last_deletion_ahead_is_the_grant_and_no_read_is_made() {
    let mut view = view(None);
    view.put(5, &listed(&[kv("b", 4), kv("a", 3)], false), NOW);
    view.opened(5);
    assert_eq!(view.position(), Some(2));
    view.deleted(6, &keys(&["b"]), NOW);
    assert_eq!((view.step(), view.position()), (Step::Wait, Some(1)));
    view.deleted(7, &keys(&["stranger"]), NOW);
    assert_eq!(view.step(), Step::Wait);
    view.deleted(8, &keys(&["a"]), NOW);
    assert_eq!(view.step(), Step::Own);
    assert_eq!(view.start_read(), None);
}

#[test]
fn without_a_watch_a_deletion_can_be_missed_so_nothing_is_concluded() {
    let mut view = waiting();
    view.closed();
    assert_eq!(view.step(), Step::Wait);
    view.audit(NOW + std::time::Duration::from_secs(1));
    assert_eq!(view.start_read(), None);
    view.opened(5);
    assert!(view.start_read().is_some());
}

/// The holder's deletion reaches the hub before the waiter's reply, which then brings it back.
#[test]
fn a_deletion_that_overtakes_the_reply_is_applied_to_it() {
    let mut view = view(Some(2));
    view.deleted(6, &keys(&["a"]), NOW);
    assert_eq!(view.put(5, &listed(&[kv("a", 4)], false), NOW), Step::Own);
}

/// The reply does not come for long, and the queue is busy.
#[test]
fn what_is_kept_for_a_reply_is_bounded_and_then_read_anew() {
    let mut view = view(Some(2));
    for revision in 6..20_000 {
        view.deleted(revision, &keys(&["a"]), NOW);
    }
    assert!(view.told.len() <= MOST_TOLD);
    // The reply is from before what was thrown away.
    assert_eq!(view.put(5, &listed(&[kv("b", 4)], false), NOW), Step::Read);
    view.start_read().expect("a read");
    view.read(20_000, &listed(&[kv("me", 5)], false), NOW);
    assert_eq!(view.step(), Step::Own);
}

/// Another client makes its key again under the same name after it was deleted.
#[test]
fn a_deletion_from_before_the_snapshot_is_of_an_older_key_of_that_name() {
    let mut overtaken = view(Some(1));
    overtaken.deleted(3, &keys(&["go"]), NOW);
    assert_eq!(
        overtaken.put(5, &listed(&[kv("go", 4)], false), NOW),
        Step::Wait
    );

    let mut lagging = view(Some(1));
    lagging.put(5, &listed(&[kv("go", 4)], false), NOW);
    lagging.deleted(3, &keys(&["go"]), NOW);
    assert_eq!(lagging.step(), Step::Wait);
    lagging.deleted(6, &keys(&["go"]), NOW);
    assert_eq!(lagging.step(), Step::Own);
}

/// What was deleted between the acquire and the opening of the watch is told by nobody.
#[test]
fn a_watch_that_begins_after_the_snapshot_needs_a_read() {
    let mut view = view(None);
    view.put(5, &listed(&[kv("a", 4)], false), NOW);
    view.opened(9);
    assert_eq!(view.step(), Step::Read);
    let read = view.start_read().expect("a read");
    // Later entries must not be listed: two waiters would wait for each other.
    assert_eq!(read, ahead_of(&queue(), Mode::WRITE, b"me", 5));
    assert_eq!(view.start_read(), None, "one read at a time");
    view.read(9, &listed(&[kv("me", 5)], false), NOW);
    assert_eq!(view.step(), Step::Own);
}

/// Also one that was open before the acquire was answered, but after its revision.
#[test]
fn what_counts_is_the_revision_of_the_reply_and_not_the_entrys_own() {
    let mut view = view(Some(8));
    assert_eq!(view.put(5, &listed(&[kv("a", 4)], false), NOW), Step::Read);
    view.start_read().expect("a read");
    view.read(8, &listed(&[kv("me", 5), kv("a", 4)], false), NOW);
    assert_eq!(view.step(), Step::Wait);
}

/// The entry itself was deleted in the gap: then the list is empty, and that is no grant.
#[test]
fn a_read_that_does_not_begin_with_the_entry_says_that_it_is_gone() {
    for answer in [vec![], vec![kv("a", 4)], vec![kv("me", 7)]] {
        let mut view = view(None);
        view.put(5, &listed(&[kv("a", 4)], false), NOW);
        view.opened(9);
        view.start_read().expect("a read");
        view.read(9, &listed(&answer, false), NOW);
        assert_eq!(view.step(), Step::Gone, "{answer:?}");
    }
}

#[test]
fn a_read_from_before_the_watch_was_opened_again_is_void() {
    let mut view = waiting();
    view.closed();
    view.opened(9);
    view.start_read().expect("a read");
    view.closed();
    view.opened(12);
    view.read(10, &listed(&[kv("me", 5)], false), NOW);
    assert_eq!(view.step(), Step::Read);
    view.start_read().expect("another read");
    view.read(12, &listed(&[kv("me", 5)], false), NOW);
    assert_eq!(view.step(), Step::Own);
}

#[test]
fn a_deletion_that_overtakes_a_read_is_applied_to_it() {
    let mut view = waiting();
    view.opened(9);
    view.start_read().expect("a read");
    view.deleted(11, &keys(&["a"]), NOW);
    view.read(10, &listed(&[kv("me", 5), kv("a", 4)], false), NOW);
    assert_eq!(view.step(), Step::Own);
}

/// Holder and waiter share a session: a revoked lease deletes both at one revision.
#[test]
fn deletions_of_one_revision_are_one_and_the_own_entry_comes_first() {
    for order in [["a", "me"], ["me", "a"]] {
        let mut waiting = waiting();
        waiting.deleted(8, &keys(&order), NOW);
        assert_eq!(waiting.step(), Step::Gone);

        let mut overtaken = view(Some(2));
        overtaken.deleted(8, &keys(&order), NOW);
        assert_eq!(
            overtaken.put(5, &listed(&[kv("a", 4)], false), NOW),
            Step::Gone
        );
        let mut alone = view(Some(2));
        alone.deleted(8, &keys(&order), NOW);
        assert_eq!(alone.put(5, &listed(&[], false), NOW), Step::Gone);
    }
}

/// An earlier copy of the acquire was applied. Its list is lost, and a list made now would hold
/// later entries too.
#[test]
fn an_entry_that_is_found_reads_who_is_ahead() {
    let mut view = view(Some(2));
    view.found(5, NOW);
    assert_eq!(view.step(), Step::Read);
    let read = view.start_read().expect("a read");
    assert_eq!(read, ahead_of(&queue(), Mode::WRITE, b"me", 5));
    view.read(9, &listed(&[kv("me", 5), kv("a", 4)], false), NOW);
    assert_eq!(view.step(), Step::Wait);
    view.deleted(10, &keys(&["a"]), NOW);
    assert_eq!(view.step(), Step::Own);
}

#[test]
fn an_entry_that_was_deleted_before_it_was_found_is_gone() {
    let mut view = view(Some(2));
    view.deleted(7, &keys(&["me"]), NOW);
    view.found(5, NOW);
    assert_eq!(view.step(), Step::Gone);
}

#[test]
fn a_cut_list_is_read_again_when_its_part_is_empty() {
    let mut view = view(None);
    view.put(50, &listed(&[kv("b", 49)], true), NOW);
    view.opened(50);
    assert_eq!((view.step(), view.position()), (Step::Wait, None));
    view.deleted(51, &keys(&["b"]), NOW);
    assert_eq!(view.step(), Step::Read);
    view.start_read().expect("a read");
    // `count` would say 2 or more here for ever; it is not looked at.
    view.read(52, &listed(&[kv("me", 50), kv("a", 3)], false), NOW);
    assert_eq!(view.step(), Step::Wait);
}

/// The server swallowed a deletion.
#[test]
fn an_audit_finds_a_deletion_that_was_not_told() {
    let mut view = waiting();
    view.audit(NOW);
    assert_eq!(view.step(), Step::Wait, "it has learned something just now");
    view.audit(NOW + std::time::Duration::from_secs(1));
    view.start_read().expect("a read");
    assert!(
        view.read(9, &listed(&[kv("me", 5)], false), NOW),
        "a missed event"
    );
    assert_eq!(view.step(), Step::Own);
    view.closed();
    view.opened(12);
    assert_eq!(view.step(), Step::Read, "an owner makes sure of its entry");
}

#[test]
fn an_audit_that_finds_nothing_new_changes_nothing() {
    let mut view = waiting();
    view.audit(NOW + std::time::Duration::from_secs(1));
    view.start_read().expect("a read");
    assert!(!view.read(9, &listed(&[kv("me", 5), kv("a", 4)], false), NOW));
    assert_eq!(view.step(), Step::Wait);
}

#[test]
fn an_entry_without_a_lease_ahead_is_named() {
    let mut view = view(None);
    let stray = KeyValue {
        lease: 0,
        ..kv("stray", 4)
    };
    view.put(5, &listed(&[stray], false), NOW);
    view.opened(5);
    assert_eq!(view.step(), Step::Stuck(b"stray".to_vec()));
}

#[test]
fn an_owner_whose_entry_is_deleted_is_told() {
    let mut view = waiting();
    view.deleted(6, &keys(&["a"]), NOW);
    assert_eq!(view.step(), Step::Own);
    view.deleted(9, &keys(&["me"]), NOW);
    assert_eq!(view.step(), Step::Gone);
}

/// The entry itself, and with it all that were created before and may conflict.
#[test]
fn a_read_asks_for_the_entry_and_for_those_before_it() {
    for (mode, ranges) in [(Mode::WRITE, 1), (Mode::Read, 2), (permits(2, 5), 1)] {
        let read = ahead_of(&queue(), mode, b"me", 5);
        assert!(read.when.is_empty() && read.otherwise.is_empty());
        let gets: Vec<_> = read
            .then
            .into_iter()
            .map(|op| match op {
                Op::Get(range) => range,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(gets.iter().all(|range| !range.serializable));
        assert_eq!(gets[0].span, Span::Key(b"me".to_vec()));
        assert_eq!(gets[0].max_create_revision, 0);
        assert_eq!(gets.len(), 1 + ranges);
        for range in &gets[1..] {
            assert_eq!(range.max_create_revision, 4);
            assert_eq!(range.order, Order::CreateDescending);
        }
    }
}

fn permits(take: u32, of: u32) -> Mode {
    Mode::Permits(Permits { take, of })
}

/// An entry's key in the queue.
fn entry(suffix: &str) -> String {
    queue().key(suffix).as_str().to_owned()
}

#[test]
fn permits_own_as_soon_as_those_ahead_leave_enough() {
    let (a, b, c) = (entry("s1.1.2of4"), entry("s1.2.1of4"), entry("s1.3.1of4"));
    let ahead = [kv(&c, 4), kv(&b, 3), kv(&a, 2)];
    let mut one = of(permits(1, 4), None);
    assert_eq!(one.put(5, &listed(&ahead[1..], false), NOW), Step::Own);
    let mut two = of(permits(2, 4), None);
    assert_eq!(two.put(5, &listed(&ahead, false), NOW), Step::Wait);
    two.opened(5);
    assert_eq!((two.step(), two.position()), (Step::Wait, Some(3)));
    two.deleted(6, &keys(&[&b]), NOW);
    assert_eq!(two.step(), Step::Wait, "one is free");
    two.deleted(7, &keys(&[&c]), NOW);
    assert_eq!(two.step(), Step::Own);
}

/// Those that were not listed take permits as well.
#[test]
fn permits_that_seem_to_fit_a_cut_list_are_read_again() {
    let (a, b) = (entry("s1.1.1of3"), entry("s1.2.1of3"));
    let mut view = of(permits(1, 3), None);
    let cut = listed(&[kv(&b, 4), kv(&a, 3)], true);
    assert_eq!(view.put(5, &cut, NOW), Step::Wait);
    view.opened(5);
    assert_eq!(view.step(), Step::Read);
    // So a list that is cut blocks for as long as it was listed: it is longer than what fits.
    for take in [1, 3, 1_000] {
        let mode = permits(take, 1_000);
        for range in ahead_of_new(&queue(), mode) {
            assert!(range.limit > i64::from(mode.room()));
        }
    }
}

#[test]
fn permits_wait_for_writers_readers_and_other_clients() {
    for other in ["x1.1", "r1.1", "694d7c1a"] {
        let other = entry(other);
        let mut view = of(permits(1, 9), Some(2));
        let ahead = listed(&[kv(&other, 4)], false);
        assert_eq!(view.put(5, &ahead, NOW), Step::Wait, "{other}");
        view.deleted(6, &keys(&[&other]), NOW);
        assert_eq!(view.step(), Step::Own, "{other}");
    }
}

/// Even if they fit: the two processes do not mean the same thing.
#[test]
fn a_semaphore_of_another_size_is_named() {
    let other = entry("s1.1.1of8");
    let mut view = of(permits(1, 4), None);
    let ahead = listed(&[kv(&other, 4)], false);
    assert_eq!(view.put(5, &ahead, NOW), Step::Wait);
    view.opened(5);
    assert_eq!(view.step(), Step::Contradicted(other.into_bytes()));
}

/// Both of a downgradable holder's entries are one holder.
#[test]
fn entries_of_one_revision_are_counted_once() {
    let mut view = view(None);
    let (x, r) = (entry("x1.1"), entry("r1.1"));
    view.put(5, &listed(&[kv(&r, 4), kv(&x, 4)], false), NOW);
    assert_eq!(view.position(), Some(1));
}
