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
//! | any | left; an orphan's address was taken over | Leaving if connected, else gone | forget |
//! | Leaving | [`LINGER`] is over | gone | forget |
//!
//! | link | what happens | next | done |
//! |---|---|---|---|
//! | Waiting | its time has come; the record changed | Connecting | dial |
//! | Connecting | connected | Up | |
//! | Connecting | refused | Waiting, longer each time | |
//! | Up | broke, after [`HELD`] | Connecting | dial; the wait starts small again |
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
//! Calls go to it while it is Up, Whole and not Leaving; one call alone while it is Up and Probing.

use std::time::Duration;

use crate::{clock::Instant, retry::Backoff};

/// Bounds of the wait before it is dialled again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A connection that broke sooner was none: a server that accepts and dies would be dialled without a
/// pause.
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
    /// It takes no new calls.
    Leaving {
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
    /// Another one that is connected has its address.
    Replaced,
    Connected,
    Refused,
    /// No more calls can be sent on its connection.
    Broke,
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
    /// Drop the connection, if there is one, and all that is known of it.
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

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.standing, Standing::Leaving { .. })
    }

    fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Since when calls go to it; `None`: none do.
    pub(super) fn ready_since(&self) -> Option<Instant> {
        match (self.link, self.trust) {
            (Link::Up { since: up }, Trust::Whole { since }) if !self.is_leaving() => {
                Some(up.max(since))
            }
            _ => None,
        }
    }

    /// Whether one call may go to it.
    pub(super) fn wants_probe(&self) -> bool {
        self.is_up() && self.trust == Trust::Probing && !self.is_leaving()
    }

    /// Whether it takes no calls because too many failed.
    pub(super) fn is_ejected(&self) -> bool {
        !matches!(self.trust, Trust::Whole { .. })
    }

    /// Whether it is kept from calls by that alone.
    pub(super) fn could_serve(&self) -> bool {
        self.is_up() && self.is_ejected() && !self.is_leaving()
    }

    /// When to call [`step`](Self::step) with [`Event::Due`]; `None`: only when something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let standing = match self.standing {
            Standing::Leaving { until } => Some(until),
            _ => None,
        };
        let link = match self.link {
            Link::Waiting { until } => Some(until),
            _ => None,
        };
        let trust = match self.trust {
            Trust::Ejected { until } if self.is_up() => Some(until),
            _ => None,
        };
        [standing, link, trust].into_iter().flatten().min()
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
            Event::Replaced if self.standing == Standing::Orphan => self.leave(now),
            Event::Left if !self.is_leaving() => self.leave(now),
            Event::Connected if self.link == Link::Connecting => {
                self.link = Link::Up { since: now };
                self.is_due(now)
            }
            Event::Refused if self.link == Link::Connecting => {
                self.wait(now);
                None
            }
            Event::Broke => self.broke(now),
            Event::Failing if self.ready_since().is_some() => Some(self.eject(now)),
            Event::Probed { passed } if self.trust == Trust::Probing => Some(if passed {
                self.pardon(now)
            } else {
                self.eject(now)
            }),
            Event::Needed if self.could_serve() => Some(self.pardon(now)),
            _ => None,
        }
    }

    fn is_due(&mut self, now: Instant) -> Option<Action> {
        if matches!(self.standing, Standing::Leaving { until } if until <= now) {
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

    fn leave(&mut self, now: Instant) -> Option<Action> {
        self.standing = Standing::Leaving {
            until: now + LINGER,
        };
        self.kept()
    }

    /// What is not registered is kept for its connection alone.
    fn kept(&mut self) -> Option<Action> {
        (!self.is_up()).then(|| self.forget())
    }

    fn broke(&mut self, now: Instant) -> Option<Action> {
        let Link::Up { since } = self.link else {
            return None;
        };
        if !self.is_registered() {
            return Some(self.forget());
        }
        if now.since(since) < HELD {
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
