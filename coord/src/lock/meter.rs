//! [`Meter`]: what is told of one lock to the metrics, under its label and never under its name, and to
//! whoever traces.
//!
//! A span that nobody listens to costs a look at one atomic number; its fields are not made then.

use std::sync::Arc;

use tracing::{Span, field::Empty};

use super::{builder::LockBuilder, hold::Hold};
use crate::{
    clock::{Clock, Instant},
    error::LostReason,
    metrics,
};

/// The label of those that have none.
const UNLABELLED: &str = "unlabelled";

/// The span of one acquire, from when it is asked for.
pub(super) fn acquiring(lock: &LockBuilder) -> Span {
    tracing::info_span!(
        target: "coord::lock",
        "lock.acquire",
        key = lock.name(),
        mode = lock.mode_word(),
        label = lock.terms.label.unwrap_or(UNLABELLED),
        waited = Empty,
        token = Empty,
    )
}

/// One hold. Dropping it is its end.
#[derive(Debug)]
pub(super) struct Meter {
    label: &'static str,
    hold: Arc<Hold>,
    clock: Clock,
    since: Instant,
    span: Span,
}

impl Meter {
    /// `hold` was granted now, to one who has waited since `asked` in the span `acquiring`.
    pub(super) fn start(
        label: Option<&'static str>,
        hold: Arc<Hold>,
        clock: &Clock,
        asked: Instant,
        acquiring: &Span,
    ) -> Self {
        let (label, since) = (label.unwrap_or(UNLABELLED), clock.now());
        let waited = since.since(asked);
        ::metrics::histogram!(metrics::LOCK_WAIT, "lock" => label).record(waited);
        acquiring.record("waited", tracing::field::debug(waited));
        acquiring.record("token", hold.revision());
        let span = tracing::info_span!(
            target: "coord::lock",
            "lock.held",
            key = hold.identity().name(),
            mode = hold.identity().mode().word(),
            label,
            waited = ?waited,
            token = hold.revision(),
            lost = Empty,
        );
        Self {
            label,
            hold,
            clock: clock.clone(),
            since,
            span,
        }
    }

    /// Of the section. It ends with this.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let held = self.clock.now().since(self.since);
        ::metrics::histogram!(metrics::LOCK_HOLD, "lock" => self.label).record(held);
        let reason = match self.hold.loss() {
            None | Some(LostReason::Released) => return,
            Some(LostReason::Expired) => "expired",
            Some(LostReason::Revoked) => "revoked",
            Some(LostReason::Unconfirmed) => "unconfirmed",
            Some(LostReason::MaxHold) => "max_hold",
            Some(LostReason::Closed) => "closed",
        };
        self.span.record("lost", reason);
        let labels = [("lock", self.label), ("reason", reason)];
        ::metrics::counter!(metrics::LOCKS_LOST, &labels).increment(1);
    }
}
