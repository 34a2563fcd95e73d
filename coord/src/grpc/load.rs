//! [`Load`]: how busy an endpoint is, and how its calls ended. [`InFlight`]: one call.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::{
    endpoint::{Endpoint, Outcome},
    probe::Permit,
};
use crate::clock::Instant;

/// Failures in a row after which the keeper is asked to take an endpoint out.
pub(super) const FAILURES: u32 = 5;

/// Numbers that calls write and pickers read; each by itself, without order among them.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Calls that have begun and whose answer has not ended.
    pub(super) in_flight: AtomicU32,
    /// The peak-sensitive moving average of the time until an answer begins, in nanoseconds.
    pub(super) latency: AtomicU64,
    /// When that was written, in microseconds of the clock.
    pub(super) measured: AtomicU64,
    /// When it was picked last, in microseconds of the clock.
    pub(super) picked: AtomicU64,
    /// Calls that failed since the last that did not.
    pub(super) failures: AtomicU32,
}

/// A call in flight on an endpoint, from its pick to the end of its answer's body.
#[derive(Debug)]
pub(super) struct InFlight {
    endpoint: Arc<Endpoint>,
    begun: Instant,
    outcome: Outcome,
    /// Of the one call to an ejected endpoint.
    permit: Option<Permit>,
}

impl InFlight {
    /// The one call to an ejected endpoint; its [outcome](Self::ended) decides about that.
    pub(super) fn probing(permit: Permit, now: Instant) -> Self {
        let mut flight = Self::begin(permit.endpoint().clone(), now);
        flight.permit = Some(permit);
        flight
    }

    pub(super) fn begin(endpoint: Arc<Endpoint>, now: Instant) -> Self {
        endpoint.load.in_flight.fetch_add(1, Relaxed);
        endpoint.load.picked.store(now.as_micros(), Relaxed);
        Self {
            endpoint,
            begun: now,
            outcome: Outcome::Unknown,
            permit: None,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The answer has begun: its headers are here.
    pub(super) fn answering(&self, now: Instant) {
        let _ = now.since(self.begun);
    }

    /// How it ended; the last word counts, when this is dropped.
    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let load = &self.endpoint.load;
        load.in_flight.fetch_sub(1, Relaxed);
        if let Some(permit) = self.permit.take() {
            permit.ended(self.outcome);
        }
        match self.outcome {
            Outcome::Answered => load.failures.store(0, Relaxed),
            Outcome::Failed => {
                if load.failures.fetch_add(1, Relaxed) + 1 >= FAILURES {
                    self.endpoint.trouble.notify_one();
                }
            }
            Outcome::Unknown => {}
        }
    }
}
