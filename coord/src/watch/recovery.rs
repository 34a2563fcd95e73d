//! [`Recovery`]: what a failure asks for, when to try again, and the trouble in words.

use std::time::Duration;

use super::state::{Action, Input};
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
        match message.compact_revision {
            0 => Self::of_error(&CallError::canceled_watch(&message.cancel_reason)),
            _ => Self::List,
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

/// One step of a machine: the time, and what is to be done after it.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Instant,
    pub(super) actions: Vec<Action>,
}

impl Turn {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now,
            actions: Vec::new(),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Once: a second time could lead back to the first endpoint.
    pub(super) fn leave_endpoint(&mut self) {
        if !(self.actions.iter()).any(|action| matches!(action, Action::LeaveEndpoint)) {
            self.act(Action::LeaveEndpoint);
        }
    }
}

/// The row of failures of one watch, and its trouble in words.
#[derive(Debug)]
pub(super) struct Recovery {
    backoff: Backoff,
    failures: u32,
    denials: u32,
    /// The token must be refreshed before the next try.
    stale_token: bool,
    /// What goes wrong, and the details of the last time.
    trouble: Option<(&'static str, String)>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self::within(LONGEST_WAIT)
    }
}

impl Recovery {
    /// Whose waits grow to `longest` and no further.
    pub(super) fn within(longest: Duration) -> Self {
        Self {
            backoff: Backoff::endless(FIRST_WAIT, longest),
            failures: 0,
            denials: 0,
            stale_token: false,
            trouble: None,
        }
    }

    /// Is the wait over? A stale token is replaced first.
    pub(super) fn waited(&mut self, turn: &mut Turn, wait: Wait, input: Input) -> Result<(), Wait> {
        match (wait, input) {
            (Wait::Until(at), Input::Due) if turn.now < at => Err(wait),
            (Wait::Until(_), Input::Due) if self.stale_token => {
                turn.act(Action::RefreshToken);
                Err(Wait::Token)
            }
            (Wait::Until(_), Input::Due) => Ok(()),
            (Wait::Token, Input::Refreshed(Ok(()))) => {
                self.stale_token = false;
                Ok(())
            }
            (Wait::Token, Input::Refreshed(Err(error))) => {
                let remedy = Remedy::of_error(&error);
                Err(self.failed(turn, remedy, "cannot refresh the token", &error.message))
            }
            (wait, _) => Err(wait),
        }
    }

    /// Notes a failure; returns what to wait for before the next try.
    pub(super) fn failed(
        &mut self,
        turn: &mut Turn,
        remedy: Remedy,
        what: &'static str,
        detail: &str,
    ) -> Wait {
        // One warning for each kind of trouble until the watch is well again.
        let known = self
            .trouble
            .as_ref()
            .is_some_and(|(known, _)| *known == what);
        self.trouble = Some((what, detail.to_owned()));
        if let (false, Some(words)) = (known, self.trouble()) {
            turn.act(Action::Warn(words));
        }
        let wait = self.pause(turn.now, remedy);
        if self.failures > 1 && remedy == Remedy::Wait {
            // Not after the first: that may have been the connection's, which the client replaces.
            turn.leave_endpoint();
        }
        Wait::Until(wait)
    }

    /// As [`failed`](Self::failed), for what is in the nature of things and not worth a word.
    pub(super) fn pause(&mut self, now: Instant, remedy: Remedy) -> Instant {
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

    /// The watch was accepted.
    pub(super) fn accepted(&mut self) {
        self.denials = 0;
    }

    /// Events flow.
    pub(super) fn well(&mut self, turn: &mut Turn) {
        if self.trouble.take().is_some() {
            turn.act(Action::Recovered);
        }
    }

    /// A stream ended that was accepted at `since`.
    pub(super) fn ended(&mut self, now: Instant, since: Instant) {
        if now.since(since) >= HEALTHY {
            self.failures = 0;
            self.backoff.reset();
        }
    }

    /// In words.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble
            .as_ref()
            .map(|(what, detail)| match detail.as_str() {
                "" => (*what).to_owned(),
                detail => format!("{what}: {detail}"),
            })
    }
}
