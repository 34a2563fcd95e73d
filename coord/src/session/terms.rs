//! [`Terms`]: the arithmetic of one lease: how long a renewal is believed, how often to renew.

use std::time::Duration;

use super::SessionSpec;
use crate::clock::Instant;

/// How far this process's clock and the server's may drift apart in rate: 1 %.
const DRIFT: u32 = 100;

/// What follows from a spec and the TTL that was granted for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// What etcd granted.
    pub(super) ttl: Duration,
    /// How long a renewal could be believed at most: the TTL, or `hold` if that is shorter.
    pub(super) base: Duration,
    /// What of each TTL is not believed, so that nobody has the keys for so long after the belief: what
    /// was asked for beyond `hold`. A server that gives less than was asked for does not take it away.
    cool_down: Duration,
    /// The least margin; a longer `base` has more.
    floor: Duration,
    /// From one renewal to the next, before jitter.
    pub(super) interval: Duration,
    /// How long the stream may owe an answer before it counts as broken.
    pub(super) patience: Duration,
}

impl Terms {
    pub(super) fn new(spec: &SessionSpec, granted: Duration) -> Self {
        let cool_down = spec
            .hold
            .map_or(Duration::ZERO, |hold| spec.ttl.saturating_sub(hold));
        let granted_hold = granted.saturating_sub(cool_down);
        let base = spec.hold.map_or(granted, |hold| hold.min(granted_hold));
        // Whoever gets nothing to believe in ends the session; until then it is renewed at leisure.
        let paced = if base.is_zero() { granted } else { base };
        Self {
            ttl: granted,
            base,
            cool_down,
            // The margin is the time to stop work in. An id is read by more than one user body, and
            // the rest of its TTL is what its safety stands on: it gets more.
            floor: Duration::from_millis(if spec.hold.is_some() { 500 } else { 200 }),
            // Neither a storm nor a session that runs out between two renewals.
            interval: spec
                .renew_interval
                .unwrap_or(paced / 3)
                .clamp(paced / 30, paced / 2),
            // A sixth leaves room for a second try before the next renewal is due. A tiny lease
            // still needs the time of a dial.
            patience: (paced / 6).max(Duration::from_millis(500)).min(paced / 3),
        }
    }

    /// Until when a renewal is believed that was sent at `sent` and answered with `ttl`.
    ///
    /// etcd starts its countdown after it has received the request, so never before `sent`: by its
    /// clock the keys are safe until `sent + ttl`, by ours a drift earlier, and a margin before that
    /// whatever runs on them must stop.
    pub(super) fn deadline(&self, sent: Instant, ttl: Duration) -> Instant {
        let base = self.base.min(ttl.saturating_sub(self.cool_down));
        sent + (base - base / DRIFT - self.margin(base))
    }

    /// The time to stop work in.
    pub(super) fn margin(&self, base: Duration) -> Duration {
        // A lease of a second or two must not be all margin.
        (base / 20).max(self.floor).min(base / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, session::PastDeadline};

    fn spec(hold: Option<u64>, renew: Option<u64>) -> SessionSpec {
        SessionSpec {
            purpose: "test",
            ttl: Duration::from_secs(15),
            hold: hold.map(Duration::from_millis),
            renew_interval: renew.map(Duration::from_millis),
            past_deadline: PastDeadline::Dead,
        }
    }

    fn believed(hold: Option<u64>, granted_ms: u64, answered_ms: u64) -> Duration {
        let (clock, _) = Clock::manual();
        let sent = clock.now();
        Terms::new(&spec(hold, None), Duration::from_millis(granted_ms))
            .deadline(sent, Duration::from_millis(answered_ms))
            .since(sent)
    }

    #[test]
    fn the_deadline_keeps_the_drift_and_a_margin_off_the_shorter_of_ttl_and_hold() {
        for (hold, granted, answered, want) in [
            // 1 % and 5 %.
            (None, 15_000, 15_000, 15_000 - 150 - 750),
            // The floor of 200 ms.
            (None, 3_000, 3_000, 3_000 - 30 - 200),
            // A tiny TTL: the margin is a quarter at most.
            (None, 600, 600, 600 - 6 - 150),
            // More was granted than asked for: used.
            (None, 60_000, 60_000, 60_000 - 600 - 3_000),
            // With a hold: 5 % or 500 ms of it.
            (Some(10_000), 30_000, 30_000, 10_000 - 100 - 500),
            (Some(20_000), 60_000, 60_000, 20_000 - 200 - 1_000),
            (Some(1_000), 30_000, 30_000, 1_000 - 10 - 250),
            // Less than was asked for: the rest of it, here 5 s, is kept whole, and the hold is shorter.
            (Some(10_000), 10_000, 10_000, 5_000 - 50 - 500),
            (Some(10_000), 15_000, 10_000, 5_000 - 50 - 500),
            (Some(10_000), 5_000, 5_000, 0),
            // An answer with less than was granted is taken at its word.
            (None, 15_000, 4_000, 4_000 - 40 - 200),
        ] {
            assert_eq!(
                believed(hold, granted, answered),
                Duration::from_millis(want),
                "hold {hold:?}, granted {granted}, answered {answered}"
            );
        }
    }

    #[test]
    fn a_renew_interval_is_kept_between_a_storm_and_too_late() {
        let interval = |renew| Terms::new(&spec(None, renew), Duration::from_secs(15)).interval;
        assert_eq!(interval(None), Duration::from_secs(5));
        assert_eq!(interval(Some(2_000)), Duration::from_secs(2));
        assert_eq!(interval(Some(0)), Duration::from_millis(500));
        assert_eq!(interval(Some(14_000)), Duration::from_millis(7_500));
        // With a hold it is the hold that must not be missed.
        let held = Terms::new(&spec(Some(6_000), None), Duration::from_secs(30));
        assert_eq!(held.interval, Duration::from_secs(2));
    }
}
