//! Each rule finds its fault, and nothing else does.

use super::{
    Mode,
    judge::{Entry, Section, faults},
};

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
