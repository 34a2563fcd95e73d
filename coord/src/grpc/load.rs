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

/// A call whose time ran out is a failure if no answer has begun for so long, in which there were such
/// calls alone: one with less time than any server needs tells of the caller, and who hangs does so for
/// all.
pub(super) const HANGS: Duration = Duration::from_secs(1);

/// In this time without an answer, or with few, a peak falls to 1/e of itself.
const DECAY: Duration = Duration::from_secs(10);

/// And with so many fast ones. A pause of this process makes all servers look slow at once, the fast ones
/// as slow as those that are: the fast ones answer often, and are known again at once.
const ANSWERS: f64 = 100.0;

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
    /// When the first of those calls began whose time has run out since an answer began, in
    /// microseconds of the clock. Zero: there is none.
    late_since: AtomicU64,
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
        self.succeeded();
    }

    fn succeeded(&self) {
        self.failures.store(0, Relaxed);
        self.late_since.store(0, Relaxed);
    }

    /// The time of a call that began then has run out: whether the endpoint hangs.
    fn hangs(&self, begun: Instant, now: Instant) -> bool {
        let first = begun.as_micros().max(1);
        let before = self.late_since.compare_exchange(0, first, Relaxed, Relaxed);
        let first = Instant::from_micros(before.err().unwrap_or(first));
        now.since(first) >= HANGS
    }

    /// An answer has begun: the moving average of Finagle's "peak EWMA". What is slower than it counts
    /// at once; what is faster as much as time has passed, and a little in any case.
    fn answered(&self, took: Duration, now: Instant) {
        self.late_since.store(0, Relaxed);
        let took = whole_nanos(took);
        let kept = kept(self.stamp(now)).min(1.0 - 1.0 / ANSWERS);
        self.update(|latency| {
            if took > latency {
                took
            } else {
                rounded(nanos(latency) * kept + nanos(took) * (1.0 - kept))
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
        let before = self.measured.fetch_max(now.as_micros(), Relaxed);
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
        // A stream may go on for days, and nobody else can try meanwhile.
        if let Some(permit) = self.permit.take() {
            permit.ended(Outcome::Answered);
        }
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
        let now = self.endpoint.clock.now();
        let outcome = match self.outcome {
            Outcome::Late if load.hangs(self.begun, now) => Outcome::Failed,
            Outcome::Late => Outcome::Unknown,
            outcome => outcome,
        };
        if !self.answering {
            let took = now.since(self.begun);
            match outcome {
                // Who answers at once that it has no room is not fast, either.
                Outcome::Failed | Outcome::Broken | Outcome::Overloaded => load.failed(took, now),
                // Callers who have a limit of their own, and drop what takes longer, would else go on
                // being sent to an endpoint that never answers.
                Outcome::Answered | Outcome::Late | Outcome::Unknown => load.given_up(took, now),
            }
        }
        match outcome {
            Outcome::Answered | Outcome::Overloaded => load.succeeded(),
            Outcome::Failed => {
                if load.failures.fetch_add(1, Relaxed) + 1 >= FAILURES {
                    self.endpoint.trouble.notify_one();
                }
            }
            Outcome::Late | Outcome::Broken | Outcome::Unknown => {}
        }
        // Last: the keeper then looks at what has just been written.
        if let Some(permit) = self.permit.take() {
            permit.ended(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::{builder::Strategy, pick::tests::fleet::Fleet, probe::Probe};

    const MS: Duration = Duration::from_millis(1);

    fn fleet() -> Fleet {
        Fleet::even(Strategy::P2c, 1)
    }

    /// A call that takes so long.
    fn call(fleet: &mut Fleet, took: Duration, answering: bool, outcome: Outcome) {
        let mut flight = fleet.begin().1;
        fleet.hand.advance(took);
        if answering {
            flight.answering(fleet.clock.now());
        }
        flight.ended(outcome);
    }

    fn answer(fleet: &mut Fleet, took: Duration) {
        call(fleet, took, true, Outcome::Answered);
    }

    /// In milliseconds; zero: there is none.
    fn latency(fleet: &Fleet) -> f64 {
        let latency = fleet.endpoint(0).load.latency(fleet.clock.now());
        latency.unwrap_or(0.0) / 1e6
    }

    fn assert_about(seen: f64, expected: f64) {
        let close = (seen - expected).abs() <= expected * 0.01;
        assert!(close, "{seen} ms instead of about {expected} ms");
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_a_fast_one_by_time() {
        let mut fleet = fleet();
        assert_about(latency(&fleet), 0.0);
        answer(&mut fleet, 2 * MS);
        assert_about(latency(&fleet), 2.0);
        answer(&mut fleet, 100 * MS);
        assert_about(latency(&fleet), 100.0);
        // After the time in which it falls to 1/e, one fast one.
        fleet.hand.advance(DECAY);
        answer(&mut fleet, MS);
        assert_about(latency(&fleet), 1.0 + 99.0 / std::f64::consts::E);
    }

    #[test]
    fn after_a_pause_of_the_caller_fast_servers_are_soon_fast_again() {
        let mut fleet = fleet();
        answer(&mut fleet, MS);
        answer(&mut fleet, 100 * MS);
        answer(&mut fleet, MS);
        assert_about(latency(&fleet), 99.0);
        for _ in 0..1_000 {
            answer(&mut fleet, MS);
        }
        assert_about(latency(&fleet), 1.0);
    }

    #[test]
    fn a_peak_falls_while_nothing_is_measured() {
        let mut fleet = fleet();
        answer(&mut fleet, 100 * MS);
        fleet.hand.advance(DECAY);
        assert_about(latency(&fleet), 100.0 / std::f64::consts::E);
        fleet.hand.advance(1_000 * DECAY);
        assert_about(latency(&fleet), 1e-6);
        fleet.endpoint(0).load.renew();
        assert_about(latency(&fleet), 0.0);
    }

    #[test]
    fn a_failure_never_makes_an_endpoint_faster() {
        let mut fleet = fleet();
        call(&mut fleet, MS / 1_000, false, Outcome::Failed);
        assert_about(latency(&fleet), 1.0);
        answer(&mut fleet, 100 * MS);
        fleet.hand.advance(DECAY);
        call(&mut fleet, MS, false, Outcome::Failed);
        assert_about(latency(&fleet), 100.0);
        call(&mut fleet, 300 * MS, false, Outcome::Failed);
        assert_about(latency(&fleet), 300.0);
    }

    #[test]
    fn a_call_that_is_given_up_took_at_least_that_long() {
        let mut fleet = fleet();
        // It never left, or hardly.
        call(&mut fleet, MS / 2, false, Outcome::Unknown);
        assert_about(latency(&fleet), 0.0);
        call(&mut fleet, 20 * MS, false, Outcome::Unknown);
        assert_about(latency(&fleet), 20.0);
        answer(&mut fleet, 100 * MS);
        // That says nothing, and does not hold up its fall.
        fleet.hand.advance(DECAY - 20 * MS);
        call(&mut fleet, 20 * MS, false, Outcome::Unknown);
        assert_about(latency(&fleet), 100.0 / std::f64::consts::E);
        // What began to be answered has been measured then.
        call(&mut fleet, 500 * MS, true, Outcome::Answered);
        fleet.hand.advance(DECAY);
        call(&mut fleet, MS, true, Outcome::Unknown);
        assert!(latency(&fleet) < 200.0);
    }

    #[tokio::test]
    async fn failures_in_a_row_are_told_and_a_success_ends_the_row() {
        let mut fleet = fleet();
        let trouble = fleet.endpoint(0).trouble.clone();
        let load = |fleet: &Fleet| fleet.endpoint(0).load.failures();
        for failed in 1..FAILURES {
            call(&mut fleet, MS, false, Outcome::Failed);
            call(&mut fleet, MS, false, Outcome::Unknown);
            assert_eq!(load(&fleet), failed);
        }
        assert!(futures_util::poll!(Box::pin(trouble.notified())).is_pending());
        answer(&mut fleet, MS);
        assert_eq!(load(&fleet), 0);
        for _ in 0..FAILURES {
            call(&mut fleet, MS, true, Outcome::Failed);
        }
        assert_eq!(load(&fleet), FAILURES);
        assert!(futures_util::poll!(Box::pin(trouble.notified())).is_ready());
        fleet.endpoint(0).load.renew();
        assert_eq!(load(&fleet), 0);
    }

    #[test]
    fn callers_with_little_time_are_no_failures_and_a_server_that_hangs_is() {
        let mut fleet = fleet();
        let failures = |fleet: &Fleet| fleet.endpoint(0).load.failures();
        for _ in 0..10 * FAILURES {
            call(&mut fleet, MS, false, Outcome::Late);
        }
        assert_eq!(failures(&fleet), 0);
        // Somebody is answered: then it does not hang, however often others have no time.
        for _ in 0..3 {
            answer(&mut fleet, 20 * MS);
            call(&mut fleet, HANGS - MS, false, Outcome::Late);
        }
        assert_eq!(failures(&fleet), 0);
        answer(&mut fleet, 20 * MS);
        for failed in [0, 0, 0, 1, 2, 3, 4, 5] {
            call(&mut fleet, HANGS / 4, false, Outcome::Late);
            assert_eq!(failures(&fleet), failed);
        }
        // One with much time alone.
        answer(&mut fleet, 20 * MS);
        call(&mut fleet, HANGS, false, Outcome::Late);
        assert_eq!(failures(&fleet), 1);
        fleet.endpoint(0).load.renew();
        call(&mut fleet, MS, false, Outcome::Late);
        assert_eq!(failures(&fleet), 0);
    }

    /// However long it goes on after that.
    #[test]
    fn a_probe_passes_as_soon_as_its_answer_begins() {
        let fleet = fleet();
        let probe = Probe::new(fleet.endpoint(0).clone());
        let mut flight = InFlight::probing(probe.take().unwrap(), fleet.clock.now());
        assert_eq!(probe.passed(), None);
        flight.answering(fleet.clock.now());
        assert_eq!(probe.passed(), Some(true));
        // How its connection ends decides nothing more.
        flight.ended(Outcome::Broken);
        drop(flight);
        assert_eq!(probe.passed(), Some(true));
    }

    #[test]
    fn calls_that_break_with_their_connection_are_no_failures_in_a_row() {
        let mut fleet = fleet();
        for _ in 0..2 * FAILURES {
            call(&mut fleet, MS, false, Outcome::Broken);
        }
        assert_eq!(fleet.endpoint(0).load.failures(), 0);
        // Nor does it look fast.
        assert_about(latency(&fleet), 1.0);
    }

    #[test]
    fn what_is_in_flight_is_exact_under_threads_and_the_average_is_one() {
        let fleet = fleet();
        let now = fleet.clock.now();
        std::thread::scope(|scope| {
            for thread in 1..=8 {
                let fleet = &fleet;
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        let endpoint = fleet.endpoint(0).clone();
                        let mut flight = InFlight::begin(endpoint, now);
                        flight.answering(now + thread * MS);
                    }
                });
            }
        });
        assert_eq!(fleet.in_flight(), [0]);
        let latency = fleet.endpoint(0).load.latency.load(Relaxed);
        assert!((999_000..=8_000_000).contains(&latency), "{latency}");
    }
}
