//! Instance ids: no two believe in one number, nothing is left behind and nobody waits for ever; each
//! rule left out gives a counterexample. With `COORD_MODEL=large` more may happen, which takes long.

use std::collections::BTreeSet;

use coord_model::{
    check::{Report, check},
    ids::{Bounds, Ids, Lapse, Law},
};
use stateright::HasDiscoveries;

fn run(bounds: Bounds, lapse: Option<Lapse>, until: HasDiscoveries) -> Report {
    let report = check("ids", Ids { bounds, lapse }, until);
    println!("{bounds:?} {lapse:?}: {report}");
    report
}

fn holds(mut bounds: Bounds) {
    if std::env::var("COORD_MODEL").is_ok_and(|bounds| bounds == "large") {
        bounds.late += 1;
        bounds.past += 1;
    }
    let report = run(bounds, None, HasDiscoveries::AnyFailures);
    let broken = |law: &str| law != Law::Verified.name();
    assert!(!report.found.iter().any(|(law, _)| broken(law)), "{report}");
    assert!(bounds.past == 0 || !report.found.is_empty(), "{report}");
}

/// Two processes and one number.
fn two() -> Bounds {
    Bounds {
        processes: 2,
        slots: 1,
        lives: 1,
        ..Bounds::default()
    }
}

#[test]
fn late_copies_and_passed_deadlines() {
    holds(Bounds {
        late: 2,
        past: 2,
        ..two()
    });
}

#[test]
fn a_second_lease_after_the_first() {
    holds(Bounds {
        lives: 2,
        late: 1,
        past: 1,
        ..two()
    });
}

#[test]
fn three_processes_and_two_numbers() {
    holds(Bounds {
        processes: 3,
        slots: 2,
        late: 1,
        ..two()
    });
}

#[test]
fn those_who_wait() {
    holds(Bounds {
        processes: 3,
        late: 1,
        swallows: 1,
        cancels: 1,
        ..two()
    });
}

#[test]
fn crashes_and_cancels() {
    holds(Bounds {
        lives: 2,
        late: 1,
        crashes: 1,
        cancels: 1,
        ..two()
    });
}

#[test]
fn somebody_deletes_and_revokes() {
    holds(Bounds {
        late: 1,
        past: 1,
        deletes: 1,
        revokes: 1,
        ..two()
    });
}

fn caught(lapse: Lapse, law: Law, bounds: Bounds) {
    let until = HasDiscoveries::AnyOf(BTreeSet::from([law.name()]));
    let report = run(bounds, Some(lapse), until);
    let found = report.found.iter().any(|(broken, _)| *broken == law.name());
    assert!(found, "{lapse:?} was not caught: {report}");
}

fn late() -> Bounds {
    Bounds { late: 1, ..two() }
}

fn late_and_past() -> Bounds {
    Bounds {
        late: 2,
        past: 2,
        ..two()
    }
}

#[test]
fn no_owner() {
    let bounds = Bounds { slots: 2, ..late() };
    caught(Lapse::NoOwner, Law::OneSlot, bounds);
}

#[test]
fn no_deadline() {
    let bounds = Bounds { past: 1, ..two() };
    caught(Lapse::NoDeadline, Law::Exclusion, bounds);
}

#[test]
fn answer_not_compared() {
    let bounds = Bounds { past: 1, ..two() };
    caught(Lapse::AnswerNotCompared, Law::Exclusion, bounds);
}

#[test]
fn believed_until_released() {
    caught(Lapse::BelievedUntilReleased, Law::Exclusion, two());
}

#[test]
fn no_read() {
    caught(Lapse::NoRead, Law::Exclusion, late_and_past());
}

#[test]
fn read_beside() {
    caught(Lapse::ReadBeside, Law::Exclusion, late_and_past());
}

#[test]
fn release_not_compared() {
    let bounds = Bounds {
        processes: 3,
        ..late()
    };
    caught(Lapse::ReleaseNotCompared, Law::Exclusion, bounds);
}

#[test]
fn owner_trusted() {
    let bounds = Bounds {
        deletes: 1,
        ..late()
    };
    caught(Lapse::OwnerTrusted, Law::Exclusion, bounds);
}

#[test]
fn lease_kept() {
    let bounds = Bounds {
        deletes: 1,
        ..two()
    };
    caught(Lapse::LeaseKept, Law::Progress, bounds);
}

#[test]
fn owner_deleted() {
    caught(Lapse::OwnerDeleted, Law::OneSlot, late());
}

#[test]
fn watch_from_now() {
    caught(Lapse::WatchFromNow, Law::Progress, two());
}

#[test]
fn looks_for_free() {
    let bounds = Bounds {
        swallows: 1,
        ..late()
    };
    caught(Lapse::LooksForFree, Law::Progress, bounds);
}
