//! [`LockBuilder`]: how a lock is to be acquired.

use std::time::Duration;

use super::{
    Held, LockGuard, Locks, Shared,
    attempt::{self, Acquire},
    gate::Gate,
    terms::Terms,
};
use crate::error::{Error, Result};

/// How long to stand in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As the options say.
    Default,
    /// At most this long.
    For(Duration),
    /// Without end.
    Forever,
    /// Not at all: take it if nobody has it.
    Try,
}

/// Says how a lock is to be acquired, and acquires it.
///
/// From `coord.lock("orders/42")`.
#[derive(Clone, Debug)]
#[must_use = "nothing is acquired before `acquire`, `try_acquire` or `run` is awaited"]
pub struct LockBuilder {
    locks: Locks,
    name: String,
    wait: Wait,
    pub(super) terms: Terms,
}

impl LockBuilder {
    pub(super) fn new(locks: Locks, name: String) -> Self {
        Self {
            locks,
            name,
            wait: Wait::Default,
            terms: Terms::default(),
        }
    }

    /// Waits in the queue for at most `limit`, the time to connect and to open the session included.
    /// Default: [`LockOptions::wait`](crate::LockOptions::wait).
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = Wait::For(limit);
        self
    }

    /// Waits without a limit, also while etcd cannot be reached.
    pub fn wait_forever(mut self) -> Self {
        self.wait = Wait::Forever;
        self
    }

    pub(crate) fn waiting(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the holder and the number of those ahead, [`Error::Invalid`] for an
    /// impossible name, [`Error::WouldDeadlock`] if this is called from a body that holds the lock,
    /// [`Error::Denied`] and [`Error::Closed`]. While etcd cannot be reached it goes on trying.
    ///
    /// # Cancel safety
    /// Safe to drop at any moment: the place in the queue is given up in the background.
    pub async fn acquire(self) -> Result<LockGuard> {
        // On the heap: it is some 20 kB, and would be so in the future of every caller's caller.
        let terms = self.terms;
        let acquired = Box::pin(self.acquire_or_time_out()).await;
        acquired.map(|guard| guard.under(terms))
    }

    async fn acquire_or_time_out(self) -> Result<LockGuard> {
        let Self {
            locks,
            name,
            wait,
            terms,
        } = self;
        let Shared { engine, .. } = &*locks.shared;
        let queue = engine.layout.lock_queue(&name)?;
        let acquire = Acquire {
            shared: &locks.shared,
            name: &name,
            queue: &queue,
            service: locks.service.as_deref(),
            waits: wait != Wait::Try,
            reentrant: terms.reentrant || engine.options.lock.reentrant,
        };
        let limit = match wait {
            Wait::Default => engine.options.lock.wait,
            Wait::For(limit) => limit,
            Wait::Try => engine.options.request_timeout,
            Wait::Forever => return acquire.run(&attempt::Trace::default()).await,
        };
        let trace = attempt::Trace::default();
        let position = {
            let mut run = std::pin::pin!(acquire.run(&trace));
            match engine.clock.timeout(limit, run.as_mut()).await {
                Ok(result) => return result,
                // Looked up before the attempt is dropped and leaves the queue.
                Err(_) => trace.position(),
            }
        };
        let (holder, cause) = match trace.trouble() {
            Some(trouble) => (None, Some(trouble)),
            None => match acquire.holder().await {
                Ok(holder) => (holder.map(Box::new), None),
                Err(trouble) => (None, Some(trouble)),
            },
        };
        let context = acquire.context();
        Err(Error::Timeout {
            context: match cause {
                Some(cause) => context.cause(cause),
                None => context,
            },
            limit,
            maybe_applied: false,
            holder,
            position,
        })
    }

    /// Takes the lock if nobody holds it or waits for it.
    ///
    /// # Errors
    /// [`Error::Busy`] with the holder; else as [`acquire`](Self::acquire), but an unreachable etcd is
    /// an error at once, or within [`request_timeout`](crate::Options::request_timeout).
    ///
    /// # Cancel safety
    /// Safe to drop at any moment.
    pub async fn try_acquire(self) -> Result<LockGuard> {
        self.waiting(Wait::Try).acquire().await
    }

    /// Acquires the lock and runs `body` under it; then releases it in the background.
    ///
    /// Once the lock is lost, `body` is dropped and not polled again. [`on_lost`](Self::on_lost) and
    /// [`release`](Self::release) say otherwise.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`Error::Lost`] if the lock was lost before `body` was done, or
    /// could not be [confirmed](Self::confirm).
    ///
    /// # Cancel safety
    /// Safe to drop: `body` is dropped, the lock is released in the background.
    pub async fn run<T, F>(self, body: F) -> Result<T>
    where
        F: AsyncFnOnce(&Held) -> T,
    {
        let guard = self.acquire().await?;
        let output = Gate::new(&guard, body(&guard)).await?;
        guard.leave(true).await?;
        Ok(output)
    }
}
