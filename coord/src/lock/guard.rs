//! [`LockGuard`] and [`Held`]: a lock that is held.

use std::{
    fmt,
    ops::Deref,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{
    gate::Identity,
    hub::Place,
    meter::Meter,
    modes::Mode,
    session::LockSession,
    terms::{OnLost, Release, Terms},
    transaction::LockTransaction,
    warden::Warden,
};
#[cfg(feature = "embedded")]
use crate::key::Layout;
use crate::{
    client::{KeyValue, Op, OpReply, Range, Span},
    clock::{Clock, Instant},
    error::{Context, Error, LostReason, Result},
    key::Key,
    session::{LeasedKey, Session, SessionState},
};

/// A number that grows with every holder of a lock.
///
/// Hand it to what the lock protects, and let that refuse a number lower than the highest it has
/// seen: then a holder that was paused past its lease, and does not know it yet, can do no harm.
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

/// What a released lock's release showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// True: the queue entry was there from the grant to this release, so nobody else held the lock
    /// at any moment in between. False: that cannot be said.
    pub confirmed: bool,
}

/// Shared by the guard, the gate, the futures of `lost()` and (weakly) the hub.
pub(super) struct Hold {
    identity: Identity,
    revision: i64,
    /// What is believed.
    session: Session,
    /// What stands for it on etcd; a [detached](Held::detached) one has nothing there.
    queued: Option<Queued>,
    /// Its entry is going, and that is no loss.
    given_back: AtomicBool,
    /// Why this one entry is gone, if its session is not.
    gone: OnceLock<LostReason>,
    signal: CancellationToken,
    /// The end of its `max_hold`.
    until: OnceLock<(Instant, Clock)>,
}

pub(super) struct Queued {
    /// What it is held by: one in each queue.
    entries: ArcSwap<Vec<Key>>,
    /// What it is held by after a downgrade; of one that cannot be downgraded none.
    readers: Vec<Key>,
    /// Its key goes with the last who hold it.
    pub(super) session: Arc<LockSession>,
}

impl Queued {
    /// What it is held by: one in each queue.
    pub(super) fn entries(&self) -> Arc<Vec<Key>> {
        self.entries.load_full()
    }

    /// What it is held by after a downgrade; of one that cannot be downgraded none.
    pub(super) fn readers(&self) -> &[Key] {
        &self.readers
    }

    /// From now on it is held by its read entries. Returns those that it was held by so far.
    pub(super) fn downgrade(&self) -> Arc<Vec<Key>> {
        self.entries.swap(Arc::new(self.readers.clone()))
    }
}

impl Hold {
    pub(super) fn new(
        identity: Identity,
        entries: Vec<Key>,
        readers: Vec<Key>,
        revision: i64,
        session: Arc<LockSession>,
    ) -> Arc<Self> {
        let belief = session.session().clone();
        let queued = Queued {
            entries: ArcSwap::from_pointee(entries),
            readers,
            session,
        };
        Self::of(identity, revision, belief, Some(queued))
    }

    fn of(
        identity: Identity,
        revision: i64,
        session: Session,
        queued: Option<Queued>,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            revision,
            session,
            queued,
            given_back: AtomicBool::new(false),
            gone: OnceLock::new(),
            signal: CancellationToken::new(),
            until: OnceLock::new(),
        })
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The create revision of the entry.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn queued(&self) -> Option<&Queued> {
        self.queued.as_ref()
    }

    /// The entry is gone. The first reason stays.
    pub(super) fn lose(&self, reason: LostReason) {
        if self.gone.set(reason).is_ok() {
            tracing::warn!(target: "coord::lock", lock = self.identity.name(), %reason, "lock lost");
            self.signal.cancel();
        }
    }

    /// By the clock, now.
    pub(super) fn loss(&self) -> Option<LostReason> {
        if let Some(reason) = self.gone.get() {
            return Some(*reason);
        }
        if self.time_left() == Some(Duration::ZERO) {
            self.lose(LostReason::MaxHold);
            return self.gone.get().copied();
        }
        match self.session.state() {
            SessionState::Live => None,
            SessionState::Lost(reason) => Some(reason),
            SessionState::Overdue | SessionState::Unverified => Some(LostReason::Expired),
        }
    }

    /// Of its `max_hold`.
    fn time_left(&self) -> Option<Duration> {
        let (until, clock) = self.until.get()?;
        Some(until.since(clock.now()))
    }

    pub(super) async fn lost(self: Arc<Self>) -> LostReason {
        let mut session = pin!(self.session.lost());
        tokio::select! {
            biased;
            () = self.signal.cancelled() => {
                self.gone.get().copied().unwrap_or(LostReason::Revoked)
            }
            reason = &mut session => reason,
        }
    }

    pub(super) fn error(&self, reason: LostReason) -> Error {
        Error::lost("hold lock", self.identity.name(), reason)
    }

    /// See [`Held::verify`].
    pub(super) async fn verify(&self) -> Result<()> {
        let Some(queued) = &self.queued else {
            return self.check();
        };
        while self.loss().is_none() {
            let entries = queued.entries();
            if self.stands_by(&entries, queued).await? {
                break;
            }
            // It was downgraded meanwhile, and has others.
            let others = !Arc::ptr_eq(&entries, &queued.entries());
            // One that is being given back is gone for that reason.
            if !others && !self.given_back.load(Ordering::SeqCst) {
                self.lose(LostReason::Revoked);
            }
            if !others {
                break;
            }
        }
        self.check()
    }

    /// Whether these are there, as they were put.
    async fn stands_by(&self, entries: &[Key], queued: &Queued) -> Result<bool> {
        let reads = entries.iter().map(|entry| {
            Op::Get(Range {
                keys_only: true,
                ..Range::new(Span::key(entry))
            })
        });
        let reply = queued.session.engine().read_all(reads.collect()).await;
        let reply = reply.map_err(|error| {
            error.into_error(Context::new("verify lock").key(self.identity.name()))
        })?;
        Ok(reply.replies.iter().all(|reply| match reply {
            OpReply::Get(range) => {
                range.kvs.first().map(|kv| kv.create_revision) == Some(self.revision)
            }
            _ => false,
        }))
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.loss() {
            None => Ok(()),
            Some(reason) => Err(self.error(reason)),
        }
    }
}

/// A lock that is held, as the code that it protects sees it.
///
/// Passed to the body of [`LockBuilder::run`](super::LockBuilder::run), bound by `guard = name` in
/// `#[locked]`, and what a [`LockGuard`] points to. What it says by itself is known without asking
/// etcd and errs on the safe side: it says "lost" before anybody else can hold the lock.
pub struct Held(Arc<Hold>);

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("key", &self.identity.name())
            .field("fencing_token", &self.revision)
            .field("lost", &self.loss())
            .finish_non_exhaustive()
    }
}

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

    pub(super) fn hold(&self) -> &Arc<Hold> {
        &self.0
    }

    /// The lock's name, as it was asked for. Of several: all of them, with commas between.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.identity.name()
    }

    /// Grows with every holder of this lock. See [`FencingToken`].
    #[must_use]
    pub fn fencing_token(&self) -> FencingToken {
        FencingToken(self.0.revision)
    }

    /// How long the lock stays held if etcd is not heard of again; zero once it is lost. A bound for
    /// the timeouts of calls made under the lock.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match self.0.loss() {
            None => {
                let left = self.0.session.remaining();
                self.0.time_left().map_or(left, |limit| limit.min(left))
            }
            Some(_) => Duration::ZERO,
        }
    }

    /// True while it is held, by the local clock and what etcd has told.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.loss().is_none()
    }

    /// Done when the lock is lost: its lease ran out, was revoked, or could not be renewed in time.
    /// Never done if it is released before.
    ///
    /// # Cancel safety
    /// Safe to drop. The future does not keep the lock.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> {
        self.0.clone().lost()
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
        if let (None, Some(Queued { session, .. })) = (self.0.loss(), &self.0.queued) {
            let engine = session.engine();
            let limit = engine.options.request_timeout;
            let renewal = engine.keeper.renew(session.session());
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
        let Some(Queued { session, .. }) = &self.0.queued else {
            return Ok(self.0.session.ttl());
        };
        let lease = session.session().lease();
        let found = session.engine().time_to_live(lease).await;
        let found = found.map_err(|error| {
            error.into_error(Context::new("ask for the time to live of lock").key(self.key()))
        })?;
        if found.remaining.is_none() {
            session.session().mark_lost(LostReason::Revoked);
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

/// A held lock. Dropping it releases the lock in the background.
///
/// The lock may be lost while the guard lives (see [`Held::lost`]); code that must not run on then
/// stands in [`LockBuilder::run`](super::LockBuilder::run) or in a `#[locked]` function.
#[must_use = "a guard that is dropped releases its lock at once"]
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
    // Before the entry, so that the release is not taken for a loss.
    pub(super) places: Vec<Place>,
    pub(super) entry: LeasedKey,
}

impl LockGuard {
    /// A guard of a [detached](Held::detached) lock.
    #[cfg(feature = "embedded")]
    pub(crate) fn detached(held: &Held) -> Self {
        Self::of(Held(held.0.clone()), None)
    }

    pub(super) fn new(hold: Arc<Hold>, places: Vec<Place>, entry: LeasedKey) -> Self {
        places.iter().for_each(|place| place.own(&hold));
        Self::of(Held(hold), Some(Standing { places, entry }))
    }

    fn of(held: Held, standing: Option<Standing>) -> Self {
        Self::again(Arc::new(Ownership {
            held,
            standing: Mutex::new(standing),
        }))
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

    /// From now on these terms hold, for one who has asked at `asked`. The limit of an outer hold stays
    /// its own.
    pub(super) fn under(mut self, terms: Terms, asked: Instant) -> Self {
        self.terms = terms;
        let hold = self.owner.hold().clone();
        let Some(queued) = hold.queued() else {
            return self;
        };
        let engine = queued.session.engine();
        let outermost = !self.owner.is_shared();
        if outermost {
            let meter = Meter::start(terms.label, hold.clone(), &engine.clock, asked);
            self.meter = Some(meter);
        }
        let until = terms
            .max_hold
            .filter(|_| outermost)
            .map(|limit| engine.clock.now() + limit);
        if let Some(until) = until {
            // It is new: nobody has set it.
            let _ = hold.until.set((until, engine.clock.clone()));
        }
        if until.is_some() || terms.on_lost == OnLost::Abort {
            let owner = Arc::downgrade(&self.owner);
            let warden = Warden::of(hold.clone(), owner, engine, until, terms.on_lost);
            self.warden = Some(warden);
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
        let context = Context::new("confirm lock").key(hold.identity.name());
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
        let Some(Standing { places, entry }) = owner.take() else {
            return Ok(Released {
                confirmed: hold.queued.is_none(),
            });
        };
        drop(places);
        let deleted = tokio::select! {
            biased;
            deleted = entry.release().done() => deleted?,
            reason = hold.clone().lost() => return Err(hold.error(reason)),
        };
        let of_this = |kv: &KeyValue| kv.create_revision == hold.revision;
        let confirmed = deleted.iter().all(|kv| kv.as_ref().is_some_and(of_this));
        Ok(Released { confirmed })
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
        self.hold().given_back.store(true, Ordering::SeqCst);
        self.standing().take()
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
