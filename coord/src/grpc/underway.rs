//! [`Underway`]: a call on an endpoint, as its channel counts it.

use std::sync::Arc;

use super::{
    endpoint::{Endpoint, Outcome},
    load::InFlight,
    shared::{Owned, Shared},
};

/// A call on an endpoint, until its answer has ended. The channel's keeper lives as long: it drives the
/// connections.
#[derive(Debug)]
pub(super) struct Underway {
    flight: InFlight,
    owned: Arc<Owned>,
    /// `None`: the call goes on elsewhere.
    outcome: Option<Outcome>,
}

impl Underway {
    pub(super) fn new(flight: InFlight, owned: Arc<Owned>) -> Self {
        Self {
            flight,
            owned,
            outcome: Some(Outcome::Unknown),
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        self.flight.endpoint()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.owned.shared
    }

    /// The answer has begun, and does not say that the call failed.
    pub(super) fn answering(&mut self) {
        let now = self.shared().clock.now();
        self.flight.answering(now);
    }

    /// How it ended.
    pub(super) fn ended(mut self, outcome: Outcome) {
        self.flight.ended(outcome);
        self.outcome = Some(outcome);
    }

    /// The endpoint has not taken it, and this is what that says of it: the call goes to another.
    pub(super) fn resent(mut self, outcome: Outcome) {
        self.shared().meter.resent();
        self.flight.ended(outcome);
        self.outcome = None;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome {
            self.shared().meter.ended(outcome);
        }
    }
}
