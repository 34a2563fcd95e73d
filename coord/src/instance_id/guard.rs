//! What keeps belief in an id honest: the watch of its slot, the check after an outage, the release.

use std::time::Duration;

use super::claim;
use crate::{
    client::{Op, Range, Span},
    engine::Engine,
    error::{Context, LostReason, Result},
    key::Key,
    retry::Backoff,
    session::{Session, SessionState},
};

pub(super) const RELEASE: &str = "release instance id";

/// A slot that was taken.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    /// The revision at which it was taken.
    pub(super) epoch: i64,
    pub(super) session: Session,
}

/// Whether an id that has been claimed may be used: at once as a rule; if the claim's answer came
/// after the deadline of its lease, once it has been verified. False: it is lost.
pub(super) async fn believed(session: &Session) -> bool {
    let mut states = session.states();
    loop {
        match session.state() {
            SessionState::Live => return true,
            SessionState::Lost(_) => return false,
            SessionState::Overdue | SessionState::Unverified => {}
        }
        if states.changed().await.is_err() {
            return session.is_live();
        }
    }
}

/// Follows the slot and the session until the session is lost.
///
/// Whatever finds the id lost says so to the session: that also ends its renewals, or the slot would
/// stay taken by nobody.
pub(super) async fn watch(engine: Engine, slot: Slot) {
    let mut states = slot.session.states();
    let mut watcher = engine.watcher(format!("instance id {}", slot.key), Span::key(&slot.key));
    loop {
        let state = *states.borrow_and_update();
        match state {
            SessionState::Lost(LostReason::Closed) => return,
            SessionState::Lost(reason) => {
                tracing::warn!(
                    target: "coord::instance_id",
                    slot = %slot.key,
                    %reason,
                    "the instance id is lost",
                );
                return;
            }
            SessionState::Unverified => verify(&engine, &slot).await,
            SessionState::Live | SessionState::Overdue => {}
        }
        tokio::select! {
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            // The first list is younger than the claim, so a map without the slot means that it is
            // gone, whatever made the watcher look.
            _ = watcher.next() => {
                let found = watcher.map().get(slot.key.as_bytes());
                if !claim::is_mine(found, slot.epoch, slot.session.lease()) {
                    slot.session.mark_lost(LostReason::Revoked);
                }
            }
        }
    }
}

/// The lease has been renewed after the deadline had passed. *Now* the slot is read: a read from
/// before, or beside the renewal, would not show what happened until then.
async fn verify(engine: &Engine, slot: &Slot) {
    let mut backoff = backoff();
    while let Some(renewal) = slot.session.unverified() {
        match engine.calls.range(Range::new(Span::key(&slot.key))).await {
            Ok(reply) => {
                let found = reply.kvs.first();
                if !claim::is_mine(found, slot.epoch, slot.session.lease()) {
                    return slot.session.mark_lost(LostReason::Expired);
                }
                // Refused if its deadline has passed too: then the next renewal is verified.
                slot.session.verified(renewal);
            }
            Err(error) => {
                tracing::debug!(target: "coord::instance_id", slot = %slot.key, %error, "cannot verify");
                engine.clock.sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Frees the slot, and does `also` in the same transaction; then ends its lease. Belief has ended
/// before. The guarded transaction may be repeated freely; if etcd does not answer, the lease runs out.
pub(super) async fn release(engine: Engine, slot: Slot, also: Option<Op>) -> Result<()> {
    let mut tries = Backoff::for_call(&engine.options.retry);
    let release = claim::release(&slot.key, slot.epoch, slot.session.lease(), also);
    let freed = loop {
        let error = match engine.calls.txn(release.clone()).await {
            Ok(_) => break Ok(()),
            Err(error) => error,
        };
        match tries.next_try() {
            Some(delay) => engine.clock.sleep(delay).await,
            None => break Err(error.into_error(Context::new(RELEASE).key(slot.key.as_str()))),
        }
    };
    // It goes on in the background; what is waited for is only that the owner key is gone too.
    let end = engine.keeper.end(&slot.session);
    let ended = engine
        .clock
        .timeout(engine.options.request_timeout, end)
        .await;
    // Either of the two frees the slot.
    match ended {
        Ok(Ok(())) => Ok(()),
        _ => freed,
    }
}

pub(super) fn backoff() -> Backoff {
    Backoff::endless(Duration::from_millis(50), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc};

    use futures_util::poll;

    use super::*;
    use crate::{
        clock::{Clock, ManualClock},
        session::{PastDeadline, SessionSpec},
    };

    const HOLD: Duration = Duration::from_secs(20);
    const TTL: Duration = Duration::from_secs(60);

    fn session() -> (Session, Clock, ManualClock) {
        let (clock, hand) = Clock::manual();
        let spec = SessionSpec {
            purpose: "instance id",
            ttl: TTL,
            hold: Some(HOLD),
            renew_interval: None,
            past_deadline: PastDeadline::Verify,
        };
        let (sent, poke) = (clock.now(), Arc::default());
        let session = Session::new(&spec, 1, TTL, sent, clock.clone(), poke);
        (session, clock, hand)
    }

    #[tokio::test]
    async fn a_claim_answered_in_time_is_believed_at_once() {
        let (session, ..) = session();
        assert!(believed(&session).await);
    }

    /// Neither the late answer is enough, nor a renewal after it.
    #[tokio::test]
    async fn a_claim_answered_too_late_is_believed_once_verified() {
        let (session, clock, hand) = session();
        hand.advance(HOLD);
        let mut answer = pin!(believed(&session));
        assert!(poll!(answer.as_mut()).is_pending());
        session.renewed(clock.now(), TTL);
        session.announce();
        assert!(poll!(answer.as_mut()).is_pending());
        let renewal = session
            .unverified()
            .expect("it was renewed after its deadline");
        assert!(session.verified(renewal));
        assert!(answer.await);
    }

    #[tokio::test]
    async fn a_claim_answered_too_late_may_be_lost() {
        let (session, _, hand) = session();
        hand.advance(HOLD);
        let mut answer = pin!(believed(&session));
        assert!(poll!(answer.as_mut()).is_pending());
        session.mark_lost(LostReason::Expired);
        assert!(!answer.await);
    }
}
