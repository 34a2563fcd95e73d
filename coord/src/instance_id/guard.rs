//! What keeps belief in an id honest: the watch of its slot, the check after an outage, the release.

use std::time::Duration;

use super::{RELEASE, claim};
use crate::{
    client::{Range, Span},
    engine::Engine,
    error::{Context, LostReason, Result},
    key::Key,
    retry::Backoff,
    session::{Session, SessionState},
};

/// A slot that was taken.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    /// The revision at which it was taken.
    pub(super) epoch: i64,
    pub(super) session: Session,
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

/// Frees the slot and then ends its lease. Belief has ended before. The guarded deletion may be
/// repeated freely; if etcd does not answer, the lease runs out.
pub(super) async fn release(engine: Engine, slot: Slot) -> Result<()> {
    let mut tries = Backoff::for_call(&engine.options.retry);
    let freed = loop {
        let error = match engine
            .calls
            .txn(claim::release(&slot.key, slot.epoch))
            .await
        {
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
