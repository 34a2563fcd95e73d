//! Whole stories: what a user of [`Watcher`] sees.

use super::*;
use crate::{
    client::Version,
    watch::{Phase, script::Progress},
};

fn two_keys() -> Script {
    let script = Script::with_two_members();
    script.put("/a/b/x", "1");
    script.put("/a/b/y", "1");
    script
}

fn opens(script: &Script) -> Vec<i64> {
    let world = script.world();
    let opens = world.calls.iter().filter_map(|call| match call {
        Call::Watch(request) => Some(request.start_revision),
        _ => None,
    });
    opens.collect()
}

#[test]
fn an_empty_range_is_an_update_too() {
    let mut rig = Rig::new(&Script::new());
    rig.run().unwrap();
    assert_eq!(rig.updates.len(), 1);
    assert_eq!(
        (rig.updates[0].revision, rig.updates[0].cause),
        (1, Cause::Listed)
    );
    assert!(rig.updates[0].changes.is_empty());
}

#[test]
fn a_transaction_is_one_update_and_a_catch_up_message_is_too() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    (script.world()).write(&[("/a/b/x", Some("2")), ("/a/b/y", None), ("/c", Some("2"))]);
    rig.run().unwrap();
    let update = &rig.updates[1];
    assert_eq!((update.revision, update.cause), (4, Cause::Events));
    let keys: Vec<_> = update.changes.iter().map(|c| c.key.as_slice()).collect();
    assert_eq!(keys, [b"/a/b/x", b"/a/b/y"]);
    assert_eq!(update.changes[1].new, None);

    script.world().cut();
    for value in ["3", "4", "5"] {
        script.put("/a/b/x", value);
    }
    rig.recover().unwrap();
    let update = &rig.updates[2];
    assert_eq!((update.revision, update.changes.len()), (7, 3));
    assert_eq!(update.changes[2].old, update.changes[1].new);
    assert_eq!(rig.updates.len(), 3);
    assert_eq!(opens(&script), [4, 5]);
}

#[test]
fn a_stream_killed_after_the_first_batch_of_2501_revisions_loses_none() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.world().cut();
    for value in 0..2_501 {
        script.put("/a/b/x", &value.to_string());
    }
    script.put("/a/b/y", "last");
    // The break, `created`, and one batch.
    script.world().trickle = Some(3);
    rig.recover().unwrap();
    assert_eq!(
        rig.status().revision,
        1_003,
        "one batch, whatever its header says"
    );
    script.world().cut();
    script.world().trickle = None;
    rig.recover().unwrap();
    rig.is_current().unwrap();
    assert_eq!(opens(&script), [4, 4, 1_004]);
    let told: usize = rig.updates[1..].iter().map(|u| u.changes.len()).sum();
    assert_eq!(told, 2_502);
}

#[test]
fn a_compaction_past_us_is_listed_again_with_deletions_told() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.world().cut();
    script.delete("/a/b/x");
    let revision = script.put("/a/b/y", "2");
    script.world().compact(revision);
    rig.recover().unwrap();
    assert_eq!(rig.causes(), [Cause::Listed, Cause::Relisted]);
    let changes = &rig.updates[1].changes;
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0].new, None);
    rig.is_current().unwrap();
}

#[test]
fn history_that_went_back_is_told_with_a_lower_revision() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.put("/a/b/x", "never was");
    script.put("/a/b/z", "never was");
    rig.run().unwrap();
    // The same term: only the revision shows it.
    script.world().restore(3, false);
    rig.recover().unwrap();
    assert_eq!(rig.updates.last().unwrap().cause, Cause::Regressed);
    assert_eq!(rig.updates.last().unwrap().revision, 3);
    rig.is_current().unwrap();
    script.put("/a/b/x", "again");
    rig.run().unwrap();
    rig.is_current().unwrap();
}

#[test]
fn a_lagging_member_costs_no_list() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.world().endpoint = 1;
    script.world().members[1].lag = Some(2);
    script.world().cut();
    rig.advance(seconds(60)).unwrap();
    assert_eq!(rig.causes(), [Cause::Listed]);
    assert_eq!(rig.status().phase, Phase::Watching);
    // It catches up.
    script.put("/a/b/x", "2");
    script.world().members[1].lag = None;
    rig.run().unwrap();
    rig.is_current().unwrap();
    assert_eq!(rig.causes(), [Cause::Listed, Cause::Events]);
}

#[test]
fn a_suspect_streams_events_are_held_until_the_probe_has_answered() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.world().members[0].lag = Some(2);
    script.world().cut();
    script.world().hold = Some(|range| range.limit == 1);
    rig.recover().unwrap();
    script.world().members[0].lag = None;
    script.put("/a/b/x", "2");
    rig.run().unwrap();
    assert_eq!(rig.updates.len(), 1, "held");
    script.world().release();
    rig.run().unwrap();
    rig.is_current().unwrap();
    assert_eq!(rig.causes(), [Cause::Listed, Cause::Events]);
}

#[test]
fn a_half_open_stream_is_left_for_another_endpoint() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.world().silence();
    script.put("/a/b/x", "2");
    rig.advance(seconds(45)).unwrap();
    rig.is_current().unwrap();
    assert_eq!(script.world().endpoint, 1);
    assert_eq!(rig.lists(), 1, "resumed, not listed");
}

#[test]
fn two_streams_that_do_not_tell_a_change_are_settled_by_a_list() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    // No stream of either member tells it, and neither answers progress.
    for member in &mut script.world().members {
        member.progress = Progress::Never;
    }
    let revision = script.put("/a/b/x", "2");
    script.world().lose(revision);
    rig.strict = false;
    rig.advance(seconds(35)).unwrap();
    assert_eq!(opens(&script), [4, 4]);
    rig.advance(seconds(35)).unwrap();
    rig.is_current().unwrap();
    assert_eq!(rig.causes(), [Cause::Listed, Cause::Relisted]);
}

#[test]
fn a_quiet_store_is_left_alone_and_goes_on_being_verified() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.advance(seconds(3_600)).unwrap();
    let status = rig.status();
    assert_eq!((status.reconnects, status.trouble), (0, None));
    assert_eq!(rig.updates.len(), 1);
    let age = rig.clock.now().since(status.verified_at.unwrap());
    assert!(age <= seconds(30), "{age:?}");
}

#[test]
fn a_quiet_prefix_in_a_busy_store_moves_by_progress() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    for value in 0..10 {
        script.put("/elsewhere", &value.to_string());
        rig.advance(seconds(10)).unwrap();
    }
    let status = rig.status();
    assert!(status.revision >= 12, "{status:?}");
    assert_eq!((rig.updates.len(), status.reconnects), (1, 0));
    assert!(rig.clock.now().since(status.verified_at.unwrap()) <= seconds(40));
    // So a compaction of what was quiet does not matter.
    script.world().cut();
    script.world().compact(12);
    rig.recover().unwrap();
    assert_eq!(rig.lists(), 1);
}

#[test]
fn a_server_that_never_answers_progress_is_probed_and_its_audits_move_the_place() {
    let script = two_keys();
    script.world().members.truncate(1);
    script.world().members[0].progress = Progress::Never;
    script.world().members[0].version = Version::new(3, 5, 9);
    let mut rig = Rig::new(&script);
    for value in 0..100 {
        script.put("/elsewhere", &value.to_string());
        rig.advance(seconds(10)).unwrap();
    }
    assert_eq!(rig.updates.len(), 1);
    assert_eq!(rig.status().trouble, None);
    assert!(rig.status().revision > 90);
}

#[test]
fn trouble_is_in_the_status_and_the_map_stays() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.world().down = true;
    script.world().cut();
    rig.advance(seconds(200)).unwrap();
    let status = rig.status();
    assert_eq!(status.phase, Phase::BackingOff);
    let trouble = status.trouble.unwrap();
    assert!(trouble.contains("no endpoint answers"), "{trouble}");
    assert_eq!(rig.watcher.map().len(), 2);
    script.world().down = false;
    script.put("/a/b/x", "2");
    rig.advance(seconds(31)).unwrap();
    rig.is_current().unwrap();
    let status = rig.status();
    assert_eq!((status.phase, status.trouble), (Phase::Watching, None));
    assert!(status.reconnects >= 1);
    assert_eq!(rig.lists(), 1, "an outage alone costs no list");
}

#[test]
fn an_expired_token_is_replaced_for_lists_and_for_streams() {
    let script = two_keys();
    script.world().token_expired = true;
    let mut rig = Rig::new(&script);
    rig.recover().unwrap();
    assert_eq!(script.count(|call| *call == Call::Refresh), 1);
    script.world().token_expired = true;
    // A stream outlives its token.
    script.put("/a/b/x", "2");
    rig.run().unwrap();
    rig.is_current().unwrap();
    script.world().cut();
    script.put("/a/b/x", "3");
    rig.recover().unwrap();
    rig.is_current().unwrap();
    assert_eq!(script.count(|call| *call == Call::Refresh), 2);
    assert_eq!(rig.lists(), 2, "the first one was refused");
}

#[test]
fn a_permission_that_is_missing_is_told_and_asked_for_rarely() {
    let script = two_keys();
    script.world().denied = true;
    let mut rig = Rig::new(&script);
    rig.advance(seconds(600)).unwrap();
    let status = rig.status();
    assert_eq!(status.phase, Phase::BackingOff);
    assert!(status.trouble.unwrap().contains("permission denied"));
    assert!(script.count(|call| *call == Call::Refresh) <= 21);
    script.world().denied = false;
    rig.advance(seconds(61)).unwrap();
    rig.is_current().unwrap();
}

#[test]
fn a_list_that_is_compacted_between_its_pages_comes_through() {
    let script = Script::new();
    for key in 0..10 {
        script.put(&format!("/a/b/{key}"), "x");
    }
    script.world().compact_between_pages = 1_000;
    let mut rig = Rig::with(
        &script,
        WatchOptions {
            page: 4,
            ..WatchOptions::default()
        },
    );
    rig.recover().unwrap();
    rig.is_current().unwrap();
    assert_eq!(rig.watcher.map().len(), 10);
}

#[test]
fn the_neighbours_of_a_prefix_are_not_in_it() {
    let script = Script::new();
    for key in [
        "/a/b", "/a/b/", "/a/b/x", "/a/b/x/y", "/a/b0", "/a/bc", "/a/bc/x",
    ] {
        script.put(key, "x");
    }
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    script.put("/a/bc/y", "x");
    script.put("/a/b/z", "x");
    rig.run().unwrap();
    let keys: Vec<_> = rig.watcher.map().keys().map(Vec::as_slice).collect();
    assert_eq!(keys, [&b"/a/b/"[..], b"/a/b/x", b"/a/b/x/y", b"/a/b/z"]);
}

#[test]
fn one_key_can_be_followed() {
    let script = Script::new();
    script.put("/a/b", "1");
    script.put("/a/b/x", "1");
    let (clock, _hand) = Clock::manual();
    let span = Span::Key(b"/a/b".to_vec());
    let mut watcher = Watcher::new(script.clone(), clock, span, WatchOptions::default());
    let listed = poll_once(watcher.next()).expect("the list");
    assert_eq!(listed.changes.len(), 1);
    assert!(poll_once(watcher.next()).is_none());
    script.put("/a/b/x", "2");
    script.delete("/a/b");
    let deleted = poll_once(watcher.next()).expect("the deletion");
    assert_eq!((deleted.revision, deleted.changes.len()), (5, 1));
    assert!(watcher.map().is_empty());
}

/// Between updates the status moves; what only says "still alive" wakes nobody.
#[test]
fn the_status_wakes_for_the_revision_and_not_for_a_sign_of_life() {
    let script = two_keys();
    let mut rig = Rig::new(&script);
    rig.run().unwrap();
    let mut status = rig.watcher.status();
    status.borrow_and_update();
    script.world().members[0].version = Version::new(3, 5, 7);
    script.world().cut();
    rig.recover().unwrap();
    status.borrow_and_update();
    script.put("/elsewhere", "x");
    let before = rig.status().alive_at;
    rig.advance(seconds(11)).unwrap();
    assert!(rig.status().alive_at > before, "an old server answered");
    assert!(!status.has_changed().unwrap());
    script.put("/a/b/x", "2");
    rig.run().unwrap();
    assert!(status.has_changed().unwrap());
}

/// One `next()` that is polled to its end gives what many that were dropped do.
#[test]
fn a_call_that_is_kept_sees_what_happens_while_it_waits() {
    let script = two_keys();
    let (clock, hand) = Clock::manual();
    let mut watcher = Watcher::new(script.clone(), clock, below_a_b(), WatchOptions::default());
    assert_eq!(poll_once(watcher.next()).unwrap().cause, Cause::Listed);
    let mut next = pin!(watcher.next());
    let mut poll = || next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    script.world().cut();
    for _ in 0..100 {
        hand.advance(Duration::from_millis(10));
        assert!(poll().is_pending());
    }
    script.put("/a/b/x", "2");
    match poll() {
        Poll::Ready(update) => assert_eq!(update.cause, Cause::Events),
        Poll::Pending => panic!("the event was not told"),
    }
}
