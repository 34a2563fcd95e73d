//! [`LockGuard`]: the right to a lock, and the duty to give it back.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::Span;

use super::{
    Held,
    hold::Hold,
    hub::Place,
    meter::Meter,
    terms::{OnLost, Release, Terms},
    warden::Warden,
};
use crate::{
    client::KeyValue,
    clock::Instant,
    error::{Context, Error, LostReason, Result},
    session::LeasedKey,
};

/// What a released lock's release showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// True: the queue entry was there from the grant to this release, so nobody else held the lock
    /// at any moment in between. False: that cannot be said.
    pub confirmed: bool,
}

/// A held lock. Dropping it releases the lock in the background.
///
/// The lock may be lost while the guard lives (see [`Held::lost`]); code that must not run on then
/// stands in [`LockBuilder::run`](super::LockBuilder::run) or in a `#[locked]` function.
#[must_use = "a guard that is dropped releases its lock at once, and `let _ =` drops it: give it a name"]
pub struct LockGuard {
    pub(super) owner: Arc<Ownership>,
    terms: Terms,
    warden: Option<Warden>,
    meter: Option<Meter>,
}

/// The right to a lock, and the duty to give it back: with the last guard, if it is reentrant.
pub(super) struct Ownership {
    held: Held,
    /// `None`: given back, or [detached](Held::detached).
    standing: Mutex<Option<Standing>>,
}

/// What is given back.
pub(super) struct Standing {
    /// Sees to its `max_hold`, for as long as anybody has a guard of it.
    limit: Option<Warden>,
    // Before the entry, so that the release is not taken for a loss.
    pub(super) places: Vec<Place>,
    pub(super) entry: LeasedKey,
    /// It is not known that a part which is given back already was there until then.
    pub(super) unproved: bool,
}

impl LockGuard {
    /// A guard of a [detached](Held::detached) lock.
    #[cfg(feature = "embedded")]
    pub(crate) fn detached(held: &Held) -> Self {
        Self::of(Held::of(held.hold().clone()), None)
    }

    pub(super) fn new(hold: Arc<Hold>, places: Vec<Place>, entry: LeasedKey) -> Self {
        places.iter().for_each(|place| place.own(&hold));
        let standing = Standing {
            limit: None,
            places,
            entry,
            unproved: false,
        };
        Self::of(Held::of(hold), Some(standing))
    }

    fn of(held: Held, standing: Option<Standing>) -> Self {
        let owner = Arc::new(Ownership {
            held,
            standing: Mutex::new(standing),
        });
        owner.hold().belongs_to(&owner);
        Self::again(owner)
    }

    /// One guard more of a lock that is held already.
    pub(super) fn again(owner: Arc<Ownership>) -> Self {
        Self {
            owner,
            terms: Terms::default(),
            warden: None,
            meter: None,
        }
    }

    pub(super) fn owner(&self) -> &Arc<Ownership> {
        &self.owner
    }

    pub(super) fn on_lost(&self) -> OnLost {
        self.terms.on_lost
    }

    /// Of the section; an inner hold is a part of the outer one's.
    pub(super) fn span(&self) -> Span {
        let meter = self.meter.as_ref();
        meter.map_or_else(Span::none, |meter| meter.span().clone())
    }

    /// From now on these terms hold, for one who has asked at `asked`, in the span `acquiring`. The limit of an outer hold stays
    /// its own.
    pub(super) fn under(mut self, terms: Terms, asked: Instant, acquiring: &Span) -> Self {
        self.terms = terms;
        let hold = self.owner.hold().clone();
        let Some(queued) = hold.queued() else {
            return self;
        };
        let engine = queued.session.engine();
        let outermost = !self.owner.is_shared();
        if outermost {
            let meter = Meter::start(terms.label, hold.clone(), &engine.clock, asked, acquiring);
            self.meter = Some(meter);
        }
        let until = terms
            .max_hold
            .filter(|_| outermost)
            .map(|limit| engine.clock.now() + limit);
        if let Some(until) = until {
            hold.limit(until, engine.clock.clone());
            if let Some(standing) = self.owner.standing().as_mut() {
                standing.limit = Some(Warden::gives_back(hold.clone(), engine, until));
            }
        }
        if terms.on_lost == OnLost::Abort {
            self.warden = Some(Warden::aborts(hold.clone(), engine));
        }
        self
    }

    /// The end of a section, as its terms say. `proves`: it is to be confirmed, if that is asked for.
    pub(super) async fn leave(self, proves: bool) -> Result<()> {
        let Terms {
            confirm, release, ..
        } = self.terms;
        // On the heap, as the acquire is: few sections wait for their end.
        if proves && confirm {
            return Box::pin(self.prove()).await;
        }
        if release == Release::Wait {
            // What becomes of the lock after the body is nothing that the body has to know.
            drop(Box::pin(self.unlock()).await);
        }
        Ok(())
    }

    async fn prove(self) -> Result<()> {
        let hold = self.hold().clone();
        let context = Context::new("confirm lock").key(hold.identity().name());
        let unconfirmed = |context| Error::Lost {
            context,
            reason: LostReason::Unconfirmed,
        };
        match self.confirmed().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(unconfirmed(context)),
            Err(error) => Err(unconfirmed(context.cause(error))),
        }
    }

    /// Gives it back, and says whether it is proved that it was held until now.
    async fn confirmed(self) -> Result<bool> {
        if self.owner.is_shared() {
            // Inside of another hold, which goes on: nothing is deleted, so look.
            return self.verify().await.map(|()| true);
        }
        self.unlock().await.map(|released| released.confirmed)
    }

    /// Releases the lock and waits until etcd has confirmed it.
    ///
    /// A guard inside of another hold ([`reentrant`](super::LockBuilder::reentrant)) releases nothing,
    /// and confirms nothing.
    ///
    /// # Errors
    /// [`Error::Lost`] if it was lost before, or would have been while etcd did not answer;
    /// [`Error::Closed`] if the coordinator is.
    ///
    /// # Cancel safety
    /// Safe to drop: the release goes on in the background.
    pub async fn unlock(self) -> Result<Released> {
        let hold = self.hold().clone();
        hold.check()?;
        let Self {
            owner,
            warden,
            meter,
            terms: _,
        } = self;
        drop((warden, meter));
        let Some(owner) = Arc::into_inner(owner) else {
            return Ok(Released { confirmed: false });
        };
        let Some(Standing {
            limit,
            places,
            entry,
            unproved,
        }) = owner.take()
        else {
            return Ok(Released {
                confirmed: hold.queued().is_none(),
            });
        };
        drop((limit, places));
        let deleted = tokio::select! {
            biased;
            deleted = entry.release().done() => deleted?,
            reason = hold.clone().lost() => return Err(hold.error(reason)),
        };
        let of_this = |kv: &KeyValue| kv.create_revision == hold.revision();
        let confirmed = deleted.iter().all(|kv| kv.as_ref().is_some_and(of_this));
        Ok(Released {
            confirmed: confirmed && !unproved,
        })
    }
}

impl Ownership {
    pub(super) fn hold(&self) -> &Arc<Hold> {
        self.held.hold()
    }

    /// What is to be given back, if it still is.
    pub(super) fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back in the background, whoever still has a guard of it.
    pub(super) fn give_back(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<Standing> {
        let hold = self.hold();
        hold.gives_back();
        let mut standing = self.standing().take();
        if let Some(Standing { entry, .. }) = &mut standing
            && hold.has_moved()
        {
            entry.moved();
        }
        standing
    }

    /// Others have a guard of it, too.
    pub(super) fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&self.owner.held).finish()
    }
}

impl Deref for LockGuard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.owner.held
    }
}
