//! [`Request`]: what an expansion of `#[locked]` asks for.

use std::time::Duration;

use super::{LockGuard, Locks, builder::Wait};
use crate::error::Result;

/// A key, or why there is none, and how long to wait.
#[derive(Debug)]
pub struct Request {
    key: Result<String>,
    wait: Wait,
}

impl Request {
    /// Waits for as long as the options say.
    #[must_use]
    pub fn new(key: Result<String>) -> Self {
        Self {
            key,
            wait: Wait::Default,
        }
    }

    /// `wait = "5s"`.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = Wait::For(limit);
        self
    }

    /// `wait = forever`.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.wait = Wait::Forever;
        self
    }

    /// `try`.
    #[must_use]
    pub fn or_busy(mut self) -> Self {
        self.wait = Wait::Try;
        self
    }

    pub(crate) async fn acquire(self, locks: &Locks) -> Result<LockGuard> {
        locks.lock(self.key?).waiting(self.wait).acquire().await
    }
}
