//! [`Batcher`]: acquires of one session that come at once, in one transaction.
//!
//! A transaction costs etcd and this process about the same whether it holds one acquire or sixty-four.
//! A few are under way at a time, each sent by its caller; what comes meanwhile goes together in the
//! next, as nested transactions, as soon as one of them is answered. So nothing waits where few tasks
//! lock, and a busy session needs few transactions.
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
//! 3. What etcd refuses of a batch is sent again one by one, by those who asked, unless the reason is
//!    the lease: it may be the fault of one of them (a key that it may not write).

use std::{
    collections::{BTreeSet, VecDeque},
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    client::{CallError, Certainty, Op, OpReply, Reason, Txn, TxnReply},
    engine::Engine,
    key::Prefix,
};

/// How many transactions are under way before others wait for them.
const LANES: usize = 4;

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
    /// Locked for single steps only.
    lanes: Mutex<Lanes>,
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
        }))
    }

    /// The answer to an acquire's transaction, alone or among others.
    ///
    /// # Cancel safety
    /// Dropped, it may have been sent or may still be, as with any call.
    pub(super) async fn send(
        &self,
        queues: &[Prefix],
        value: &[u8],
        request: impl Fn() -> Txn,
    ) -> Result<TxnReply, CallError> {
        let entered = match queues {
            [queue] if value.len() <= LONGEST_VALUE => self.lanes().enter(queue, &request),
            _ => Entered::Beside,
        };
        let _lane = match entered {
            Entered::Lane => Some(Lane(self.clone())),
            Entered::Beside => None,
            Entered::Gathered(turn) => match turn.await {
                Ok(Turn::Answered(answer)) => return answer,
                Ok(Turn::Alone) => None,
                // Its task was cancelled.
                Err(_) => {
                    let closed = CallError::new(Certainty::Unknown, Reason::Closed, "closed");
                    return Err(closed);
                }
            },
        };
        self.0.engine.calls.txn(request()).await
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
    /// With others.
    Gathered(oneshot::Receiver<Turn>),
}

/// What becomes of an acquire that was gathered.
enum Turn {
    Answered(Result<TxnReply, CallError>),
    /// It did nothing: send it by itself.
    Alone,
}

impl Lanes {
    fn enter(&mut self, queue: &Prefix, request: impl Fn() -> Txn) -> Entered {
        if self.busy < LANES {
            self.busy += 1;
            Entered::Lane
        } else if self.gathered.takes(queue) {
            Entered::Gathered(self.gathered.add(queue.clone(), request()))
        } else {
            // To wait for the next batch but one would make a queue of many of our own tasks form
            // one transaction after another.
            Entered::Beside
        }
    }
}

/// A transaction that is under way. Dropping it, it ended: the next may go.
struct Lane(Batcher);

impl Drop for Lane {
    fn drop(&mut self) {
        let tasks = &self.0.0.engine.tasks;
        let mut lanes = self.0.lanes();
        let mut abandoned = Gathered::default();
        if tasks.cancelled().is_cancelled() {
            // No task would send them. Who waits is told by the drop of the sender.
            mem::swap(&mut abandoned, &mut lanes.gathered);
        }
        if lanes.gathered.is_empty() {
            lanes.busy -= 1;
        } else {
            // The lane stays busy, with what is gathered.
            drop(lanes);
            drop(tasks.spawn(Self(self.0.clone()).work()));
        }
    }
}

impl Lane {
    /// Sends what is gathered until there is nothing.
    async fn work(self) {
        loop {
            let (requests, turns) = self.0.lanes().gathered.take();
            if turns.is_empty() {
                return;
            }
            let answer = self.0.0.engine.calls.txn(joined(requests)).await;
            settle(turns, answer);
        }
    }
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
        Ok(TxnReply {
            header, replies, ..
        }) => {
            let mut replies = replies.into_iter();
            for turn in turns {
                let own = match replies.next() {
                    Some(OpReply::Txn(own)) => Ok(TxnReply { header, ..own }),
                    _ => Err(CallError::malformed()),
                };
                let _ = turn.send(Turn::Answered(own));
            }
        }
        Err(error) => {
            let refused = error.certainty == Certainty::Refused;
            let alone = refused && error.reason != Reason::LeaseNotFound;
            for turn in turns {
                let _ = turn.send(match alone {
                    true => Turn::Alone,
                    false => Turn::Answered(Err(error.clone())),
                });
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
    fn take(&mut self) -> (Vec<Txn>, Vec<oneshot::Sender<Turn>>) {
        let most = self.waiting.len().min(MOST);
        let batch = self.waiting.drain(..most);
        batch
            .map(|waiting| {
                self.queues.remove(&waiting.queue);
                (waiting.request, waiting.turn)
            })
            .unzip()
    }
}

#[cfg(test)]
mod tests;
