//! A lease's deadline: never after the lease's end; each other way to count it is.

use coord_model::{
    check::check,
    keep_alive::{KeepAlive, Miscount},
};
use stateright::HasDiscoveries;

const LAW: &str = "a believer's lease lives";

#[test]
fn the_deadline_comes_before_the_end() {
    let report = check(
        "keep-alive",
        KeepAlive::default(),
        HasDiscoveries::AllFailures,
    );
    println!("{report}");
    assert!(report.found.iter().all(|(law, _)| *law != LAW), "{report}");
    let believed = report.found.iter().any(|(law, _)| *law != LAW);
    assert!(believed, "nothing was ever believed for long");
}

fn outlives(miscount: Miscount) {
    let model = KeepAlive {
        miscount: Some(miscount),
    };
    let report = check("keep-alive", model, HasDiscoveries::AllFailures);
    let found = report.found.iter().any(|(law, _)| *law == LAW);
    assert!(found, "{miscount:?} was not caught: {report}");
}

#[test]
fn counted_from_the_receipt() {
    outlives(Miscount::FromReceipt);
}

#[test]
fn counted_from_the_last_grant() {
    outlives(Miscount::FromLastGrant);
}

#[test]
fn counted_from_the_latest_send() {
    outlives(Miscount::FromLatestSend);
}

#[test]
fn counted_by_an_old_stream() {
    outlives(Miscount::OldStream);
}
