//! [`Registration`]: an instance that is registered, as its owner has it. [`Member`]: the same, as the
//! coordinator knows it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    InstanceUpdate,
    shared::Shared,
    wish::{Stage, Wish},
};
use crate::{
    clock::{Clock, Instant},
    engine::Engine,
    error::{Context, Error, Result},
};

pub(super) const REGISTER: &str = "register instance";
pub(super) const UPDATE: &str = "update instance";
pub(super) const DEREGISTER: &str = "deregister instance";

/// An instance that is registered. It renews its lease, registers again after the lease was lost,
/// and repairs its records when something else changed or removed them.
///
/// Dropping it deregisters in the background; [`deregister`](Self::deregister) waits for that.
#[derive(Debug)]
#[must_use = "dropping it deregisters"]
pub struct Registration(Member);

impl Registration {
    pub(super) fn new(member: Member) -> Self {
        Self(member)
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.0.service
    }

    /// What tells this registration from every other: fresh for each.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Whether its record is known to be there, for others to find. False while it is being registered
    /// again, and while it is not healthy.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        // An error: the task that keeps it has ended, with the coordinator.
        self.0.progress.has_changed().is_ok() && self.0.progress.borrow().shown
    }

    /// Changes its health, weight or metadata; returns once etcd has confirmed it. Its address and its
    /// place in others' connections stay the same.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// use coord::{InstanceHealth, InstanceSpec, InstanceUpdate};
    ///
    /// let registry = coordinator.registry();
    /// let spec = InstanceSpec::new("user-service", "10.0.0.5:50051");
    /// let registration = registry.register(spec).await?;
    /// registration.update(InstanceUpdate::new().weight(20)).await?;
    /// assert_eq!(registry.discover("user-service").await?[0].weight, 20);
    ///
    /// // Out of what others find, for as long as it takes.
    /// registration.update(InstanceUpdate::new().health(InstanceHealth::Maintenance)).await?;
    /// assert!(registry.discover("user-service").await?.is_empty());
    /// registration.update(InstanceUpdate::new().health(InstanceHealth::Healthy)).await?;
    /// # registration.deregister().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), and nothing changes, for a weight of zero, a metadata key that
    /// cannot be, or a record of more than 512 KiB; [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) if it is not
    /// confirmed within the request timeout: it stays wanted, and is done once etcd answers;
    /// [`Denied`](Error::Denied); [`NotFound`](Error::NotFound) if the instance is leaving;
    /// [`Closed`](Error::Closed).
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn update(&self, update: InstanceUpdate) -> Result<()> {
        self.0.update(update).await
    }

    /// Whether it is still kept registered: not deregistered, and the coordinator not closed.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.progress.has_changed().is_ok()
    }

    /// Removes the record, marked as leaving first, so that nobody takes it for a crash. While etcd does
    /// not answer it waits for that, however long it takes.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed) if the coordinator was closed before etcd confirmed it;
    /// [`Denied`](Error::Denied), or another error that waiting does not mend: then the record stays
    /// until its lease, which nobody renews any more, has run out.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn deregister(self) -> Result<()> {
        self.0.deregister().await
    }

    /// What others are told.
    pub(crate) fn address(&self) -> String {
        self.0.wish.borrow().record.address.clone()
    }

    /// From now on it is routable, as soon as etcd answers.
    pub(crate) fn publish(&self) {
        let now = self.0.engine.clock.unix_ms();
        self.0.wish.send_if_modified(|wish| {
            let forward = wish.forward(Stage::Serving);
            if forward {
                Arc::make_mut(&mut wish.record).registered_ms = now;
            }
            forward
        });
    }

    /// Whether others are to find it: it is ready, healthy, and not leaving. etcd may not know yet.
    #[cfg(feature = "grpc")]
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.wish.borrow().is_shown()
    }

    /// Waits until [`is_wanted`](Self::is_wanted) is that.
    #[cfg(feature = "grpc")]
    pub(crate) async fn until_wanted(&self, wanted: bool) {
        let mut wish = self.0.wish.subscribe();
        // Cannot fail: the sender is this registration's.
        let _ = wish.wait_for(|wish| wish.is_shown() == wanted).await;
    }

    /// Takes it out of the routable ones; returns when etcd has confirmed it, or when that is no
    /// longer needed.
    pub(crate) async fn withdraw(&self) {
        let number = self.0.forward(Stage::Withdrawn);
        self.0.settled(number).await;
    }

    /// As [`deregister`](Self::deregister), for who keeps the handle; the lease is left to the
    /// coordinator's closing.
    pub(crate) async fn leave(&self) {
        self.0.leave().await;
    }

    /// Waits until what is wanted now is confirmed, or has failed in a way that waiting does not mend.
    pub(super) async fn registered(&self) -> Result<()> {
        let number = self.0.wish.borrow().number;
        self.0.confirmed(number, REGISTER).await
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.forward(Stage::Gone);
    }
}

/// What the keeping task says.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The newest wish that has begun to be fulfilled, and since when.
    pub(super) begun: Option<(u64, Instant)>,
    /// The newest wish that was fulfilled.
    pub(super) settled: Option<u64>,
    /// It is routable, as far as is known.
    pub(super) shown: bool,
    /// The records are gone, and it was wanted.
    pub(super) gone: bool,
    /// The last failure since something was reached.
    pub(super) trouble: Option<Error>,
}

/// One registration of this coordinator. Its clones do not keep it registered.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) engine: Engine,
    pub(super) shared: Shared,
    pub(super) service: Arc<str>,
    pub(super) instance: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) wish: Arc<watch::Sender<Wish>>,
    /// Ends with the task that keeps it.
    pub(super) progress: watch::Receiver<Progress>,
}

impl Member {
    pub(super) async fn update(&self, update: InstanceUpdate) -> Result<()> {
        self.engine.check_open(UPDATE)?;
        update.check(UPDATE, &self.service)?;
        let mut number = Err(self.not_found(UPDATE));
        self.wish.send_if_modified(|wish| {
            if wish.stage >= Stage::Withdrawn {
                return false;
            }
            let health = update.health.unwrap_or(wish.said);
            let mut record = wish.record.clone();
            update.apply(Arc::make_mut(&mut record));
            if let Some(fault) = record.fault() {
                number = Err(Error::invalid(UPDATE, fault));
                return false;
            }
            (wish.said, wish.record) = (health, record);
            wish.number += 1;
            number = Ok(wish.number);
            true
        });
        let number = number?;
        self.confirmed(number, UPDATE).await
    }

    /// Removes its records; its lease may still be there.
    pub(super) async fn leave(&self) {
        let number = self.forward(Stage::Gone);
        self.settled(number).await;
    }

    pub(super) async fn deregister(&self) -> Result<()> {
        self.forward(Stage::Gone);
        let mut progress = self.progress.clone();
        // The task's end: the lease is gone too.
        while progress.changed().await.is_ok() {}
        let progress = progress.borrow();
        match (progress.gone, &progress.trouble) {
            (true, _) => Ok(()),
            (false, Some(trouble)) if !trouble.is_retryable() => Err(trouble.clone()),
            (false, _) => Err(Error::closed(DEREGISTER)),
        }
    }

    fn not_found(&self, operation: &'static str) -> Error {
        let key = format!("{}/{}", self.service, self.instance);
        Error::NotFound {
            context: Context::new(operation).key(key),
        }
    }

    /// The number of the newest wish then.
    fn forward(&self, to: Stage) -> u64 {
        self.wish.send_if_modified(|wish| wish.forward(to));
        self.wish.borrow().number
    }

    pub(super) async fn settled(&self, number: u64) {
        let mut progress = self.progress.clone();
        // An error: the task has ended, and will reach nothing more.
        let _ = progress
            .wait_for(|progress| progress.settled >= Some(number))
            .await;
    }

    /// Waits until the wish `number` is fulfilled, or has failed in a way that waiting does not mend.
    async fn confirmed(&self, number: u64, operation: &'static str) -> Result<()> {
        let limit = self.engine.options.request_timeout;
        let mut progress = self.progress.clone();
        let before = || self.shared.confirmed_at();
        match decided(&self.engine.clock, limit, &mut progress, number, before).await {
            Some(Decided::Done) => return Ok(()),
            Some(Decided::Ended) => return Err(Error::closed(operation)),
            Some(Decided::Hopeless) | None => {}
        }
        let trouble = self.progress.borrow().trouble.clone();
        Err(trouble.unwrap_or_else(|| Error::Timeout {
            context: Context::new(operation).key(&*self.service),
            limit,
            maybe_applied: true,
            holder: None,
            position: None,
        }))
    }
}

/// What has become of a wish.
#[derive(Debug, PartialEq)]
enum Decided {
    Done,
    /// It failed in a way that waiting does not mend.
    Hopeless,
    /// Nobody keeps the instance registered any more.
    Ended,
}

/// Waits until the wish `number` is decided. `None`: it was not within `limit`, which is etcd's: it
/// counts from the wish's turn, and until then from the last of the others that come `before`.
async fn decided(
    clock: &Clock,
    limit: Duration,
    progress: &mut watch::Receiver<Progress>,
    number: u64,
    before: impl Fn() -> Option<Instant>,
) -> Option<Decided> {
    let decided = |progress: &Progress| match &progress.trouble {
        _ if progress.settled >= Some(number) => Some(Decided::Done),
        Some(trouble) if !trouble.is_retryable() => Some(Decided::Hopeless),
        _ => None,
    };
    let mut since = clock.now();
    loop {
        let left = (since + limit).since(clock.now());
        let waiting = progress.wait_for(|progress| decided(progress).is_some());
        match clock.timeout(left, waiting).await {
            Ok(Ok(progress)) => return decided(&progress),
            Ok(Err(_)) => return Some(Decided::Ended),
            Err(_elapsed) => {}
        }
        let begun = progress.borrow().begun;
        let latest = match begun {
            Some((begun, at)) if begun >= number => Some(at),
            _ => before(),
        };
        since = latest.filter(|latest| *latest > since)?;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, poll};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);
    const ALMOST: Duration = Duration::from_millis(4_999);

    #[tokio::test]
    async fn the_limit_counts_from_the_turn_and_until_then_from_those_before() {
        let (clock, hand) = Clock::manual();
        let (told, mut progress) = watch::channel(Progress::default());
        let before = std::cell::Cell::new(None);
        let mut waiting = pin!(decided(&clock, LIMIT, &mut progress, 3, || before.get()));
        // Others are registered, and an older wish of its own.
        for older in 0..10 {
            assert!(poll!(&mut waiting).is_pending());
            hand.advance(ALMOST);
            before.set(Some(clock.now()));
            told.send_modify(|progress| progress.begun = Some((older % 3, clock.now())));
        }
        hand.advance(ALMOST);
        told.send_modify(|progress| progress.begun = Some((3, clock.now())));
        assert!(poll!(&mut waiting).is_pending());
        hand.advance(ALMOST);
        // That others go on does not help it any more.
        before.set(Some(clock.now()));
        assert!(poll!(&mut waiting).is_pending());
        hand.advance(LIMIT - ALMOST);
        assert_eq!(waiting.now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_limit_while_nothing_is_confirmed() {
        let (clock, hand) = Clock::manual();
        let (told, mut progress) = watch::channel(Progress::default());
        let long_ago = clock.now();
        hand.advance(LIMIT);
        let mut waiting = pin!(decided(&clock, LIMIT, &mut progress, 1, || Some(long_ago)));
        assert!(poll!(&mut waiting).is_pending());
        hand.advance(ALMOST);
        assert!(poll!(&mut waiting).is_pending());
        hand.advance(LIMIT - ALMOST);
        assert_eq!(waiting.now_or_never(), Some(None));
        drop(told);
    }

    #[tokio::test]
    async fn what_is_decided_ends_the_wait() {
        let (clock, _hand) = Clock::manual();
        let (told, mut progress) = watch::channel(Progress::default());
        told.send_modify(|progress| {
            progress.trouble = Some(Error::invalid(REGISTER, "no"));
        });
        let hopeless = decided(&clock, LIMIT, &mut progress, 1, || None).await;
        assert_eq!(hopeless, Some(Decided::Hopeless));
        told.send_modify(|progress| progress.settled = Some(1));
        let done = decided(&clock, LIMIT, &mut progress, 1, || None).await;
        assert_eq!(done, Some(Decided::Done));
        told.send_modify(|progress| progress.trouble = None);
        drop(told);
        let ended = decided(&clock, LIMIT, &mut progress, 2, || None).await;
        assert_eq!(ended, Some(Decided::Ended));
    }
}
