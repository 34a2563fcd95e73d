//! [`Ledger`]: what is still to be undone, and the next transaction for it. Pure.
//!
//! # Invariants
//! 1. A key is written once per transaction (etcd refuses a duplicate), a session key as well.
//! 2. A transaction holds plain deletes of any sessions, or the fence of one session: a dead lease
//!    refuses the whole transaction.
//! 3. A fenced entry's keys are deleted with its fence or after it. (If the store is too full for
//!    the fence they are deleted before as well; that alone would not do.)
//! 4. A [`Rider`] goes only with plain deletes, after them, and is taken only where the next
//!    transaction is sure to be theirs: it waits for nothing. If that fails, the deletes go again
//!    without.
//! 5. An entry leaves the ledger when its keys are gone for good, or can never be deleted.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Undo,
    rider::{self, Rider, Turn},
};
use crate::{
    client::{CallError, Certainty, KeyValue, Op, OpReply, Reason, Span, Txn, TxnReply},
    clock::Instant,
    error::{Context, Result},
    key::{Key, Prefix},
    retry::Backoff,
    session::{nonce::Nonce, server::transient},
};

/// Operations per transaction; etcd takes 128.
const MAX_OPS: usize = 120;

/// For each key of an entry, what was deleted.
pub(super) type Found = Vec<Option<KeyValue>>;
type Reply = oneshot::Sender<Result<Found>>;
/// A receipt to be answered, outside of any lock.
pub(super) type Answer = (Reply, Result<Found>);

#[derive(Debug)]
pub(super) struct Ledger {
    /// In the order in which they came.
    entries: BTreeMap<u64, Entry>,
    next_id: u64,
    /// etcd does not answer: nothing is sent before.
    paused_until: Instant,
    pauses: Backoff,
    /// A transaction was made that is not settled.
    under_way: bool,
    rider: Option<Rider>,
    /// The last transaction had a rider and failed, whosever fault it was: the next goes without.
    wary: bool,
}

#[derive(Debug)]
struct Entry {
    /// The session key and its lease, as long as the fence is to be set.
    fence: Option<(Key, i64)>,
    keys: Vec<Key>,
    found: Found,
    /// Which keys are deleted for good.
    done: Vec<bool>,
    /// A transaction that it was in was refused: it goes alone, so that it holds up nobody else.
    alone: bool,
    sweep: Sweep,
    not_before: Instant,
    pauses: Backoff,
    reply: Option<Reply>,
    /// Of a plain delete of which no copy can come late.
    nonce: Option<Nonce>,
}

/// The extra delete of a fenced entry while the store is too full for the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sweep {
    No,
    Due,
    Made,
}

/// A transaction, and whose keys it deletes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) txn: Txn,
    /// Whose fence it sets.
    fenced: Vec<u64>,
    /// For each delete, in order: the entries that it is for, and which of their keys it is.
    deletes: Vec<Vec<(u64, usize)>>,
    /// Whose transaction comes last in it.
    pub(super) rider: Option<oneshot::Sender<Turn>>,
    /// It does not go with this.
    pub(super) left: Option<Rider>,
}

#[derive(Debug)]
pub(super) enum Next {
    Send(Batch),
    /// Nothing to do before then, or at all.
    Wait(Option<Instant>),
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            entries: BTreeMap::new(),
            next_id: 0,
            paused_until: now,
            pauses: Backoff::endless(Duration::from_millis(20), Duration::from_secs(1)),
            under_way: false,
            rider: None,
            wary: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn answers_for(&self, key: &Key) -> bool {
        self.entries.values().any(|entry| entry.keys.contains(key))
    }

    /// What comes from now on has this number or a later one.
    pub(super) fn end(&self) -> u64 {
        self.next_id
    }

    /// Whether an entry before `end` has keys in one of `queues`, and nothing has gone wrong with it.
    pub(super) fn clears(&self, now: Instant, queues: &[Prefix], end: u64) -> bool {
        let stands = |key: &Key| {
            let mut queues = queues.iter();
            queues.any(|queue| queue.strip(key.as_bytes()).is_some())
        };
        let going = |entry: &Entry| entry.not_before <= now && !entry.alone;
        now >= self.paused_until
            && (self.entries.range(..end)).any(|(_, e)| going(e) && e.keys.iter().any(stands))
    }

    /// `None`: it has nothing to go with, and is not taken.
    pub(super) fn along(
        &mut self,
        now: Instant,
        txn: impl FnOnce() -> Txn,
    ) -> Option<oneshot::Receiver<Turn>> {
        let free = !self.under_way && !self.wary && self.rider.is_none();
        let (_, first) = self
            .first(now)
            .filter(|_| free && now >= self.paused_until)?;
        if first.alone || first.fence_to_set().is_some() {
            return None;
        }
        let (turn, told) = oneshot::channel();
        self.rider = Some(Rider { txn: txn(), turn });
        Some(told)
    }

    /// What is dropped tells its rider.
    pub(super) fn clear(&mut self) -> Option<Rider> {
        self.entries.clear();
        self.rider.take()
    }

    pub(super) fn push(&mut self, now: Instant, undo: Undo, nonce: Option<Nonce>, reply: Reply) {
        let (fence, keys) = match undo {
            Undo::Delete { keys } => (None, keys),
            Undo::Fence {
                session_key,
                lease,
                keys,
            } => (Some((session_key, lease)), keys),
        };
        let plain = fence.is_none();
        let entry = Entry {
            fence,
            found: vec![None; keys.len()],
            done: vec![false; keys.len()],
            keys,
            alone: false,
            sweep: Sweep::No,
            not_before: now,
            pauses: Backoff::endless(Duration::from_millis(100), Duration::from_secs(30)),
            reply: Some(reply),
            nonce: nonce.filter(|_| plain),
        };
        self.entries.insert(self.next_id, entry);
        self.next_id += 1;
    }

    /// The oldest entry that may be sent, and all that can go with it.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.entries.is_empty() {
            return Next::Wait(None);
        }
        if now < self.paused_until {
            return Next::Wait(Some(self.paused_until));
        }
        let mut rider = self.rider.take();
        let Some((first_id, first)) = self.first(now) else {
            return Next::Wait(self.entries.values().map(|entry| entry.not_before).min());
        };
        let goes_along = |id: u64, entry: &Entry| {
            if first.alone || entry.alone {
                return id == first_id;
            }
            match first.fence_to_set() {
                // One put serves every entry that is there when it is sent, also one that would
                // wait a little longer.
                Some(fence) => entry.fence_to_set() == Some(fence),
                None => entry.fence_to_set().is_none() && entry.not_before <= now,
            }
        };
        let taken = rider.take_if(|rider| {
            let plain = !first.alone && first.fence_to_set().is_none();
            plain && !rider.turn.is_closed() && rider::operations(&rider.txn) < MAX_OPS
        });
        let mut builder = Builder::default();
        builder.batch.left = rider;
        builder.room = MAX_OPS - taken.as_ref().map_or(0, |one| rider::operations(&one.txn));
        if let Some((session_key, lease)) = first.fence_to_set() {
            builder.put(session_key, *lease);
        }
        for (id, entry) in &self.entries {
            if goes_along(*id, entry) {
                builder.add(*id, entry);
            }
        }
        let mut batch = builder.batch;
        if let Some(Rider { txn, turn }) = taken {
            batch.txn.then.push(Op::Txn(txn));
            batch.rider = Some(turn);
        }
        self.under_way = true;
        Next::Send(batch)
    }

    /// The oldest that may be sent.
    fn first(&self, now: Instant) -> Option<(u64, &Entry)> {
        let mut entries = self.entries.iter();
        let (id, entry) = entries.find(|(_, entry)| entry.not_before <= now)?;
        Some((*id, entry))
    }

    /// Books the outcome of `batch`.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        batch: &Batch,
        result: Result<TxnReply, CallError>,
    ) -> Vec<Answer> {
        self.under_way = false;
        let refused =
            |error: &CallError| error.certainty == Certainty::Refused && !transient(error);
        self.wary = batch.rider.is_some() && result.is_err();
        if self.wary && result.as_ref().is_err_and(refused) {
            return Vec::new();
        }
        if matches!(&result, Err(error) if error.certainty == Certainty::Unknown) {
            // A copy of the delete may come late, when the keys are somebody else's.
            for (id, _) in batch.deletes.iter().flatten() {
                self.each(&[*id], |entry| entry.nonce = None);
            }
        }
        match result {
            Ok(reply) => self.applied(now, batch, reply),
            Err(error) if error.reason == Reason::LeaseNotFound && !batch.fenced.is_empty() => {
                // The session is gone with all its keys, and a late copy of a put finds no lease.
                self.each(&batch.fenced, |entry| {
                    entry.fence = None;
                    entry.done.fill(true);
                });
            }
            Err(error) if transient(&error) => {
                self.paused_until = now + self.pauses.next_delay();
            }
            Err(error) => return self.refused(now, batch, &error),
        }
        self.finished()
    }

    fn applied(&mut self, now: Instant, batch: &Batch, reply: TxnReply) {
        self.pauses.reset();
        self.each(&batch.fenced, |entry| entry.fence = None);
        let mut deleted = reply.replies.into_iter().filter_map(|reply| match reply {
            OpReply::Delete(deleted) => Some(deleted),
            _ => None,
        });
        for whose in &batch.deletes {
            // Applied is applied, should a reply ever say too little.
            let deleted = deleted.next().unwrap_or_default();
            for (id, index) in whose {
                let Some(entry) = self.entries.get_mut(id) else {
                    continue;
                };
                // A repeat finds nothing, and must not hide what the first one found.
                if let Some(record) = deleted.prev.first() {
                    entry.found[*index].get_or_insert_with(|| record.clone());
                }
                if entry.fence.is_none() {
                    entry.done[*index] = true;
                } else if entry.sweep == Sweep::Due {
                    entry.sweep = Sweep::Made;
                    entry.pause(now);
                }
            }
        }
    }

    /// etcd will not do this transaction, however often it is asked.
    fn refused(&mut self, now: Instant, batch: &Batch, error: &CallError) -> Vec<Answer> {
        let mut ids: Vec<u64> = batch.deletes.iter().flatten().map(|(id, _)| *id).collect();
        ids.extend(&batch.fenced);
        ids.sort_unstable();
        ids.dedup();
        tracing::warn!(target: "coord::session", %error, entries = ids.len(), "undo refused");
        if error.reason == Reason::NoSpace && !batch.fenced.is_empty() {
            self.each(&ids, |entry| match entry.sweep {
                Sweep::No => entry.sweep = Sweep::Due,
                Sweep::Due | Sweep::Made => entry.pause(now),
            });
            return Vec::new();
        }
        if ids.len() > 1 {
            // One of them is at fault; each alone will show which.
            self.each(&ids, |entry| entry.alone = true);
            return Vec::new();
        }
        let mut answers = Vec::new();
        self.each(&ids, |entry| {
            entry.alone = true;
            entry.pause(now);
            if let Some(reply) = entry.reply.take() {
                let mut context = Context::new("delete");
                if let Some(key) = entry.keys.first() {
                    context = context.key(key.as_str());
                }
                answers.push((reply, Err(error.clone().into_error(context))));
            }
        });
        if error.reason == Reason::Invalid {
            // No right that is granted later will let it through.
            ids.iter().for_each(|id| drop(self.entries.remove(id)));
        }
        answers
    }

    fn each(&mut self, ids: &[u64], mut change: impl FnMut(&mut Entry)) {
        for id in ids {
            if let Some(entry) = self.entries.get_mut(id) {
                change(entry);
            }
        }
    }

    fn finished(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.entries.retain(|_, entry| {
            let done = entry.fence.is_none() && entry.done.iter().all(|done| *done);
            if done && let Some(nonce) = entry.nonce.take() {
                nonce.give_back();
            }
            if done && let Some(reply) = entry.reply.take() {
                answers.push((reply, Ok(std::mem::take(&mut entry.found))));
            }
            !done
        });
        answers
    }
}

impl Entry {
    /// `None`: its next transaction is a plain delete.
    fn fence_to_set(&self) -> Option<&(Key, i64)> {
        self.fence.as_ref().filter(|_| self.sweep != Sweep::Due)
    }

    fn pause(&mut self, now: Instant) {
        self.not_before = now + self.pauses.next_delay();
    }
}

#[derive(Default)]
struct Builder {
    batch: Batch,
    /// For so many operations.
    room: usize,
    written: HashMap<Key, usize>,
}

impl Builder {
    /// The fence. Without its lease the key would detach, and outlive the session.
    fn put(&mut self, session_key: &Key, lease: i64) {
        self.batch.txn.then.push(Op::Put {
            key: session_key.as_bytes().to_vec(),
            value: Vec::new(),
            lease,
        });
    }

    /// Deletes the entry's keys, if they fit together; what has more than fits at all goes in parts.
    fn add(&mut self, id: u64, entry: &Entry) {
        if entry.fence_to_set().is_some() {
            self.batch.fenced.push(id);
        }
        let left = entry.done.iter().filter(|done| !**done).count();
        if !self.batch.deletes.is_empty() && self.batch.txn.then.len() + left > self.room {
            return;
        }
        for (index, key) in entry.keys.iter().enumerate() {
            if entry.done[index] {
                continue;
            }
            let next = self.batch.deletes.len();
            let at = match self.written.get(key) {
                Some(at) => *at,
                None if self.batch.txn.then.len() >= self.room => return,
                None => {
                    self.batch.txn.then.push(Op::Delete {
                        span: Span::key(key),
                        prev: true,
                    });
                    self.batch.deletes.push(Vec::new());
                    self.written.insert(key.clone(), next);
                    next
                }
            };
            self.batch.deletes[at].push((id, index));
        }
    }
}
