//! [`Time`]: the server's own time, which a test may move on or stop.

use std::time::{Duration, Instant};

/// As late as it gets, however far it is moved on: there is always something after it.
const END: Duration = Duration::from_secs(u64::MAX / 2);

/// Counts from the server's start. Leases run out by it.
#[derive(Debug)]
pub(super) struct Time {
    started: Instant,
    /// What was added by hand, less what passed while it stood still.
    ahead: Duration,
    behind: Duration,
    frozen_at: Option<Duration>,
}

impl Time {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            ahead: Duration::ZERO,
            behind: Duration::ZERO,
            frozen_at: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.frozen_at.unwrap_or_else(|| self.running()).min(END)
    }

    fn running(&self) -> Duration {
        // `behind` is made of times when it stood still: it is never more than the rest.
        let elapsed = self.started.elapsed();
        elapsed
            .saturating_add(self.ahead)
            .saturating_sub(self.behind)
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_at.is_some()
    }

    pub(super) fn advance(&mut self, by: Duration) {
        let moved = self.frozen_at.as_mut().unwrap_or(&mut self.ahead);
        *moved = moved.saturating_add(by);
    }

    pub(super) fn freeze(&mut self) {
        self.frozen_at = Some(self.now());
    }

    pub(super) fn thaw(&mut self) {
        if let Some(at) = self.frozen_at.take() {
            let running = self.running();
            if at > running {
                self.ahead = self.ahead.saturating_add(at - running);
            } else {
                self.behind = self.behind.saturating_add(running - at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_frozen_clock_moves_only_by_hand_and_then_goes_on_from_there() {
        let mut time = Time::start();
        time.advance(HOUR);
        assert!(time.now() >= HOUR && time.now() < HOUR * 2);
        time.freeze();
        let frozen = time.now();
        std::thread::yield_now();
        assert_eq!(time.now(), frozen);
        // A second time changes nothing.
        time.freeze();
        time.advance(HOUR);
        assert_eq!(time.now(), frozen + HOUR);
        time.thaw();
        let thawed = time.now();
        assert!(thawed >= frozen + HOUR && thawed < frozen + HOUR * 2);
        time.thaw();
        assert!(time.now() >= thawed && time.now() < thawed + HOUR);
    }

    #[test]
    fn there_is_a_last_moment() {
        let mut time = Time::start();
        time.advance(Duration::MAX);
        time.advance(HOUR);
        assert_eq!(time.now(), END);
        time.freeze();
        time.advance(HOUR);
        time.thaw();
        assert_eq!(time.now(), END);
    }

    #[test]
    fn what_passed_while_it_stood_still_is_not_made_up_for() {
        let mut time = Time::start();
        time.freeze();
        let frozen = time.now();
        // As if it had been an hour ago.
        time.ahead += HOUR;
        time.thaw();
        assert!(time.now() >= frozen && time.now() < HOUR);
    }
}
