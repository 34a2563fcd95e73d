//! [`Warden`]: what must happen to a hold whether or not its holder's code gets to run.
//!
//! A gate acts when its body is polled. A body that blocks its thread, and a guard held by hand, are
//! not polled: so `max_hold` and `on_lost = abort` are watched from coord's own thread as well.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{hold::Hold, terms::OnLost};
use crate::{clock::Instant, engine::Engine, error::LostReason};

/// How long after `max_hold` the lock is given back by force: time for the body to be dropped.
const GRACE: Duration = Duration::from_millis(200);

/// Ends its watch when it is dropped.
pub(super) struct Warden(#[expect(dead_code, reason = "for its drop")] DropGuard);

impl Warden {
    /// Watches `hold`; `until` is the instant of its `max_hold`.
    pub(super) fn of(
        hold: Arc<Hold>,
        engine: &Engine,
        until: Option<Instant>,
        on_lost: OnLost,
    ) -> Self {
        let over = CancellationToken::new();
        let (clock, cancelled) = (engine.clock.clone(), over.clone());
        let watch = async move {
            let limit = async {
                match until {
                    Some(until) => clock.sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let reason = tokio::select! {
                biased;
                reason = hold.clone().lost() => reason,
                () = limit => {
                    hold.lose(LostReason::MaxHold);
                    LostReason::MaxHold
                }
            };
            if on_lost == OnLost::Abort {
                abort(&hold, reason);
            }
            if until.is_some() {
                // Also of a lock that was lost for another reason nothing is to be left behind.
                clock.sleep(GRACE).await;
                hold.give_back();
            }
        };
        engine
            .tasks
            .spawn(async move { cancelled.run_until_cancelled(watch).await });
        Self(over.drop_guard())
    }
}

/// `on_lost = abort`.
pub(super) fn abort(hold: &Hold, reason: LostReason) -> ! {
    tracing::error!(target: "coord::lock", lock = hold.identity().name(), %reason,
        "lock lost: aborting the process, as `on_lost = abort` says");
    std::process::abort()
}
