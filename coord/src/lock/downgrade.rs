//! [`LockGuard::downgrade`]: from writer to reader without letting go.

use super::guard::LockGuard;
use crate::{
    client::KeyValue,
    error::{Context, Error, Result},
};

impl LockGuard {
    /// Makes a reader of a writer, without a moment in between at which another writer could come:
    /// readers are let in from now on, writers wait until this guard and theirs are gone. Returns once
    /// etcd has confirmed it. The token stays the same.
    ///
    /// The lock must have been acquired as
    /// [`downgradable`](super::LockBuilder::downgradable), and be held by this guard alone. There is no way back: a reader that asks
    /// for the writer's place would wait for itself.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let guard = coordinator.lock("catalog").downgradable().acquire().await?;
    /// // Nobody else reads or writes: change it.
    /// guard.downgrade().await?;
    /// // Others read, too; nobody has written in between.
    /// let other = coordinator.lock("catalog").read().acquire().await?;
    /// # drop(other);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was not acquired as downgradable, and inside of another hold
    /// ([`reentrant`](super::LockBuilder::reentrant)); [`Error::Lost`], [`Error::Denied`]
    /// and [`Error::Closed`]. Once it has begun it is not taken back: whatever the error, write no
    /// more.
    ///
    /// # Cancel safety
    /// Safe to drop: after the first poll it goes on in the background; asked again, it is done at
    /// once. Only [`unlock`](Self::unlock) can then not confirm that it was a writer's until here.
    pub async fn downgrade(&self) -> Result<()> {
        self.hold().check()?;
        let refused = |fault: &str| {
            let context = Context::new("downgrade lock").key(self.key());
            let faults = vec![fault.to_owned()];
            Err(Error::Invalid { context, faults })
        };
        if self.owner().is_shared() {
            return refused("those who hold it outside of this guard count on it as it is");
        }
        let receipt = {
            let mut standing = self.owner().standing();
            let (Some(standing), Some(queued)) = (standing.as_mut(), self.hold().queued()) else {
                return Ok(());
            };
            if queued.readers().is_empty() {
                return refused("it was not acquired as `downgradable`");
            }
            if *queued.entries() == queued.readers() {
                return Ok(());
            }
            // What it is held by comes first: else the end of the write entry would be its loss.
            let written = queued.downgrade();
            standing.places.clear();
            standing.unproved = true;
            standing.entry.release_part(&written)
        };
        let deleted = tokio::select! {
            biased;
            done = receipt.done() => done?,
            reason = self.lost() => return Err(self.hold().error(reason)),
        };
        let of_this = |kv: &KeyValue| kv.create_revision == self.hold().revision();
        if deleted.iter().all(|kv| kv.as_ref().is_some_and(of_this))
            && let Some(standing) = self.owner().standing().as_mut()
        {
            standing.unproved = false;
        }
        self.hold().check()
    }
}
