//! Instance ids: small integers, leased, unique among live holders, recycled after a crash.
//!
//! # Why no two live holders have the same id
//! * An id is a slot key under a lease of its own. It is taken in one transaction (`claim.rs`).
//! * The lease's TTL is *hold* plus *cool-down*, and a renewal is believed only for *hold*, counted
//!   from before it was sent. So between the last moment at which a holder believes in its id and
//!   the earliest at which etcd gives it away lies the whole cool-down, whatever the holder's clock,
//!   connection or scheduler does.
//! * A holder that was past its deadline believes again only after a renewal *and then* a read that
//!   shows its own slot (`guard.rs`): that the lease lives does not prove that the slot does.
//! * A deleted slot is a lost id, at once.

mod claim;
mod guard;
mod pool;

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use claim::{Claim, Outcome};
use guard::Slot;
use pool::Pool;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "embedded")]
use crate::key::Layout;
use crate::{
    client::{CallError, Reason, Span},
    engine::Engine,
    error::{Context, Error, LostReason, Result},
    retry::Backoff,
    session::{PastDeadline, Session, SessionSpec, SessionState},
};

const OPERATION: &str = "claim an instance id";

/// Claims ids of one pool. Made by [`Coordinator::instance_ids`](crate::Coordinator::instance_ids).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// let id = coordinator.instance_ids("user-service", 0..=1023).acquire().await?;
/// assert!(id.get()? <= 1023);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is claimed before `acquire`"]
pub struct InstanceIds {
    engine: Engine,
    pool: String,
    range: RangeInclusive<u32>,
    hold: Duration,
    cool_down: Duration,
}

impl InstanceIds {
    pub(crate) fn new(engine: Engine, pool: &str, range: RangeInclusive<u32>) -> Self {
        Self {
            engine,
            pool: pool.to_owned(),
            range,
            hold: Duration::from_secs(20),
            cool_down: Duration::from_secs(40),
        }
    }

    /// How long a holder goes on believing in its id when etcd does not answer, at most. Whole
    /// seconds, at least 3. Default: 20 s.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How long an id stays unused after its holder, unreachable, must have stopped believing in it.
    /// It covers a pause between a check and what is done after it. Whole seconds. Default: 40 s.
    pub fn cool_down(mut self, cool_down: Duration) -> Self {
        self.cool_down = cool_down;
        self
    }

    /// Claims an id that nobody holds: which one is random. A full pool is waited for; a crashed
    /// holder's id is free again after `hold` plus `cool_down`.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a name or a range that cannot be a pool;
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) if etcd does not answer at
    /// first (once it waits for the pool it goes on through any outage).
    ///
    /// # Cancel safety
    /// Safe: what was claimed by then is given back in the background.
    pub async fn acquire(&self) -> Result<InstanceId> {
        self.run(WhenFull::Wait).await
    }

    /// [`acquire`](Self::acquire) that does not wait for a full pool.
    ///
    /// # Errors
    /// [`Exhausted`](Error::Exhausted), with the pool and its size, if all ids are taken; otherwise
    /// as `acquire`.
    ///
    /// # Cancel safety
    /// As `acquire`.
    pub async fn try_acquire(&self) -> Result<InstanceId> {
        self.run(WhenFull::Fail).await
    }

    async fn run(&self, when_full: WhenFull) -> Result<InstanceId> {
        let pool = Pool::new(&self.engine.layout, &self.pool, self.range.clone())?;
        self.check_durations()?;
        let mut claiming = Claiming {
            ids: self,
            pool,
            when_full,
            waited: false,
            failures: 0,
            backoff: guard::backoff(),
        };
        loop {
            // One round is one lease with one owner key; what makes it end without an id makes both
            // of no more use.
            if let Some(id) = claiming.round().await? {
                return Ok(id);
            }
        }
    }

    fn check_durations(&self) -> Result<()> {
        let whole = |d: Duration| d.subsec_nanos() == 0;
        let mut faults = Vec::new();
        if !whole(self.hold) || self.hold < Duration::from_secs(3) {
            faults.push("`hold` must be whole seconds, at least 3".to_owned());
        }
        if !whole(self.cool_down) {
            faults.push("`cool_down` must be whole seconds".to_owned());
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid {
                context: Context::new(OPERATION).key(&self.pool),
                faults,
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum WhenFull {
    Wait,
    Fail,
}

/// What a slot holds: for people who look.
#[derive(Serialize)]
struct Record<'a> {
    v: u8,
    uuid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    host: String,
    pid: u32,
    started: u64,
    hold_ms: u64,
}

/// One call of `acquire`.
struct Claiming<'a> {
    ids: &'a InstanceIds,
    pool: Pool,
    when_full: WhenFull,
    /// The pool has been seen full: the caller waits, so no outage ends the call any more.
    waited: bool,
    failures: u32,
    backoff: Backoff,
}

impl Claiming<'_> {
    /// `None`: the lease is used up, begin the next round with another.
    async fn round(&mut self) -> Result<Option<InstanceId>> {
        let engine = &self.ids.engine;
        let spec = SessionSpec {
            purpose: "instance id",
            ttl: self.ids.hold + self.ids.cool_down,
            hold: Some(self.ids.hold),
            renew_interval: None,
            past_deadline: PastDeadline::Verify,
        };
        let session = match engine.keeper.open(spec).await {
            Ok(session) => session,
            // It has tried for a while already.
            Err(error) if !self.waited => return Err(error),
            Err(error) => return self.failed(error).await.map(|()| None),
        };
        let ending = EndOnDrop::new(engine, &session);
        let claim = self.claim(&session);
        let mut used = BTreeSet::new();
        while !matches!(session.state(), SessionState::Lost(_)) {
            let candidates = claim::candidates(&self.pool, &used);
            let txn = claim.txn(&self.pool, &candidates);
            let outcome = match engine.calls.txn(txn).await {
                Ok(reply) => claim.read(&self.pool, &candidates, &reply),
                Err(error) if error.reason == Reason::LeaseNotFound => return Ok(None),
                Err(error) => {
                    self.failed(self.error(error)).await?;
                    continue;
                }
            };
            self.failures = 0;
            self.backoff.reset();
            match outcome {
                Outcome::Mine { number, epoch } => {
                    let id = self.hold(number, epoch, session.clone());
                    ending.disarm();
                    return Ok(guard::believed(&session).await.then_some(id));
                }
                Outcome::Spent => return Ok(None),
                Outcome::Taken { used: now } => {
                    if now.len() as u64 >= self.pool.size() {
                        self.full(&session).await?;
                        // Whatever was free a moment ago, the next transaction looks by itself.
                        used = BTreeSet::new();
                    } else {
                        used = now;
                    }
                }
            }
        }
        Ok(None)
    }

    fn claim(&self, session: &Session) -> Claim {
        let uuid = uuid::Uuid::new_v4().to_string();
        let record = Record {
            v: 1,
            uuid: &uuid,
            service: self.ids.engine.module.as_deref(),
            host: crate::host::name(),
            pid: std::process::id(),
            started: self.ids.engine.clock.unix_ms(),
            hold_ms: u64::try_from(self.ids.hold.as_millis()).unwrap_or(u64::MAX),
        };
        let record = serde_json::to_vec(&record).expect("strings and numbers are JSON");
        Claim::new(&self.pool, &uuid, session.lease(), record)
    }

    fn hold(&self, number: u32, epoch: i64, session: Session) -> InstanceId {
        let engine = &self.ids.engine;
        let slot = Slot {
            key: self.pool.slot(number),
            epoch,
            session,
        };
        let guard = CancellationToken::new();
        let watching = guard::watch(engine.clone(), slot.clone());
        let ended = guard.clone();
        engine.tasks.spawn(async move {
            ended.run_until_cancelled(watching).await;
        });
        InstanceId(Arc::new(Held {
            number,
            pool: self.pool.name().into(),
            slot,
            given_back: AtomicBool::new(false),
            engine: Some(engine.clone()),
            guard,
        }))
    }

    /// Returns when a slot may be free, and about every TTL in any case.
    async fn full(&mut self, session: &Session) -> Result<()> {
        let (name, size) = (self.pool.name(), self.pool.size());
        if self.when_full == WhenFull::Fail {
            return Err(Error::Exhausted {
                context: Context::new(OPERATION).key(name),
                detail: format!("all {size} ids of the pool `{name}` are taken"),
            });
        }
        let engine = &self.ids.engine;
        if !std::mem::replace(&mut self.waited, true) {
            tracing::warn!(
                target: "coord::instance_id",
                pool = name,
                size,
                "all instance ids are taken; waiting for one",
            );
        }
        // It lists first, and after the reply that said "full": no deletion in between is missed.
        let mut watcher =
            engine.watcher(format!("id pool {name}"), Span::prefix(self.pool.slots()));
        let freed = async {
            loop {
                watcher.next().await;
                let taken = watcher.map().keys();
                let taken = taken.filter(|key| self.pool.number(key).is_some());
                if (taken.count() as u64) < size {
                    // All who wait see the same deletion: do not ask in the same instant.
                    let spread = Duration::from_millis(200).mul_f64(rand::random());
                    return engine.clock.sleep(spread).await;
                }
            }
        };
        let again = engine.clock.timeout(session.ttl(), freed);
        let mut states = session.states();
        let lost = states.wait_for(|state| matches!(state, SessionState::Lost(_)));
        tokio::select! {
            _ = again => {}
            _ = lost => {}
        }
        Ok(())
    }

    fn error(&self, error: CallError) -> Error {
        error.into_error(Context::new(OPERATION).key(self.pool.name()))
    }

    /// Waits before the next try, or gives up.
    async fn failed(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        let tries = self.ids.engine.options.retry.max_attempts;
        if !error.is_retryable() || (!self.waited && self.failures >= tries) {
            return Err(error);
        }
        let delay = self.backoff.next_delay();
        self.ids.engine.clock.sleep(delay).await;
        Ok(())
    }
}

/// Ends the session in the background when a claim is given up.
struct EndOnDrop(Option<(Engine, Session)>);

impl EndOnDrop {
    fn new(engine: &Engine, session: &Session) -> Self {
        Self(Some((engine.clone(), session.clone())))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some((engine, session)) = self.0.take() {
            let keeper = engine.keeper.clone();
            // Best effort: unrevoked it runs out by itself.
            let end = async move { keeper.end(&session).await };
            drop(engine.tasks.spawn(end));
        }
    }
}

/// A small integer that no other live holder of its pool has. Cheap to clone; every clone is the
/// same id.
///
/// Ask [`get`](Self::get) each time it is used, instead of keeping the number: it answers only while
/// nobody else can have it.
///
/// When the last clone is dropped the id is given back in the background; while a panic unwinds it
/// is left to expire instead, since what the panic left half done may still be using the number.
#[derive(Clone, Debug)]
pub struct InstanceId(Arc<Held>);

#[derive(Debug)]
struct Held {
    number: u32,
    pool: Box<str>,
    slot: Slot,
    /// Set before anything is sent: from then on nobody here believes in the id.
    given_back: AtomicBool,
    /// `None`: [detached](InstanceId::detached), so there is nobody to give it back to.
    engine: Option<Engine>,
    /// Ends the task that watches the slot.
    guard: CancellationToken,
}

impl InstanceId {
    /// For a double: held as long as `session` lives, without anything on etcd.
    #[cfg(feature = "embedded")]
    pub(crate) fn detached(
        layout: &Layout,
        pool: &str,
        number: u32,
        session: Session,
    ) -> Result<Self> {
        let pool = Pool::new(layout, pool, number..=number)?;
        let slot = Slot {
            key: pool.slot(number),
            epoch: 1,
            session,
        };
        Ok(Self(Arc::new(Held {
            number,
            pool: pool.name().into(),
            slot,
            given_back: AtomicBool::new(false),
            engine: None,
            guard: CancellationToken::new(),
        })))
    }

    /// The number, if it is certain at this moment that nobody else has it.
    ///
    /// Costs a clock read and two atomic reads.
    ///
    /// # Errors
    /// [`Lost`](Error::Lost): for good, or (with [`Unconfirmed`](LostReason::Unconfirmed)) until
    /// etcd answers again and shows that it is still held.
    pub fn get(&self) -> Result<u32> {
        match self.reason() {
            None => Ok(self.0.number),
            Some(reason) => Err(Error::lost("use instance id", &self.0.pool, reason)),
        }
    }

    fn reason(&self) -> Option<LostReason> {
        if self.0.given_back.load(Ordering::Acquire) {
            return Some(LostReason::Closed);
        }
        match self.0.slot.session.state() {
            SessionState::Live => None,
            SessionState::Overdue | SessionState::Unverified => Some(LostReason::Unconfirmed),
            SessionState::Lost(reason) => Some(reason),
        }
    }

    /// A number that is larger for every later holder of the same id: the revision at which it was
    /// taken. What is written under the id can be compared by it.
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.0.slot.epoch
    }

    /// Done when the id is lost for good, with the reason.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + 'static + use<> {
        self.0.slot.session.lost()
    }

    /// Gives the id back, for all clones: first nobody here believes in it any more, then it is free
    /// on etcd. Call it when nothing uses the number any more.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) if etcd did not answer:
    /// then the id is free once its lease has run out.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn release(&self) -> Result<()> {
        match self.0.start_release() {
            None => Ok(()),
            Some(task) => task.await.unwrap_or_else(|| Err(Error::closed(RELEASE))),
        }
    }
}

const RELEASE: &str = "release instance id";

impl Held {
    /// Ends belief in the id. `false`: it was given back before.
    fn give_back(&self) -> bool {
        let first = !self.given_back.swap(true, Ordering::AcqRel);
        // Before anything is sent: else the watch would report our own deletion as a loss.
        self.guard.cancel();
        first
    }

    /// Ends belief in the id and leaves it to expire on etcd: somewhere it may still be in use.
    fn abandon(&self) {
        if !self.give_back() {
            return;
        }
        match &self.engine {
            Some(engine) => engine.keeper.abandon(&self.slot.session),
            None => self.slot.session.mark_lost(LostReason::Closed),
        }
    }

    /// `None`: there is nothing to give back. A lost id's lease is gone, or being revoked, or left to
    /// run out on purpose.
    fn start_release(&self) -> Option<crate::tasks::Task<Result<()>>> {
        let lost = matches!(self.slot.session.state(), SessionState::Lost(_));
        if !self.give_back() || lost {
            return None;
        }
        let Some(engine) = &self.engine else {
            self.slot.session.mark_lost(LostReason::Closed);
            return None;
        };
        let release = guard::release(engine.clone(), self.slot.clone());
        Some(engine.tasks.spawn(release))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
        } else {
            // It goes on by itself.
            drop(self.start_release());
        }
    }
}
