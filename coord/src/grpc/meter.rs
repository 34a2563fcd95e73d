//! [`Meter`]: what is told of a channel's calls to the metrics.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::endpoint::Outcome;
use crate::metrics as names;

/// A channel's counters. They are looked up once, when the channel is made: a look at the recorder for
/// each call would cost more than the pick.
#[derive(Debug)]
pub(super) struct Meter {
    answered: Counter,
    overloaded: Counter,
    failed: Counter,
    dropped: Counter,
    unserved: Counter,
    resent: Counter,
    wait: Histogram,
}

impl Meter {
    pub(super) fn new(service: &str) -> Self {
        let calls = |outcome: &'static str| {
            let service = service.to_owned();
            counter!(names::GRPC_CALLS, "service" => service, "outcome" => outcome)
        };
        Self {
            answered: calls("answered"),
            overloaded: calls("overloaded"),
            failed: calls("failed"),
            dropped: calls("dropped"),
            unserved: calls("unserved"),
            resent: counter!(names::GRPC_RESENDS, "service" => service.to_owned()),
            wait: histogram!(names::GRPC_WAIT, "service" => service.to_owned()),
        }
    }

    /// A call ended on an endpoint.
    pub(super) fn ended(&self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Overloaded => &self.overloaded,
            Outcome::Failed | Outcome::Late | Outcome::Broken => &self.failed,
            Outcome::Unknown => &self.dropped,
        }
        .increment(1);
    }

    /// A call found no endpoint.
    pub(super) fn unserved(&self) {
        self.unserved.increment(1);
    }

    /// A call goes to another endpoint, since the one before has not taken it.
    pub(super) fn resent(&self) {
        self.resent.increment(1);
    }

    /// A call has waited for an endpoint, with or without success.
    pub(super) fn waited(&self, time: Duration) {
        self.wait.record(time);
    }
}
