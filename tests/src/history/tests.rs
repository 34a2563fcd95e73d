//! Each rule finds its fault, and nothing else does.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use super::{
    History, Mode, Sections,
    judge::{self, Entry, Section},
};

fn faults(sections: &[Section], entries: &[Entry]) -> Vec<String> {
    let mut faults = judge::faults(sections, entries);
    faults.extend(judge::meetings(sections));
    faults
}

fn section(token: i64, entered: u128, left: u128) -> Section {
    Section {
        mode: Mode::Exclusive,
        token,
        entered,
        left,
        writes: Vec::new(),
    }
}

fn entry(created: i64, deleted: i64) -> Entry {
    Entry {
        key: format!("q!/x1.{created}"),
        created,
        deleted: Some(deleted),
    }
}

fn only(sections: &[Section], entries: &[Entry], what: &str) {
    let faults = faults(sections, entries);
    assert!(faults.len() == 1 && faults[0].contains(what), "{faults:?}");
}

fn two() -> [Entry; 2] {
    [entry(5, 8), entry(6, 9)]
}

#[test]
fn a_right_history_has_no_fault() {
    let mut later = section(6, 20, 30);
    later.writes.push(9);
    let entries = [entry(5, 8), entry(6, 10), entry(7, 9)];
    let found = faults(&[later, section(5, 10, 20)], &entries);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn two_inside_at_once_are_found() {
    let overlap = [section(5, 10, 21), section(6, 20, 30)];
    only(&overlap, &two(), "began inside");
    let readers = overlap.map(|section| Section {
        mode: Mode::Read,
        ..section
    });
    assert!(faults(&readers, &two()).is_empty());
}

#[test]
fn permits_are_counted() {
    let of_two = |take| {
        [section(5, 10, 21), section(6, 20, 30)].map(|section| Section {
            mode: Mode::Permits { take, of: 2 },
            ..section
        })
    };
    assert!(faults(&of_two(1), &two()).is_empty());
    only(&of_two(2), &two(), "4 of 2 permits");
}

#[test]
fn tokens_that_go_back_or_come_twice_are_found() {
    let back = [section(6, 10, 20), section(5, 20, 30)];
    only(&back, &two(), "began after");
    let twice = [section(5, 10, 20), section(5, 20, 30)];
    only(&twice, &two(), "given twice");
    only(&[section(4, 10, 20)], &two(), "no entry's revision");
}

#[test]
fn entries_left_behind_are_found() {
    let orphan = Entry {
        deleted: None,
        ..entry(6, 0)
    };
    only(&[], &[entry(5, 8), orphan], "left behind");
}

#[test]
fn writes_without_the_lock_are_found() {
    let writing = |at| Section {
        writes: vec![at],
        ..section(6, 20, 30)
    };
    let entries = [entry(5, 8), entry(6, 12)];
    assert!(faults(&[writing(10)], &entries).is_empty());
    only(&[writing(7)], &entries, "without the lock");
    only(&[writing(13)], &entries, "without the lock");
}

#[test]
fn who_was_deleted_by_hand_is_out_of_it() {
    let struck = |at| Sections {
        all: vec![section(5, 10, 21), section(6, 20, 30)],
        struck: HashMap::from([(5, at)]),
        ..Sections::default()
    };
    assert!(struck(20).faults().is_empty());
    // Before it was told that it is in.
    assert!(struck(9).faults().is_empty());
    // Not before it was deleted.
    assert_eq!(struck(21).faults().len(), 1);
    // What it wrote is judged as ever.
    let mut late = struck(20).all;
    late[0].writes.push(8);
    only(&late[..1], &two(), "without the lock");
}

#[test]
fn what_was_asked_of_another_store_is_not_judged() {
    let history = History {
        queue: "q!/".into(),
        since: 0,
        sections: Arc::new(Mutex::new(Sections {
            era: Some(0),
            ..Sections::default()
        })),
    };
    let before = history.asks();
    drop(before.enter(Mode::Exclusive, 5));
    let inside = history.enter(Mode::Exclusive, 6);
    assert_eq!(history.len(), 1);
    history.goes_back();
    drop(inside);
    let meanwhile = history.asks();
    history.went_back();
    drop(before.enter(Mode::Exclusive, 7));
    drop(meanwhile.enter(Mode::Exclusive, 8));
    assert!(history.is_empty());
    drop(history.enter(Mode::Exclusive, 5));
    assert_eq!(history.len(), 1);
}

#[test]
#[should_panic(expected = "began inside")]
fn those_who_met_before_it_went_back_are_found() {
    let history = History {
        queue: "q!/".into(),
        since: 0,
        sections: Arc::default(),
    };
    history.add(Mode::Exclusive, 5, 10, 21);
    history.add(Mode::Exclusive, 6, 20, 30);
    history.goes_back();
}

#[test]
fn a_proof_of_what_was_deleted_by_hand_is_found() {
    let proved = |token| Sections {
        deleted: HashSet::from([5]),
        confirmed: HashSet::from([token]),
        ..Sections::default()
    };
    assert!(proved(6).faults().is_empty());
    assert_eq!(proved(5).faults().len(), 1);
}
