//! What becomes of an endpoint: [`Life`], a state machine without IO and without a clock.
//!
//! [`Life::step`] takes what happened ([`Event`]) and the time, and says what to do ([`Action`]);
//! [`Life::due`] says when it wants to be called without any other cause. Three things are known of an
//! endpoint, and change by themselves: what the registry says of it, whether it is connected, and
//! whether its answers can be trusted.
//!
//! | standing | what happens | next | done |
//! |---|---|---|---|
//! | any | registered | Registered | |
//! | Registered | vanished | Orphan if connected, else gone | forget |
//! | Registered, Orphan | left | Leaving if connected, else gone | forget |
//! | any | barred | Barred if connected, else gone | forget |
//! | Orphan, Leaving, Barred | its address or its name was taken over | gone | forget |
//! | Leaving, Barred | [`LINGER`] is over | gone | forget |
//! | Leaving | needed: there is nothing else | Leaving, for another [`LINGER`] | |
//!
//! | link | what happens | next | done |
//! |---|---|---|---|
//! | Waiting | its time has come; the record changed | Connecting | dial |
//! | Connecting | connected | Up | |
//! | Connecting | refused | Waiting, longer each time | |
//! | Up | broke, after [`HELD`] or an answer | Connecting | dial; the wait starts small again |
//! | Up | broke, before | Waiting, longer each time | |
//! | Up | broke, and it is not Registered | gone | forget |
//!
//! | trust | what happens | next | done |
//! |---|---|---|---|
//! | Whole | failing, while it is Up | Ejected, longer each time | |
//! | Ejected | its time is over, or it comes Up after that | Probing | |
//! | Probing | the probe passed / failed | Whole / Ejected | start anew / |
//! | Ejected, Probing | needed: there is nothing else | Whole | start anew |
//!
//! Calls go to it while it is Up, Whole and neither Leaving nor Barred; one call alone while it is Up and
//! Probing. One that is Leaving is spare: calls go to it while there is no other.

use std::time::Duration;

use crate::{clock::Instant, retry::Backoff};

/// Bounds of the wait before it is dialled again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A connection that broke sooner, and without an answer, was none: a server that accepts and dies would
/// be dialled without a pause.
pub(super) const HELD: Duration = Duration::from_secs(1);
/// How long one that left keeps its connection, in case it comes back. What is in flight on it goes on
/// to its end in any case.
pub(super) const LINGER: Duration = Duration::from_secs(30);
/// The first ejection; each that follows soon is longer by as much.
pub(super) const EJECTION: Duration = Duration::from_secs(30);
/// No ejection is longer, and after so long without one the next is the first again.
pub(super) const EJECTION_MAX: Duration = Duration::from_secs(300);

/// What the registry says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Registered,
    /// It vanished without having said that it leaves: it is used for as long as its connection lives,
    /// and not dialled again.
    Orphan,
    /// It said that it leaves: it takes new calls only while nobody else does.
    Leaving {
        until: Instant,
    },
    /// It is not well, or does not suit the channel: it takes no new calls.
    Barred {
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Waiting {
        until: Instant,
    },
    Connecting,
    Up {
        since: Instant,
    },
    /// The end.
    Gone,
}

/// Whether its answers can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Whole { since: Instant },
    Ejected { until: Instant },
    Probing,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// [`Life::due`] has come.
    Due,
    /// The registry names it, again.
    Registered,
    /// What the registry says of it has changed.
    Changed,
    /// The registry does not name it any more.
    Vanished,
    /// It said that it leaves.
    Left,
    /// It is to take no calls.
    Barred,
    /// Another one is connected that has its address, or its name.
    Replaced,
    Connected,
    Refused,
    /// No more calls can be sent on its connection.
    Broke {
        /// Some were answered on it.
        served: bool,
    },
    /// So many calls in a row failed that it is to be ejected.
    Failing,
    /// How the one call to it ended.
    Probed {
        passed: bool,
    },
    /// There is nothing else that calls could go to.
    Needed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Dial,
    /// It is ejected, for so long.
    Eject(Duration),
    /// It is taken in again, and its failures are forgotten.
    Pardon,
    /// Drop the connection, if there is one, and all that is known of it. What is in flight goes on to
    /// its end.
    Forget,
}

/// The whole of what is known of an endpoint.
#[derive(Debug)]
pub(super) struct Life {
    standing: Standing,
    link: Link,
    trust: Trust,
    backoff: Backoff,
    /// Ejections that followed one another.
    ejections: u32,
}

impl Life {
    /// Registered, and due to be dialled.
    pub(super) fn new(now: Instant) -> Self {
        let (initial, max) = BACKOFF;
        Self {
            standing: Standing::Registered,
            link: Link::Waiting { until: now },
            trust: Trust::Whole { since: now },
            backoff: Backoff::endless(initial, max),
            ejections: 0,
        }
    }

    /// Where it stands.
    pub(super) fn place(&self) -> (Standing, Link, Trust) {
        (self.standing, self.link, self.trust)
    }

    pub(super) fn is_registered(&self) -> bool {
        self.standing == Standing::Registered
    }

    /// Whether new calls are to go elsewhere, and until when its connection is kept.
    pub(super) fn leaves(&self) -> Option<Instant> {
        match self.standing {
            Standing::Leaving { until } | Standing::Barred { until } => Some(until),
            Standing::Registered | Standing::Orphan => None,
        }
    }

    fn is_barred(&self) -> bool {
        matches!(self.standing, Standing::Barred { .. })
    }

    fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Since when calls go to it; `None`: none do.
    pub(super) fn ready_since(&self) -> Option<Instant> {
        match (self.link, self.trust) {
            (Link::Up { since: up }, Trust::Whole { since }) if self.leaves().is_none() => {
                Some(up.max(since))
            }
            _ => None,
        }
    }

    /// Whether calls go to it while there is no other.
    pub(super) fn is_spare(&self) -> bool {
        let leaving = matches!(self.standing, Standing::Leaving { .. });
        leaving && self.is_up() && !self.is_ejected()
    }

    /// Whether one call may go to it.
    pub(super) fn wants_probe(&self) -> bool {
        self.is_up() && self.trust == Trust::Probing && self.leaves().is_none()
    }

    /// Whether it takes no calls because too many failed.
    pub(super) fn is_ejected(&self) -> bool {
        !matches!(self.trust, Trust::Whole { .. })
    }

    /// Whether it is kept from calls by that alone.
    pub(super) fn could_serve(&self) -> bool {
        self.is_up() && self.is_ejected() && !self.is_barred()
    }

    /// When to call [`step`](Self::step) with [`Event::Due`]; `None`: only when something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let link = match self.link {
            Link::Waiting { until } => Some(until),
            _ => None,
        };
        let trust = match self.trust {
            Trust::Ejected { until } if self.is_up() => Some(until),
            _ => None,
        };
        [self.leaves(), link, trust].into_iter().flatten().min()
    }

    /// Takes in what happened; says what to do.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> Option<Action> {
        match event {
            Event::Due => self.is_due(now),
            Event::Registered => {
                self.standing = Standing::Registered;
                None
            }
            Event::Changed => match self.link {
                Link::Waiting { .. } => Some(self.dial()),
                _ => None,
            },
            Event::Vanished if self.is_registered() => {
                self.standing = Standing::Orphan;
                self.kept()
            }
            Event::Replaced if !self.is_registered() => Some(self.forget()),
            Event::Left if self.leaves().is_none() => {
                let until = now + LINGER;
                self.standing = Standing::Leaving { until };
                self.kept()
            }
            Event::Barred if !self.is_barred() => {
                let until = now + LINGER;
                self.standing = Standing::Barred { until };
                self.kept()
            }
            Event::Connected if self.link == Link::Connecting => {
                self.link = Link::Up { since: now };
                self.is_due(now)
            }
            Event::Refused if self.link == Link::Connecting => {
                self.wait(now);
                None
            }
            Event::Broke { served } => self.broke(served, now),
            Event::Failing if self.ready_since().is_some() => Some(self.eject(now)),
            Event::Probed { passed } if self.trust == Trust::Probing => Some(if passed {
                self.pardon(now)
            } else {
                self.eject(now)
            }),
            Event::Needed if self.could_serve() => Some(self.pardon(now)),
            Event::Needed if self.is_spare() => {
                let until = now + LINGER;
                self.standing = Standing::Leaving { until };
                None
            }
            _ => None,
        }
    }

    fn is_due(&mut self, now: Instant) -> Option<Action> {
        if self.leaves().is_some_and(|until| until <= now) {
            return Some(self.forget());
        }
        if matches!(self.trust, Trust::Ejected { until } if self.is_up() && until <= now) {
            self.trust = Trust::Probing;
        }
        match self.link {
            Link::Waiting { until } if until <= now => Some(self.dial()),
            _ => None,
        }
    }

    /// What is not registered is kept for its connection alone.
    fn kept(&mut self) -> Option<Action> {
        (!self.is_up()).then(|| self.forget())
    }

    fn broke(&mut self, served: bool, now: Instant) -> Option<Action> {
        let Link::Up { since } = self.link else {
            return None;
        };
        if !self.is_registered() {
            return Some(self.forget());
        }
        if !served && now.since(since) < HELD {
            self.wait(now);
            return None;
        }
        self.backoff.reset();
        Some(self.dial())
    }

    fn dial(&mut self) -> Action {
        self.link = Link::Connecting;
        Action::Dial
    }

    fn wait(&mut self, now: Instant) {
        self.link = Link::Waiting {
            until: now + self.backoff.next_delay(),
        };
    }

    fn eject(&mut self, now: Instant) -> Action {
        let calm = matches!(self.trust, Trust::Whole { since } if now.since(since) >= EJECTION_MAX);
        self.ejections = if calm { 1 } else { self.ejections + 1 };
        let time = (EJECTION * self.ejections).min(EJECTION_MAX);
        self.trust = Trust::Ejected { until: now + time };
        Action::Eject(time)
    }

    fn pardon(&mut self, now: Instant) -> Action {
        self.trust = Trust::Whole { since: now };
        Action::Pardon
    }

    fn forget(&mut self) -> Action {
        self.link = Link::Gone;
        Action::Forget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000_000);

    /// Dialled, at the start.
    fn dialled() -> Life {
        let mut life = Life::new(START);
        assert_eq!(life.step(Event::Due, START), Some(Action::Dial));
        life
    }

    fn connected() -> Life {
        let mut life = dialled();
        assert_eq!(life.step(Event::Connected, START), None);
        life
    }

    fn ejected() -> Life {
        let mut life = connected();
        let ejected = life.step(Event::Failing, START);
        assert_eq!(ejected, Some(Action::Eject(EJECTION)));
        life
    }

    /// The wait after a refusal.
    fn refused(life: &mut Life, now: Instant) -> Duration {
        assert_eq!(life.step(Event::Refused, now), None);
        life.due().expect("it is dialled again").since(now)
    }

    #[test]
    fn the_wait_grows_up_to_its_bound_and_starts_anew_after_a_connection_that_held() {
        let mut longest = Duration::ZERO;
        // The waits are drawn: of so many, one is beyond the first bounds.
        for _ in 0..50 {
            let (mut life, mut now) = (dialled(), START);
            for round in 0..12 {
                let wait = refused(&mut life, now);
                let bound = BACKOFF.0 * 2_u32.pow(round);
                assert!(wait <= bound.min(BACKOFF.1), "{wait:?} in round {round}");
                longest = longest.max(wait);
                now = now + wait;
                assert_eq!(life.step(Event::Due, now), Some(Action::Dial));
            }
            life.step(Event::Connected, now);
            now = now + HELD;
            assert_eq!(
                life.step(Event::Broke { served: false }, now),
                Some(Action::Dial)
            );
            assert!(refused(&mut life, now) <= BACKOFF.0);
        }
        assert!(longest > Duration::from_secs(10), "{longest:?}");
    }

    #[test]
    fn a_connection_that_breaks_at_once_is_a_failure_to_connect() {
        let mut life = connected();
        assert_eq!(life.step(Event::Broke { served: false }, START), None);
        let due = life.due().expect("it waits");
        assert_eq!(life.step(Event::Due, due), Some(Action::Dial));
        // It served before: it restarts, or sends its callers away now and then.
        life.step(Event::Connected, due);
        let served = Event::Broke { served: true };
        assert_eq!(life.step(served, due), Some(Action::Dial));
    }

    #[test]
    fn a_changed_record_ends_the_wait() {
        let mut life = dialled();
        refused(&mut life, START);
        assert_eq!(life.step(Event::Changed, START), Some(Action::Dial));
        assert_eq!(life.step(Event::Changed, START), None);
    }

    #[test]
    fn an_orphan_lives_as_long_as_its_connection_and_comes_back() {
        let mut life = connected();
        assert_eq!(life.step(Event::Vanished, START), None);
        assert_eq!(life.ready_since(), Some(START));
        assert_eq!((life.due(), life.step(Event::Due, START)), (None, None));
        assert_eq!(life.step(Event::Registered, START), None);
        life.step(Event::Vanished, START);
        assert_eq!(
            life.step(Event::Broke { served: false }, START),
            Some(Action::Forget)
        );
        // One that was never connected is nothing to wait for.
        assert_eq!(dialled().step(Event::Vanished, START), Some(Action::Forget));
    }

    #[test]
    fn one_that_leaves_or_is_barred_keeps_its_connection_for_a_while() {
        for (event, spare) in [(Event::Left, true), (Event::Barred, false)] {
            let mut life = connected();
            assert_eq!(life.step(event, START), None);
            assert_eq!((life.ready_since(), life.is_spare()), (None, spare));
            life.step(Event::Registered, START);
            assert_eq!((life.ready_since(), life.is_spare()), (Some(START), false));
            life.step(event, START);
            assert_eq!(life.due(), Some(START + LINGER));
            // Told once more, it is nothing new.
            life.step(event, START + HELD);
            assert_eq!(life.step(Event::Due, START + LINGER), Some(Action::Forget));
        }
    }

    #[test]
    fn one_that_leaves_is_kept_while_it_is_needed_and_one_that_is_barred_is_not() {
        let mut life = connected();
        life.step(Event::Left, START);
        life.step(Event::Needed, START + LINGER);
        assert!(life.is_spare());
        assert_eq!(life.due(), Some(START + 2 * LINGER));
        // It is not well, also.
        life.step(Event::Barred, START + LINGER);
        assert!(!life.is_spare());
        life.step(Event::Left, START + LINGER);
        life.step(Event::Needed, START + LINGER);
        assert!(!life.is_spare());
        let due = START + 2 * LINGER;
        assert_eq!(life.step(Event::Due, due), Some(Action::Forget));
    }

    #[test]
    fn an_ejected_one_comes_back_by_a_probe_that_passes() {
        let mut life = ejected();
        let mut now = START;
        for times in 2..20 {
            assert_eq!(life.ready_since(), None);
            assert!(!life.wants_probe());
            now = life.due().expect("it is probed");
            life.step(Event::Due, now);
            assert!(life.wants_probe() && life.ready_since().is_none());
            let failed = life.step(Event::Probed { passed: false }, now);
            let time = (EJECTION * times).min(EJECTION_MAX);
            assert_eq!(failed, Some(Action::Eject(time)));
            assert_eq!(life.due(), Some(now + time));
        }
        now = now + EJECTION_MAX;
        life.step(Event::Due, now);
        let passed = life.step(Event::Probed { passed: true }, now);
        assert_eq!(passed, Some(Action::Pardon));
        assert_eq!(life.ready_since(), Some(now));
        // Soon again it is longer still; after a calm time it is as short as the first.
        assert_eq!(
            life.step(Event::Failing, now),
            Some(Action::Eject(EJECTION_MAX))
        );
        life.step(Event::Needed, now);
        assert_eq!(
            life.step(Event::Failing, now + EJECTION_MAX),
            Some(Action::Eject(EJECTION))
        );
    }

    #[test]
    fn a_new_connection_does_not_end_an_ejection() {
        let mut life = ejected();
        life.step(Event::Broke { served: false }, START + HELD);
        life.step(Event::Connected, START + HELD);
        assert!(life.is_ejected() && !life.wants_probe());
        // Unless its time was over meanwhile.
        life.step(Event::Broke { served: false }, START + EJECTION);
        life.step(Event::Connected, START + EJECTION);
        assert!(life.wants_probe());
    }
}
