//! [`Heart`]: when to renew what, when to reconnect, what is lost. Pure: time and messages go in,
//! actions come out; the task around it is `heartbeat`.
//!
//! | link | event | becomes | does |
//! |---|---|---|---|
//! | down | its pause is over and there are leases | up | connect; renew every lease |
//! | up | a lease is due | up | renew it, and with it every one that is nearly due |
//! | up | a lease is due whose gate is closed | up | leave that renewal out |
//! | up | answer with a TTL | up | move that lease's deadline, from the instant of its send |
//! | up | answer without one | up | that lease is gone |
//! | up | stream ended | down | forget what was sent; pause |
//! | up | stream owes an answer for too long | down | the same; leave the endpoint |
//! | up | no lease is left | down | close the stream |
//! | any | a session is lost | same | forget it, revoke its lease; if it lapsed, after the margin |
//!
//! # Invariants
//! 1. At most one keep-alive per lease is unanswered, and only on the current stream: so an answer
//!    belongs to exactly one send. An answer without a send, or of an older stream, moves nothing.
//! 2. The instant of a send is taken before anything is done to send it.
//! 3. A broken stream changes no session's state.

use std::{collections::BTreeMap, time::Duration};

use super::{Gate, Session, SessionState};
use crate::{client::KeepAlive, clock::Instant, error::LostReason, retry::Backoff};

/// Bound of the first pause after a stream that did not work.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What the task is to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Open a stream; the one before it, if any, is closed.
    Connect {
        generation: u64,
    },
    Disconnect,
    LeaveEndpoint,
    Send {
        lease: i64,
    },
    /// Revoke the lease in the background, `after` this time.
    Revoke {
        session: Session,
        after: Duration,
    },
    /// Wake whoever waits for the session's state.
    Announce(Session),
}

#[derive(Debug)]
pub(super) struct Heart {
    lives: BTreeMap<i64, Life>,
    link: Link,
    generation: u64,
    /// The pauses since the stream last worked.
    pauses: Option<Backoff>,
    actions: Vec<Action>,
    closed: bool,
}

#[derive(Debug)]
struct Life {
    session: Session,
    /// `None`: always open.
    gate: Option<Gate>,
    /// When the unanswered keep-alive was sent.
    in_flight: Option<Instant>,
    next: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    /// Nothing is open; not before `until`.
    Down { until: Instant },
    /// Being opened, or open.
    Up { since: Instant, answered: bool },
}

impl Heart {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lives: BTreeMap::new(),
            link: Link::Down { until: now },
            generation: 0,
            pauses: None,
            actions: Vec::new(),
            closed: false,
        }
    }

    /// Renews `session` from now on; its grant was sent at `sent`. `false`: closed.
    pub(super) fn adopt(&mut self, sent: Instant, session: Session) -> bool {
        if self.closed {
            return false;
        }
        let life = Life {
            next: sent + jittered(session.terms().interval),
            in_flight: None,
            gate: None,
            session,
        };
        self.lives.insert(life.session.lease(), life);
        true
    }

    /// Renews it only while `gate` is open.
    pub(super) fn gate(&mut self, lease: i64, gate: Gate) {
        if let Some(life) = self.lives.get_mut(&lease) {
            life.gate = Some(gate);
        }
    }

    /// Renews it at `now`, whenever it is due; if a keep-alive is unanswered, once more after that.
    pub(super) fn hurry(&mut self, now: Instant, lease: i64) {
        if let Some(life) = self.lives.get_mut(&lease) {
            life.next = now;
        }
    }

    /// Renews it no more. `None`: it was not renewed any more.
    pub(super) fn remove(&mut self, lease: i64) -> Option<Session> {
        self.lives.remove(&lease).map(|life| life.session)
    }

    /// Renews nothing any more.
    pub(super) fn close(&mut self) -> Vec<Session> {
        self.closed = true;
        std::mem::take(&mut self.lives)
            .into_values()
            .map(|life| life.session)
            .collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.lives.values().map(|life| &life.session)
    }

    /// An answer came on the stream `generation`.
    pub(super) fn answered(&mut self, now: Instant, generation: u64, answer: KeepAlive) {
        let Link::Up { answered, .. } = &mut self.link else {
            return;
        };
        if generation != self.generation {
            return;
        }
        *answered = true;
        let Some(life) = self.lives.get_mut(&answer.lease) else {
            return;
        };
        self.actions.push(Action::Announce(life.session.clone()));
        let Some(ttl) = answer.ttl else {
            life.session.gone();
            self.lives.remove(&answer.lease);
            return;
        };
        let Some(sent) = life.in_flight.take() else {
            return;
        };
        if life.session.renewed(sent, ttl) == SessionState::Overdue {
            // The answer was too old to be believed: the next one decides.
            life.next = now;
        }
    }

    /// The stream `generation` ended. Its connection has left the endpoint if that is at fault.
    pub(super) fn broke(&mut self, now: Instant, generation: u64) {
        if generation == self.generation {
            self.disconnect(now);
        }
    }

    /// Does what is due at `now`. The instant is when to call again if nothing else happens.
    pub(super) fn step(&mut self, now: Instant) -> (Vec<Action>, Option<Instant>) {
        self.drop_lost(now);
        let overdrawn = |life: &Life| {
            let patience = life.session.terms().patience;
            life.in_flight
                .is_some_and(|sent| now.since(sent) >= patience)
        };
        if self.lives.values().any(overdrawn) {
            tracing::debug!(target: "coord::session", "keep-alives are not answered");
            self.disconnect(now);
            self.actions.push(Action::LeaveEndpoint);
        }
        self.connect(now);
        self.renew(now);
        (std::mem::take(&mut self.actions), self.next())
    }

    fn drop_lost(&mut self, now: Instant) {
        let actions = &mut self.actions;
        self.lives.retain(|_, life| {
            let before = life.session.lapses_at();
            let state = life.session.lapse();
            if before != life.session.lapses_at() {
                actions.push(Action::Announce(life.session.clone()));
            }
            let SessionState::Lost(reason) = state else {
                return true;
            };
            // Its keys are not to outlive the belief in them by more than they must. But what still
            // runs on that belief has the margin to stop in: a revoke at the deadline would let the
            // next one in beside it.
            let after = match reason {
                LostReason::Expired => life.session.stopped_at().since(now),
                _ => Duration::ZERO,
            };
            let session = life.session.clone();
            actions.push(Action::Revoke { session, after });
            false
        });
    }

    fn connect(&mut self, now: Instant) {
        match self.link {
            Link::Up { .. } if self.lives.is_empty() => {
                self.link = Link::Down { until: now };
                self.actions.push(Action::Disconnect);
            }
            Link::Down { until } if until <= now && !self.lives.is_empty() => {
                self.link = Link::Up {
                    since: now,
                    answered: false,
                };
                self.generation += 1;
                let generation = self.generation;
                self.actions.push(Action::Connect { generation });
                // The same leases first: whether they still live is what counts.
                self.lives.values_mut().for_each(|life| life.next = now);
            }
            Link::Up { .. } | Link::Down { .. } => {}
        }
    }

    fn renew(&mut self, now: Instant) {
        let Link::Up { .. } = self.link else { return };
        if !self.lives.values().any(|life| life.is_due(now)) {
            return;
        }
        for (lease, life) in &mut self.lives {
            // What would be due soon goes along, so that all leases come to beat together.
            let interval = life.session.terms().interval;
            if life.is_due(now + interval / 4) {
                life.next = now + jittered(interval);
                if life.gate.as_ref().is_none_or(Gate::is_open) {
                    life.in_flight = Some(now);
                    self.actions.push(Action::Send { lease: *lease });
                }
            }
        }
    }

    fn disconnect(&mut self, now: Instant) {
        let Link::Up { since, answered } = self.link else {
            return;
        };
        let patience = self.shortest(|session| session.terms().patience);
        let pause = if answered && now.since(since) >= patience {
            // It did work: another endpoint is tried at once.
            self.pauses = None;
            Duration::ZERO
        } else {
            self.pause(patience)
        };
        self.lives
            .values_mut()
            .for_each(|life| life.in_flight = None);
        self.link = Link::Down { until: now + pause };
        self.actions.push(Action::Disconnect);
    }

    /// Full jitter up to `patience`. In the last third of a session's time evenly: bad luck with the
    /// jitter must not cost it the tries that are left.
    fn pause(&mut self, patience: Duration) -> Duration {
        let pauses = self
            .pauses
            .get_or_insert_with(|| Backoff::endless(FIRST_PAUSE, patience.max(FIRST_PAUSE)));
        let drawn = pauses.next_delay();
        let urgent = |session: &&Session| {
            let left = session.remaining();
            !left.is_zero() && left <= session.terms().base / 3
        };
        let twelfth = self
            .sessions()
            .filter(urgent)
            .map(|session| session.terms().base / 12)
            .min();
        twelfth.map_or(drawn, jittered)
    }

    fn shortest(&self, of: impl Fn(&Session) -> Duration) -> Duration {
        self.sessions().map(of).min().unwrap_or_default()
    }

    fn next(&self) -> Option<Instant> {
        let lapses = self.sessions().filter_map(Session::lapses_at).min();
        let link = match self.link {
            Link::Down { until } => (!self.lives.is_empty()).then_some(until),
            Link::Up { .. } => self.lives.values().map(Life::wakes_at).min(),
        };
        lapses.into_iter().chain(link).min()
    }
}

impl Life {
    fn is_due(&self, now: Instant) -> bool {
        self.in_flight.is_none() && self.next <= now
    }

    fn wakes_at(&self) -> Instant {
        self.in_flight
            .map_or(self.next, |sent| sent + self.session.terms().patience)
    }
}

/// ±10 %, so that processes that started together do not renew together.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests;
