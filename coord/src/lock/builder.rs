//! [`LockBuilder`]: how a lock is to be acquired.

use std::time::Duration;

use tracing::Instrument as _;

use super::{
    Held, LockGuard, Locks, Shared,
    attempt::{self, Acquire, MOST_NAMES, Purpose},
    gate::Gate,
    meter,
    modes::{Mode, Permits},
    terms::Terms,
};
use crate::{
    error::{Context, Error, Result},
    key::Prefix,
    options,
};

/// How long an acquire whose wait is over may look for who holds: as long again as it has waited, within
/// these. Without the holder's name nobody knows that somebody holds it.
const LEAST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

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

/// Says how a lock is to be acquired, or several at once, and acquires it.
///
/// From `coordinator.lock("orders/42")` or `coordinator.lock_all(["accounts/1", "accounts/2"])`.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// use std::time::Duration;
///
/// // One of four at a time, for ten minutes at most, under a name of its own in the metrics.
/// let gpu = coordinator
///     .lock("gpu")
///     .permits(4)
///     .max_hold(Duration::from_secs(600))
///     .label("gpu");
/// let computed = gpu.wait(Duration::from_secs(5)).run(async |_held| 42).await?;
///
/// // Shared with readers, if it can be had at once; given back when the guard is dropped.
/// match coordinator.lock("catalog").read().try_acquire().await {
///     Ok(guard) => println!("{computed}, {:?} to spare", guard.remaining()),
///     Err(coord::Error::Busy { holder, .. }) => println!("held by {holder:?}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Modes
/// A lock is held in one of three modes. All of them stand in one queue, first come, first served, so
/// nobody starves: a reader that comes after a waiting writer waits behind it.
///
/// | mode | held together with |
/// |---|---|
/// | [`write`](Self::write), the default, and other clients' locks | nobody |
/// | [`read`](Self::read) | readers |
/// | [`permits`](Self::permits) | others with permits, as long as there are enough |
///
/// # Coming from elsewhere
/// | Curator | Redisson | Go's `concurrency` | here |
/// |---|---|---|---|
/// | `InterProcessSemaphoreMutex` | – | `Mutex`: `Lock`, `Unlock` | [`acquire`](Self::acquire), [`LockGuard::unlock`]; [`run`](Self::run) stops its body when the lock is lost |
/// | `acquire(time, unit)` | `tryLock(wait, …)` | a context with a deadline | [`wait`](Self::wait); when it is over, [`Error::Timeout`] names the holder |
/// | – | `tryLock()` | `TryLock` | [`try_acquire`](Self::try_acquire) |
/// | an interrupt | `lockInterruptibly` | a cancelled context | drop the future |
/// | – | `lock(lease, …)` | – | [`max_hold`](Self::max_hold) |
/// | the session's timeout | `lockWatchdogTimeout` | `WithTTL` | [`ttl`](Self::ttl), renewed without a thread of yours |
/// | `ConnectionStateListener` | – | `Session.Done` | [`Held::lost`], [`Held::remaining`] |
/// | `InterProcessMutex`, for a thread | `RLock`, for a thread | – | [`reentrant`](Self::reentrant), inside of a body; [`into_reentrant`](Self::into_reentrant), for whoever has the handle |
/// | – | `getHoldCount` | – | [`ReentrantLock::count`](super::ReentrantLock::count) |
/// | `isAcquiredInThisProcess` | `isHeldByCurrentThread` | – | [`Held::is_held`]; [`Held::verify`] asks etcd |
/// | `getParticipantNodes` | `isLocked` | – | [`Coordinator::inspect_locks`](crate::Coordinator::inspect_locks) |
/// | – | `remainTimeToLive` | – | [`Held::time_to_live`] |
/// | `InterProcessReadWriteLock` | `RReadWriteLock` | – | [`read`](Self::read), [`write`](Self::write), [`downgradable`](Self::downgradable) |
/// | `InterProcessSemaphoreV2` | `RSemaphore`; with a lease time `RPermitExpirableSemaphore` | – | [`permits`](Self::permits), [`take`](Self::take); with [`max_hold`](Self::max_hold) |
/// | `InterProcessMultiLock` | `RedissonMultiLock` | – | [`Coordinator::lock_all`](crate::Coordinator::lock_all), in one step |
/// | always | `getFairLock` | always | always first come, first served |
/// | – | `RFencedLock` | `IsOwner` | [`Held::fencing_token`], [`Held::transaction`] |
/// | `makeRevocable` | `forceUnlock` | – | delete the entry ([`Holder::entry`](crate::Holder::entry)) with `etcdctl`: its holder is told ([`Held::lost`]) |
///
/// No thread owns a lock here: the guard does, wherever it goes. See [`Election`](super::Election) for
/// leaders.
///
/// # Metrics and spans
/// Under the lock's [`label`](Self::label), never under its name, through the `metrics` facade:
///
/// | metric | |
/// |---|---|
/// | `coord_lock_wait_seconds` | how long those waited who got it |
/// | `coord_lock_hold_seconds` | how long it was held |
/// | `coord_locks_lost_total` | locks that were lost while they were held, by `reason` |
///
/// Through `tracing`, with the target `coord::lock` and the level `INFO`, one span for each acquire,
/// `lock.acquire`, and one for each held section, `lock.held`: what a body logs stands in the latter. Both
/// have the fields `key` (the name), `mode`, `label`, `waited` and `token`; a section that loses its lock
/// has `lost`, with the reason. A filter such as `coord::lock=warn` turns them off; then they cost nothing.
#[derive(Clone, Debug)]
#[must_use = "nothing is acquired before `acquire`, `try_acquire` or `run` is awaited"]
pub struct LockBuilder {
    locks: Locks,
    purpose: Purpose,
    names: Vec<String>,
    raw: bool,
    kind: Kind,
    take: Option<u32>,
    ttl: Option<Duration>,
    wait: Wait,
    pub(super) terms: Terms,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    Downgradable,
    Read,
    Permits(u32),
}

/// What is asked for, once it is known to be possible.
struct Asked {
    queues: Vec<Prefix>,
    mode: Mode,
}

impl LockBuilder {
    pub(super) fn new(locks: Locks, names: Vec<String>) -> Self {
        Self {
            locks,
            purpose: Purpose::Lock,
            names,
            raw: false,
            kind: Kind::Write,
            take: None,
            ttl: None,
            wait: Wait::Default,
            terms: Terms::default(),
        }
    }

    /// For the election `name`: candidates wait until they lead.
    pub(super) fn election(locks: Locks, name: String) -> Self {
        let mut builder = Self::new(locks, vec![name]).wait_forever();
        builder.purpose = Purpose::Election;
        // They wait for days, and would hide how long locks are waited for.
        builder.terms.label = Some("election");
        builder
    }

    pub(super) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// As errors call it.
    pub(super) fn name(&self) -> String {
        self.names.join(", ")
    }

    /// As spans call it.
    pub(super) fn mode_word(&self) -> &'static str {
        match self.kind {
            Kind::Write | Kind::Downgradable => "write",
            Kind::Read => "read",
            Kind::Permits(_) => "permits",
        }
    }

    /// How long it may take; `None`: without end.
    pub(super) fn limit(&self) -> Option<Duration> {
        let options = &self.locks.shared.engine.options;
        match self.wait {
            Wait::Default => Some(options.lock.wait),
            Wait::For(limit) => Some(limit),
            Wait::Try => Some(options.request_timeout),
            Wait::Forever => None,
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.wait != Wait::Try
    }

    /// Where the entries stand, if all is right with what is asked for.
    pub(super) fn queues(&self) -> Result<Vec<Prefix>> {
        self.check().map(|asked| asked.queues)
    }

    /// Shared with other readers, and with nobody else.
    pub fn read(mut self) -> Self {
        self.kind = Kind::Read;
        self
    }

    /// Exclusive. The default.
    pub fn write(mut self) -> Self {
        self.kind = Kind::Write;
        self
    }

    /// Exclusive, and may become a reader later without letting go:
    /// [`LockGuard::downgrade`](super::LockGuard::downgrade).
    pub fn downgradable(mut self) -> Self {
        self.kind = Kind::Downgradable;
        self
    }

    /// A semaphore of `permits`: as many can be taken at once, all told. One is taken, or as many as
    /// [`take`](Self::take) says.
    ///
    /// All who use it must say the same number: while others with another one hold it or wait, the
    /// acquire is [`Error::Invalid`] and names both. The number can change once nobody does.
    pub fn permits(mut self, permits: u32) -> Self {
        self.kind = Kind::Permits(permits);
        self
    }

    /// How many of the [`permits`](Self::permits) are taken, together. Default: 1.
    pub fn take(mut self, permits: u32) -> Self {
        self.take = Some(permits);
        self
    }

    /// How long the lock stays taken after its holder has crashed; in whole seconds. It is renewed
    /// for as long as the holder lives. Default: [`LockOptions::ttl`](crate::LockOptions::ttl).
    ///
    /// All locks of a coordinator with the same TTL share one lease; the first use of another TTL
    /// opens a lease for it, which is kept.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The name as it stands on etcd: neither the namespace nor the options' prefix is put before
    /// it, and no `!` behind it. To join a lock of Go's `concurrency.NewMutex(session, name)` or of
    /// `etcdctl lock name`, whose keys stand below `name/`.
    ///
    /// As there, a lock `jobs` is then held up by the lock `jobs/1`, whose keys stand below `jobs/`
    /// as well. So a name among coord's own keys is refused, unless it is a lock's whole one:
    /// `coord/lock/jobs!`.
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Waits in the queue for at most `limit`, the time to connect and to open the session included.
    /// Default: [`LockOptions::wait`](crate::LockOptions::wait). Zero: as
    /// [`try_acquire`](Self::try_acquire).
    ///
    /// When the time is over, etcd is asked who holds the lock. Should it not answer that, the acquire takes
    /// longer by `limit` once more, but by 100 ms at least and by a second at most.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = match limit.is_zero() {
            true => Wait::Try,
            false => Wait::For(limit),
        };
        self
    }

    /// Waits without a limit, also while etcd cannot be reached.
    pub fn wait_forever(mut self) -> Self {
        self.wait = Wait::Forever;
        self
    }

    /// `try` of `#[locked]`.
    #[doc(hidden)]
    pub fn trying(mut self) -> Self {
        self.wait = Wait::Try;
        self
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the holder and the number of those ahead; [`Error::Invalid`] for an
    /// impossible name or mode, for a semaphore that others use with another number of permits, and
    /// for a key in the queue that has no lease, so that it would never go;
    /// [`Error::WouldDeadlock`] if this is called from a body that holds the lock, or one of these, in
    /// whatever mode; [`Error::Denied`] and [`Error::Closed`]. While etcd cannot be reached it goes
    /// on trying.
    ///
    /// # Cancel safety
    /// Safe to drop at any moment: the place in the queue is given up in the background.
    pub async fn acquire(self) -> Result<LockGuard> {
        self.acquire_with(None).await
    }

    /// With an entry that says `value`; without one it says who has put it.
    pub(super) async fn acquire_with(self, value: Option<Vec<u8>>) -> Result<LockGuard> {
        // On the heap: it is some 5 kB, and would be so in the future of every caller's caller.
        let terms = self.terms;
        let asked = self.locks.shared.engine.clock.now();
        let span = meter::acquiring(&self);
        let acquired = Box::pin(self.acquire_or_time_out(value)).instrument(span.clone());
        acquired.await.map(|guard| guard.under(terms, asked, &span))
    }

    /// Everything that is wrong with it, at once.
    fn check(&self) -> Result<Asked> {
        let mut faults = Vec::new();
        let mut queues: Vec<Prefix> = Vec::new();
        let layout = &self.locks.shared.engine.layout;
        for name in &self.names {
            let queue = match (self.raw, self.purpose) {
                (true, _) => layout.raw_lock_queue(name),
                (false, Purpose::Lock) => layout.lock_queue(name),
                (false, Purpose::Election) => layout.election_queue(name),
            };
            match queue {
                // A name that is given twice is one lock.
                Ok(queue) if queues.contains(&queue) => {}
                Ok(queue) => queues.push(queue),
                Err(Error::Invalid { faults: more, .. }) => faults.extend(more),
                Err(error) => return Err(error),
            }
        }
        if self.names.is_empty() {
            faults.push("there is no name to lock".into());
        }
        if queues.len() > MOST_NAMES {
            let names = queues.len();
            faults.push(format!(
                "{names} names are too many: etcd takes 128 operations in a transaction, which is \
                 enough for {MOST_NAMES} names"
            ));
        }
        for outer in &queues {
            let mut others = queues.iter().filter(|queue| *queue != outer);
            if let Some(inner) = others.find(|queue| outer.strip(queue.as_bytes()).is_some()) {
                faults.push(format!(
                    "the raw lock `{inner}` stands below the raw lock `{outer}`: they cannot be \
                     held together"
                ));
            }
        }
        let take = self.take.unwrap_or(1);
        let mode = match self.kind {
            Kind::Permits(0) => {
                faults.push("a semaphore has one permit at least".into());
                Mode::WRITE
            }
            Kind::Permits(of) => {
                if !(1..=of).contains(&take) {
                    faults.push(format!("{take} of {of} permits cannot be taken"));
                }
                Mode::Permits(Permits { take, of })
            }
            kind => {
                if self.take.is_some() {
                    faults.push("`take` says how many of the `permits`, and there are none".into());
                }
                match kind {
                    Kind::Downgradable => Mode::Write { downgradable: true },
                    Kind::Read => Mode::Read,
                    Kind::Write | Kind::Permits(_) => Mode::WRITE,
                }
            }
        };
        if self.terms.max_hold.is_some_and(|limit| limit.is_zero()) {
            faults.push("`max_hold` is nothing: it would be lost as soon as it is held".into());
        }
        if let Some(ttl) = self.ttl {
            faults.extend(options::ttl_fault("ttl", ttl));
        }
        match faults.is_empty() {
            true => Ok(Asked { queues, mode }),
            false => Err(Error::Invalid {
                context: Context::new(self.purpose.operation()).key(self.name()),
                faults,
            }),
        }
    }

    async fn acquire_or_time_out(self, value: Option<Vec<u8>>) -> Result<LockGuard> {
        let Asked { queues, mode } = self.check()?;
        let (limit, waits) = (self.limit(), self.waits());
        let Self {
            locks,
            purpose,
            names,
            ttl,
            terms,
            ..
        } = self;
        let Shared {
            engine, identity, ..
        } = &*locks.shared;
        let value =
            value.unwrap_or_else(|| identity.value(mode, locks.service.as_deref(), &engine.clock));
        let acquire = Acquire {
            shared: &locks.shared,
            purpose,
            name: &names.join(", "),
            queues: &queues,
            mode,
            value: &value,
            ttl,
            waits,
            reentrant: terms.reentrant
                || (purpose == Purpose::Lock && engine.options.lock.reentrant),
        };
        let trace = attempt::Trace::default();
        let Some(limit) = limit else {
            return acquire.run(&trace).await;
        };
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
            // A try waits for nobody: etcd has not answered.
            None if !waits => (None, None),
            None => {
                let limit = limit.clamp(LEAST_LOOK, LONGEST_LOOK);
                match Box::pin(acquire.holder(limit)).await {
                    Ok(holder) => (holder.map(Box::new), None),
                    Err(trouble) => (None, Some(trouble)),
                }
            }
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

    /// Takes the lock if it can be had at once: if nobody holds it or waits for it whom this one would
    /// have to wait for.
    ///
    /// What this coordinator has given back before, also in the background, does not make it busy: that is
    /// waited for.
    ///
    /// For [permits](Self::permits) it is in the queue for a moment, also if it does not get them.
    ///
    /// # Errors
    /// [`Error::Busy`] with the holder; else as [`acquire`](Self::acquire), but an unreachable etcd is
    /// an error at once, or within [`request_timeout`](crate::Options::request_timeout).
    ///
    /// # Cancel safety
    /// Safe to drop at any moment.
    pub async fn try_acquire(self) -> Result<LockGuard> {
        self.trying().acquire().await
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

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use crate::embedded::Server;

    /// Copied and allocated by each acquire. What is rarely awaited in it has a box of its own.
    #[tokio::test]
    async fn an_acquire_is_no_larger_than_the_calls_it_always_makes() {
        let server = Server::start().await.unwrap();
        let coordinator = server.coordinator().await.unwrap();
        let call = size_of_val(
            &coordinator
                .lock("size")
                .locks
                .shared
                .engine
                .calls
                .txn(crate::client::Txn::default()),
        );
        let size = size_of_val(&coordinator.lock("size").acquire_or_time_out(None));
        assert!(size < call + 2_048, "{size} beside {call}");
    }
}
