//! [`Meter`]: what is told of a channel's calls to the metrics.

use std::{sync::Arc, time::Duration};

use metrics::{Key, Label, Level, Metadata};

use super::endpoint::Outcome;
use crate::metrics as names;

static METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The names of a channel's counters, with their labels. The recorder is asked for each: it may be
/// installed later than the channel is made.
#[derive(Debug)]
pub(super) struct Meter {
    answered: Key,
    overloaded: Key,
    failed: Key,
    dropped: Key,
    unserved: Key,
    resent: Key,
    wait: Key,
}

impl Meter {
    pub(super) fn new(service: &Arc<str>) -> Self {
        let service = || Label::new("service", service.clone());
        let calls = |outcome: &'static str| {
            let outcome = Label::new("outcome", outcome);
            Key::from_parts(names::GRPC_CALLS, vec![service(), outcome])
        };
        Self {
            answered: calls("answered"),
            overloaded: calls("overloaded"),
            failed: calls("failed"),
            dropped: calls("dropped"),
            unserved: calls("unserved"),
            resent: Key::from_parts(names::GRPC_RESENDS, vec![service()]),
            wait: Key::from_parts(names::GRPC_WAIT, vec![service()]),
        }
    }

    /// A call ended on an endpoint.
    pub(super) fn ended(&self, outcome: Outcome) {
        count(match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Overloaded => &self.overloaded,
            Outcome::Failed | Outcome::Late | Outcome::Broken => &self.failed,
            Outcome::Unknown => &self.dropped,
        });
    }

    /// A call found no endpoint.
    pub(super) fn unserved(&self) {
        count(&self.unserved);
    }

    /// A call goes to another endpoint, since the one before has not taken it.
    pub(super) fn resent(&self) {
        count(&self.resent);
    }

    /// A call has waited for an endpoint, with or without success.
    pub(super) fn waited(&self, time: Duration) {
        let wait = metrics::with_recorder(|all| all.register_histogram(&self.wait, &METADATA));
        wait.record(time);
    }
}

fn count(what: &Key) {
    metrics::with_recorder(|all| all.register_counter(what, &METADATA)).increment(1);
}
