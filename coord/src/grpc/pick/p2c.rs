//! P2C: of two drawn at random the one that is likely to answer first.
//!
//! Two choices (M. Mitzenmacher, 1996) instead of the best of all, because many callers who all know the
//! best one would overrun it before its load tells; with two, an endpoint of `n` is looked at by at most
//! two calls of `n`. What is compared is Finagle's "peak EWMA": the moving average of the time until an
//! answer begins, which rises at once and falls by and by, times the calls that a new one has to share the
//! endpoint with. So a slow endpoint gets as many calls as it can answer; one that has become slow is left
//! alone after its first slow answer, and tried again when the average has fallen for a while.
//!
//! * **Weights**: the two are drawn as the weights say, and the calls in flight count relative to the
//!   weight. Where both are alike, the first is taken: then the weights alone decide. (Dividing the whole
//!   by the weight, with the two drawn evenly, would give an idle service's calls to the heaviest alone.)
//! * **A new endpoint** has no latency yet. It is taken for as fast as the other one: so it gets calls,
//!   but not more at once than others have.
//! * **Failures**: who fails fast answers fast and has little in flight, and would draw all calls. Each
//!   failure in a row makes an endpoint four times as slow: with half of the calls failing that outweighs
//!   what failing fast gains, and one success takes it back.

use std::cmp::Ordering;

use rand::RngCore;

use super::Candidates;

/// How many failures in a row count: with the fifth the keeper takes the endpoint out, if it may.
const FAILURES: u32 = crate::grpc::load::FAILURES;

pub(super) fn choose(candidates: &Candidates<'_>, dice: &mut impl RngCore) -> Option<usize> {
    if candidates.members.len() < 2 {
        return candidates.any(|_| 1.0, dice);
    }
    let first = candidates.tables.draw(dice);
    let other = candidates.tables.draw_other(first, dice);
    if candidates.usable(first) && candidates.usable(other) {
        let less = compare(candidates, other, first) == Ordering::Less;
        return Some(if less { other } else { first });
    }
    candidates.best(
        |a, b| compare(candidates, a, b),
        |index| candidates.weight(index),
        dice,
    )
}

/// Which one is likely to answer first: the lesser.
fn compare(candidates: &Candidates<'_>, a: usize, b: usize) -> Ordering {
    let (a, b) = (Cost::of(candidates, a), Cost::of(candidates, b));
    match (a.latency, b.latency) {
        (Some(one), Some(other)) => (one * a.queue).total_cmp(&(other * b.queue)),
        // Taken for as fast as the other.
        _ => a.queue.total_cmp(&b.queue),
    }
}

struct Cost {
    latency: Option<f64>,
    /// Behind how many calls a new one stands, itself included.
    queue: f64,
}

impl Cost {
    fn of(candidates: &Candidates<'_>, index: usize) -> Self {
        let load = &candidates.members[index].endpoint.load;
        let share = f64::from(load.in_flight()) * candidates.tables.relative(index) + 1.0;
        let failures = load.failures().min(FAILURES);
        Self {
            latency: load.latency(candidates.now),
            queue: share * f64::from(1_u32 << (2 * failures)),
        }
    }
}
