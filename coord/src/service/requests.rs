//! [`Requests`]: how a service that drains notices that nobody calls it any more.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::clock::{Clock, Instant};

/// Hears of new requests; until somebody waits for [`quiet`](Self::quiet) one costs a look at a flag.
#[derive(Debug)]
pub(super) struct Requests {
    clock: Clock,
    /// For how long none must have come. Unset while not all of them are heard of.
    quiet: OnceLock<Duration>,
    /// Somebody waits: from here on it counts when they come.
    awaited: AtomicBool,
    last: Mutex<Option<Instant>>,
}

#[cfg_attr(
    not(feature = "grpc"),
    expect(dead_code, reason = "only `serve_tonic` tells of requests")
)]
impl Requests {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            quiet: OnceLock::new(),
            awaited: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }

    /// From here on all are heard of, and `quiet` is how long it takes to be sure of the last.
    pub(super) fn all_are_heard_of(&self, quiet: Duration) {
        // The listener whose requests they are is taken once.
        let _ = self.quiet.set(quiet);
    }

    /// One has come.
    pub(super) fn came(&self) {
        // One that misses the change came in the moment in which the wait began, which counts, too.
        if self.awaited.load(Ordering::Relaxed) {
            *self.last() = Some(self.clock.now());
        }
    }

    /// Done with that time once none has come for it, of which the time before the call is no part.
    /// Never done if not all are heard of.
    ///
    /// # Cancel safety
    /// Safe to drop; a new call begins anew.
    pub(super) async fn quiet(&self) -> Duration {
        let Some(&quiet) = self.quiet.get() else {
            return std::future::pending().await;
        };
        let since = self.clock.now();
        self.awaited.store(true, Ordering::Relaxed);
        loop {
            let last = self.last().map_or(since, |last| last.max(since));
            if self.clock.now().since(last) >= quiet {
                return quiet;
            }
            self.clock.sleep_until(last + quiet).await;
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use futures_util::poll;

    use super::*;

    const QUIET: Duration = Duration::from_secs(2);
    const STEP: Duration = Duration::from_millis(1_500);

    #[tokio::test]
    async fn each_request_begins_the_wait_anew() {
        let (clock, hand) = Clock::manual();
        let requests = Requests::new(clock);
        requests.all_are_heard_of(QUIET);
        let mut quiet = pin!(requests.quiet());
        assert!(poll!(&mut quiet).is_pending());
        for _ in 0..5 {
            hand.advance(STEP);
            requests.came();
            assert!(poll!(&mut quiet).is_pending());
        }
        hand.advance(QUIET - Duration::from_millis(1));
        assert!(poll!(&mut quiet).is_pending());
        hand.advance(Duration::from_millis(1));
        assert_eq!(poll!(quiet), Poll::Ready(QUIET));
    }

    #[tokio::test]
    async fn what_was_before_the_wait_counts_neither_way() {
        let (clock, hand) = Clock::manual();
        let requests = Requests::new(clock);
        requests.all_are_heard_of(QUIET);
        requests.came();
        // A silence of before, and a wait that was given up.
        hand.advance(10 * QUIET);
        {
            let mut given_up = pin!(requests.quiet());
            assert!(poll!(&mut given_up).is_pending());
            requests.came();
        }
        hand.advance(10 * QUIET);
        let mut quiet = pin!(requests.quiet());
        assert!(poll!(&mut quiet).is_pending());
        hand.advance(QUIET);
        assert_eq!(poll!(quiet), Poll::Ready(QUIET));
    }

    #[tokio::test]
    async fn silence_means_nothing_where_not_all_are_heard_of() {
        let (clock, hand) = Clock::manual();
        let requests = Requests::new(clock);
        let mut quiet = pin!(requests.quiet());
        assert!(poll!(&mut quiet).is_pending());
        hand.advance(1_000 * QUIET);
        assert!(poll!(&mut quiet).is_pending());
    }
}
