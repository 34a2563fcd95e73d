//! [`Timestamps`]: moments that nobody else stamps with the same number.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    InstanceId,
    held::Minting,
    mint::{Refused, Stamp},
};
use crate::error::{Context, Error, LostReason, Result};

const OPERATION: &str = "stamp an instance id";

/// Moments that are unique together with the id's number: no other holder of the number, before or
/// after, gives out the same one. Made by [`InstanceId::timestamps`]. Cheap to clone; clones give out
/// different moments.
///
/// It holds the id. What it gives out is its own even when the id is [lost](InstanceId::lost) and
/// another instance has it already: it just gives out no more, soon.
#[derive(Clone)]
pub struct Timestamps {
    id: InstanceId,
}

impl Timestamps {
    /// The next moment, in whole milliseconds, later than all before. It is of now, unless the clock
    /// was set back, or this is called more than once in a millisecond: then it is the one after the
    /// last.
    ///
    /// Never waits: a clock read and a compare-and-swap.
    ///
    /// # Errors
    /// [`Exhausted`](Error::Exhausted) if the [window](super::InstanceIds::window) has ended, because
    /// etcd has not answered for a while; [`ready`](Self::ready) waits for the next.
    /// [`Lost`](Error::Lost) if the id was given back, or is lost, and the window has ended.
    pub fn next(&self) -> Result<SystemTime> {
        let stamp = self.stamp(1)?;
        Ok(UNIX_EPOCH + Duration::from_millis(stamp.ms))
    }

    /// Done when [`next`](Self::next) has a moment to give.
    ///
    /// # Errors
    /// [`Lost`](Error::Lost) if there will be none.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ready(&self) -> Result<()> {
        let mint = &self.minting().mint;
        let lost = self.id.lost();
        let open = async {
            loop {
                let mut moved = std::pin::pin!(mint.moved.notified());
                // Before the look: a change in between is not missed.
                moved.as_mut().enable();
                match mint.check() {
                    Err(Refused::Beyond) => mint.wanted.notify_one(),
                    done => return done,
                }
                moved.await;
            }
        };
        tokio::select! {
            biased;
            done = open => done.map_err(|refused| self.error(refused)),
            _ = lost => Err(self.error(Refused::Beyond)),
        }
    }

    /// The id whose number belongs to the moments.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// `None`: the id was claimed without a window.
    pub(super) fn new(id: &InstanceId) -> Option<Self> {
        id.minting().map(|_| Self { id: id.clone() })
    }

    pub(super) fn stamp(&self, sequences: u32) -> Result<Stamp> {
        let stamp = self.minting().mint.next(sequences);
        stamp.map_err(|refused| self.error(refused))
    }

    pub(super) fn minting(&self) -> &Minting {
        self.id
            .minting()
            .expect("`new` has looked, and it is never taken away")
    }

    fn error(&self, refused: Refused) -> Error {
        let reason = match refused {
            Refused::Closed => Some(LostReason::Closed),
            // While it is not confirmed the window may still be extended.
            Refused::Beyond => self
                .id
                .reason()
                .filter(|reason| *reason != LostReason::Unconfirmed),
        };
        let (pool, number) = (self.id.pool(), self.id.number());
        match reason {
            Some(reason) => Error::lost(OPERATION, pool, reason),
            None => Error::Exhausted {
                context: Context::new(OPERATION).key(pool),
                detail: format!(
                    "the window of id {number} has ended, and etcd has not confirmed the next one"
                ),
            },
        }
    }
}

impl fmt::Debug for Timestamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timestamps")
            .field("pool", &self.id.pool())
            .field("number", &self.id.number())
            .finish_non_exhaustive()
    }
}

impl InstanceId {
    /// Moments that are unique together with [the number](Self::get): the id was claimed with a
    /// [window](super::InstanceIds::window).
    ///
    /// # Errors
    /// [`NotConfigured`](Error::NotConfigured) if it was claimed without one.
    pub fn timestamps(&self) -> Result<Timestamps> {
        Timestamps::new(self).ok_or_else(|| Error::NotConfigured {
            context: Context::new(OPERATION).key(self.pool()),
            detail: "it was claimed without a window: add `.window(Duration::from_secs(30))`"
                .into(),
        })
    }
}
