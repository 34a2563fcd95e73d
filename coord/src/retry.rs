//! The one backoff: exponential, with full jitter, reset after success.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::options::RetryOptions;

/// The waits between tries: each drawn from zero to a bound that grows from `initial` to `max`.
///
/// Jitter is over the whole range, so that processes which failed together do not come back
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: ExponentialBuilder,
    jitter: bool,
    bounds: ExponentialBackoff,
}

impl Backoff {
    /// Never gives up: for the engines, which keep a session or a watch alive for ever.
    pub(crate) fn endless(initial: Duration, max: Duration) -> Self {
        let policy = ExponentialBuilder::new()
            .with_min_delay(initial)
            .with_max_delay(max)
            .with_factor(2.0)
            .without_max_times();
        Self {
            bounds: policy.build(),
            policy,
            jitter: true,
        }
    }

    /// For one call of the caller's: ends after the tries that the options allow.
    pub(crate) fn for_call(options: &RetryOptions) -> Self {
        // backon's factor is an `f32`; nobody's backoff is finer than that.
        #[expect(clippy::cast_possible_truncation)]
        let policy = ExponentialBuilder::new()
            .with_min_delay(options.initial)
            .with_max_delay(options.max)
            .with_factor(options.multiplier as f32)
            .with_max_times(options.max_attempts.saturating_sub(1) as usize);
        Self {
            bounds: policy.build(),
            policy,
            jitter: options.jitter,
        }
    }

    /// The wait before the next try; `None`: give up.
    pub(crate) fn next_try(&mut self) -> Option<Duration> {
        let bound = self.bounds.next()?;
        Some(if self.jitter {
            bound.mul_f64(rand::random::<f64>())
        } else {
            bound
        })
    }

    /// The wait before the next try of something that never gives up.
    pub(crate) fn next_delay(&mut self) -> Duration {
        // Only `for_call` makes one that ends; its users call `next_try`.
        self.next_try().unwrap_or(Duration::ZERO)
    }

    /// It worked: the next failure starts at `initial` again.
    pub(crate) fn reset(&mut self) {
        self.bounds = self.policy.build();
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

    #[test]
    fn a_call_is_tried_as_often_as_the_options_say() {
        let mut options = RetryOptions {
            jitter: false,
            ..RetryOptions::default()
        };
        options.initial = Duration::from_millis(10);
        options.multiplier = 4.0;
        let waits: Vec<Duration> = std::iter::from_fn({
            let mut backoff = Backoff::for_call(&options);
            move || backoff.next_try()
        })
        .collect();
        // Rounded: backon multiplies in 32 bits.
        let waits: Vec<_> = waits
            .iter()
            .map(|wait| (wait.as_secs_f64() * 1e3).round())
            .collect();
        assert_eq!(waits, [10.0, 40.0]);
        options.max_attempts = 1;
        assert_eq!(Backoff::for_call(&options).next_try(), None);
    }
}
