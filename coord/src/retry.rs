//! The one backoff: exponential, with full jitter, reset after success.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The waits between tries: each drawn from zero to a bound that doubles from `initial` to `max`.
///
/// Jitter is over the whole range, so that processes which failed together do not come back
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: ExponentialBuilder,
    tries: ExponentialBackoff,
}

impl Backoff {
    /// Never gives up: for the engines, which keep a session or a watch alive for ever.
    pub(crate) fn endless(initial: Duration, max: Duration) -> Self {
        Self::new(
            ExponentialBuilder::new()
                .with_min_delay(initial)
                .with_max_delay(max)
                .with_factor(2.0)
                .without_max_times(),
        )
    }

    fn new(policy: ExponentialBuilder) -> Self {
        Self {
            tries: policy.build(),
            policy,
        }
    }

    /// The wait before the next try.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = self.tries.next().unwrap_or(Duration::ZERO);
        bound.mul_f64(rand::random::<f64>())
    }

    /// It worked: the next failure starts at `initial` again.
    pub(crate) fn reset(&mut self) {
        self.tries = self.policy.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_bound_that_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::endless(Duration::from_millis(10), Duration::from_millis(80));
        for bound in [10, 20, 40, 80, 80, 80] {
            assert!(backoff.next_delay() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(10));
    }
}
