//! [`Place`], [`Seen`] and [`Step`]: one write of one config key, with what it files. Data only: no
//! clock, no connection.
//!
//! A key's history is two kinds of records beside it. `head` holds the newest step that was written
//! here: the value too, so that it is not lost if somebody puts over it with another client.
//! `at/<revision>` holds the steps before it.
//!
//! # Rules
//! 1. Head and value are written in one transaction. The head speaks for the value only while both
//!    have the same revision: else somebody else has put the value, and of it nothing is known.
//! 2. Every transaction compares the revisions of both with those that its writer has read. What it
//!    files is therefore what it replaces, and a step is filed once, under its own revision.
//! 3. A copy of a transaction that comes late or twice finds other revisions and does nothing: they
//!    never come back. (A key that is absent has revision 0 again; its head has not.)
//! 4. A write has an id, in its head and later in what is filed of it. A writer whose answer was
//!    lost finds it there, or knows that its write was not done: a head is put once by every write
//!    and never deleted, so etcd's count of its puts tells whether all steps since are known. If some
//!    are removed already, nobody can tell.

use super::{
    record::{Note, Record, What},
    version::Version,
};
use crate::{
    client::{Compare, CompareOp, KeyValue, Op, OpReply, Order, Range, Span},
    key::{Key, Layout, Prefix},
};

/// How many old records one write can remove: more than it adds, so that a lowered limit is reached
/// in time.
const PRUNED: i64 = 8;

/// A larger record is not filed. Nothing that was written here has one unless its value is half of
/// control characters; what another client has put there must not be in the way of every write.
const LARGEST: usize = 1024 * 1024;

/// How many operations one etcd transaction takes.
pub(super) const MAX_OPS: usize = 128;

/// How many keys one transaction takes with their history: each is read with three operations, and
/// written with three at least.
pub(super) const MAX_KEYS: usize = MAX_OPS / 3;

/// One config key and its records.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Key,
    head: Key,
    past: Prefix,
}

impl Place {
    pub(super) fn new(layout: &Layout, key: Key) -> Self {
        Self {
            head: layout.history_head(&key),
            past: layout.history_past(&key),
            key,
        }
    }

    /// Reads what a write has to know.
    pub(super) fn reads(&self) -> [Op; 3] {
        let oldest = Range {
            keys_only: true,
            limit: PRUNED,
            ..Range::new(Span::prefix(&self.past))
        };
        let [key, head] = self.reads_current();
        [key, head, Op::Get(oldest)]
    }

    /// Reads the value and what is known of it.
    pub(super) fn reads_current(&self) -> [Op; 2] {
        [&self.key, &self.head].map(|key| Op::Get(Range::new(Span::key(key))))
    }

    /// Reads what is known of `key`, as it was at `revision`.
    pub(super) fn head_of(layout: &Layout, key: Key, revision: i64) -> Range {
        Range {
            revision,
            ..Range::new(Span::key(&layout.history_head(&key)))
        }
    }

    /// Reads the newest filed steps, of those before `end`.
    pub(super) fn reads_past(&self, end: Option<Version>, limit: usize) -> Range {
        let from = self.past.as_bytes().to_vec();
        let end = match end {
            Some(version) => self.past.revision(version.revision()).as_bytes().to_vec(),
            None => self.past.end(),
        };
        Range {
            limit: limit as i64,
            order: Order::KeyDescending,
            ..Range::new(Span::Interval(from, end))
        }
    }

    /// Reads what is known of the newest write.
    pub(super) fn reads_head(&self) -> Range {
        Range::new(Span::key(&self.head))
    }

    /// Reads one filed step.
    pub(super) fn reads_filed(&self, version: Version) -> Range {
        Range::new(Span::key(&self.past.revision(version.revision())))
    }

    /// Reads the steps that were filed of revisions after `revision`.
    pub(super) fn reads_since(&self, revision: i64) -> Range {
        let from = self.past.revision(revision + 1).as_bytes().to_vec();
        Range::new(Span::Interval(from, self.past.end()))
    }

    /// The same, and after them the head.
    pub(super) fn reads_all_since(&self, revision: i64) -> Range {
        let from = self.past.revision(revision + 1).as_bytes().to_vec();
        Range::new(Span::Interval(from, self.head.after()))
    }

    /// The version of a filed step.
    pub(super) fn version_of(&self, kv: &KeyValue) -> Option<Version> {
        self.past.revision_of(&kv.key).map(Version::from)
    }

    /// A filed step, and its version.
    pub(super) fn filed(&self, kv: &KeyValue) -> Option<(Version, Record)> {
        Some((self.version_of(kv)?, Record::read(&kv.value)?))
    }

    /// What became of the write `id` of what was `before`. `now` and `since`, what was filed of later
    /// revisions than that, are of one revision.
    pub(super) fn fate(&self, id: &str, before: &Seen, now: &Seen, since: &[KeyValue]) -> Fate {
        let newest = now
            .newest()
            .filter(|(at, _)| at.revision() > before.latest());
        let filed = since.iter().filter_map(|kv| self.filed(kv));
        let filed = filed.map(|(at, record)| (at, record.id));
        let mut known = 0;
        for (version, of) in filed.chain(newest).filter(|(_, of)| !of.is_empty()) {
            if of == id {
                return Fate::Done(version);
            }
            known += 1;
        }
        match known == now.writes() - before.writes() {
            true => Fate::NotDone,
            false => Fate::Unknown,
        }
    }
}

/// What became of a write whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done(Version),
    /// And it never will be: what it compares is gone.
    NotDone,
    /// Not all steps since are in the history.
    Unknown,
}

/// What a writer has read.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) value: Option<KeyValue>,
    head: Option<KeyValue>,
    /// How many steps are filed.
    filed: i64,
    /// The revisions of the oldest of them.
    oldest: Vec<i64>,
}

impl Seen {
    /// From the answers to [`Place::reads`] or [`Place::reads_current`], or to a read of the key
    /// alone.
    pub(super) fn read(place: &Place, replies: impl IntoIterator<Item = OpReply>) -> Self {
        let mut ranges = replies.into_iter().map_while(|reply| match reply {
            OpReply::Get(range) => Some(range),
            _ => None,
        });
        let mut one = || ranges.next().and_then(|mut range| range.kvs.pop());
        let (value, head) = (one(), one());
        let past = ranges.next().unwrap_or_default();
        Self {
            value,
            head,
            filed: past.count,
            oldest: past
                .kvs
                .iter()
                .filter_map(|kv| place.past.revision_of(&kv.key))
                .collect(),
        }
    }

    /// A value that was listed, with its head if it has one.
    pub(super) fn listed(value: KeyValue, head: Option<KeyValue>) -> Self {
        Self {
            value: Some(value),
            head,
            ..Self::default()
        }
    }

    pub(super) fn version(&self) -> Version {
        revision(self.value.as_ref()).into()
    }

    /// The revision of the newest step that is known.
    pub(super) fn latest(&self) -> i64 {
        revision(self.value.as_ref()).max(revision(self.head.as_ref()))
    }

    /// The id of the write that the head describes, with its revision.
    pub(super) fn newest(&self) -> Option<(Version, String)> {
        let (version, record) = self.described()?;
        Some((version, record.id))
    }

    /// How often the head was put: by every write once.
    fn writes(&self) -> i64 {
        self.head.as_ref().map_or(0, |head| head.version)
    }

    /// There is a head that this version does not understand.
    pub(super) fn is_bad(&self) -> bool {
        self.head.is_some() && self.described().is_none()
    }

    fn described(&self) -> Option<(Version, Record)> {
        let head = self.head.as_ref()?;
        Some((head.mod_revision.into(), Record::read(&head.value)?))
    }

    /// What is known of the current value: who wrote it, and when. The creation is known while the
    /// key lives that was created here, whoever has written it since.
    pub(super) fn origin(&self) -> Record {
        let Some(value) = &self.value else {
            return Record::foreign(&[]);
        };
        match self.described() {
            Some((version, record)) if version == self.version() => record,
            Some((version, record))
                if value.create_revision <= version.revision() && !record.what.is_deleted() =>
            {
                Record {
                    created_ms: record.created_ms,
                    ..Record::foreign(&value.value)
                }
            }
            _ => Record::foreign(&value.value),
        }
    }

    /// The records of the steps that are not filed yet, newest first: the current value, and before
    /// it, if somebody else has put that, the newest that was written here.
    pub(super) fn unfiled(&self) -> Vec<(Version, Vec<u8>)> {
        let head = self.head.as_ref().filter(|_| self.described().is_some());
        let value = self.value.as_ref();
        let foreign =
            value.filter(|value| head.is_none_or(|it| it.mod_revision != value.mod_revision));
        let foreign = foreign.map(|kv| (kv.mod_revision, Record::foreign(&kv.value).write()));
        // As it stands: a newer version's record keeps what only that knows.
        let head = head.map(|kv| (kv.mod_revision, kv.value.clone()));
        let steps = foreign.into_iter().chain(head);
        steps
            .map(|(revision, record)| (revision.into(), record))
            .collect()
    }
}

/// What becomes of one key.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// `None`: it is deleted.
    pub(super) value: Option<Vec<u8>>,
    pub(super) rolled_back_to: Option<Version>,
}

impl Change {
    pub(super) fn to(value: Option<Vec<u8>>) -> Self {
        Self {
            value,
            rolled_back_to: None,
        }
    }
}

/// What all keys of one write have in common.
#[derive(Clone, Debug)]
pub(super) struct Stamp<'a> {
    pub(super) id: &'a str,
    pub(super) note: &'a Note,
    pub(super) at_ms: u64,
    /// How many old steps a key keeps.
    pub(super) limit: u32,
}

/// One key's part in a transaction.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) when: Vec<Compare>,
    pub(super) then: Vec<Op>,
    /// Removes the oldest steps, those beyond the limit. That is as right at any later time.
    pub(super) prune: Option<Op>,
}

impl Step {
    /// With history.
    pub(super) fn new(place: &Place, seen: &Seen, change: Change, stamp: &Stamp<'_>) -> Self {
        let when = vec![
            unchanged(&place.key, seen.value.as_ref()),
            unchanged(&place.head, seen.head.as_ref()),
        ];
        if change.value.is_none() && seen.value.is_none() {
            let (then, prune) = (Vec::new(), None);
            return Self { when, then, prune };
        }
        let created = match &seen.value {
            Some(_) => seen.origin().created_ms,
            None => Some(stamp.at_ms),
        };
        let record = Record {
            created_ms: created,
            rolled_back_to: change.rolled_back_to,
            ..Record::new(
                stamp.id.to_owned(),
                What::new(change.value.as_deref()),
                stamp.note.clone(),
                stamp.at_ms,
            )
        };
        let mut then = vec![write(&place.key, change.value)];
        then.push(put(&place.head, record.write()));
        let limit = i64::from(stamp.limit);
        let filed = seen.unfiled().into_iter().take(stamp.limit as usize);
        let filed = filed.filter(|(_, record)| record.len() <= LARGEST);
        let filed = filed.map(|(at, record)| put(&place.past.revision(at.revision()), record));
        let before = then.len();
        then.extend(filed);
        let added = i64::try_from(then.len() - before).unwrap_or(i64::MAX);
        let over = seen.filed.saturating_add(added) - limit;
        let last = usize::try_from(over)
            .ok()
            .and_then(|over| over.min(seen.oldest.len()).checked_sub(1));
        let prune = last.map(|last| {
            let after = place.past.revision(seen.oldest[last] + 1);
            let from = place.past.as_bytes().to_vec();
            Op::Delete {
                span: Span::Interval(from, after.as_bytes().to_vec()),
                prev: false,
            }
        });
        Self { when, then, prune }
    }

    /// Without history. `seen`: what the value must still be, if that matters.
    pub(super) fn plain(place: &Place, seen: Option<&Seen>, change: Change) -> Self {
        Self {
            when: seen
                .map(|seen| unchanged(&place.key, seen.value.as_ref()))
                .into_iter()
                .collect(),
            then: vec![write(&place.key, change.value)],
            prune: None,
        }
    }
}

fn revision(kv: Option<&KeyValue>) -> i64 {
    kv.map_or(0, |kv| kv.mod_revision)
}

fn unchanged(key: &Key, seen: Option<&KeyValue>) -> Compare {
    Compare::mod_revision(Span::key(key), CompareOp::Equal, revision(seen))
}

fn write(key: &Key, value: Option<Vec<u8>>) -> Op {
    match value {
        Some(value) => put(key, value),
        None => Op::Delete {
            span: Span::key(key),
            prev: false,
        },
    }
}

fn put(key: &Key, value: Vec<u8>) -> Op {
    Op::Put {
        key: key.as_bytes().to_vec(),
        value,
        lease: 0,
    }
}

#[cfg(test)]
mod tests;
