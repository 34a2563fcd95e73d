//! [`Requests`]: how a service that drains notices that nobody calls it any more.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::{Clock, Instant},
    tasks::Tasks,
};

/// The wait is counted in so many parts, and after each the service's runtime is asked: one that stood
/// still has heard of nothing.
const PARTS: u32 = 4;
/// It stood still if a part took twice as long as it should; of short ones, if it took as long as this.
const STILL: Duration = Duration::from_millis(100);

/// Hears of new requests; until somebody waits for [`quiet`](Self::quiet) one costs a look at a flag.
#[derive(Debug)]
pub(super) struct Requests {
    clock: Clock,
    tasks: Tasks,
    /// For how long none must have come, and where they are served. Unset while not all of them are
    /// heard of.
    quiet: OnceLock<(Duration, Tasks)>,
    /// Somebody waits: from here on it counts when they come.
    awaited: AtomicBool,
    last: Mutex<Option<Instant>>,
}

#[cfg_attr(
    not(feature = "grpc"),
    expect(dead_code, reason = "only `serve_tonic` tells of requests")
)]
impl Requests {
    pub(super) fn new(clock: Clock, tasks: Tasks) -> Self {
        Self {
            clock,
            tasks,
            quiet: OnceLock::new(),
            awaited: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }

    /// From here on all are heard of, and `quiet` is how long it takes to be sure of the last. Called
    /// on the runtime that serves them.
    pub(super) fn all_are_heard_of(&self, quiet: Duration) {
        // The listener whose requests they are is taken once.
        let _ = self.quiet.set((quiet, self.tasks.here()));
    }

    /// One has come.
    pub(super) fn came(&self) {
        // One that misses the change came in the moment in which the wait began, which counts, too.
        if self.awaited.load(Ordering::Relaxed) {
            *self.last() = Some(self.clock.now());
        }
    }

    /// Done with that time once none has come for it. The time before the call is no part of it, nor is
    /// one in which the process or its runtime stood still: what came then is heard of afterwards.
    /// Never done if not all are heard of.
    ///
    /// # Cancel safety
    /// Safe to drop; a new call begins anew.
    pub(super) async fn quiet(&self) -> Duration {
        let Some((quiet, user)) = self.quiet.get() else {
            return std::future::pending().await;
        };
        let part = *quiet / PARTS;
        let still = (2 * part).max(STILL);
        let mut since = self.clock.now();
        self.awaited.store(true, Ordering::Relaxed);
        loop {
            let last = self.last().map_or(since, |last| last.max(since));
            let begun = self.clock.now();
            let left = quiet.saturating_sub(begun.since(last));
            if left.is_zero() {
                return *quiet;
            }
            self.clock.sleep(left.min(part)).await;
            // `None`: it has ended, with all that it served.
            user.spawn(async {}).await;
            let now = self.clock.now();
            if now.since(begun) >= still {
                since = now;
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::Poll,
    };

    use futures_util::poll;

    use super::*;
    use crate::clock::ManualClock;

    const QUIET: Duration = Duration::from_secs(2);
    const STEP: Duration = Duration::from_millis(500);

    fn requests(quiet: Option<Duration>) -> (Requests, ManualClock) {
        let (clock, hand) = Clock::manual();
        let requests = Requests::new(clock, Tasks::current());
        if let Some(quiet) = quiet {
            requests.all_are_heard_of(quiet);
        }
        (requests, hand)
    }

    /// What becomes of the wait when everybody has noticed what has happened.
    async fn settled(mut quiet: Pin<&mut impl Future<Output = Duration>>) -> Poll<Duration> {
        for _ in 0..20 {
            if let Poll::Ready(quiet) = poll!(quiet.as_mut()) {
                return Poll::Ready(quiet);
            }
            tokio::task::yield_now().await;
        }
        Poll::Pending
    }

    /// It is over after so many steps, and no sooner.
    async fn passes_in(
        steps: usize,
        mut quiet: Pin<&mut impl Future<Output = Duration>>,
        hand: &ManualClock,
    ) {
        for _ in 0..steps {
            assert!(settled(quiet.as_mut()).await.is_pending());
            hand.advance(STEP);
        }
        assert_eq!(settled(quiet).await, Poll::Ready(QUIET));
    }

    #[tokio::test]
    async fn each_request_begins_the_wait_anew() {
        let (requests, hand) = requests(Some(QUIET));
        let mut quiet = pin!(requests.quiet());
        for _ in 0..5 {
            for _ in 0..3 {
                assert!(settled(quiet.as_mut()).await.is_pending());
                hand.advance(STEP);
            }
            requests.came();
        }
        passes_in(4, quiet, &hand).await;
    }

    #[tokio::test]
    async fn what_was_before_the_wait_counts_neither_way() {
        let (requests, hand) = requests(Some(QUIET));
        requests.came();
        // A silence of before, and a wait that was given up.
        hand.advance(10 * QUIET);
        {
            let mut given_up = pin!(requests.quiet());
            assert!(poll!(&mut given_up).is_pending());
            requests.came();
        }
        hand.advance(10 * QUIET);
        let quiet = pin!(requests.quiet());
        passes_in(4, quiet, &hand).await;
    }

    #[tokio::test]
    async fn a_pause_of_the_process_is_no_silence() {
        let (requests, hand) = requests(Some(QUIET));
        let mut quiet = pin!(requests.quiet());
        assert!(settled(quiet.as_mut()).await.is_pending());
        hand.advance(10 * QUIET);
        passes_in(4, quiet, &hand).await;
    }

    #[tokio::test]
    async fn a_runtime_that_stands_still_hears_nothing() {
        let (requests, hand) = requests(None);
        let serving = tokio::runtime::Builder::new_current_thread().build();
        let serving = serving.expect("a runtime");
        {
            let _entered = serving.enter();
            requests.all_are_heard_of(QUIET);
        }
        let mut quiet = pin!(requests.quiet());
        for _ in 0..20 {
            assert!(settled(quiet.as_mut()).await.is_pending());
            hand.advance(STEP);
        }
        assert!(settled(quiet.as_mut()).await.is_pending());
        std::thread::scope(|scope| {
            let turn = || serving.block_on(tokio::task::yield_now());
            scope.spawn(turn).join().expect("no panic");
        });
        assert!(settled(quiet.as_mut()).await.is_pending());
        requests.came();
        hand.advance(STEP);
        // It is gone: what it served is, too.
        serving.shutdown_background();
        passes_in(3, quiet, &hand).await;
    }

    #[tokio::test]
    async fn silence_means_nothing_where_not_all_are_heard_of() {
        let (requests, hand) = requests(None);
        let mut quiet = pin!(requests.quiet());
        for _ in 0..10 {
            assert!(settled(quiet.as_mut()).await.is_pending());
            hand.advance(100 * QUIET);
        }
    }
}
