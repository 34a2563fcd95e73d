//! Locks: one holder at a time across processes, first come first served.
//!
//! A lock is a queue of keys on etcd. Whoever's key was created first holds it: the rule of Go's
//! `concurrency.Mutex` and of `etcdctl lock`, so all of them exclude each other. All locks of a
//! coordinator live with one lease, which coord renews by itself; a process that dies gives its locks
//! back when the lease runs out ([`LockOptions::ttl`](crate::LockOptions::ttl)).
//!
//! # Terms
//! - *queue*: the keys of one lock; *entry*: one of them, made for one acquire alone.
//! - *session*: the lease, its heartbeat and its session key, of which every acquire makes sure that
//!   it is still the same.
//! - *token*: the create revision of the holder's entry. It grows from holder to holder.
//!
//! # Invariants
//! 1. No two entries of one queue are put in one transaction: they would have the same create
//!    revision, and both would own.
//! 2. Nobody is told that a lock is held after the session's deadline, however late they ask.
//! 3. After an attempt has ended, its entry is gone or being removed, whatever was answered.

mod attempt;
mod entry;
mod gate;
mod guard;
mod hub;
mod outcome;
mod queue;
mod request;
mod session;
mod transaction;

use std::{fmt, sync::Arc, time::Duration};

pub use guard::{FencingToken, Held, LockGuard, Released};
pub use outcome::{Outcome, Returns, Run};
pub use request::Request;
pub use transaction::LockTransaction;

use self::{attempt::Acquire, gate::Gate, hub::Hub, session::Sessions};
use crate::{
    engine::Engine,
    error::{Error, Result},
};

/// The locks of one coordinator, shared by its modules. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Locks {
    shared: Arc<Shared>,
    /// The module's or service's name, for the entries.
    service: Option<Arc<str>>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    sessions: Sessions,
    hub: Hub,
    identity: entry::Identity,
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Locks {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            service: engine.module.clone(),
            shared: Arc::new(Shared {
                sessions: Sessions::new(engine.clone()),
                hub: Hub::new(&engine),
                identity: entry::Identity::of_this_process(),
                engine,
            }),
        }
    }

    /// The same locks and session under another name.
    pub(crate) fn for_module(&self, module: Option<Arc<str>>) -> Self {
        Self {
            shared: self.shared.clone(),
            service: module,
        }
    }

    pub(crate) fn lock(&self, key: impl Into<String>) -> LockBuilder {
        LockBuilder {
            locks: self.clone(),
            name: key.into(),
            wait: Wait::Default,
        }
    }
}

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
}

impl LockBuilder {
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
        Box::pin(self.acquire_or_time_out()).await
    }

    async fn acquire_or_time_out(self) -> Result<LockGuard> {
        let Self { locks, name, wait } = self;
        let Shared { engine, .. } = &*locks.shared;
        let queue = engine.layout.lock_queue(&name)?;
        let acquire = Acquire {
            shared: &locks.shared,
            name: &name,
            queue: &queue,
            service: locks.service.as_deref(),
            waits: wait != Wait::Try,
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
    /// Once the lock is lost, `body` is dropped and not polled again.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`Error::Lost`] if the lock was lost before `body` was done.
    ///
    /// # Cancel safety
    /// Safe to drop: `body` is dropped, the lock is released in the background.
    pub async fn run<T, F>(self, body: F) -> Result<T>
    where
        F: AsyncFnOnce(&Held) -> T,
    {
        let guard = self.acquire().await?;
        Gate::new(&guard, body(&guard)).await
    }
}
