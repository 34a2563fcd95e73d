//! Random: any, each as likely as any other, whatever their weights.

use rand::RngCore;

use super::{Candidates, below};

pub(super) fn choose(candidates: &Candidates<'_>, dice: &mut impl RngCore) -> Option<usize> {
    let count = candidates.members.len() as u64;
    candidates
        // Below a `usize`.
        .drawn(|| below(count, dice) as usize)
        .or_else(|| candidates.any(|_| 1.0, dice))
}
