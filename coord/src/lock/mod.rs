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
mod audit;
mod batch;
mod builder;
mod downgrade;
mod election;
mod entry;
mod gate;
mod guard;
mod held;
mod hold;
mod hub;
mod inspect;
mod meter;
mod modes;
mod moving;
mod outcome;
mod queue;
mod reentry;
mod session;
mod terms;
mod transaction;
mod warden;

use std::{fmt, sync::Arc};

pub use builder::LockBuilder;
pub use election::{Election, Leader, Leaders, Leadership};
pub use guard::{LockGuard, Released};
pub use held::{FencingToken, Held};
pub use inspect::{LockEntry, LockMode, LockStatus};
pub use outcome::{Outcome, Returns, Run, Skip};
pub use reentry::ReentrantLock;
pub use terms::{OnLost, Release};
pub use transaction::LockTransaction;

use self::{hub::Hub, session::Sessions};
use crate::{engine::Engine, error::Result};

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

    /// All that is held is lost, and has had the time to be given back. For a close: after the parts'
    /// tasks have ended, before the sessions are.
    pub(crate) async fn close(&self) {
        self.shared.sessions.close().await;
    }

    pub(crate) fn lock(&self, key: impl Into<String>) -> LockBuilder {
        self.lock_all([key.into()])
    }

    pub(crate) fn lock_all(&self, keys: impl IntoIterator<Item = String>) -> LockBuilder {
        LockBuilder::new(self.clone(), keys.into_iter().collect())
    }

    pub(crate) fn election(&self, name: String) -> Election {
        Election::new(self.clone(), name)
    }

    pub(crate) async fn inspect(&self, path: &str) -> Result<Vec<LockStatus>> {
        inspect::run(&self.shared.engine, path).await
    }
}
