//! Least connections: the fewest calls in flight, relative to the weight.
//!
//! Of a few endpoints the best of all (nginx's `least_conn`), of many the best of [`CHOICES`] (M.
//! Mitzenmacher, "The power of two choices in randomized load balancing", 1996): that looks at few of
//! them, and keeps callers who do not know of one another from all going to the one that is idle. They
//! are drawn as their weights say, else a heavy one would be looked at too rarely to get its share. Ties
//! are broken by chance, as the weights say: so with nothing in flight calls are spread by weight.

use std::cmp::Ordering;

use rand::RngCore;

use super::Candidates;

/// So many are all looked at.
const FEW: usize = 8;

/// Of more, so many.
const CHOICES: usize = 3;

pub(super) fn choose(candidates: &Candidates<'_>, dice: &mut impl RngCore) -> Option<usize> {
    let compare = |a: usize, b: usize| busy(candidates, a).total_cmp(&busy(candidates, b));
    let all = |dice: &mut _| candidates.best(compare, |index| candidates.weight(index), dice);
    if candidates.members.len() <= FEW {
        return all(dice);
    }
    let mut best = candidates.tables.draw(dice);
    let mut usable = candidates.usable(best);
    for _ in 1..CHOICES {
        let other = candidates.tables.draw(dice);
        // Of those that are alike the first drawn: what the weights say.
        let better = !usable || compare(other, best) == Ordering::Less;
        if better && candidates.usable(other) {
            (best, usable) = (other, true);
        }
    }
    if usable { Some(best) } else { all(dice) }
}

fn busy(candidates: &Candidates<'_>, index: usize) -> f64 {
    let in_flight = candidates.members[index].endpoint.load.in_flight();
    f64::from(in_flight) * candidates.tables.relative(index)
}
