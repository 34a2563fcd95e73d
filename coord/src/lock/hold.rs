//! [`Hold`]: what is believed of a lock that is held, and why not any more.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{gate::Identity, guard::Ownership, session::LockSession};
use crate::{
    client::{CallError, Op, OpReply, Range, Span},
    clock::{Clock, Instant},
    engine::Engine,
    error::{Context, Error, LostReason, Result},
    key::Key,
    session::{Session, SessionState},
};

/// Shared by the guard, the gate, the futures of `lost()` and (weakly) the hub.
pub(super) struct Hold {
    identity: Identity,
    revision: i64,
    /// What is believed.
    leases: ArcSwap<Leases>,
    /// They have changed, or it is given back.
    changed: Notify,
    /// Its entry may have stood with a lease that it was not put under.
    moved: AtomicBool,
    /// What stands for it on etcd; a [detached](Held::detached) one has nothing there.
    queued: Option<Queued>,
    /// Its entry is going, and that is no loss.
    given_back: AtomicBool,
    /// Why it is lost, once anybody knows: from then on it stays so.
    gone: OnceLock<LostReason>,
    signal: CancellationToken,
    /// The end of its `max_hold`.
    until: OnceLock<(Instant, Clock)>,
    /// Who gives it back.
    owner: OnceLock<Weak<Ownership>>,
}

/// What the entry stands with.
pub(super) struct Leases {
    pub(super) now: Session,
    /// Or this one: it is being moved, and nobody knows yet. Then the lock is lost with either.
    next: Option<Session>,
    /// Its key goes with the last who hold it.
    _session: Option<Arc<LockSession>>,
}

impl Leases {
    pub(super) fn each(&self) -> impl Iterator<Item = &Session> {
        std::iter::once(&self.now).chain(&self.next)
    }
}

pub(super) struct Queued {
    /// One who writes the entry again at a time: it moves to another lease, or says something else.
    pub(super) moving: tokio::sync::Mutex<()>,
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
            moving: tokio::sync::Mutex::new(()),
            entries: ArcSwap::from_pointee(entries),
            readers,
            session,
        };
        Self::of(identity, revision, belief, Some(queued))
    }

    pub(super) fn of(
        identity: Identity,
        revision: i64,
        session: Session,
        queued: Option<Queued>,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            revision,
            leases: ArcSwap::from_pointee(Leases {
                now: session,
                next: None,
                _session: None,
            }),
            changed: Notify::new(),
            moved: AtomicBool::new(false),
            queued,
            given_back: AtomicBool::new(false),
            gone: OnceLock::new(),
            signal: CancellationToken::new(),
            until: OnceLock::new(),
            owner: OnceLock::new(),
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
        if self.know(reason) {
            tracing::warn!(target: "coord::lock", lock = self.identity.name(), %reason, "lock lost");
        }
    }

    /// It is lost, and stays so, whichever lease its entry turns out to stand with. True: nobody has
    /// known. What is given back cannot be lost any more.
    fn know(&self, reason: LostReason) -> bool {
        let first = !self.is_given_back() && self.gone.set(reason).is_ok();
        if first {
            self.signal.cancel();
        }
        first
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
        let lost = self.leases.load().each().find_map(|s| match s.state() {
            SessionState::Live => None,
            SessionState::Lost(reason) => Some(reason),
            SessionState::Overdue | SessionState::Unverified => Some(LostReason::Expired),
        });
        // Silently: the session has said so in the log.
        self.know(lost?);
        self.gone.get().copied()
    }

    /// Why it is held no longer, if it is not: it was lost, or else given back.
    pub(super) fn over(&self) -> Option<LostReason> {
        let given_back = || self.is_given_back().then_some(LostReason::Released);
        self.loss().or_else(given_back)
    }

    /// Nobody else can have it yet, though it may be lost: no lease that counts is given up.
    pub(super) fn is_leased(&self) -> bool {
        let leases = self.leases.load();
        leases.each().all(Session::is_live)
    }

    /// The time until it is lost, if etcd is not heard of again.
    pub(super) fn remaining(&self) -> Duration {
        if self.over().is_some() {
            return Duration::ZERO;
        }
        let leases = self.leases.load();
        let left = leases.each().map(Session::remaining);
        let left = left.chain(self.time_left()).min();
        left.unwrap_or_default()
    }

    /// Of its `max_hold`.
    fn time_left(&self) -> Option<Duration> {
        let (until, clock) = self.until.get()?;
        Some(until.since(clock.now()))
    }

    /// It is new, and is to be lost at `until`.
    pub(super) fn limit(&self, until: Instant, clock: Clock) {
        // Set once, before anybody else has it.
        let _ = self.until.set((until, clock));
    }

    /// Also while it is being given back: who waits for that has to know.
    pub(super) async fn lost(self: Arc<Self>) -> LostReason {
        loop {
            // Asked for before the look, so that no change is missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let leases = self.leases();
            let next = async {
                match &leases.next {
                    Some(next) => next.lost().await,
                    None => std::future::pending().await,
                }
            };
            let reason = tokio::select! {
                biased;
                () = self.signal.cancelled() => LostReason::Revoked,
                () = changed => continue,
                reason = leases.now.lost() => reason,
                reason = next => reason,
            };
            self.know(reason);
            return self.gone.get().copied().unwrap_or(reason);
        }
    }

    pub(super) fn leases(&self) -> Arc<Leases> {
        self.leases.load_full()
    }

    /// It stands with `session` and with no other.
    pub(super) fn stands_with(&self, session: &Session) -> bool {
        let leases = self.leases.load();
        leases.next.is_none() && leases.now.lease() == session.lease()
    }

    /// A transaction that moves the entry to `to` is about to be sent.
    pub(super) fn begin_move(&self, to: &LockSession) {
        self.moved.store(true, Ordering::SeqCst);
        self.change(|before| Leases {
            now: before.now.clone(),
            next: Some(to.session().clone()),
            _session: before._session.clone(),
        });
    }

    /// The entry stands with `to`.
    pub(super) fn settle(self: &Arc<Self>, to: &Arc<LockSession>) {
        to.remember(self);
        self.change(|_| Leases {
            now: to.session().clone(),
            next: None,
            _session: Some(to.clone()),
        });
    }

    /// The entry stands where it stood.
    pub(super) fn stay(&self) {
        self.change(|before| Leases {
            now: before.now.clone(),
            next: None,
            _session: before._session.clone(),
        });
    }

    fn change(&self, to: impl Fn(&Leases) -> Leases) {
        self.leases.rcu(|before| to(before));
        self.changed.notify_waiters();
    }

    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Ordering::SeqCst)
    }

    /// Whoever has a guard of it: it is given back now, in the background.
    pub(super) fn give_back(&self) {
        if let Some(owner) = self.owner.get().and_then(Weak::upgrade) {
            owner.give_back();
        }
    }

    pub(super) fn belongs_to(&self, owner: &Arc<Ownership>) {
        // Set once, with its only owner.
        let _ = self.owner.set(Arc::downgrade(owner));
    }

    /// Its entry is going from now on, and that is no loss.
    pub(super) fn gives_back(&self) {
        if self.queued.is_none() {
            // Who has guards of a double gives nothing back.
            return;
        }
        // From here on nobody can find out any more that it was lost before.
        self.loss();
        self.given_back.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// The coordinator is being closed: it is lost before its lease is revoked. Done when it is given
    /// back.
    pub(super) async fn close(&self) {
        self.know(LostReason::Closed);
        loop {
            // Asked for before the look, so that no change is missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_given_back() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn is_given_back(&self) -> bool {
        self.given_back.load(Ordering::SeqCst)
    }

    pub(super) fn error(&self, reason: LostReason) -> Error {
        Error::lost("hold lock", self.identity.name(), reason)
    }

    /// See [`Held::verify`].
    pub(super) async fn verify(&self) -> Result<()> {
        let Some(queued) = &self.queued else {
            return self.check();
        };
        while self.over().is_none() {
            let entries = queued.entries();
            let stands = self.stands_by(&entries, queued.session.engine()).await;
            if stands.map_err(|error| {
                error.into_error(Context::new("verify lock").key(self.identity.name()))
            })? {
                break;
            }
            // It was downgraded meanwhile, and has others.
            let others = !Arc::ptr_eq(&entries, &queued.entries());
            if !others {
                // Unless it was given back meanwhile: then it is gone for that reason.
                self.lose(LostReason::Revoked);
                break;
            }
        }
        self.check()
    }

    /// Whether the cluster behind `engine` has its entries.
    pub(super) async fn is_seen_by(&self, engine: &Engine) -> Result<bool, CallError> {
        match &self.queued {
            Some(queued) => self.stands_by(&queued.entries(), engine).await,
            None => Ok(false),
        }
    }

    /// Whether these are there, as they were put.
    async fn stands_by(&self, entries: &[Key], engine: &Engine) -> Result<bool, CallError> {
        let reads = entries.iter().map(|entry| {
            Op::Get(Range {
                keys_only: true,
                ..Range::new(Span::key(entry))
            })
        });
        // On the heap, as the acquire is: a call is some 8 kB, and would be so in the futures of all who
        // look.
        let reply = Box::pin(engine.read_all(reads.collect())).await?;
        Ok(reply.replies.iter().all(|reply| match reply {
            OpReply::Get(range) => {
                range.kvs.first().map(|kv| kv.create_revision) == Some(self.revision)
            }
            _ => false,
        }))
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.over() {
            None => Ok(()),
            Some(reason) => Err(self.error(reason)),
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("key", &self.identity.name())
            .field("fencing_token", &self.revision)
            .field("lost", &self.over())
            .finish_non_exhaustive()
    }
}
