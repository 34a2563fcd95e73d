//! [`Time`]: the server's own time, which a test may move on or stop.

use std::time::{Duration, Instant};

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
        self.frozen_at.unwrap_or_else(|| self.running())
    }

    fn running(&self) -> Duration {
        // `behind` is made of times when it stood still: it is never more than the rest.
        (self.started.elapsed() + self.ahead).saturating_sub(self.behind)
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_at.is_some()
    }

    pub(super) fn advance(&mut self, by: Duration) {
        match &mut self.frozen_at {
            Some(at) => *at += by,
            None => self.ahead += by,
        }
    }

    pub(super) fn freeze(&mut self) {
        self.frozen_at = Some(self.now());
    }

    pub(super) fn thaw(&mut self) {
        if let Some(at) = self.frozen_at.take() {
            let running = self.running();
            if at > running {
                self.ahead += at - running;
            } else {
                self.behind += running - at;
            }
        }
    }
}
