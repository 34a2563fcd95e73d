//! Windows: no moment is stamped twice, whatever clocks say; each rule left out gives a
//! counterexample. With `COORD_MODEL=large` more may happen, which takes long.

use std::collections::BTreeSet;

use coord_model::{
    check::{Report, check},
    windows::{Bounds, Lapse, Law, Windows},
};
use stateright::HasDiscoveries;

fn run(bounds: Bounds, lapse: Option<Lapse>, until: HasDiscoveries) -> Report {
    let report = check("windows", Windows { bounds, lapse }, until);
    println!("{bounds:?} {lapse:?}: {report}");
    report
}

fn holds(mut bounds: Bounds) {
    if std::env::var("COORD_MODEL").is_ok_and(|bounds| bounds == "large") {
        bounds.late += 1;
        bounds.stamps += 1;
    }
    let report = run(bounds, None, HasDiscoveries::AnyFailures);
    let found: Vec<_> = report.found.iter().map(|(law, _)| *law).collect();
    assert_eq!(found, [Law::AllStamp.name()], "{report}");
}

fn two() -> Bounds {
    Bounds {
        end: 5,
        holders: 2,
        stamps: 1,
        moves: 2,
        late: 1,
        losses: 1,
    }
}

fn three() -> Bounds {
    Bounds {
        holders: 3,
        moves: 1,
        ..two()
    }
}

#[test]
fn two_holders() {
    holds(Bounds { stamps: 2, ..two() });
}

#[test]
fn three_holders() {
    holds(Bounds { end: 6, ..three() });
}

fn caught_in(bounds: Bounds, lapse: Lapse, law: Law) {
    let until = HasDiscoveries::AnyOf(BTreeSet::from([law.name()]));
    let report = run(bounds, Some(lapse), until);
    let found = report.found.iter().any(|(broken, _)| *broken == law.name());
    assert!(found, "{lapse:?} was not caught: {report}");
}

fn caught(lapse: Lapse, law: Law) {
    caught_in(two(), lapse, law);
}

#[test]
fn slot_not_compared() {
    caught(Lapse::SlotNotCompared, Law::Unique);
}

#[test]
fn mark_not_compared() {
    caught(Lapse::MarkNotCompared, Law::Unique);
}

#[test]
fn starts_at_now() {
    caught(Lapse::StartsAtNow, Law::Unique);
}

#[test]
fn used_when_sent() {
    caught(Lapse::UsedWhenSent, Law::Unique);
}

#[test]
fn open_at_release() {
    let bounds = Bounds { stamps: 2, ..two() };
    caught_in(bounds, Lapse::OpenAtRelease, Law::Unique);
}

#[test]
fn two_transactions() {
    caught_in(three(), Lapse::TwoTransactions, Law::Unique);
}

#[test]
fn read_before_claim() {
    caught(Lapse::ReadBeforeClaim, Law::Unique);
}

#[test]
fn stamps_now() {
    caught(Lapse::StampsNow, Law::Unique);
}

#[test]
fn moves_down() {
    caught(Lapse::MovesDown, Law::Unique);
}

#[test]
fn refusal_is_loss() {
    caught(Lapse::RefusalIsLoss, Law::NoNeedlessLoss);
}

#[test]
fn release_not_compared() {
    caught_in(three(), Lapse::ReleaseNotCompared, Law::Unique);
}

#[test]
fn lowers_unknown() {
    caught_in(three(), Lapse::LowersUnknown, Law::Unique);
}
