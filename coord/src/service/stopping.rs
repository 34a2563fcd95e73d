//! [`Stopping`]: from the first signal to the end of `main`, or to the end of the process.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Context, LAST_CALL,
    settings::Settings,
    signals::{Signals, Stop},
};
use crate::clock::{Clock, Elapsed, Instant};

/// A second signal so soon after the first is the same one: some send it to a process and then to its
/// whole group, as `timeout` of GNU coreutils does, and nobody has seen what the first one did.
const ECHO: Duration = Duration::from_millis(100);

/// How long the thread that runs `main` has to drop it, once it is told to.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// Stops a service. Cheap to clone; every clone stops the same one.
#[derive(Clone, Debug)]
pub(super) struct Stopping(Arc<State>);

#[derive(Debug)]
struct State {
    context: Context,
    clock: Clock,
    drain: Duration,
    shutdown_timeout: Duration,
    /// Why it stops.
    cause: OnceLock<Stop>,
    /// When `main` was told to stop.
    told: OnceLock<Instant>,
    forced: CancellationToken,
    main_ended: CancellationToken,
}

impl Stopping {
    pub(super) fn new(context: Context, clock: Clock, settings: &Settings) -> Self {
        Self(Arc::new(State {
            context,
            clock,
            drain: settings.drain,
            shutdown_timeout: settings.shutdown_timeout,
            cause: OnceLock::new(),
            told: OnceLock::new(),
            forced: CancellationToken::new(),
            main_ended: CancellationToken::new(),
        }))
    }

    /// Done with the first signal.
    pub(super) async fn begun(&self) {
        self.0.context.leaving().cancelled().await;
    }

    /// Done when `main` is to be dropped.
    pub(super) async fn forced(&self) {
        self.0.forced.cancelled().await;
    }

    pub(super) async fn main_ended(&self) {
        self.0.main_ended.cancelled().await;
    }

    pub(super) fn set_main_ended(&self) {
        self.0.main_ended.cancel();
    }

    /// What is left of the time that `main` and its tasks have to stop.
    pub(super) fn time_left(&self) -> Duration {
        let State {
            clock,
            told,
            shutdown_timeout,
            ..
        } = &*self.0;
        let used = told
            .get()
            .map_or(Duration::ZERO, |told| clock.now().since(*told));
        shutdown_timeout.saturating_sub(used)
    }

    /// Why it stops, if it does.
    pub(super) fn cause(&self) -> Option<Stop> {
        self.0.cause.get().copied()
    }

    /// Watches for what stops the service; runs until it has ended. Without signals: they are not the
    /// service's.
    pub(super) async fn watch(self, mut signals: Option<Signals>) {
        let service = self.0.context.service();
        let first = tokio::select! {
            signal = Signals::next(&mut signals) => signal,
            asked = self.0.context.asked() => asked,
        };
        tracing::info!(target: "coord::service", service, why = ?first, "stopping");
        let _ = self.0.cause.set(first);
        let second = async {
            if !first.is_signal() {
                // Whoever sends the first signal does not know that it stops already.
                let signal = Signals::next(&mut signals).await;
                tracing::info!(target: "coord::service", service, ?signal, "stopping already");
            }
            let echoes = async { while Signals::next(&mut signals).await.is_signal() {} };
            // It ends in no other way.
            let _ = self.0.clock.timeout(ECHO, echoes).await;
            Signals::next(&mut signals).await
        };
        let why = tokio::select! {
            () = self.stop(first) => first,
            second = second => {
                tracing::warn!(target: "coord::service", service, signal = ?second,
                    "a second signal: ending now");
                second
            }
        };
        self.exit(why).await;
    }

    /// Stops the service. Returns only if that is impossible: the thread that runs `main` is blocked.
    async fn stop(&self, first: Stop) {
        let State {
            context,
            clock,
            main_ended,
            ..
        } = &*self.0;
        context.leaving().cancel();
        tokio::select! {
            () = self.withdraw(first) => {}
            () = main_ended.cancelled() => {}
        }
        self.0.told.get_or_init(|| clock.now());
        context.tell();
        let limit = self.0.shutdown_timeout;
        if clock.timeout(limit, main_ended.cancelled()).await.is_err() {
            tracing::warn!(
                target: "coord::service",
                service = context.service(),
                "main has not returned {} after it was told to stop: dropping it",
                humantime::format_duration(limit),
            );
            self.0.forced.cancel();
            if clock
                .timeout(DROP_LIMIT, main_ended.cancelled())
                .await
                .is_err()
            {
                return;
            }
        }
        // Closing goes on; a second signal ends that too.
        std::future::pending().await
    }

    /// Out of the routable ones first; then those who have not heard of it yet are still served.
    async fn withdraw(&self, first: Stop) {
        let State {
            context,
            clock,
            drain,
            ..
        } = &*self.0;
        let Some(registration) = context.registered() else {
            return;
        };
        // Also while it is being registered again: others may still use what they have heard before.
        let known = context.readiness().is_cancelled() && registration.is_kept();
        let told = clock.timeout(LAST_CALL, registration.withdraw()).await;
        if told.is_err() {
            tracing::warn!(target: "coord::service", service = context.service(),
                "no answer from etcd: the record goes when etcd answers, or with its lease");
        }
        if !known || first == Stop::Interrupt {
            return;
        }
        let quiet = async {
            // Else those who have not called for a while can still find it.
            match told {
                Ok(()) => context.requests().quiet().await,
                Err(Elapsed) => std::future::pending().await,
            }
        };
        let service = context.service();
        match clock.timeout(*drain, quiet).await {
            Ok(quiet) => tracing::info!(target: "coord::service", service,
                "drained: no new request for {}", humantime::format_duration(quiet)),
            Err(Elapsed) => tracing::info!(target: "coord::service", service,
                "drained for {}", humantime::format_duration(*drain)),
        }
    }

    /// Ends the process, whatever its other threads do. What they do may use the ids: they expire.
    async fn exit(&self, why: Stop) {
        let State { context, clock, .. } = &*self.0;
        context.coordinator().abandon_ids();
        if let Some(registration) = context.registered() {
            // Else its record goes with its lease.
            let _ = clock.timeout(LAST_CALL, registration.leave()).await;
        }
        let _ = clock
            .timeout(LAST_CALL, context.coordinator().close())
            .await;
        std::process::exit(why.exit_code());
    }
}
