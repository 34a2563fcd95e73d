//! [`Batcher`]: acquires of one session that come at once, in one transaction.
//!
//! A transaction costs etcd and this process about the same whether it holds one acquire or sixty-four.
//! A few are under way at a time, each sent by its caller; what comes meanwhile goes together in the
//! next, as nested transactions, as soon as one of them is answered, or has taken some milliseconds. So
//! nothing waits where few tasks lock, a busy session needs few transactions, and a slow answer costs
//! only those who asked for it.
//!
//! # Why it is the same protocol
//! A nested transaction compares and puts what it would by itself, and those of one batch have no key
//! in common but the session key, which they only compare. So the batch does what they would do one
//! right after another; a copy of it that is lost, late or repeated is one of each of them.
//!
//! # Invariants
//! 1. No two acquires of one batch are of the same queue, nor is the queue of one below that of
//!    another: their entries have the same create revision, and both would own.
//! 2. All are of one session: a lease that is gone refuses the whole transaction.
//! 3. What etcd refuses of a batch is sent again one by one, by those who asked: it may be the fault of
//!    one of them (a key that it may not write). Not if it is nobody's: the lease is gone, etcd has too
//!    much to do, or no room.
//! 4. While something is gathered there is one [`Carrier`], a task of ours. A caller's future may have
//!    the answer and not look at it for long, or ever: so nobody waits for that alone.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    client::{CallError, Certainty, Op, Reason, Txn, TxnReply},
    engine::Engine,
    key::Prefix,
    session::Turn,
};

/// How many transactions are under way before others wait for them.
const LANES: usize = 4;

/// How long they wait at most: less than what a distant etcd takes, more than what a near one does.
const PATIENCE: Duration = Duration::from_millis(5);

/// How many acquires go together. etcd takes 128 operations and counts what is nested as well; of one
/// queue's acquire no branch has more than eight.
const MOST: usize = 64;

/// Entries that say more are sent alone, so that a batch stays far below the 1.5 MiB that etcd takes.
const LONGEST_VALUE: usize = 4 * 1024;

/// Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(super) struct Batcher(Arc<Shared>);

struct Shared {
    engine: Engine,
    /// Locked for single steps only; nothing is woken under it.
    lanes: Mutex<Lanes>,
    /// One is no longer busy.
    freed: Notify,
}

#[derive(Default)]
struct Lanes {
    busy: usize,
    gathered: Gathered,
}

impl Batcher {
    pub(super) fn new(engine: Engine) -> Self {
        Self(Arc::new(Shared {
            engine,
            lanes: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// The answer to an acquire's transaction, alone or among others. `joins`: it compares nothing but
    /// its own keys and the session key, which no release touches.
    ///
    /// # Cancel safety
    /// Dropped, it may have been sent or may still be, as with any call.
    pub(super) async fn send(
        &self,
        queues: &[Prefix],
        value: &[u8],
        joins: bool,
        request: impl Fn() -> Txn,
    ) -> Result<TxnReply, CallError> {
        let entered = match queues {
            [queue] if value.len() <= LONGEST_VALUE => self.lanes().enter(queue, &request),
            _ => Entered::Beside,
        };
        let engine = &self.0.engine;
        let (_lane, turn) = match entered {
            Entered::Lane => {
                let lane = Lane(self.clone());
                let along = joins.then(|| engine.keeper.undo().along(&request));
                (Some(lane), along.flatten())
            }
            Entered::Beside => (None, None),
            Entered::Gathered { turn, first } => {
                if first {
                    self.carry();
                }
                (None, Some(turn))
            }
        };
        if let Some(turn) = turn {
            match turn.await {
                Ok(Turn::Answered(answer)) => return answer,
                Ok(Turn::Alone) => {}
                // Its task was cancelled.
                Err(_) => {
                    let closed = CallError::new(Certainty::Unknown, Reason::Closed, "closed");
                    return Err(closed);
                }
            }
        }
        engine.calls.txn(request()).await
    }

    /// Something is gathered, and has no carrier.
    fn carry(&self) {
        let carrier = Carrier {
            batcher: self.clone(),
            left: false,
        };
        drop(self.0.engine.tasks.spawn(carrier.run()));
    }

    /// Until a lane is free.
    async fn free(&self) {
        loop {
            // Made before the look, so that no notice is missed.
            let freed = self.0.freed.notified();
            if self.lanes().busy < LANES {
                return;
            }
            freed.await;
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

/// How an acquire goes.
enum Entered {
    /// By itself, in a lane.
    Lane,
    /// By itself, beside the lanes: it cannot go with what is gathered.
    Beside,
    /// With others; the first of them finds a carrier.
    Gathered {
        turn: oneshot::Receiver<Turn>,
        first: bool,
    },
}

impl Lanes {
    fn enter(&mut self, queue: &Prefix, request: impl Fn() -> Txn) -> Entered {
        let first = self.gathered.is_empty();
        if self.busy < LANES && first {
            self.busy += 1;
            Entered::Lane
        } else if self.gathered.takes(queue) {
            let turn = self.gathered.add(queue.clone(), request());
            Entered::Gathered { turn, first }
        } else {
            // To wait for the next batch but one would make a queue of many of our own tasks form
            // one transaction after another.
            Entered::Beside
        }
    }
}

/// A transaction that is under way. Dropping it, it ended.
struct Lane(Batcher);

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.lanes().busy -= 1;
        self.0.0.freed.notify_waiters();
    }
}

/// Sends what is gathered. Dropped before it [left](Self::left), the coordinator is closed: who waits
/// is told by the drop of the senders.
struct Carrier {
    batcher: Batcher,
    left: bool,
}

impl Carrier {
    async fn run(mut self) {
        let batcher = self.batcher.clone();
        let engine = &batcher.0.engine;
        // Either will do.
        let _ = engine.clock.timeout(PATIENCE, batcher.free()).await;
        let (batch, more) = {
            let mut lanes = batcher.lanes();
            lanes.busy += 1;
            (lanes.gathered.take(), !lanes.gathered.is_empty())
        };
        self.left = true;
        let _lane = Lane(batcher.clone());
        if more {
            batcher.carry();
        }
        let (requests, turns) = awaited(batch);
        if !turns.is_empty() {
            settle(turns, engine.calls.txn(joined(requests)).await);
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if !self.left {
            // In a step of its own: what a waker does is not known here.
            let abandoned = mem::take(&mut self.batcher.lanes().gathered);
            drop(abandoned);
        }
    }
}

/// Without those who have gone: nothing of theirs was sent, and their undo does not need to know.
fn awaited(batch: Vec<Waiting>) -> (Vec<Txn>, Vec<oneshot::Sender<Turn>>) {
    let awaited = batch
        .into_iter()
        .filter(|waiting| !waiting.turn.is_closed());
    awaited
        .map(|waiting| (waiting.request, waiting.turn))
        .unzip()
}

fn joined(requests: Vec<Txn>) -> Txn {
    Txn {
        then: requests.into_iter().map(Op::Txn).collect(),
        ..Txn::default()
    }
}

/// Tells each of a batch what became of it. Whoever has gone has handed in an undo that does not need
/// to know.
fn settle(turns: Vec<oneshot::Sender<Turn>>, answer: Result<TxnReply, CallError>) {
    match answer {
        Ok(mut whole) => {
            let mut replies = std::mem::take(&mut whole.replies).into_iter();
            for turn in turns {
                let _ = turn.send(Turn::answered(&whole, replies.next()));
            }
        }
        Err(error) => {
            for turn in turns {
                let _ = turn.send(Turn::failed(&error));
            }
        }
    }
}

/// What waits for the next transaction, in the order in which it came.
#[derive(Default)]
struct Gathered {
    waiting: VecDeque<Waiting>,
    queues: BTreeSet<Prefix>,
}

struct Waiting {
    queue: Prefix,
    request: Txn,
    turn: oneshot::Sender<Turn>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether an acquire of `queue` may go with the others (invariant 1).
    fn takes(&self, queue: &Prefix) -> bool {
        let (one, queues) = (queue.as_bytes(), &self.queues);
        // None of those here begins with another. So if `queue` begins with one of them, that is the
        // last one before it; and those that begin with `queue` are the first ones after it.
        let before = queues.range(..queue.clone()).next_back();
        let after = queues.range(queue..).next();
        !before.is_some_and(|before| one.starts_with(before.as_bytes()))
            && !after.is_some_and(|after| after.as_bytes().starts_with(one))
    }

    /// Only if it [takes](Self::takes) it.
    fn add(&mut self, queue: Prefix, request: Txn) -> oneshot::Receiver<Turn> {
        let (turn, told) = oneshot::channel();
        self.queues.insert(queue.clone());
        self.waiting.push_back(Waiting {
            queue,
            request,
            turn,
        });
        told
    }

    /// What goes together now.
    fn take(&mut self) -> Vec<Waiting> {
        let most = self.waiting.len().min(MOST);
        let batch: Vec<_> = self.waiting.drain(..most).collect();
        for waiting in &batch {
            self.queues.remove(&waiting.queue);
        }
        batch
    }
}

#[cfg(test)]
mod tests;
