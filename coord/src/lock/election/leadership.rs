//! [`Leadership`]: an election that is won.

use std::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicI64, Ordering},
};

use super::super::{Held, LockGuard, Released, gate::Gate};
use crate::{
    client::{Compare, CompareOp, Op, OpReply, Range, Span, Txn},
    error::{Context, LostReason, Result},
};

/// A won election. Dropping it resigns in the background.
///
/// It is a lock that is held, and points to [`Held`]: [`is_held`](Held::is_held), which is local and
/// errs on the safe side, [`verify`](Held::verify), which asks etcd,
/// [`fencing_token`](Held::fencing_token), which grows from leader to leader, [`lost`](Held::lost),
/// [`remaining`](Held::remaining) and [`transaction`](Held::transaction), which is carried out only
/// while it leads.
///
/// Leadership may be lost while this lives. Code that must not run on then stands in
/// [`run`](Self::run) or [`Election::lead`](super::Election::lead).
#[must_use = "a leadership that is dropped is resigned at once, and `let _ =` drops it: give it a name"]
pub struct Leadership {
    guard: LockGuard,
    /// The last revision that the entry is known to have been written at. Changed by whoever has the
    /// right to write the entry.
    written: AtomicI64,
}

impl Leadership {
    pub(super) fn new(guard: LockGuard) -> Self {
        Self {
            written: AtomicI64::new(guard.hold().revision()),
            guard,
        }
    }

    /// Changes the leader's value; the token stays. Several calls at once are carried out one after the
    /// other.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost) if it leads no more: then nothing was written for others to
    /// see; [`Error::Invalid`](crate::Error::Invalid) for a value that etcd does not take;
    /// [`Error::Unavailable`](crate::Error::Unavailable) and [`Error::Timeout`](crate::Error::Timeout),
    /// after which it may have been carried out or not, and the next call puts it right;
    /// [`Error::Denied`](crate::Error::Denied), [`Error::Closed`](crate::Error::Closed).
    ///
    /// # Cancel safety
    /// Dropped after its first poll the value may be changed or not. It never changes after a later
    /// call has succeeded.
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<()> {
        let value = value.into();
        let hold = self.guard.hold();
        hold.check()?;
        let Some(queued) = hold.queued() else {
            return Ok(());
        };
        let Some(key) = queued.entries().first().cloned() else {
            return Ok(());
        };
        let entry = Span::key(&key);
        // As a move to another lease, which writes the entry, too.
        let _one_at_a_time = queued.moving.lock().await;
        while hold.loss().is_none() {
            let lease = hold.leases().now.lease();
            let written = self.written.load(Ordering::SeqCst);
            // The create revision: a late copy must not bring back an entry that was resigned. The mod
            // revision: nor a value that was replaced since.
            let txn = Txn {
                when: vec![
                    Compare::create_revision(entry.clone(), CompareOp::Equal, hold.revision()),
                    Compare::mod_revision(entry.clone(), CompareOp::Equal, written),
                ],
                then: vec![Op::Put {
                    key: key.as_bytes().to_vec(),
                    value: value.clone(),
                    lease,
                }],
                otherwise: vec![Op::Get(Range::new(entry.clone()))],
            };
            // On the heap, as the acquire is.
            let reply = tokio::select! {
                biased;
                reply = Box::pin(queued.session.engine().write_again(txn)) => reply,
                _ = self.lost() => break,
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) if hold.loss().is_none() => {
                    return Err(error.into_error(Context::new("proclaim").key(self.key())));
                }
                Err(_) => break,
            };
            if reply.succeeded {
                self.written.store(reply.header.revision, Ordering::SeqCst);
                return Ok(());
            }
            let found = reply.replies.into_iter().find_map(|reply| match reply {
                OpReply::Get(range) => range.kvs.into_iter().next(),
                OpReply::Put | OpReply::Delete(_) | OpReply::Txn(_) => None,
            });
            match found.filter(|kv| kv.create_revision == hold.revision()) {
                Some(kv) => {
                    // A copy of this one, of one that was given up, or a move was carried out; no
                    // other copy that compares an earlier revision can be any more.
                    self.written.store(kv.mod_revision, Ordering::SeqCst);
                    if kv.value == value && kv.lease == lease {
                        return Ok(());
                    }
                }
                None => hold.lose(LostReason::Revoked),
            }
        }
        Err(hold.error(hold.loss().unwrap_or(LostReason::Revoked)))
    }

    /// Runs `body` for as long as it leads: once leadership is lost, `body` is dropped and not polled
    /// again. Does not resign.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost) if leadership was lost before `body` was done.
    ///
    /// # Cancel safety
    /// Safe to drop: `body` is dropped.
    pub async fn run<T>(&self, body: impl Future<Output = T>) -> Result<T> {
        Gate::new(&self.guard, body).await
    }

    /// Lets the next candidate lead, and waits until etcd has confirmed it. Says whether it led until
    /// now.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost) if leadership was lost before, or would have been while etcd
    /// did not answer; [`Error::Closed`](crate::Error::Closed).
    ///
    /// # Cancel safety
    /// Safe to drop: it resigns in the background.
    pub async fn resign(self) -> Result<Released> {
        self.guard.unlock().await
    }
}

impl Deref for Leadership {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.guard
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leadership").field(&**self).finish()
    }
}
