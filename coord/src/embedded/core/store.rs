//! [`Store`]: every version of every key since the last compaction.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use etcd_client::proto::PbKeyValue;

use super::{refusal::Refusal, span::Span};

/// One version of a key, in etcd's own form. A deletion is a version without number: key and
/// modification revision are all it has.
pub(super) type Version = Arc<PbKeyValue>;

pub(super) fn is_deletion(version: &PbKeyValue) -> bool {
    version.version == 0
}

/// Keys with their history.
///
/// Invariants:
/// 1. The versions of a key are in the order in which they were made, and there is at least one.
/// 2. `log[i]` has the changes of revision `log_start + i`; it ends with the current revision, and
///    with nothing below the compacted one.
/// 3. Between transactions `pending` is empty.
#[derive(Clone, Debug)]
pub(super) struct Store {
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    log: VecDeque<Vec<Version>>,
    log_start: i64,
    revision: i64,
    /// The revision of the last compaction; -1, as in etcd, if there was none.
    compacted: i64,
    /// What the open transaction has changed.
    pending: Vec<Version>,
    /// How much of the versions is keys and values.
    bytes: i64,
    /// About how much memory the versions in the log take.
    history_bytes: u64,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            log_start: 2,
            revision: 1,
            compacted: -1,
            pending: Vec::new(),
            bytes: 0,
            history_bytes: 0,
        }
    }

    /// The last committed revision.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision that a read in the open transaction sees: its own once it has changed something.
    pub(super) fn seen(&self) -> i64 {
        self.revision + i64::from(!self.pending.is_empty())
    }

    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(super) fn bytes(&self) -> i64 {
        self.bytes
    }

    /// About how much memory the history takes.
    pub(super) fn history_bytes(&self) -> u64 {
        self.history_bytes
    }

    /// The oldest revision from which on the history takes no more than so much memory.
    pub(super) fn newest(&self, bytes: u64) -> i64 {
        let mut excess = self.history_bytes.saturating_sub(bytes);
        let mut revision = self.log_start;
        for changes in &self.log {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(memory(changes));
            revision += 1;
        }
        revision.min(self.revision)
    }

    /// The key as it was at a revision.
    pub(super) fn at(&self, key: &[u8], revision: i64) -> Option<&Version> {
        alive_at(self.keys.get(key)?, revision)
    }

    /// The key as the open transaction sees it.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.at(key, self.seen())
    }

    /// The keys as they were at a revision, in their order.
    pub(super) fn range<'a>(
        &'a self,
        span: &'a Span,
        revision: i64,
    ) -> impl Iterator<Item = &'a Version> + 'a {
        let range = (!span.is_empty()).then(|| self.keys.range::<[u8], _>(span.bounds()));
        let versions = range.into_iter().flatten();
        versions.filter_map(move |(_, versions)| alive_at(versions, revision))
    }

    /// Writes in the open transaction.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: i64) {
        let revision = self.revision + 1;
        let before = self.get(&key);
        let (create_revision, version) = before.map_or((revision, 1), |before| {
            (before.create_revision, before.version + 1)
        });
        self.push(PbKeyValue {
            key,
            create_revision,
            mod_revision: revision,
            version,
            value,
            lease,
        });
    }

    /// Deletes in the open transaction; the key must be there.
    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.push(PbKeyValue {
            key,
            mod_revision: self.revision + 1,
            ..PbKeyValue::default()
        });
    }

    fn push(&mut self, version: PbKeyValue) {
        self.bytes += bytes(&version);
        let version = Arc::new(version);
        self.pending.push(version.clone());
        match self.keys.get_mut(&version.key) {
            Some(versions) => versions.push(version),
            None => {
                self.keys.insert(version.key.clone(), vec![version]);
            }
        }
    }

    /// Ends the open transaction. It is a revision if it changed something.
    pub(super) fn commit(&mut self) -> Option<&[Version]> {
        if self.pending.is_empty() {
            return None;
        }
        self.revision += 1;
        self.history_bytes += memory(&self.pending);
        self.log.push_back(std::mem::take(&mut self.pending));
        self.log.back().map(Vec::as_slice)
    }

    /// The changes from a revision on, which must not be below the compacted one.
    pub(super) fn history(&self, from: i64) -> impl Iterator<Item = (i64, &[Version])> {
        let skip = usize::try_from(from - self.log_start).unwrap_or(0);
        let start = self.log_start + i64::try_from(skip).unwrap_or(0);
        (start..).zip(self.log.iter().skip(skip).map(Vec::as_slice))
    }

    /// Forgets what was overwritten or deleted before a revision. What can be read at that revision
    /// stays, and so does what it changed itself: a watch may still start there.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::COMPACTED);
        }
        if revision > self.revision {
            return Err(Refusal::FUTURE_REVISION);
        }
        self.compacted = revision;
        while self.log_start < revision {
            let Some(changes) = self.log.pop_front() else {
                break;
            };
            self.log_start += 1;
            self.history_bytes -= memory(&changes);
            for change in changes {
                self.prune(&change.key);
            }
        }
        if self.log_start == revision
            && let Some(own) = self.log.front_mut()
        {
            self.history_bytes -= memory(own);
            keep_last_of_each_key(own);
            self.history_bytes += memory(own);
            for change in own.clone() {
                self.prune(&change.key);
            }
        }
        Ok(())
    }

    /// Drops the versions of a key that nobody can read any more.
    fn prune(&mut self, key: &[u8]) {
        let Some(versions) = self.keys.get_mut(key) else {
            return;
        };
        let until = versions.partition_point(|version| version.mod_revision <= self.compacted);
        let Some(last) = until.checked_sub(1) else {
            return;
        };
        let last_is_readable =
            !is_deletion(&versions[last]) || versions[last].mod_revision == self.compacted;
        let unreadable = if last_is_readable { last } else { until };
        for version in versions.drain(..unreadable) {
            self.bytes -= bytes(&version);
        }
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Goes back to an older revision, as a restored backup does: what came later never was.
    pub(super) fn restore(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision < self.compacted.max(1) {
            return Err(Refusal::COMPACTED);
        }
        if revision > self.revision {
            return Err(Refusal::FUTURE_REVISION);
        }
        while self.revision > revision {
            self.revision -= 1;
            let changes = self.log.pop_back().unwrap_or_default();
            self.history_bytes -= memory(&changes);
            for change in changes {
                let Some(versions) = self.keys.get_mut(&change.key) else {
                    continue;
                };
                let kept = versions.partition_point(|version| version.mod_revision <= revision);
                for version in versions.drain(kept..) {
                    self.bytes -= bytes(&version);
                }
                if versions.is_empty() {
                    self.keys.remove(&change.key);
                }
            }
        }
        Ok(())
    }

    /// Every version that is kept, in the order of the keys.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.keys.values().flatten()
    }
}

/// Of a key that a revision has put and then deleted, etcd's compaction leaves the deletion.
fn keep_last_of_each_key(changes: &mut Vec<Version>) {
    let mut later = BTreeSet::new();
    changes.reverse();
    changes.retain(|change| later.insert(change.key.clone()));
    changes.reverse();
}

fn alive_at(versions: &[Version], revision: i64) -> Option<&Version> {
    // Nearly all reads are of the present.
    let last = match versions.last() {
        Some(last) if last.mod_revision <= revision => last,
        _ => {
            let until = versions.partition_point(|version| version.mod_revision <= revision);
            &versions[until.checked_sub(1)?]
        }
    };
    (!is_deletion(last)).then_some(last)
}

/// About what versions take in memory: what they hold, and what holds them.
pub(super) fn memory(versions: &[Version]) -> u64 {
    const FRAME: u64 = 300;
    let size = |version: &Version| bytes(version).unsigned_abs() + FRAME;
    versions.iter().map(size).sum()
}

fn bytes(version: &PbKeyValue) -> i64 {
    i64::try_from(version.key.len() + version.value.len()).unwrap_or(i64::MAX)
}
