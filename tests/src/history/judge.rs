//! The rules, over plain data.

use std::collections::{HashMap, HashSet};

use super::Mode;

/// One stay in the critical section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) mode: Mode,
    pub(super) token: i64,
    pub(super) entered: u128,
    pub(super) left: u128,
    /// The revisions of its fenced writes.
    pub(super) writes: Vec<i64>,
}

/// One key of the queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) created: i64,
    pub(super) deleted: Option<i64>,
}

impl Mode {
    fn conflicts(self, other: Self) -> bool {
        match (self, other) {
            (Self::Read, Self::Read) => false,
            // Their number is counted.
            (Self::Permits { .. }, Self::Permits { .. }) => false,
            _ => true,
        }
    }
}

/// Everything that is wrong by what the store says.
pub(super) fn faults(sections: &[Section], entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    let by_token: HashMap<i64, &Entry> = entries.iter().map(|e| (e.created, e)).collect();

    for entry in entries {
        if entry.deleted.is_none() {
            faults.push(format!("{} was left behind", entry.key));
        }
    }

    let mut tokens = HashSet::new();
    for section in sections {
        let token = section.token;
        // A downgrade keeps its token.
        if !tokens.insert((token, section.mode)) {
            faults.push(format!("token {token} was given twice"));
        }
        let Some(entry) = by_token.get(&token) else {
            faults.push(format!("token {token} is no entry's revision"));
            continue;
        };
        for write in &section.writes {
            let alive = token < *write && entry.deleted.is_none_or(|at| *write < at);
            // Revisions are exact: at its write, the writer's entry was the first one.
            let first = section.mode != Mode::Exclusive
                || entries
                    .iter()
                    .filter(|other| other.created < token)
                    .all(|other| other.deleted.is_some_and(|at| at < *write));
            if !alive || !first {
                faults.push(format!("token {token} wrote at {write} without the lock"));
            }
        }
    }

    faults
}

/// Everything that is wrong by what the holders say alone.
pub(super) fn meetings(sections: &[Section]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut order: Vec<&Section> = sections.iter().collect();
    order.sort_by_key(|section| section.entered);
    let mut inside: Vec<&Section> = Vec::new();
    let mut newest: Option<&Section> = None;
    for section in order {
        inside.retain(|other| other.left > section.entered);
        for other in &inside {
            if other.mode.conflicts(section.mode) {
                faults.push(format!("{section:?} began inside {other:?}"));
            }
        }
        inside.push(section);
        if let Mode::Permits { of, .. } = section.mode {
            let taken: u32 = inside.iter().map(|other| other.mode.permits()).sum();
            if taken > of {
                faults.push(format!("{taken} of {of} permits are taken in {section:?}"));
            }
        }
        // Between holders that exclude each other the tokens grow.
        if let Some(newest) = newest
            && newest.token > section.token
            && newest.mode.conflicts(section.mode)
        {
            faults.push(format!("{section:?} began after {newest:?}"));
        }
        if newest.is_none_or(|newest| newest.token < section.token) {
            newest = Some(section);
        }
    }
    faults
}

impl Mode {
    fn permits(self) -> u32 {
        match self {
            Self::Permits { take, .. } => take,
            Self::Exclusive | Self::Read => 0,
        }
    }
}
