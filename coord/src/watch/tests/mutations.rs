//! One scenario for each mistake that the model of this watch showed to be one: it must hold as the
//! engine is, and must fail when the engine makes the mistake.

use super::*;
use crate::{
    client::{Range, Version},
    watch::{mutation::Mutation, script::Progress},
};

/// Shows that `scenario` notices `mutation`.
fn notices(mutation: Mutation, scenario: impl Fn() -> Outcome) {
    scenario().expect("holds without the mistake");
    let outcome = mutation.during(&scenario);
    assert!(outcome.is_err(), "{mutation:?} was not noticed");
}

/// A server where three keys stand below `/a/b/`, at revisions 2, 3 and 4.
fn three_keys() -> Script {
    let script = Script::with_two_members();
    for key in ["/a/b/x", "/a/b/y", "/a/b/z"] {
        script.put(key, "old");
    }
    script
}

fn audits(range: &Range) -> bool {
    range.limit > 1
}

#[test]
fn resume_at_header_plus_one() {
    notices(Mutation::ResumeAtHeader, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().cut();
        script.world().batch = 10;
        for value in 0..30 {
            script.put("/a/b/x", &value.to_string());
            script.put(&format!("/a/b/{value}"), "new");
        }
        // The first batch of the catch-up comes, with the store's revision in its header; then the
        // stream breaks.
        script.world().trickle = Some(3);
        rig.recover()?;
        script.world().trickle = None;
        script.world().cut();
        rig.recover()?;
        rig.is_current()
    });
}

#[test]
fn progress_trusted_on_old_servers() {
    notices(Mutation::TrustOldProgress, || {
        let script = three_keys();
        script.world().members[0].version = Version::new(3, 5, 7);
        script.world().members[0].progress = Progress::Ahead;
        old_progress_overtakes(&mut Rig::new(&script))
    });
}

/// Events are on their way when progress is asked for; a server that answers ahead of them must not
/// be believed.
fn old_progress_overtakes(rig: &mut Rig) -> Outcome {
    rig.run()?;
    rig.script.world().trickle = Some(0);
    rig.script.put("/a/b/x", "new");
    rig.advance(seconds(11))?;
    ensure(
        rig.script.count(|call| *call == Call::Progress) > 0,
        "it asked",
    )?;
    rig.script.world().trickle = None;
    rig.run()?;
    rig.is_current()
}

#[test]
fn progress_trusted_by_another_members_version() {
    notices(Mutation::TrustByAnotherMembersVersion, || {
        let script = three_keys();
        script.world().members[1].version = Version::new(3, 5, 7);
        script.world().members[1].progress = Progress::Ahead;
        let mut rig = Rig::new(&script);
        rig.run()?;
        // The next stream is the other member's.
        script.world().endpoint = 1;
        script.world().cut();
        rig.recover()?;
        old_progress_overtakes(&mut rig)
    });
}

#[test]
fn progress_for_a_watch_that_it_does_not_speak_for() {
    notices(Mutation::ProgressBeforeCreated, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().cut();
        script.put("/a/b/x", "new");
        rig.recover()?;
        rig.is_current()
    });
}

#[test]
fn progress_that_overtakes_the_queue() {
    notices(Mutation::ProgressOvertakes, || {
        let script = three_keys();
        script.world().members[0].progress = Progress::Ahead;
        script.world().fragment = 1;
        let mut rig = Rig::new(&script);
        rig.run()?;
        rig.advance(seconds(9))?;
        // One half of a revision is here, the other is on its way.
        script.world().trickle = Some(1);
        (script.world()).write(&[("/a/b/x", Some("new")), ("/a/b/y", Some("new"))]);
        rig.advance(seconds(2))?;
        ensure(
            script.count(|call| *call == Call::Progress) == 1,
            "it asked",
        )?;
        script.world().trickle = None;
        rig.run()?;
        rig.is_current()
    });
}

fn pages_of_one() -> WatchOptions {
    WatchOptions {
        page: 2,
        ..WatchOptions::default()
    }
}

#[test]
fn latest_revision_per_page() {
    notices(Mutation::LatestRevisionPerPage, || {
        let script = three_keys();
        script.world().put_between_pages = Some("/a/b/zz");
        let mut rig = Rig::with(&script, pages_of_one());
        rig.run()?;
        rig.is_current()
    });
}

#[test]
fn last_pages_header_as_the_lists_revision() {
    notices(Mutation::LastPagesHeader, || {
        let script = three_keys();
        script.world().put_between_pages = Some("/a/b/a");
        let mut rig = Rig::with(&script, pages_of_one());
        rig.run()?;
        rig.is_current()
    });
}

#[test]
fn clear_then_fill() {
    notices(Mutation::ClearThenFill, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().cut();
        script.put("/a/b/x", "new");
        let revision = script.put("/a/b/y", "new");
        script.world().compact(revision);
        rig.recover()?;
        ensure(
            rig.causes() == [Cause::Listed, Cause::Relisted],
            "it was listed again",
        )?;
        // `/a/b/z` was there all the time: it is in no change after the first list.
        let told = rig.updates[1..].iter().flat_map(|update| &update.changes);
        ensure(
            told.clone().all(|c| c.key != b"/a/b/z"),
            "only what changed is told",
        )?;
        rig.is_current()
    });
}

#[test]
fn fragment_by_fragment() {
    notices(Mutation::FragmentByFragment, || {
        let script = three_keys();
        script.world().fragment = 1;
        let mut rig = Rig::new(&script);
        rig.run()?;
        (script.world()).write(&[("/a/b/x", Some("new")), ("/a/b/y", None)]);
        rig.run()?;
        ensure(rig.updates.len() == 2, "one revision is one update")?;
        rig.is_current()
    });
}

#[test]
fn created_read_before_canceled() {
    notices(Mutation::CreatedBeforeCanceled, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().token_expired = true;
        script.world().cut();
        script.put("/a/b/x", "new");
        rig.recover()?;
        ensure(rig.lists() == 1, "a refused watch does not cost a list")?;
        rig.is_current()
    });
}

#[test]
fn no_regression_check() {
    notices(Mutation::NoRegressionCheck, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().restore(2, true);
        script.put("/a/b/y", "after the restore");
        rig.recover()?;
        ensure(
            rig.causes() == [Cause::Listed, Cause::Regressed],
            "it is told as what it is",
        )?;
        rig.is_current()
    });
}

#[test]
fn false_regression_from_an_answer_older_than_a_folded_event() {
    notices(Mutation::CompareWithPresentPosition, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        // The audit's answer is made, and then held while an event overtakes it.
        script.world().hold = Some(audits);
        rig.advance(seconds(301))?;
        ensure(rig.lists() == 2, "an audit is under way")?;
        script.put("/a/b/x", "new");
        rig.run()?;
        script.world().release();
        rig.recover()?;
        ensure(
            rig.causes() == [Cause::Listed, Cause::Events],
            "nothing went back",
        )?;
        rig.is_current()
    });
}

#[test]
fn no_audit_with_a_lost_event() {
    notices(Mutation::NoAudit, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        let revision = script.put("/a/b/x", "new");
        script.world().lose(revision);
        rig.strict = false;
        rig.advance(seconds(301))?;
        rig.is_current()
    });
}

/// An audit's answer is held while `meanwhile` happens.
fn around_an_audit(meanwhile: impl Fn(&mut Rig) -> Outcome) -> Outcome {
    let script = three_keys();
    let mut rig = Rig::new(&script);
    rig.run()?;
    script.world().hold = Some(audits);
    rig.advance(seconds(301))?;
    ensure(rig.lists() == 2, "an audit is under way")?;
    meanwhile(&mut rig)?;
    script.world().release();
    rig.run()?;
    rig.is_current()
}

#[test]
fn audit_that_replaces() {
    notices(Mutation::AuditReplaces, || {
        around_an_audit(|rig| {
            rig.script.put("/a/b/x", "new");
            rig.run()
        })
    });
}

#[test]
fn audit_that_resurrects() {
    notices(Mutation::AuditResurrects, || {
        around_an_audit(|rig| {
            rig.script.delete("/a/b/x");
            rig.run()
        })
    });
}

#[test]
fn audit_that_outlives_its_stream() {
    notices(Mutation::AuditOutlivesStream, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.put("/a/b/x", "never was");
        rig.run()?;
        script.world().hold = Some(audits);
        rig.advance(seconds(301))?;
        ensure(rig.lists() == 2, "an audit is under way")?;
        // History goes back, and the watch with it: but for the audit, whose answer is older.
        script.world().hold = None;
        script.world().restore(4, true);
        rig.recover()?;
        rig.is_current()?;
        script.world().release();
        rig.run()?;
        rig.is_current()
    });
}

#[test]
fn start_at_the_position_without_dropping_duplicates() {
    notices(Mutation::StartAtPosition, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        ensure(rig.updates.len() == 1, "what was listed is not told again")?;
        rig.is_current()
    });
}

#[test]
fn no_slash_at_the_prefixs_end() {
    notices(Mutation::NoSlash, || {
        let script = three_keys();
        script.put("/a/bc", "a neighbour");
        script.put("/a/b", "the prefix itself");
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.put("/a/bc/x", "a neighbour");
        rig.run()?;
        ensure(rig.watcher.map().len() == 3, "only what is below")
    });
}

#[test]
fn created_header_as_position() {
    notices(Mutation::CreatedHeaderAsPosition, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().cut();
        script.put("/a/b/x", "new");
        rig.recover()?;
        rig.is_current()
    });
}

#[test]
fn serializable_list() {
    notices(Mutation::SerializableList, || {
        let script = three_keys();
        // The member lags; a list that asks the leader sees what was written before it was sent.
        script.world().members[0].lag = Some(3);
        let mut rig = Rig::new(&script);
        rig.run()?;
        ensure(rig.updates[0].revision == 4, "the list is up to date")?;
        rig.is_current()
    });
}

#[test]
fn from_now_events_published_in_the_gap() {
    notices(
        Mutation::FromNowHidesTheGap,
        super::from_now::user_survives_a_gap,
    );
}

#[test]
fn decode_error_resumed_at_the_same_place() {
    notices(Mutation::ResumeAfterDecodeError, || {
        let script = three_keys();
        let mut rig = Rig::new(&script);
        rig.run()?;
        script.world().cut();
        for value in 0..9 {
            script.put("/a/b/x", &value.to_string());
        }
        script.world().decodable_events = 5;
        rig.advance(seconds(60))?;
        rig.is_current()
    });
}
