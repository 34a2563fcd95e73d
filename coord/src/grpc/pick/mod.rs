//! [`Picker`]: which endpoint a call goes to.
//!
//! | file | how |
//! |---|---|
//! | `round_robin.rs` | one after the other |
//! | `random.rs` | any |
//! | `weighted.rs` | in proportion to the weights, evenly spread |
//! | `least.rs` | the fewest calls in flight, relative to the weight |
//! | `p2c.rs` | the better of two by latency and calls in flight |
//! | `candidates.rs` | what a call is picked from, and what a strategy does where it cannot have its choice |
//! | `tables.rs` | the weights, as intervals that are drawn from |
//!
//! A pick locks nothing, allocates nothing and waits for nothing. What is drawn may be an endpoint
//! whose connection has closed just now (soon the keeper publishes a set without it), or one that this
//! call has tried: it is drawn again, a few times, so that the share of who is passed over falls to all
//! others and not to its neighbour; then the best of those that are left is looked for.

mod candidates;
mod least;
mod p2c;
mod random;
mod round_robin;
mod tables;
#[cfg(test)]
pub(super) mod tests;
mod weighted;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rand::RngCore;

use self::candidates::Candidates;
pub(super) use self::tables::Tables;
use super::{
    builder::Strategy,
    endpoint::Endpoint,
    ready::{Member, ReadySet},
};
use crate::clock::Instant;

/// Picks. Shared by all calls of a channel, without a lock.
#[derive(Debug)]
pub(super) enum Picker {
    P2c,
    RoundRobin(Sequence),
    Random,
    Weighted(Sequence),
    LeastConnections,
}

impl Picker {
    pub(super) fn new(strategy: Strategy) -> Self {
        match strategy {
            Strategy::P2c => Self::P2c,
            Strategy::RoundRobin => Self::RoundRobin(Sequence::anywhere()),
            Strategy::Random => Self::Random,
            Strategy::Weighted => Self::Weighted(Sequence::anywhere()),
            Strategy::LeastConnections => Self::LeastConnections,
        }
    }

    /// What a pick needs of a set, worked out before the set is published.
    pub(super) fn tables(&self, members: &[Member]) -> Tables {
        match self {
            Self::RoundRobin(_) | Self::Random => Tables::default(),
            Self::P2c | Self::Weighted(_) | Self::LeastConnections => Tables::of(members),
        }
    }

    /// One whose connection is open and that is not among `tried`; `None`: there is none.
    pub(super) fn pick<'s>(
        &self,
        set: &'s ReadySet,
        tried: &[Arc<Endpoint>],
        now: Instant,
    ) -> Option<&'s Arc<Endpoint>> {
        self.pick_with(set, tried, now, &mut rand::rng())
    }

    fn pick_with<'s>(
        &self,
        set: &'s ReadySet,
        tried: &[Arc<Endpoint>],
        now: Instant,
        dice: &mut impl RngCore,
    ) -> Option<&'s Arc<Endpoint>> {
        // No strategy has to think of that.
        if set.members.is_empty() {
            return None;
        }
        let candidates = Candidates::of(set, tried, now);
        let chosen = self.choose(&candidates, dice)?;
        Some(&set.members[chosen].endpoint)
    }

    fn choose(&self, candidates: &Candidates<'_>, dice: &mut impl RngCore) -> Option<usize> {
        match self {
            Self::P2c => p2c::choose(candidates, dice),
            Self::RoundRobin(turns) => round_robin::choose(candidates, turns, dice),
            Self::Random => random::choose(candidates, dice),
            Self::Weighted(turns) => weighted::choose(candidates, turns, dice),
            Self::LeastConnections => least::choose(candidates, dice),
        }
    }
}

/// A number that every pick moves on, in a cache line of its own: what lies beside it is read by all
/// calls and hardly ever written.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Sequence(AtomicU64);

impl Sequence {
    /// From a random start: the channels of a thousand processes that start at once do not all begin
    /// with the same instance.
    fn anywhere() -> Self {
        Self(AtomicU64::new(rand::random()))
    }

    /// The number, moved on by `step` for the next; around at the end.
    fn next(&self, step: u64) -> u64 {
        self.0.fetch_add(step, Relaxed)
    }
}

/// Evenly one of `0..n`: the upper half of the product, Lemire's "fast random integer"; uneven by at
/// most `n / 2⁶⁴`.
fn below(n: u64, dice: &mut impl RngCore) -> u64 {
    let product = u128::from(dice.next_u64()) * u128::from(n);
    // The upper half of a product of two such.
    (product >> 64) as u64
}
