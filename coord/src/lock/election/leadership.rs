//! [`Leadership`]: an election that is won.

use std::{fmt, ops::Deref};

use tokio::sync::Mutex;

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
#[must_use = "a leadership that is dropped is resigned at once"]
pub struct Leadership {
    guard: LockGuard,
    /// The last revision that the entry is known to have been written at. Locked while a value is
    /// proclaimed.
    proclaimed: Mutex<i64>,
}

impl Leadership {
    pub(super) fn new(guard: LockGuard) -> Self {
        Self {
            proclaimed: Mutex::new(guard.hold().revision()),
            guard,
        }
    }

    pub(super) fn guard(&self) -> &LockGuard {
        &self.guard
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
        let mut proclaimed = self.proclaimed.lock().await;
        loop {
            hold.check()?;
            let (Some(queued), Some((put, entry))) = (hold.queued(), self.put(&value)) else {
                return Err(hold.error(LostReason::Revoked));
            };
            // The create revision: a late copy must not bring back an entry that was resigned. The mod
            // revision: nor a value that was replaced since.
            let txn = Txn {
                when: vec![
                    Compare::create_revision(entry.clone(), CompareOp::Equal, hold.revision()),
                    Compare::mod_revision(entry.clone(), CompareOp::Equal, *proclaimed),
                ],
                then: vec![put],
                otherwise: vec![Op::Get(Range::new(entry))],
            };
            let session = &queued.session;
            let reply = tokio::select! {
                biased;
                reply = session.engine().write_again(txn) => reply,
                reason = self.lost() => return Err(hold.error(reason)),
            };
            let context = || Context::new("proclaim").key(self.key());
            let mut reply = reply.map_err(|error| error.into_error(context()))?;
            if reply.succeeded {
                *proclaimed = reply.header.revision;
                return Ok(());
            }
            let found = match reply.replies.pop() {
                Some(OpReply::Get(range)) => range.kvs.into_iter().next(),
                _ => None,
            };
            match found.filter(|kv| kv.create_revision == hold.revision()) {
                Some(kv) => {
                    // A copy of this one, or of one that was given up, was carried out; no other copy
                    // with its mod revision can be any more.
                    *proclaimed = kv.mod_revision;
                    if kv.value == value && kv.lease == session.session().lease() {
                        return Ok(());
                    }
                }
                None => hold.lose(LostReason::Revoked),
            }
        }
    }

    /// The put of the entry with another value; `None` if it was given back.
    fn put(&self, value: &[u8]) -> Option<(Op, Span)> {
        let standing = self.guard.owner().standing();
        let entry = &standing.as_ref()?.entry;
        let put = entry.puts(value).next()?;
        Some((put, Span::key(entry.keys().first()?)))
    }

    /// Runs `body` for as long as it leads: once leadership is lost, `body` is dropped and not polled
    /// again. Does not resign.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost) if leadership was lost before `body` was done.
    ///
    /// # Cancel safety
    /// Safe to drop: `body` is dropped.
    pub async fn run<T, F>(&self, body: F) -> Result<T>
    where
        F: AsyncFnOnce(&Self) -> T,
    {
        Gate::new(&self.guard, body(self)).await
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
