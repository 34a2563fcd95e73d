//! Round robin: one after the other, whatever their weights.
//!
//! The turn is one atomic counter for all callers. Who finds an endpoint that cannot be used takes the
//! next turn too, and leaves none out for others: so what is passed over is spread over all that are
//! left, and does not go to its neighbour.

use rand::RngCore;

use super::{Candidates, Sequence};

pub(super) fn choose(
    candidates: &Candidates<'_>,
    turns: &Sequence,
    dice: &mut impl RngCore,
) -> Option<usize> {
    let count = candidates.members.len();
    candidates
        // The remainder of a division by a `usize` is one.
        .drawn(|| (turns.next(1) % count as u64) as usize)
        .or_else(|| candidates.any(|_| 1.0, dice))
}
