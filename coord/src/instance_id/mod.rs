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
//!
//! What is stamped with an id and a time is unique even for a holder that was paused at the worst
//! moment for any length of time: see `window.rs`.

mod claim;
mod claiming;
mod guard;
mod held;
mod mint;
mod order;
mod pool;
mod snowflake;
mod timestamps;
mod window;

use std::{ops::RangeInclusive, time::Duration};

use claiming::Claiming;
pub use held::InstanceId;
use order::Order;
use pool::Pool;
pub use snowflake::{SnowflakeLayout, SnowflakeParts, Snowflakes};
pub use timestamps::Timestamps;

use crate::{
    engine::Engine,
    error::{Context, Error, Result},
    key::Layout,
};

const OPERATION: &str = "claim an instance id";

const HOLD: Duration = Duration::from_secs(20);
const COOL_DOWN: Duration = Duration::from_secs(40);

/// Refuses what [`InstanceIds::acquire`] would refuse, for who is not connected yet.
pub(crate) fn check(
    layout: &Layout,
    pool: &str,
    range: RangeInclusive<u32>,
    hold: Option<Duration>,
    cool_down: Option<Duration>,
    window: Option<Duration>,
) -> Result<()> {
    Pool::new(layout, pool, range)?;
    let (hold, cool_down) = (hold.unwrap_or(HOLD), cool_down.unwrap_or(COOL_DOWN));
    refuse(pool, faults(hold, cool_down, window))
}

/// What is wrong with how long an id is held.
fn faults(hold: Duration, cool_down: Duration, window: Option<Duration>) -> Vec<String> {
    let whole = |d: Duration| d.subsec_nanos() == 0;
    let mut faults = Vec::new();
    if !whole(hold) || hold < Duration::from_secs(3) {
        faults.push("`hold` must be whole seconds, at least 3".to_owned());
    }
    if !whole(cool_down) {
        faults.push("`cool_down` must be whole seconds".to_owned());
    }
    let lengths = Duration::from_secs(1)..=Duration::from_secs(3_600);
    if window.is_some_and(|length| !lengths.contains(&length)) {
        faults.push("`window` must be 1 second to 1 hour".to_owned());
    }
    faults
}

fn refuse(pool: &str, faults: Vec<String>) -> Result<()> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid {
            context: Context::new(OPERATION).key(pool),
            faults,
        }),
    }
}

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
    order: Order,
    preferred: Option<u32>,
    sticky: bool,
    /// `None`: for ever.
    wait: Option<Duration>,
    window: Option<Duration>,
}

impl InstanceIds {
    pub(crate) fn new(engine: Engine, pool: &str, range: RangeInclusive<u32>) -> Self {
        Self {
            engine,
            pool: pool.to_owned(),
            range,
            hold: HOLD,
            cool_down: COOL_DOWN,
            order: Order::Any,
            preferred: None,
            sticky: false,
            wait: None,
            window: None,
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

    /// Takes low ids instead of random ones: alone the lowest that is free, and among many that claim
    /// at once one of the lowest. So few instances of a large pool have small numbers, and a number is
    /// used again soon. Costs 2 to 3 transactions instead of one where many have an id.
    pub fn dense(mut self) -> Self {
        self.order = Order::Dense;
        self
    }

    /// Asks for this id first: any other is taken if this one is not free. `Invalid` at
    /// [`acquire`](Self::acquire) if it is not in the pool's range.
    pub fn prefer(mut self, number: u32) -> Self {
        self.preferred = Some(number);
        self
    }

    /// Asks first for an id that the machine's name decides, so that an instance that starts again on
    /// the same machine tends to have the same one: of a Kubernetes `StatefulSet`, whose pods are
    /// called `name-0`, `name-1`, … , the pod's ordinal (counted from the range's start); else one
    /// that a hash of the name gives. An id that was left by a crash is not free before `hold` plus
    /// `cool_down`. [`prefer`](Self::prefer) goes before this.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let ids = coordinator.instance_ids("user-service", 0..=1023).sticky();
    /// let id = ids.acquire().await?;
    /// let number = id.get()?;
    /// id.release().await?;
    /// assert_eq!(ids.acquire().await?.get()?, number);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// How long [`acquire`](Self::acquire) waits for a full pool, at most. Default: for ever.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = Some(limit);
        self
    }

    /// The id can be stamped on things: [`InstanceId::timestamps`] and [`InstanceId::snowflakes`] give
    /// out moments that no other holder of the number ever has, whatever happens to processes and
    /// clocks in between.
    ///
    /// For that the holder reserves time on etcd, `length` ahead, and again each time half of it has
    /// passed: one small write each. So `length` is how long stamps go on while etcd does not answer;
    /// and a number whose holder crashed goes on with stamps that are up to `length` ahead of the
    /// clock. 1 second to 1 hour; 30 s is a good choice.
    ///
    /// All holders of a pool's ids use windows, or none does.
    pub fn window(mut self, length: Duration) -> Self {
        self.window = Some(length);
        self
    }

    /// Claims an id that nobody holds. A full pool is waited for; a crashed holder's id is free again
    /// after `hold` plus `cool_down`.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a name or a range that cannot be a pool, or for durations that
    /// cannot be kept; [`Exhausted`](Error::Exhausted), with the pool and its size, if it has been full
    /// for as long as [`wait`](Self::wait) says; [`Unavailable`](Error::Unavailable) or
    /// [`Timeout`](Error::Timeout) if etcd does not answer at first (once it waits for the pool it
    /// goes on through any outage, within its limit).
    ///
    /// # Cancel safety
    /// Safe: what was claimed by then is given back in the background.
    pub async fn acquire(&self) -> Result<InstanceId> {
        self.run(self.wait).await
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
        self.run(Some(Duration::ZERO)).await
    }

    async fn run(&self, wait: Option<Duration>) -> Result<InstanceId> {
        let pool = Pool::new(&self.engine.layout, &self.pool, self.range.clone())?;
        self.check(&pool)?;
        Claiming::new(self, pool, wait).run().await
    }

    fn check(&self, pool: &Pool) -> Result<()> {
        let mut faults = faults(self.hold, self.cool_down, self.window);
        let range = pool.range();
        if let Some(number) = self.preferred.filter(|number| !range.contains(number)) {
            faults.push(format!("the preferred id {number} is not in {range:?}"));
        }
        refuse(&self.pool, faults)
    }

    /// What is tried before all others.
    fn hint(&self, pool: &Pool) -> Option<u32> {
        let of_host = || {
            self.sticky
                .then(|| order::of_host(&crate::host::name(), pool))
        };
        self.preferred.or_else(of_host)
    }
}
