//! [`Warden`]: what must happen to a hold whether or not its holder's code gets to run.
//!
//! A gate acts when its body is polled. A body that blocks its thread, and a guard held by hand, are
//! not polled: so `max_hold` and `on_lost = abort` are watched from coord's own thread as well.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::hold::Hold;
use crate::{clock::Instant, engine::Engine, error::LostReason};

/// How long after `max_hold` the lock is given back by force: time for the body to be dropped.
const GRACE: Duration = Duration::from_millis(200);

/// Ends its watch when it is dropped.
pub(super) struct Warden(#[expect(dead_code, reason = "for its drop")] DropGuard);

impl Warden {
    /// At `until` the hold is lost, and a moment later given back; so is one that is lost before.
    pub(super) fn gives_back(hold: Arc<Hold>, engine: &Engine, until: Instant) -> Self {
        let clock = engine.clock.clone();
        Self::of(engine, async move {
            tokio::select! {
                biased;
                _ = hold.clone().lost() => {}
                () = clock.sleep_until(until) => hold.lose(LostReason::MaxHold),
            }
            // Also of a lock that was lost for another reason nothing is to be left behind.
            clock.sleep(GRACE).await;
            hold.give_back();
        })
    }

    /// When the hold is lost, the process is aborted.
    pub(super) fn aborts(hold: Arc<Hold>, engine: &Engine) -> Self {
        Self::of(engine, async move {
            match hold.clone().lost().await {
                // The program's own doing.
                LostReason::Closed => {}
                reason => abort(&hold, reason),
            }
        })
    }

    fn of(engine: &Engine, watch: impl Future<Output = ()> + Send + 'static) -> Self {
        let over = CancellationToken::new();
        let cancelled = over.clone();
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
