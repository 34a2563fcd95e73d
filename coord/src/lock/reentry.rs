//! [`ReentrantLock`]: a lock that is acquired again by whoever has its handle.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{FencingToken, Held, LockBuilder, LockGuard, Released};
use crate::error::{Context, Error, Result};

/// A lock whose owner is this handle: with it the lock is acquired any number of times, and given back
/// with the last release. Made by [`LockBuilder::into_reentrant`](LockBuilder::into_reentrant).
///
/// Whoever has a clone of the handle is inside: hand it to the layers, or to the tasks, that work on one
/// thing together. Others, in this process too, wait for it as for every lock.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// let lock = coordinator.lock("orders/42").into_reentrant();
/// let token = lock.acquire().await?;
/// assert_eq!(lock.acquire().await?, token);
/// assert_eq!(lock.count(), 2);
/// assert_eq!(lock.release().await?, None);
/// assert!(lock.release().await?.is_some_and(|released| released.confirmed));
/// # Ok(())
/// # }
/// ```
///
/// When the last clone of the handle is dropped the lock is given back, however often it was acquired.
#[derive(Clone)]
pub struct ReentrantLock(Arc<Shared>);

struct Shared {
    lock: LockBuilder,
    /// Of those who come while it is being acquired, one at a time asks for it.
    turn: tokio::sync::Mutex<()>,
    holding: Mutex<Option<Holding>>,
}

struct Holding {
    guard: LockGuard,
    count: usize,
}

impl LockBuilder {
    /// The lock as a handle that acquires it again and again, from wherever it is passed to.
    ///
    /// (What is awaited inside of a body that holds the lock needs none: see
    /// [`reentrant`](Self::reentrant).)
    pub fn into_reentrant(self) -> ReentrantLock {
        ReentrantLock(Arc::new(Shared {
            lock: self,
            turn: tokio::sync::Mutex::new(()),
            holding: Mutex::new(None),
        }))
    }
}

impl ReentrantLock {
    /// Waits for the lock, unless this handle holds it already. The token is the same until it is given
    /// back.
    ///
    /// # Errors
    /// As [`LockBuilder::acquire`](LockBuilder::acquire); [`Error::Lost`] if this handle holds it and has
    /// lost it: it has to be released as often as it was acquired first.
    ///
    /// # Cancel safety
    /// Safe to drop at any moment: then it has not been acquired once more.
    pub async fn acquire(&self) -> Result<FencingToken> {
        self.enter(self.0.lock.clone()).await
    }

    /// Takes the lock if nobody else holds it or waits for it, with this handle either.
    ///
    /// # Errors
    /// [`Error::Busy`]; else as [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<FencingToken> {
        self.enter(self.0.lock.clone().trying()).await
    }

    async fn enter(&self, lock: LockBuilder) -> Result<FencingToken> {
        if let Some(token) = self.once_more()? {
            return Ok(token);
        }
        let context = || Context::new("acquire lock").key(lock.name());
        let clock = &lock.locks().shared.engine.clock;
        let asked = clock.now();
        let (_turn, lock) = match (self.0.turn.try_lock(), lock.limit()) {
            (Ok(turn), _) => (turn, lock.clone()),
            (Err(_), _) if !lock.waits() => {
                return Err(Error::Busy {
                    context: context(),
                    holder: None,
                });
            }
            (Err(_), None) => (self.0.turn.lock().await, lock.clone()),
            // The turn is a part of the wait.
            (Err(_), Some(limit)) => {
                let late = || Error::Timeout {
                    context: context(),
                    limit,
                    maybe_applied: false,
                    holder: None,
                    position: None,
                };
                let turn = clock.timeout(limit, self.0.turn.lock()).await;
                let turn = turn.map_err(|_elapsed| late())?;
                let left = limit.saturating_sub(clock.now().since(asked));
                if left.is_zero() {
                    return Err(late());
                }
                (turn, lock.clone().wait(left))
            }
        };
        if let Some(token) = self.once_more()? {
            return Ok(token);
        }
        let guard = lock.acquire().await?;
        let token = guard.fencing_token();
        *self.0.holding() = Some(Holding { guard, count: 1 });
        Ok(token)
    }

    /// One more, if it is held.
    fn once_more(&self) -> Result<Option<FencingToken>> {
        let mut holding = self.0.holding();
        let Some(holding) = &mut *holding else {
            return Ok(None);
        };
        holding.guard.hold().check()?;
        holding.count += 1;
        Ok(Some(holding.guard.fencing_token()))
    }

    /// How often it has been acquired and not released yet.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.holding().as_ref().map_or(0, |holding| holding.count)
    }

    /// What the code that the lock protects needs of it: the token, what remains, the signal of its loss,
    /// writes on etcd that are carried out only while it is held. Whoever has a clone of the handle has the
    /// same. `None`: it has not been acquired, or was released as often.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let lock = coordinator.lock("orders/42").into_reentrant();
    /// lock.acquire().await?;
    /// if let Some(held) = lock.held() {
    ///     let write = held.transaction().put("orders/42/state", "shipped");
    ///     write.commit().await?; // or `Lost`, and nothing is written
    /// }
    /// lock.release().await?;
    /// assert!(lock.held().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let holding = self.0.holding();
        let hold = |holding: &Holding| holding.guard.hold().clone();
        holding.as_ref().map(hold).map(Held::of)
    }

    /// True while this handle holds the lock. See [`Held::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        let holding = self.0.holding();
        holding
            .as_ref()
            .is_some_and(|holding| holding.guard.is_held())
    }

    /// Undoes one acquire. The last one gives the lock back, waits until etcd has confirmed it, and says
    /// so; `None`: it is still held.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is released more often than it was acquired. Of the last release:
    /// as [`LockGuard::unlock`].
    ///
    /// # Cancel safety
    /// Safe to drop: from its first poll on it is done.
    pub async fn release(&self) -> Result<Option<Released>> {
        let last = {
            let mut holding = self.0.holding();
            match &mut *holding {
                None => {
                    let fault = "it is released more often than it was acquired";
                    return Err(Error::invalid("release lock", fault));
                }
                Some(Holding { count, .. }) if *count > 1 => {
                    *count -= 1;
                    None
                }
                Some(_) => holding.take(),
            }
        };
        match last {
            Some(Holding { guard, .. }) => guard.unlock().await.map(Some),
            None => Ok(None),
        }
    }
}

impl Shared {
    fn holding(&self) -> MutexGuard<'_, Option<Holding>> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReentrantLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = |holding: &Holding| format!("{:?}", &*holding.guard as &Held);
        f.debug_struct("ReentrantLock")
            .field("count", &self.count())
            .field("held", &self.0.holding().as_ref().map(held))
            .finish_non_exhaustive()
    }
}
