//! Weighted: in proportion to the weights, and evenly spread, not in bursts.
//!
//! One atomic counter turns a point around a circle, by the golden ratio each time (T. van Ravenstein,
//! "The three gap theorem", 1988; as a sequence for sampling: M. Roberts' R₁). The circle is cut into an
//! interval for each endpoint ([`Tables`](super::tables::Tables)), and the one that the point lies in is
//! picked. No step leaves points more evenly on a circle, so each endpoint's share is right after a few
//! picks; and the point comes back to an interval after at most three different numbers of turns, so
//! that an endpoint's picks are as far apart as its weight allows.
//!
//! gRPC's static stride scheduler and nginx's smooth round robin spread as well. But the latter writes to
//! every endpoint in a pick, which needs a lock; and the former skips what is not due, which with one
//! heavy endpoint among many takes long.

use rand::RngCore;

use super::{Candidates, Sequence};

/// 2⁶⁴ over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) fn choose(
    candidates: &Candidates<'_>,
    turns: &Sequence,
    dice: &mut impl RngCore,
) -> Option<usize> {
    candidates
        .drawn(|| candidates.tables.at(turns.next(GOLDEN)))
        .or_else(|| candidates.any(|index| candidates.weight(index), dice))
}
