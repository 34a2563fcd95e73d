//! [`Load`]: how busy an endpoint is, and how its calls ended. [`InFlight`]: one call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    endpoint::{Endpoint, Outcome},
    probe::Permit,
};
use crate::clock::Instant;

/// Failures in a row after which the keeper is asked to take an endpoint out.
pub(super) const FAILURES: u32 = 5;

/// In this time without an answer, or with fast ones alone, a peak falls to 1/e of itself.
const DECAY: Duration = Duration::from_secs(10);

/// A call that failed took at least this long, however soon it did: who fails at once is not fast. And
/// one that was given up before tells nothing.
const AT_LEAST: Duration = Duration::from_millis(1);

/// Numbers that calls write and pickers read; each by itself, without order among them: a picker that
/// reads one of them a moment too late picks a little worse, and no call is lost by it.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Calls that have begun and whose answer has not ended.
    in_flight: AtomicU32,
    /// The time until an answer begins, in nanoseconds, as it was when it was measured last. Zero: not
    /// measured yet.
    latency: AtomicU64,
    /// When that was, in microseconds of the clock.
    measured: AtomicU64,
    /// Calls that failed since the last that did not.
    failures: AtomicU32,
}

impl Load {
    /// Calls that have begun and whose answer has not ended.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Calls that failed since the last that did not.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// The peak of the recent times until an answer began, in nanoseconds; `None`: none has begun.
    /// It falls while nothing is measured, so that an endpoint that was slow is tried again.
    pub(super) fn latency(&self, now: Instant) -> Option<f64> {
        let latency = self.latency.load(Relaxed);
        let measured = Instant::from_micros(self.measured.load(Relaxed));
        // Nothing is faster than a nanosecond: what was long ago does not differ.
        (latency != 0).then(|| (nanos(latency) * kept(now.since(measured))).max(1.0))
    }

    /// A new connection, or another chance: what the calls before have shown counts no more. Those in
    /// flight are still counted.
    pub(super) fn renew(&self) {
        self.latency.store(0, Relaxed);
        self.failures.store(0, Relaxed);
    }

    /// An answer has begun: the moving average of Finagle's "peak EWMA". What is slower than it counts
    /// at once, what is faster as much as time has passed.
    fn answered(&self, took: Duration, now: Instant) {
        let took = whole_nanos(took);
        let kept = kept(self.stamp(now));
        self.update(|latency| {
            let old = nanos(latency) * kept;
            let new = nanos(took);
            if new > old {
                took
            } else {
                rounded(old + (new - old) * (1.0 - kept))
            }
        });
    }

    /// A call has failed without an answer. That never lowers the average, and does not let it fall with
    /// the time since the last: who goes on failing is not tried more and more often.
    fn failed(&self, took: Duration, now: Instant) {
        let took = whole_nanos(took.max(AT_LEAST));
        self.stamp(now);
        self.update(|latency| latency.max(took));
    }

    /// A call was given up: an answer would have taken longer.
    fn given_up(&self, took: Duration, now: Instant) {
        let latency = self.latency(now);
        if took >= AT_LEAST && latency.is_none_or(|latency| nanos(whole_nanos(took)) > latency) {
            self.stamp(now);
            self.update(|_| whole_nanos(took));
        }
    }

    /// The time since the last measurement. Of two at once one gets the time and the other none: the
    /// times add up to what has passed.
    fn stamp(&self, now: Instant) -> Duration {
        let before = self.measured.swap(now.as_micros(), Relaxed);
        now.since(Instant::from_micros(before))
    }

    /// In a loop, and not a load and a store: between those another call's peak could get lost.
    fn update(&self, new: impl Fn(u64) -> u64) {
        let _ = self
            .latency
            .fetch_update(Relaxed, Relaxed, |latency| Some(new(latency)));
    }
}

/// What is left of a peak after so long.
fn kept(after: Duration) -> f64 {
    (-after.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

/// Above zero, which means that nothing was measured.
fn whole_nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Beyond 2⁵³ ns, some hundred days, no nanosecond matters.
#[expect(clippy::cast_precision_loss)]
fn nanos(latency: u64) -> f64 {
    latency as f64
}

/// Neither negative nor beyond what `u64` holds: a mean of two that were such.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(latency: f64) -> u64 {
    (latency as u64).max(1)
}

/// A call in flight on an endpoint, from its pick to the end of its answer's body.
#[derive(Debug)]
pub(super) struct InFlight {
    endpoint: Arc<Endpoint>,
    begun: Instant,
    answering: bool,
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
        Self {
            endpoint,
            begun: now,
            answering: false,
            outcome: Outcome::Unknown,
            permit: None,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The answer has begun: its headers are here, and they do not say that the call failed.
    pub(super) fn answering(&mut self, now: Instant) {
        self.answering = true;
        self.endpoint.load.answered(now.since(self.begun), now);
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
        if !self.answering {
            let now = self.endpoint.clock.now();
            let took = now.since(self.begun);
            match self.outcome {
                // Who answers at once that it has no room is not fast, either.
                Outcome::Failed | Outcome::Overloaded => load.failed(took, now),
                // Callers who have a limit of their own, and drop what takes longer, would else go on
                // being sent to an endpoint that never answers.
                Outcome::Answered | Outcome::Unknown => load.given_up(took, now),
            }
        }
        match self.outcome {
            Outcome::Answered | Outcome::Overloaded => load.failures.store(0, Relaxed),
            Outcome::Failed => {
                if load.failures.fetch_add(1, Relaxed) + 1 >= FAILURES {
                    self.endpoint.trouble.notify_one();
                }
            }
            Outcome::Unknown => {}
        }
        // Last: the keeper then looks at what has just been written.
        if let Some(permit) = self.permit.take() {
            permit.ended(self.outcome);
        }
    }
}
