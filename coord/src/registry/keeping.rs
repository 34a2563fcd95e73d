//! [`Keeping`]: the task that keeps one instance registered, for ever.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    chain::{Chain, Form},
    own::OwnKey,
    registration::{DEREGISTER, Progress, REGISTER},
    shared::{Enrolled, Shared},
    wish::{Stage, Wish},
};
use crate::{
    client::{Certainty, Reason},
    engine::Engine,
    error::{Context, Error, LostReason},
    retry::Backoff,
    session::{Gate, PastDeadline, Session, SessionSpec, SessionState},
};

/// After a lost lease every process of a fleet registers again: spread over at least this long.
const SPREAD: Duration = Duration::from_secs(1);
/// As many of them in a second are no trouble for etcd.
const RATE: f64 = 2_000.0;

/// The task behind a [`Registration`](super::Registration).
pub(super) struct Keeping {
    pub(super) engine: Engine,
    pub(super) shared: Shared,
    pub(super) ttl: Duration,
    pub(super) chain: Chain,
    /// What the watches see of the two records.
    pub(super) life_cycle: OwnKey,
    pub(super) routable: OwnKey,
    /// Closed while the instance is not to be registered.
    pub(super) gate: Option<Gate>,
    pub(super) wish: watch::Receiver<Wish>,
    pub(super) progress: watch::Sender<Progress>,
    /// Its end is the task's.
    pub(super) enrolled: Enrolled,
    /// etcd refuses for good to let it leave: what is left is to let its lease run out.
    pub(super) given_up: bool,
    /// Held while it writes, from the first link to the last: one that has begun is soon done.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

impl Keeping {
    pub(super) async fn run(mut self) {
        let mut first = true;
        loop {
            let Some(session) = self.open(std::mem::take(&mut first)).await else {
                break;
            };
            self.chain.adopt(session.lease());
            self.live(&session).await;
            if self.given_up || self.chain.known() == Some(Form::Gone) {
                // A late copy of the first link cannot bring the record back under a dead lease.
                // It goes on in the background, so it need not be waited for longer than this.
                let end = self.engine.keeper.end(&session);
                let limit = self.engine.options.request_timeout;
                let _ = self.engine.clock.timeout(limit, end).await;
                break;
            }
        }
    }

    /// Opens a session, however long it takes. `None`: there is nothing left to register.
    async fn open(&mut self, first: bool) -> Option<Session> {
        let spec = SessionSpec {
            purpose: "registration",
            ttl: self.ttl,
            hold: None,
            renew_interval: None,
            past_deadline: PastDeadline::Resume,
        };
        let mut delay = match first {
            true => Duration::ZERO,
            false => self.spread().mul_f64(rand::random()),
        };
        let mut backoff = backoff();
        loop {
            let (stage, number) = {
                let wish = self.wish.borrow_and_update();
                (wish.stage, wish.number)
            };
            // With the lease all records went: who leaves has left.
            if stage >= Stage::Withdrawn {
                self.progress.send_modify(|progress| {
                    progress.settled = Some(number);
                    progress.gone = true;
                    progress.shown = false;
                });
                return None;
            }
            let opened = async {
                if let Some(gate) = &self.gate {
                    gate.opened().await;
                }
                self.engine.clock.sleep(delay).await;
                let turn = self.shared.turn().await;
                let session = self.engine.keeper.open(spec).await?;
                Ok((turn, session))
            };
            let opened = tokio::select! {
                opened = opened => opened,
                leaves = self.wish.wait_for(|wish| wish.stage >= Stage::Withdrawn) => match leaves {
                    Ok(_) => continue,
                    Err(_) => return None,
                },
            };
            match opened {
                Ok((turn, session)) => {
                    if let Some(gate) = &self.gate {
                        self.engine.keeper.gate(&session, gate.clone());
                    }
                    self.turn = Some(turn);
                    return Some(session);
                }
                Err(error) => {
                    self.trouble(error);
                    delay = backoff.next_delay();
                }
            }
        }
    }

    /// How long the fleet takes to register again.
    fn spread(&self) -> Duration {
        spread(self.shared.fleet(&self.enrolled.member().service), self.ttl)
    }

    /// One life of one lease. Returns when it is lost or when the instance is gone.
    async fn live(&mut self, session: &Session) {
        let mut states = session.states();
        let mut backoff = backoff();
        // The lease was overdue, or may have been: that it lives again says nothing of the records.
        let mut doubt = false;
        loop {
            let state = *states.borrow_and_update();
            if let SessionState::Lost(reason) = state {
                tracing::warn!(target: "coord::registry", instance = %self.chain.life_cycle(),
                    %reason, "the registration's lease is lost; registering again");
                self.progress.send_modify(|progress| progress.shown = false);
                self.turn = None;
                return;
            }
            if doubt && state == SessionState::Live {
                doubt = !self.look(&mut backoff).await;
                continue;
            }
            let wish = self.wish.borrow_and_update().clone();
            if self.link(&wish, session, &mut backoff).await {
                if self.given_up {
                    return;
                }
                continue;
            }
            self.settled(&wish);
            if self.chain.known() == Some(Form::Gone) {
                return;
            }
            tokio::select! {
                // The handle's drop has set the last wish before it closed the channel.
                _ = self.wish.changed() => {}
                _ = states.changed() => doubt = true,
                seen = self.life_cycle.next() => self.chain.saw_life_cycle(seen),
                seen = self.routable.next() => self.chain.saw_routable(seen),
            }
        }
    }

    /// Sends the next link. False: the records are where `wish` wants them.
    async fn link(&mut self, wish: &Wish, session: &Session, backoff: &mut Backoff) -> bool {
        let Some(link) = self.chain.next(&wish.target()) else {
            return false;
        };
        // Never dropped half way: one link at a time, and the call has a deadline.
        self.take_turn().await;
        self.begin(wish.number);
        let error = match self.engine.calls.txn(self.chain.txn(&link)).await {
            Ok(reply) => {
                self.chain.replied(&link, &reply);
                backoff.reset();
                return true;
            }
            Err(error) => error,
        };
        if error.certainty == Certainty::Unknown {
            self.chain.unknown();
        }
        if error.reason == Reason::LeaseNotFound {
            session.mark_lost(LostReason::Expired);
            return true;
        }
        let operation = match wish.stage {
            Stage::Gone => DEREGISTER,
            _ => REGISTER,
        };
        let error = error.into_error(Context::new(operation).key(self.chain.life_cycle().as_str()));
        self.given_up = wish.stage == Stage::Gone && !error.is_retryable();
        self.trouble(error);
        self.turn = None;
        if self.given_up {
            return true;
        }
        let mut states = session.states();
        tokio::select! {
            () = self.engine.clock.sleep(backoff.next_delay()) => {}
            _ = states.wait_for(|state| matches!(state, SessionState::Lost(_))) => {}
        }
        true
    }

    /// Compares what is there with what is known. False: not now.
    async fn look(&mut self, backoff: &mut Backoff) -> bool {
        self.take_turn().await;
        match self.engine.calls.txn(self.chain.look()).await {
            Ok(reply) => {
                self.chain.looked(&reply);
                backoff.reset();
                true
            }
            Err(error) => {
                tracing::debug!(target: "coord::registry", %error, "cannot look after the records");
                self.turn = None;
                self.engine.clock.sleep(backoff.next_delay()).await;
                false
            }
        }
    }

    async fn take_turn(&mut self) {
        if self.turn.is_none() {
            self.turn = Some(self.shared.turn().await);
        }
    }

    /// From now on what is wanted has the time that etcd is given.
    fn begin(&self, wish: u64) {
        let now = self.engine.clock.now();
        self.progress.send_if_modified(|progress| {
            let new = progress.begun.is_none_or(|(begun, _)| begun < wish);
            if new {
                progress.begun = Some((wish, now));
            }
            // Nobody waits for it: who waits looks when its time is over.
            false
        });
    }

    /// The records are as `wish` wants them.
    fn settled(&mut self, wish: &Wish) {
        if self.turn.take().is_some() {
            self.shared.confirmed(self.engine.clock.now());
        }
        let form = self.chain.known();
        let (shown, gone) = (form == Some(Form::Shown), form == Some(Form::Gone));
        self.progress.send_if_modified(|progress| {
            let new = (Some(wish.number), shown, gone);
            let changed = (progress.settled, progress.shown, progress.gone) != new;
            (progress.settled, progress.shown, progress.gone) = new;
            progress.trouble = None;
            changed
        });
    }

    fn trouble(&self, error: Error) {
        self.progress.send_modify(|progress| {
            // Once for each outage, not for each try.
            if progress.trouble.is_none() {
                tracing::warn!(target: "coord::registry", instance = %self.chain.life_cycle(),
                    error = &error as &dyn std::error::Error, "cannot register; trying again");
            }
            progress.trouble = Some(error);
        });
    }
}

/// How long a fleet of so many takes to register again: half of the TTL at most, since it is missed
/// all that time.
fn spread(fleet: usize, ttl: Duration) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a fleet is no exact number")]
    let needed = Duration::from_secs_f64(fleet as f64 / RATE);
    needed.min(ttl / 2).max(SPREAD)
}

fn backoff() -> Backoff {
    Backoff::endless(Duration::from_millis(50), Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_fleet_takes_longer_to_come_back_and_never_longer_than_half_a_ttl() {
        let ttl = Duration::from_secs(10);
        assert_eq!(spread(0, ttl), SPREAD);
        assert_eq!(spread(2_000, ttl), SPREAD);
        assert_eq!(spread(5_000, ttl), Duration::from_millis(2_500));
        assert_eq!(spread(1_000_000, ttl), Duration::from_secs(5));
        assert_eq!(spread(1_000_000, Duration::from_secs(1)), SPREAD);
    }
}
