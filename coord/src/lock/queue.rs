//! [`View`]: what one queue entry knows of its queue, and what follows from it.
//!
//! Pure: no clock, no task, no etcd. The hub feeds it what the watch tells and what reads answer; it
//! says whether the entry owns the lock, is gone, needs a read, or waits.
//!
//! # Rules
//! Entries own in the order of their create revisions; an entry's own is R. The set of entries
//! created before R only shrinks, so it is enough to see each of them deleted.
//! 1. A snapshot is the set of entries created before R, at the header revision H of the reply that
//!    carried it. It is usable iff everything deleted after H is or will be told: the watch, as this
//!    entry has it, begins at a revision ≤ H. Deletions that arrive while a reply is under way are
//!    kept, and applied to it if they are later than H: else a reply that is overtaken by a deletion
//!    would bring the deleted entry back, and the wait would never end.
//! 2. A read asks, in one transaction, for the entry itself and for those that were created before R,
//!    newest first. Its first key must be the entry itself, created at R, else the entry is gone: an
//!    empty list does not mean that it owns. It is sent once the watch is open; if that was opened
//!    anew since, rule 1 makes it void.
//! 3. All deletions of one revision are applied, the own entry first, before anything is concluded: a
//!    revoked lease deletes the holder's and the waiter's entry together.
//! 4. Whether a list is complete is told by `more`, never by `count` (which ignores the filter).
//! 5. Only those are listed that the entry's mode can conflict with, each range with a limit of its
//!    own: a list that was cut to what does not conflict would say "nobody ahead".

use std::collections::{HashMap, HashSet};

use super::modes::{Kind, Mode};
use crate::{
    client::{KeyValue, Op, OpReply, Order, Range, Span, Txn},
    clock::Instant,
    key::Prefix,
};

/// How many entries ahead are listed at once, beyond those that the entry could own with. Further
/// ones matter only once these are gone.
const NEAREST: u32 = 32;

/// The ranges of an acquire: who is ahead of an entry that is about to be put. Ordered by creation,
/// newest first, so that a cut list holds the nearest ones.
pub(super) fn ahead_of_new(queue: &Prefix, mode: Mode) -> Vec<Range> {
    let list = |span| Range {
        limit: i64::from(NEAREST) + i64::from(mode.room()),
        order: Order::CreateDescending,
        keys_only: true,
        ..Range::new(span)
    };
    mode.conflicting(queue).into_iter().map(list).collect()
}

/// The read for the entry `entry` that was created at `revision`: itself, and who is ahead (rule 2).
pub(super) fn ahead_of(queue: &Prefix, mode: Mode, entry: &[u8], revision: i64) -> Txn {
    let own = Range {
        keys_only: true,
        ..Range::new(Span::Key(entry.to_vec()))
    };
    let ahead = ahead_of_new(queue, mode).into_iter().map(|range| Range {
        max_create_revision: revision - 1,
        ..range
    });
    Txn {
        then: std::iter::once(own).chain(ahead).map(Op::Get).collect(),
        ..Txn::default()
    }
}

/// What ranges of one queue, made at one revision, have listed together.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    pub(super) kvs: Vec<KeyValue>,
    pub(super) more: bool,
}

impl Listed {
    pub(super) fn of(replies: impl IntoIterator<Item = OpReply>) -> Self {
        let mut listed = Self::default();
        for reply in replies {
            if let OpReply::Get(range) = reply {
                listed.kvs.extend(range.kvs);
                listed.more |= range.more;
            }
        }
        listed
    }

    /// Whether an entry of this mode, put in the transaction that made this list, owns at once: then
    /// no watch is needed to say so.
    pub(super) fn lets_in(&self, queue: &Prefix, mode: Mode) -> bool {
        let mut kinds = self.kvs.iter().map(|kv| Kind::of(queue, &kv.key));
        !self.more && mode.owns_behind(kinds.clone()) && !kinds.any(|kind| mode.contradicts(kind))
    }
}

/// How many deletions are kept for a reply that is under way. One that does not come while the queue
/// is busy must not cost memory without end.
const MOST_TOLD: usize = 4_096;

/// What follows from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Somebody is ahead, or the watch is not open.
    Wait,
    /// What is known is not enough: ask etcd.
    Read,
    /// The entry was seen to be the first one.
    Own,
    /// The entry was deleted, by whomever.
    Gone,
    /// This entry is ahead and has no lease: no crash will ever remove it.
    Stuck(Vec<u8>),
    /// This entry is ahead, of a semaphore of another size under the same name.
    Contradicted(Vec<u8>),
}

/// The entries ahead, at one revision (rule 1).
#[derive(Debug)]
struct Snapshot {
    at: i64,
    ahead: HashMap<Vec<u8>, Ahead>,
    complete: bool,
}

/// One entry ahead.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    kind: Kind,
    lease: i64,
    created: i64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct View {
    queue: Prefix,
    mode: Mode,
    entry: Vec<u8>,
    /// R, once an answer told it.
    created: Option<i64>,
    /// Every deletion after this revision is told. `None`: there is no watch at the moment.
    from: Option<i64>,
    known: Option<Snapshot>,
    /// What was deleted while a reply is under way, and when.
    told: Vec<(i64, Vec<u8>)>,
    reading: bool,
    /// A read is wanted although nothing seems to be missing.
    audit: bool,
    gone: bool,
    /// When something was last learned about those ahead.
    learned_at: Instant,
}

impl View {
    /// A view for the entry `entry` that is about to be sent. `from`: everything deleted after this
    /// revision will be told from now on.
    pub(super) fn new(
        queue: Prefix,
        mode: Mode,
        entry: Vec<u8>,
        from: Option<i64>,
        now: Instant,
    ) -> Self {
        Self {
            queue,
            mode,
            entry,
            created: None,
            from,
            known: None,
            told: Vec::new(),
            reading: false,
            audit: false,
            gone: false,
            learned_at: now,
        }
    }

    /// The acquire was answered: the entry was put at `revision`, and `ahead` is the list made in the
    /// same transaction.
    pub(super) fn put(&mut self, revision: i64, ahead: &Listed, now: Instant) -> Step {
        self.found(revision, now);
        if self.gone {
            return Step::Gone;
        }
        self.install(revision, &ahead.kvs, ahead.more, now);
        self.told.clear();
        match ahead.lets_in(&self.queue, self.mode) {
            true => Step::Own,
            false => self.step(),
        }
    }

    /// The entry is there since `revision`, by an earlier copy of the acquire; who is ahead is not
    /// known.
    pub(super) fn found(&mut self, revision: i64, now: Instant) {
        self.created = Some(revision);
        self.learned_at = now;
        let entry = &self.entry;
        self.gone |= self
            .told
            .iter()
            .any(|(at, key)| *at > revision && key == entry);
    }

    /// The watch is open: everything deleted after `revision` will be told.
    pub(super) fn opened(&mut self, revision: i64) {
        self.from = Some(revision);
        // By a member that lags, or by a store that was put back to an older state: then deletions
        // are told as older than the snapshot.
        if self.known.as_ref().is_some_and(|known| revision < known.at) {
            self.known = None;
        }
    }

    /// The watch is gone.
    pub(super) fn closed(&mut self) {
        self.from = None;
    }

    /// All deletions of one revision (rule 3).
    pub(super) fn deleted(&mut self, revision: i64, keys: &[Vec<u8>], now: Instant) {
        if self.created.is_none() || self.reading {
            self.told
                .extend(keys.iter().map(|key| (revision, key.clone())));
            if self.told.len() > MOST_TOLD {
                // As if the watch had been opened here: what came before is read.
                self.told.clear();
                self.from = self.from.map(|from| from.max(revision));
            }
        }
        if self.created.is_some_and(|created| revision > created) && keys.contains(&self.entry) {
            self.gone = true;
        }
        if let Some(known) = &mut self.known
            && revision > known.at
        {
            for key in keys {
                if known.ahead.remove(key).is_some() {
                    self.learned_at = now;
                }
            }
        }
    }

    /// Nothing was learned since `limit`: ask, for the case that the server lost an event.
    pub(super) fn audit(&mut self, limit: Instant) {
        self.audit |= self.learned_at < limit;
    }

    /// The read to send now, if one is wanted and none is under way.
    pub(super) fn start_read(&mut self) -> Option<Txn> {
        let created = self.created?;
        if self.reading || self.step() != Step::Read {
            return None;
        }
        self.reading = true;
        Some(ahead_of(&self.queue, self.mode, &self.entry, created))
    }

    /// The read was answered, at the revision `at`. True: an audit found an entry gone that no event
    /// had told of.
    pub(super) fn read(&mut self, at: i64, listed: &Listed, now: Instant) -> bool {
        self.reading = false;
        let missed = self.judge(at, &listed.kvs, listed.more, now);
        self.told.clear();
        missed
    }

    fn judge(&mut self, at: i64, kvs: &[KeyValue], more: bool, now: Instant) -> bool {
        let ahead = match kvs.split_first() {
            Some((own, ahead))
                if own.key == self.entry && Some(own.create_revision) == self.created =>
            {
                ahead
            }
            _ => {
                self.gone = true;
                return false;
            }
        };
        let audited = std::mem::take(&mut self.audit);
        let missed = audited
            && !more
            && self.known.as_ref().is_some_and(|known| {
                let here: HashSet<&[u8]> = ahead.iter().map(|kv| kv.key.as_slice()).collect();
                known.ahead.keys().any(|key| !here.contains(key.as_slice()))
            });
        self.install(at, ahead, more, now);
        missed
    }

    fn install(&mut self, at: i64, ahead: &[KeyValue], more: bool, now: Instant) {
        let gone: HashSet<&[u8]> = self
            .told
            .iter()
            .filter(|(revision, _)| *revision > at)
            .map(|(_, key)| key.as_slice())
            .collect();
        self.known = Some(Snapshot {
            at,
            ahead: ahead
                .iter()
                .filter(|kv| !gone.contains(kv.key.as_slice()))
                .map(|kv| {
                    let ahead = Ahead {
                        kind: Kind::of(&self.queue, &kv.key),
                        lease: kv.lease,
                        created: kv.create_revision,
                    };
                    (kv.key.clone(), ahead)
                })
                .collect(),
            complete: !more,
        });
        self.learned_at = now;
    }

    /// What follows.
    pub(super) fn step(&self) -> Step {
        if self.gone {
            return Step::Gone;
        }
        let (Some(_), Some(from)) = (self.created, self.from) else {
            return Step::Wait;
        };
        match &self.known {
            Some(known) if from <= known.at && !self.audit => self.conclude(known),
            _ => Step::Read,
        }
    }

    /// What follows from a snapshot that is usable.
    fn conclude(&self, known: &Snapshot) -> Step {
        let first = |is: &dyn Fn(&Ahead) -> bool| {
            let mut ahead = known.ahead.iter();
            ahead
                .find(|(_, ahead)| is(ahead))
                .map(|(key, _)| key.clone())
        };
        if let Some(key) = first(&|ahead| self.mode.contradicts(ahead.kind)) {
            return Step::Contradicted(key);
        }
        let kinds = known.ahead.values().map(|ahead| ahead.kind);
        match self.mode.owns_behind(kinds) {
            true if known.complete => Step::Own,
            true => Step::Read,
            false => first(&|ahead| ahead.lease == 0).map_or(Step::Wait, Step::Stuck),
        }
    }

    /// How many are ahead, if that is known.
    pub(super) fn position(&self) -> Option<u32> {
        let known = self.known.as_ref().filter(|known| known.complete)?;
        // What was put at one revision is one owner's.
        let owners: HashSet<i64> = known.ahead.values().map(|ahead| ahead.created).collect();
        u32::try_from(owners.len()).ok()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
