//! [`Held`]: a lock that is held, as the code that it protects sees it.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "embedded")]
use super::{gate::Identity, modes::Mode};
use super::{hold::Hold, transaction::LockTransaction};
use crate::error::{Context, Error, LostReason, Result};
#[cfg(feature = "embedded")]
use crate::{key::Layout, session::Session};

/// A number that grows with every holder of a lock.
///
/// Hand it to what the lock protects, and let that refuse a number lower than the highest it has
/// seen: then a holder that was paused past its lease, and does not know it yet, can do no harm.
///
/// That is for locks that one holds alone. Those who hold one together (readers, and who has permits) have
/// different numbers: who refuses lower ones would refuse those of them who came first. Let them write by
/// [`Held::transaction`].
///
/// It grows for as long as the store's revisions do. When etcd is put back to a backup, they go back too,
/// and tokens that were given after it are given again: restore with
/// `etcdutl snapshot restore --bump-revision=… --mark-compacted`, or reset what the resources have seen.
///
/// It is the create revision of the holder's queue entry. Do not mix it with the header revision that
/// Go's `concurrency.Mutex` and `etcdctl lock` (`ETCD_LOCK_REV`) give: that one is of a later read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(i64);

impl FencingToken {
    pub(super) fn of(create_revision: i64) -> Self {
        Self(create_revision)
    }

    /// The number. Positive.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lock that is held, as the code that it protects sees it.
///
/// Passed to the body of [`LockBuilder::run`](super::LockBuilder::run), bound by `guard = name` in
/// `#[locked]`, what a [`LockGuard`](super::LockGuard) points to, and what a
/// [`ReentrantLock`](super::ReentrantLock::held) has. What it says by itself is known without asking etcd
/// and errs on the safe side: it says "lost" before anybody else can hold the lock.
///
/// It does not keep the lock. Once that is given back, nothing is held by this, and what is asked of it is
/// [`Error::Lost`] with [`LostReason::Released`].
pub struct Held(Arc<Hold>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Held {
    /// For a double: held as long as `session` lives, without anything on etcd.
    #[cfg(feature = "embedded")]
    pub(crate) fn detached(
        layout: &Layout,
        name: &str,
        token: i64,
        session: Session,
    ) -> Result<Self> {
        let queues = vec![layout.lock_queue(name)?];
        let identity = Identity::new(0, queues, Mode::WRITE, name.to_owned());
        Ok(Self(Hold::of(identity, token, session, None)))
    }

    pub(super) fn of(hold: Arc<Hold>) -> Self {
        Self(hold)
    }

    pub(super) fn hold(&self) -> &Arc<Hold> {
        &self.0
    }

    /// The lock's name, as it was asked for. Of several: all of them, with commas between.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.identity().name()
    }

    /// Grows with every holder of this lock. See [`FencingToken`].
    #[must_use]
    pub fn fencing_token(&self) -> FencingToken {
        FencingToken(self.0.revision())
    }

    /// How long the lock stays held if etcd is not heard of again; zero once it is lost. A bound for
    /// the timeouts of calls made under the lock.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.remaining()
    }

    /// True while it is held, by the local clock and what etcd has told.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.over().is_none()
    }

    /// Done when the lock is lost: its lease ran out, was revoked, or could not be renewed in time; its
    /// time was over ([`max_hold`](super::LockBuilder::max_hold)); the coordinator was closed; or somebody
    /// has deleted its queue entry, which is told at once if the lock was waited for when it was acquired,
    /// and else by a look once in [`LockOptions::ttl`](crate::LockOptions::ttl). Never done if it is
    /// released before.
    ///
    /// # Cancel safety
    /// Safe to drop. The future does not keep the lock.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        let hold = self.0.clone();
        async move {
            hold.clone().lost().await;
            match hold.loss() {
                Some(reason) => reason,
                // It was given back before.
                None => std::future::pending().await,
            }
        }
    }

    /// Asks etcd whether the queue entry is still there, each one of several: one linearizable read.
    ///
    /// # Errors
    /// [`Error::Lost`] if it is not, [`Error::Unavailable`] or [`Error::Timeout`] if etcd could not
    /// say.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn verify(&self) -> Result<()> {
        self.0.verify().await
    }

    /// Renews the lock's lease now instead of when it is due: from then on [`remaining`](Self::remaining)
    /// is as long as it can be. Before a step that must not be cut short, say.
    ///
    /// # Errors
    /// [`Error::Timeout`] if etcd has not confirmed it within
    /// [`request_timeout`](crate::Options::request_timeout), [`Error::Lost`].
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn refresh(&self) -> Result<()> {
        if let (None, Some(queued)) = (self.0.over(), self.0.queued()) {
            let engine = queued.session.engine();
            let limit = engine.options.request_timeout;
            let leases = self.0.leases();
            let renewal = async {
                for session in leases.each() {
                    engine.keeper.renew(session).await;
                }
            };
            tokio::select! {
                biased;
                _ = self.lost() => {}
                outcome = engine.clock.timeout(limit, renewal) => {
                    outcome.map_err(|_elapsed| Error::Timeout {
                        context: Context::new("refresh lock").key(self.key()),
                        limit,
                        maybe_applied: true,
                        holder: None,
                        position: None,
                    })?;
                }
            }
        }
        self.0.check()
    }

    /// Asks etcd how long the lock's lease lives if it is not renewed again; in whole seconds. What may
    /// be relied on is [`remaining`](Self::remaining), which is less.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lease is gone, [`Error::Unavailable`] or [`Error::Timeout`] if etcd could
    /// not say.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn time_to_live(&self) -> Result<Duration> {
        self.0.check()?;
        let leases = self.0.leases();
        let Some(queued) = self.0.queued() else {
            return Ok(leases.now.ttl());
        };
        let engine = queued.session.engine();
        let found = Box::pin(engine.time_to_live(leases.now.lease())).await;
        let found = found.map_err(|error| {
            error.into_error(Context::new("ask for the time to live of lock").key(self.key()))
        })?;
        if found.remaining.is_none() {
            leases.now.mark_lost(LostReason::Revoked);
        }
        self.0.check()?;
        Ok(found.remaining.unwrap_or_default())
    }

    /// A transaction on etcd that is carried out only while this lock is held.
    ///
    /// This is the fencing token, compared by etcd itself: the transaction demands that the queue entry
    /// of this holder is still there. So a holder that was paused past its lease writes nothing, whatever
    /// it believes.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let guard = coordinator.lock("orders/42").acquire().await?;
    /// guard
    ///     .transaction()
    ///     .compare("orders/42/shipped", 0) // if it is not there yet
    ///     .put("orders/42/shipped", "2026-11-22")
    ///     .delete("orders/42/draft")
    ///     .commit()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transaction(&self) -> LockTransaction {
        LockTransaction::new(self.0.clone())
    }
}
