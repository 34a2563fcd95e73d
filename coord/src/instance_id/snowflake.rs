//! [`Snowflakes`]: unique numbers of 64 bits, roughly in the order of time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{InstanceId, Timestamps};
use crate::error::{Context, Error, Result};

const OPERATION: &str = "make a snowflake";

/// A sign bit that is always 0, so that it is a number in every language; 41 bits of milliseconds;
/// 22 bits for the number and the sequence.
const TIME_BITS: u32 = 41;
const LOW_BITS: u32 = 22;

/// How 64 bits are shared out: a zero; 41 bits for the milliseconds since `epoch`, which is 69 years;
/// `number_bits` for the instance's number; the rest for a sequence within the millisecond.
///
/// The default is Twitter's: 10 bits for numbers up to 1,023 and 12 for 4,096 ids in each millisecond;
/// it begins on 2024-01-01.
///
/// Ids of two layouts, or of two pools, may be equal: all who make ids of one kind use one pool and
/// one layout, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnowflakeLayout {
    /// When the milliseconds begin.
    pub epoch: SystemTime,
    /// How many bits the number has: 1 to 20. Every number of the pool must fit.
    pub number_bits: u32,
}

impl Default for SnowflakeLayout {
    fn default() -> Self {
        Self {
            epoch: UNIX_EPOCH + Duration::from_secs(1_704_067_200),
            number_bits: 10,
        }
    }
}

/// What an id says of itself. See [`SnowflakeLayout::parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnowflakeParts {
    /// When it was made, by its maker's clock; later than that, if that clock stood behind an earlier
    /// one's.
    pub at: SystemTime,
    /// The instance that made it.
    pub number: u32,
    /// Which of its millisecond.
    pub sequence: u32,
}

impl SnowflakeLayout {
    /// What `id` was made of.
    #[must_use]
    pub fn parts(&self, id: u64) -> SnowflakeParts {
        let low = |bits: u32, from: u32| {
            // At most 22 bits.
            u32::try_from(id >> from & ((1 << bits) - 1)).unwrap_or(u32::MAX)
        };
        let sequence_bits = self.sequence_bits();
        SnowflakeParts {
            at: self.epoch + Duration::from_millis(id >> LOW_BITS),
            number: low(LOW_BITS - sequence_bits, sequence_bits),
            sequence: low(sequence_bits, 0),
        }
    }

    fn sequence_bits(&self) -> u32 {
        LOW_BITS.saturating_sub(self.number_bits)
    }

    fn check(&self, largest: u32) -> Result<()> {
        let fault = if !(1..=20).contains(&self.number_bits) {
            format!("a number has 1 to 20 bits, not {}", self.number_bits)
        } else if largest >> self.number_bits != 0 {
            let bits = self.number_bits;
            format!("the pool's ids go up to {largest}, which does not fit into {bits} bits")
        } else {
            return Ok(());
        };
        Err(Error::invalid(OPERATION, fault))
    }
}

/// Unique numbers of 64 bits, roughly in the order of time ("Snowflake ids"). Made by
/// [`InstanceId::snowflakes`]. Cheap to clone; clones make different ids.
///
/// Unique means: no two ids of one pool and layout are equal, ever. Not after a pause of any length at
/// any point, a suspend, a clock that was set back or stands wrong on one machine, a crash, or an id
/// that etcd has given to somebody else meanwhile. What stands in the id is compared with what is
/// reserved on etcd, not the time with a deadline.
///
/// Ids of one generator ascend; those of several are in the order of their clocks.
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// use coord::SnowflakeLayout;
///
/// let ids = coordinator.instance_ids("orders", 0..=1023).window(Duration::from_secs(30));
/// let layout = SnowflakeLayout::default();
/// let snowflakes = ids.acquire().await?.snowflakes(layout)?;
/// let (first, second) = (snowflakes.next()?, snowflakes.next()?);
/// assert!(first < second);
/// assert_eq!(layout.parts(first).number, snowflakes.timestamps().id().get()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Snowflakes {
    timestamps: Timestamps,
    layout: SnowflakeLayout,
    /// The layout's, since the Unix epoch.
    epoch_ms: u64,
}

impl Snowflakes {
    /// The next id.
    ///
    /// Never waits: a clock read and a compare-and-swap. If more are made in a millisecond than its
    /// sequence has numbers, or if the clock was set back, the ids run ahead of the clock.
    ///
    /// # Errors
    /// [`Exhausted`](Error::Exhausted) if the [window](super::InstanceIds::window) has ended, because
    /// etcd has not answered for a while ([`ready`](Self::ready) waits for the next), or if the
    /// layout's 69 years are over. [`Lost`](Error::Lost) if the id was given back, or is lost, and the
    /// window has ended.
    pub fn next(&self) -> Result<u64> {
        let bits = self.layout.sequence_bits();
        let stamp = self.timestamps.stamp(1 << bits)?;
        let ms = stamp.ms.checked_sub(self.epoch_ms);
        let ms = ms
            .filter(|ms| ms >> TIME_BITS == 0)
            .ok_or_else(|| Error::Exhausted {
                context: Context::new(OPERATION).key(self.timestamps.id().pool()),
                detail: "the time is not within the layout's 69 years".into(),
            })?;
        let number = u64::from(self.timestamps.id().number());
        Ok(ms << LOW_BITS | number << bits | u64::from(stamp.sequence))
    }

    /// Done when [`next`](Self::next) has an id to give.
    ///
    /// # Errors
    /// [`Lost`](Error::Lost) if there will be none.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ready(&self) -> Result<()> {
        self.timestamps.ready().await
    }

    /// The moments that the ids are made of.
    #[must_use]
    pub fn timestamps(&self) -> &Timestamps {
        &self.timestamps
    }
}

impl InstanceId {
    /// Makes unique numbers of 64 bits: the id was claimed with a
    /// [window](super::InstanceIds::window).
    ///
    /// # Errors
    /// [`NotConfigured`](Error::NotConfigured) if it was claimed without one;
    /// [`Invalid`](Error::Invalid) if the pool's numbers do not fit into the layout.
    pub fn snowflakes(&self, layout: SnowflakeLayout) -> Result<Snowflakes> {
        let timestamps = self.timestamps()?;
        layout.check(timestamps.minting().largest)?;
        let epoch = layout.epoch.duration_since(UNIX_EPOCH).ok();
        let epoch_ms = epoch.and_then(|since| u64::try_from(since.as_millis()).ok());
        let Some(epoch_ms) = epoch_ms else {
            let fault = "the epoch is before 1970";
            return Err(Error::invalid(OPERATION, fault));
        };
        Ok(Snowflakes {
            timestamps,
            layout,
            epoch_ms,
        })
    }
}
