//! [`Meter`]: what the metrics are told of one lock: under its label, never under its name.

use std::sync::Arc;

use super::hold::Hold;
use crate::{
    clock::{Clock, Instant},
    error::LostReason,
    metrics,
};

/// The label of those that have none.
const UNLABELLED: &str = "unlabelled";

/// One hold. Dropping it is its end.
#[derive(Debug)]
pub(super) struct Meter {
    label: &'static str,
    hold: Arc<Hold>,
    clock: Clock,
    since: Instant,
}

impl Meter {
    /// `hold` was granted now, to one who has waited since `asked`.
    pub(super) fn start(
        label: Option<&'static str>,
        hold: Arc<Hold>,
        clock: &Clock,
        asked: Instant,
    ) -> Self {
        let (label, since) = (label.unwrap_or(UNLABELLED), clock.now());
        ::metrics::histogram!(metrics::LOCK_WAIT, "lock" => label).record(since.since(asked));
        Self {
            label,
            hold,
            clock: clock.clone(),
            since,
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let held = self.clock.now().since(self.since);
        ::metrics::histogram!(metrics::LOCK_HOLD, "lock" => self.label).record(held);
        let reason = match self.hold.loss() {
            None => return,
            Some(LostReason::Expired) => "expired",
            Some(LostReason::Revoked) => "revoked",
            Some(LostReason::Unconfirmed) => "unconfirmed",
            Some(LostReason::MaxHold) => "max_hold",
            Some(LostReason::Closed) => "closed",
        };
        let labels = [("lock", self.label), ("reason", reason)];
        ::metrics::counter!(metrics::LOCKS_LOST, &labels).increment(1);
    }
}
