//! [`UndoQueue`]: what drops must undo, as plain data, retried until done.
//!
//! One transaction is under way at a time; what comes in meanwhile goes together in the next. So an
//! idle queue adds nothing to a release, and a busy one needs few transactions. What else is about to be
//! sent, and would be one more, can [go along](UndoQueue::along): whoever gives one lock back often
//! takes the next at once.

mod ledger;
mod rider;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, oneshot};

use self::ledger::{Found, Ledger, Next};
pub(crate) use self::rider::Turn;
use super::{nonce::Nonce, server::Server};
use crate::{
    client::{KeyValue, Reason, Txn},
    clock::Clock,
    error::{Error, Result},
    key::{Key, Prefix},
    tasks::Tasks,
};

/// One thing to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Delete the keys. They are unique to one attempt, so no guard is needed and a repeat is harmless.
    Delete { keys: Vec<Key> },
    /// Put the session key *with its lease* (without it the key would detach and outlive the
    /// session) and delete the keys, in one transaction: every older put that compares the session
    /// key's `mod_revision` can then never succeed.
    Fence {
        session_key: Key,
        lease: i64,
        keys: Vec<Key>,
    },
}

/// Takes undos from anywhere, also from a `Drop` outside any runtime; runs them in the background.
#[derive(Clone)]
pub(crate) struct UndoQueue(Arc<Shared>);

struct Shared {
    clock: Clock,
    /// Locked for single steps only; nothing foreign runs under it.
    ledger: Mutex<Ledger>,
    /// The keys of every [`LeasedKey`](super::LeasedKey) that has not handed its undo in yet, and how
    /// many have it: the next may have a key that the last is just about to let go.
    owned: Mutex<HashMap<Key, u32>>,
    /// There is something to send.
    pushed: Notify,
    /// An answer was booked.
    settled: Notify,
    closed: AtomicBool,
}

impl UndoQueue {
    /// The worker lives on `tasks` and ends with them.
    pub(super) fn start(server: Arc<dyn Server>, clock: Clock, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(clock.now())),
            owned: Mutex::default(),
            clock,
            pushed: Notify::new(),
            settled: Notify::new(),
            closed: AtomicBool::new(false),
        });
        drop(tasks.spawn(work(shared.clone(), server)));
        Self(shared)
    }

    /// Never blocks. The receipt may be dropped. `nonce` can be used again once the keys are surely
    /// gone for good.
    pub(super) fn push(&self, undo: Undo, nonce: Option<Nonce>) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        {
            let mut ledger = self.0.ledger();
            // Asked under the lock: after `close` nothing comes in any more.
            if !self.0.closed.load(Ordering::SeqCst) {
                ledger.push(self.0.clock.now(), undo, nonce, reply);
            }
        }
        self.0.pushed.notify_one();
        Receipt(Outcome::Awaited(receipt))
    }

    /// Somebody is going to undo these.
    pub(super) fn own(&self, keys: &[Key]) {
        let mut owned = self.0.owned();
        for key in keys {
            *owned.entry(key.clone()).or_default() += 1;
        }
    }

    /// Nobody is any more, but for what was [pushed](Self::push) before.
    pub(super) fn disown(&self, keys: &[Key]) {
        let mut owned = self.0.owned();
        for key in keys {
            match owned.get_mut(key) {
                Some(owners) if *owners > 1 => *owners -= 1,
                _ => drop(owned.remove(key)),
            }
        }
    }

    /// Whether there is somebody who will see to it that this key goes. If not, and it was put by this
    /// process, then it should not be there.
    pub(crate) fn answers_for(&self, key: &[u8]) -> bool {
        let key = Key::found(key);
        // In this order: what changes hands in between is in the ledger by then.
        self.0.owned().contains_key(&key) || self.0.ledger().answers_for(&key)
    }

    /// How many are waiting or under way.
    pub(crate) fn len(&self) -> usize {
        self.0.ledger().len()
    }

    /// Until nothing is left.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn drained(&self) {
        loop {
            // Made before the look, so that no notice is missed.
            let settled = self.0.settled.notified();
            if self.len() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Until what was [pushed](Self::push) before has gone from `queues`, or etcd has failed to do it at
    /// once.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn cleared(&self, queues: &[Prefix]) {
        let end = self.0.ledger().end();
        loop {
            // As above.
            let settled = self.0.settled.notified();
            if !self.0.ledger().clears(self.0.clock.now(), queues, end) {
                return;
            }
            settled.await;
        }
    }

    /// Sends `txn` in one transaction with deletes that are about to be sent, nested, and after them.
    /// Its compares must hold for what is there before and after the deletes alike: etcd makes them
    /// before. `None`: there are none, or something else is under way; then it is not sent. An error of
    /// the receiver says that the queue was closed.
    ///
    /// It is the queue's own task that sends it, so nobody waits for whoever asked.
    pub(crate) fn along(&self, txn: impl FnOnce() -> Txn) -> Option<oneshot::Receiver<Turn>> {
        self.0.ledger().along(self.0.clock.now(), txn)
    }

    /// Drops what is left, and whatever comes later.
    pub(super) fn close(&self) {
        let rider = {
            let mut ledger = self.0.ledger();
            self.0.closed.store(true, Ordering::SeqCst);
            ledger.clear()
        };
        drop(rider);
        self.0.pushed.notify_one();
        self.0.settled.notify_waiters();
    }
}

impl fmt::Debug for UndoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UndoQueue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn owned(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn work(shared: Arc<Shared>, server: Arc<dyn Server>) {
    while !shared.closed.load(Ordering::SeqCst) {
        let next = shared.ledger().next(shared.clock.now());
        match next {
            Next::Wait(None) => shared.pushed.notified().await,
            Next::Wait(Some(until)) => tokio::select! {
                () = shared.pushed.notified() => {}
                () = shared.clock.sleep_until(until) => {}
            },
            Next::Send(mut batch) => {
                if let Some(left) = batch.left.take() {
                    // Nobody may be waiting for it.
                    let _ = left.turn.send(Turn::Alone);
                }
                let mut result = server.txn(batch.txn.clone()).await;
                if matches!(&result, Err(error) if error.reason == Reason::BadToken) {
                    // If this fails, the next try says so.
                    let _ = server.refresh_token().await;
                }
                let told = batch.rider.is_some().then(|| match &mut result {
                    Ok(whole) => {
                        let own = whole.replies.pop();
                        Turn::answered(whole, own)
                    }
                    Err(error) => Turn::failed(error),
                });
                let answers = shared.ledger().settle(shared.clock.now(), &batch, result);
                if let (Some(rider), Some(turn)) = (batch.rider, told) {
                    // As above.
                    let _ = rider.send(turn);
                }
                for (reply, answer) in answers {
                    // Nobody may be waiting for it.
                    let _ = reply.send(answer);
                }
                shared.settled.notify_waiters();
            }
        }
    }
}

/// Waits for one undo.
#[derive(Debug)]
#[must_use = "the undo runs anyway; drop the receipt to say that nobody waits"]
pub(crate) struct Receipt(Outcome);

#[derive(Debug)]
enum Outcome {
    Awaited(oneshot::Receiver<Result<Found>>),
    /// Nothing was ever sent: there is nothing to delete.
    Nothing,
}

impl Receipt {
    pub(super) fn nothing() -> Self {
        Self(Outcome::Nothing)
    }

    /// What was deleted: for each key of the undo, in order, the record that was there. `None` for a
    /// key that was gone, or whose delete had to be repeated after an unknown answer: it cannot be
    /// told then. An error: etcd refuses (and is asked again now and then, unless it never can), or
    /// the queue was closed before it was done.
    ///
    /// # Cancel safety
    /// Safe: the undo goes on.
    pub(crate) async fn done(self) -> Result<Vec<Option<KeyValue>>> {
        match self.0 {
            Outcome::Nothing => Ok(vec![None]),
            Outcome::Awaited(answer) => answer
                .await
                .unwrap_or_else(|_| Err(Error::closed("delete"))),
        }
    }
}
