//! [`Recovery`]: what a failure asks for, and when to try again.

use std::time::Duration;

use super::state::Input;
use crate::{
    client::{CallError, Reason, WatchMessage},
    clock::Instant,
    retry::Backoff,
};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A stream that lived this long ends the row of failures before it.
const HEALTHY: Duration = Duration::from_secs(60);

/// What a refusal or a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The place cannot be resumed from: it was compacted away, or what stands there cannot be
    /// decoded, and would not be the next time either.
    List,
    /// A new token, and a new stream (a stream keeps the token that it was opened with).
    Token,
    /// As `Token`, because etcd answers "permission denied" to some expired tokens; if that does
    /// not help, an operator must.
    Permission,
    /// Try again later.
    Wait,
}

impl Remedy {
    pub(super) fn of_error(error: &CallError) -> Self {
        match error.reason {
            Reason::Compacted | Reason::FutureRevision | Reason::TooLarge => Self::List,
            Reason::BadToken => Self::Token,
            Reason::Denied => Self::Permission,
            _ => Self::Wait,
        }
    }

    /// etcd's cancel carries a gRPC status only as text, and no text at all for a compaction.
    pub(super) fn of_cancel(message: &WatchMessage) -> Self {
        let says = |words: &[&str]| words.iter().any(|w| message.cancel_reason.contains(w));
        if message.compact_revision != 0 {
            Self::List
        } else if says(&["Unauthenticated", "invalid auth token"]) {
            Self::Token
        } else if says(&["PermissionDenied", "permission denied"]) {
            Self::Permission
        } else {
            Self::Wait
        }
    }
}

/// What must come before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Until(Instant),
    /// A new token.
    Token,
}

/// See [`Recovery::waited`].
#[derive(Debug)]
pub(super) enum Waited {
    /// Try now.
    Ready,
    Not(Wait),
    /// Refresh the token, and wait for [`Wait::Token`].
    Refresh,
    /// There is no new token; wait until then.
    Refused(Instant, CallError),
}

/// The row of failures of one watch.
#[derive(Debug)]
pub(super) struct Recovery {
    backoff: Backoff,
    failures: u32,
    denials: u32,
    /// The token must be refreshed before the next try.
    stale_token: bool,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            backoff: Backoff::endless(FIRST_WAIT, LONGEST_WAIT),
            failures: 0,
            denials: 0,
            stale_token: false,
        }
    }
}

impl Recovery {
    /// Notes a failure; returns when to try again.
    pub(super) fn failed(&mut self, now: Instant, remedy: Remedy) -> Instant {
        self.failures = self.failures.saturating_add(1);
        self.stale_token |= matches!(remedy, Remedy::Token | Remedy::Permission);
        let delay = self.backoff.next_delay();
        if remedy == Remedy::Permission {
            self.denials = self.denials.saturating_add(1);
            if self.denials > 1 {
                // A fresh token did not help: only an operator can, and every try costs etcd a
                // password hash.
                return now + LONGEST_WAIT + delay;
            }
        }
        now + delay
    }

    /// Is the wait over? A stale token is replaced before the try.
    pub(super) fn waited(&mut self, now: Instant, wait: Wait, input: Input) -> Waited {
        match (wait, input) {
            (Wait::Until(at), Input::Due) if now < at => Waited::Not(wait),
            (Wait::Until(_), Input::Due) if self.stale_token => Waited::Refresh,
            (Wait::Until(_), Input::Due) => Waited::Ready,
            (Wait::Token, Input::Refreshed(Ok(()))) => {
                self.stale_token = false;
                Waited::Ready
            }
            (Wait::Token, Input::Refreshed(Err(error))) => {
                Waited::Refused(self.failed(now, Remedy::of_error(&error)), error)
            }
            (wait, _) => Waited::Not(wait),
        }
    }

    /// The watch was accepted.
    pub(super) fn accepted(&mut self) {
        self.denials = 0;
    }

    /// A stream ended that was accepted at `since`.
    pub(super) fn ended(&mut self, now: Instant, since: Instant) {
        if now.since(since) >= HEALTHY {
            self.failures = 0;
            self.backoff.reset();
        }
    }

    /// True when the endpoint has failed more than once in a row: the first failure may have been
    /// the connection's, which the client has replaced by itself.
    pub(super) fn suspects_endpoint(&self) -> bool {
        self.failures > 1
    }
}
