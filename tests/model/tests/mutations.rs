//! Each rule left out gives a counterexample of the law that it is for; with the rule the same
//! scenario breaks no law.

use std::collections::BTreeSet;

use coord_model::{
    check::{check, no_circle},
    mutation::Mutation,
    properties::Law,
    protocol::Protocol,
    scenario::{Faults, Mode, Plan, Scenario},
};
use stateright::HasDiscoveries;

fn none() -> Faults {
    Faults::default()
}

/// Two clients, each with one session.
fn two(attempts: &[Plan], faults: Faults) -> Scenario {
    Scenario::new("two clients", &[0, 1], attempts).faults(faults)
}

/// One client with one session.
fn one(attempts: &[Plan], faults: Faults) -> Scenario {
    Scenario::new("one client", &[0], attempts).faults(faults)
}

/// One client with a session for each of two TTLs.
fn two_ttls(moves: &[u8], faults: Faults) -> Scenario {
    let attempts = [Plan::write(0).moves(moves)];
    Scenario::new("two sessions of one client", &[0, 0], &attempts).faults(faults)
}

fn caught(mutation: Mutation, law: Law, scenario: Scenario) {
    let healthy = check(
        scenario.name,
        Protocol::new(scenario.clone()),
        HasDiscoveries::Any,
    );
    assert!(healthy.found.is_empty(), "with the rule: {healthy}");
    let until = HasDiscoveries::AnyOf(BTreeSet::from([law.name()]));
    let mutated = scenario.without(mutation);
    let report = check(mutated.name, Protocol::new(mutated.clone()), until);
    let found = report.found.iter().find(|(name, _)| *name == law.name());
    match found {
        Some((_, steps)) => println!(
            "{mutation:?}: {} states of {}; {} steps: {steps:?}",
            report.states,
            healthy.states,
            steps.len()
        ),
        None => {
            let circle = no_circle(mutated);
            assert!(
                law == Law::Progress && circle.is_err(),
                "{mutation:?} was not caught: {report}"
            );
            println!(
                "{mutation:?}: {} states; a circle: {circle:?}",
                healthy.states
            );
        }
    }
}

#[test]
fn no_barrier() {
    let scenario = one(&[Plan::write(0)], Faults { late: 1, ..none() });
    caught(Mutation::NoBarrier, Law::NoOrphan, scenario);
}

#[test]
fn shared_entry_key() {
    let scenario = one(&[Plan::write(0), Plan::write(0)], none());
    caught(Mutation::SharedEntryKey, Law::Exclusion, scenario);
}

#[test]
fn batches_one_name() {
    let scenario = one(&[Plan::write(0), Plan::write(0)], none()).batches();
    caught(Mutation::BatchesOneName, Law::Exclusion, scenario);
}

#[test]
fn no_gap_read() {
    let scenario = two(&[Plan::write(0), Plan::write(1)], none());
    caught(Mutation::NoGapRead, Law::Progress, scenario);
}

#[test]
fn no_deadline_check() {
    let scenario = one(&[Plan::write(0)], Faults { past: 1, ..none() });
    caught(Mutation::NoDeadlineCheck, Law::Entry, scenario);
}

#[test]
fn no_deadline_check_lets_two_in() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults { past: 1, ..none() },
    );
    caught(Mutation::NoDeadlineCheck, Law::Exclusion, scenario);
}

#[test]
fn barrier_keeps_entry() {
    let scenario = one(&[Plan::write(0)], Faults { late: 1, ..none() });
    caught(Mutation::BarrierKeepsEntry, Law::NoOrphan, scenario);
}

#[test]
fn barrier_without_lease() {
    let scenario = one(
        &[Plan::write(0)],
        Faults {
            late: 1,
            past: 1,
            ..none()
        },
    );
    caught(Mutation::BarrierWithoutLease, Law::NoOrphan, scenario);
}

#[test]
fn release_before_known() {
    let scenario = one(
        &[Plan::write(0)],
        Faults {
            cancel: 1,
            ..none()
        },
    );
    caught(Mutation::ReleaseBeforeKnown, Law::NoOrphan, scenario);
}

#[test]
fn no_revision_filter() {
    let mut scenario = one(&[Plan::write(0), Plan::write(0)], none()).go(2);
    scenario.limit = 2;
    caught(Mutation::NoRevisionFilter, Law::First, scenario);
}

#[test]
fn refusal_settles() {
    let faults = Faults {
        late: 1,
        refuse: 1,
        ..none()
    };
    let scenario = one(&[Plan::write(0)], faults);
    caught(Mutation::RefusalSettles, Law::NoOrphan, scenario);
}

#[test]
fn no_space_settles() {
    let faults = Faults {
        late: 1,
        refuse: 1,
        ..none()
    };
    let scenario = one(&[Plan::write(0)], faults);
    caught(Mutation::NoSpaceSettles, Law::NoOrphan, scenario);
}

#[test]
fn unguarded_write() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults { past: 1, ..none() },
    )
    .writes();
    caught(Mutation::UnguardedWrite, Law::Fencing, scenario);
}

#[test]
fn incarnation_from_own_barrier_only() {
    let scenario = one(
        &[Plan::write(0), Plan::write(0)],
        Faults {
            late: 1,
            cancel: 1,
            ..none()
        },
    );
    caught(
        Mutation::IncarnationFromOwnBarrierOnly,
        Law::Progress,
        scenario,
    );
}

#[test]
fn stale_read() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults {
            late: 1,
            watch: 1,
            ..none()
        },
    );
    caught(Mutation::StaleRead, Law::Progress, scenario);
}

#[test]
fn no_buffer() {
    let scenario = one(&[Plan::write(0), Plan::write(0)], none()).go(1);
    caught(Mutation::NoBuffer, Law::Progress, scenario);
}

#[test]
fn lists_later_entries() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults { late: 1, ..none() },
    )
    .go(1);
    caught(Mutation::ListsLaterEntries, Law::Progress, scenario);
}

#[test]
fn read_trusts_empty_list() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults {
            delete_entry: 1,
            ..none()
        },
    );
    caught(Mutation::ReadTrustsEmptyList, Law::First, scenario);
}

#[test]
fn event_by_event() {
    let scenario = one(
        &[Plan::write(0), Plan::write(0)],
        Faults {
            revoke: 1,
            ..none()
        },
    );
    caught(Mutation::EventByEvent, Law::First, scenario);
}

#[test]
fn no_barrier_when_gone() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults {
            late: 1,
            delete_entry: 1,
            ..none()
        },
    );
    caught(Mutation::NoBarrierWhenGone, Law::NoOrphan, scenario);
}

#[test]
fn busy_first() {
    let scenario = two(
        &[Plan::write(0).tries(), Plan::write(1)],
        Faults { late: 1, ..none() },
    );
    caught(Mutation::BusyFirst, Law::TrueBusy, scenario);
}

#[test]
fn no_barrier_when_busy() {
    let scenario = two(
        &[Plan::write(0).tries(), Plan::write(1)],
        Faults { late: 1, ..none() },
    );
    caught(Mutation::NoBarrierWhenBusy, Law::NoOrphan, scenario);
}

#[test]
fn one_name_is_enough() {
    let plans = [
        Plan::write(0).names(3),
        Plan::write(1).names(1),
        Plan::write(1).names(2),
    ];
    caught(Mutation::OneNameIsEnough, Law::First, two(&plans, none()));
}

/// Not a rule of the protocol but of its bounds: listed entries must be able to block by themselves.
#[test]
fn a_cut_list_of_permits_is_read_again_and_again() {
    let one = Mode::Permits { take: 1, of: 3 };
    let plans = [Plan::new(0, one), Plan::new(0, one), Plan::new(1, one)];
    let mut scenario = two(&plans, none());
    scenario.limit = 1;
    assert!(no_circle(scenario.clone()).is_err());
    scenario.limit = 3;
    assert!(no_circle(scenario).is_ok());
}

#[test]
fn audit_by_count() {
    let scenario = two(
        &[Plan::write(0), Plan::write(1)],
        Faults {
            swallow: 1,
            ..none()
        },
    )
    .go(1);
    caught(Mutation::AuditByCount, Law::Progress, scenario);
}

#[test]
fn confirm_by_count() {
    let scenario = one(
        &[Plan::write(0)],
        Faults {
            late: 1,
            delete_entry: 1,
            ..none()
        },
    );
    caught(Mutation::ConfirmByCount, Law::Confirmed, scenario);
}

fn downgrading(attempts: &[Plan], faults: Faults) -> Scenario {
    let mut scenario = two(attempts, faults);
    scenario.downgrades = true;
    scenario
}

#[test]
fn compares_one_of_two() {
    let faults = Faults { late: 1, ..none() };
    let scenario = downgrading(&[Plan::new(0, Mode::Downgradable)], faults);
    caught(Mutation::ComparesOneOfTwo, Law::NoOrphan, scenario);
}

#[test]
fn reused_after_late_delete() {
    let faults = Faults { late: 1, ..none() };
    let plans = [Plan::write(0), Plan::write(0).reuses(0)];
    caught(
        Mutation::ReusedAfterLateDelete,
        Law::Entry,
        one(&plans, faults),
    );
}

#[test]
fn reused_after_late_delete_lets_two_in() {
    let faults = Faults { late: 1, ..none() };
    let plans = [Plan::write(0), Plan::write(0).reuses(0), Plan::write(1)];
    caught(
        Mutation::ReusedAfterLateDelete,
        Law::Exclusion,
        two(&plans, faults),
    );
}

#[test]
fn reused_before_downgraded() {
    let plan = Plan::new(0, Mode::Downgradable);
    let scenario = downgrading(&[plan.clone(), plan.reuses(0)], none());
    caught(Mutation::ReusedBeforeDowngraded, Law::Entry, scenario);
}

#[test]
fn reader_lists_readers() {
    let scenario = two(&[Plan::write(0), Plan::read(1), Plan::read(1)], none());
    caught(Mutation::ReaderListsReaders, Law::First, scenario);
}

#[test]
fn lease_resumed() {
    let scenario = one(&[Plan::write(0)], Faults { past: 1, ..none() });
    caught(Mutation::LeaseResumed, Law::NoOrphan, scenario);
}

#[test]
fn holder_not_verified() {
    let faults = Faults {
        watch: 1,
        delete_entry: 1,
        ..none()
    };
    let scenario = two(&[Plan::write(0), Plan::write(1)], faults);
    caught(Mutation::HolderNotVerified, Law::Noticed, scenario);
}

#[test]
fn move_compares_creation() {
    let faults = Faults {
        late: 1,
        past: 1,
        ..none()
    };
    let scenario = two_ttls(&[1, 0], faults);
    caught(Mutation::MoveComparesCreation, Law::Entry, scenario);
}

#[test]
fn move_takes_any_entry() {
    let faults = Faults {
        late: 2,
        past: 1,
        ..none()
    };
    caught(
        Mutation::MoveTakesAnyEntry,
        Law::Entry,
        two_ttls(&[1], faults),
    );
}

#[test]
fn move_counts_old_lease() {
    let scenario = two_ttls(&[1], Faults { past: 1, ..none() });
    caught(Mutation::MoveCountsOldLease, Law::Entry, scenario);
}

#[test]
fn move_counts_new_lease() {
    let scenario = two_ttls(&[1], Faults { past: 1, ..none() });
    caught(Mutation::MoveCountsNewLease, Law::Entry, scenario);
}

#[test]
fn moved_is_forgotten() {
    let scenario = two_ttls(&[1], Faults { past: 1, ..none() });
    caught(Mutation::MovedIsForgotten, Law::NoOrphan, scenario);
}

#[test]
fn moved_barrier_settles() {
    let faults = Faults {
        late: 1,
        past: 1,
        ..none()
    };
    let scenario = two_ttls(&[1], faults);
    caught(Mutation::MovedBarrierSettles, Law::NoOrphan, scenario);
}
