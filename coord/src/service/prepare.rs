//! What comes before `main`: the instance id, the registration, the arguments.

use std::time::Duration;

use super::{
    Context, Ended, Life,
    builder::{OnExhausted, OnIdLost, Ready},
    extract::StartError,
    settings::IdSettings,
    signals::Stop,
};
use crate::{
    clock::Clock,
    error::{Error, LostReason, Result},
    instance_id::InstanceId,
};

/// A service that is not ready after this long has probably forgotten to say so.
const NOT_READY: Duration = Duration::from_secs(30);

impl Life {
    /// All that comes before `main`.
    pub(super) async fn prepare<A, R>(
        &self,
        arguments: impl AsyncFnOnce(&Context) -> Result<A, StartError>,
    ) -> Result<A, Ended<R>> {
        let prepare = async {
            self.claim().await?;
            self.enroll()?;
            arguments(&self.context).await
        };
        let arguments = tokio::select! {
            biased;
            () = self.stopping.begun() => return Err(Ended::Stopped),
            prepared = prepare => prepared.map_err(Ended::Failed)?,
        };
        let context = self.context.clone();
        match self.settings.ready {
            Ready::Manual => {}
            Ready::Immediate => context.ready(),
            Ready::Listening => drop(self.tasks.spawn(async move {
                context.listeners().all_taken().await;
                context.ready();
            })),
        }
        Ok(arguments)
    }

    /// Claims the instance id, if the service has one. A full pool is waited for.
    async fn claim(&self) -> Result<()> {
        let Some(settings) = &self.settings.id else {
            return Ok(());
        };
        let give_up = self.clock.now() + self.settings.etcd_down;
        let id = loop {
            match self.acquire(settings).await {
                Ok(id) => break id,
                Err(error @ Error::Exhausted { .. }) => return Err(error),
                // It has waited between its own tries.
                Err(error) if error.is_retryable() && self.clock.now() < give_up => {}
                Err(error) => return Err(error),
            }
        };
        self.context.set_id(id.clone());
        if settings.on_lost == OnIdLost::Exit {
            let (context, stopping) = (self.context.clone(), self.stopping.clone());
            self.tasks.spawn(async move {
                let reason = tokio::select! {
                    biased;
                    // Then it is given back, which is no loss.
                    () = stopping.main_ended() => return,
                    reason = id.lost() => reason,
                };
                if reason != LostReason::Closed {
                    tracing::error!(target: "coord::service", service = context.service(), %reason,
                        "the instance id is lost: stopping");
                    context.ask(Stop::IdLost);
                }
            });
        }
        Ok(())
    }

    async fn acquire(&self, settings: &IdSettings) -> Result<InstanceId> {
        let coordinator = self.context.coordinator();
        let mut ids = coordinator.instance_ids(&settings.pool, 0..=settings.max);
        if let Some(hold) = settings.hold {
            ids = ids.hold(hold);
        }
        if let Some(cool_down) = settings.cool_down {
            ids = ids.cool_down(cool_down);
        }
        if let Some(window) = settings.window {
            ids = ids.window(window);
        }
        if settings.dense {
            ids = ids.dense();
        }
        if settings.sticky {
            ids = ids.sticky();
        }
        match settings.on_exhausted {
            OnExhausted::Wait => ids.acquire().await,
            OnExhausted::Fail => ids.try_acquire().await,
        }
    }

    /// Begins the registration, not routable yet.
    fn enroll(&self) -> Result<()> {
        let addresses = match &self.addresses {
            Ok(addresses) => addresses,
            Err(why) => {
                self.context.set_registration(Err(why.clone()));
                return Ok(());
            }
        };
        let settings = &self.settings;
        let mut spec = settings.spec(&addresses.main);
        for (name, address) in &addresses.named {
            spec = spec.endpoint(name, address);
        }
        if let Some(limit) = settings.watchdog {
            spec = spec.watchdog(limit);
        }
        if let Some(id) = self.context.id() {
            spec = spec.id(id.get()?, id.fencing_token());
        }
        let registration = self.context.coordinator().registry().enroll(spec)?;
        self.context.set_registration(Ok(registration));
        let (context, clock) = (self.context.clone(), self.clock.clone());
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            let ready = async {
                tokio::select! {
                    () = context.readiness().cancelled() => {}
                    () = stopping.begun() => {}
                    () = stopping.main_ended() => {}
                }
            };
            warn_unless(ready, context.service(), &clock).await;
        });
        Ok(())
    }
}

/// One warning, if it is not `ready` for long.
async fn warn_unless(ready: impl Future<Output = ()>, service: &str, clock: &Clock) {
    if clock.timeout(NOT_READY, ready).await.is_err() {
        tracing::warn!(
            target: "coord::service",
            service,
            "not ready after {}: others do not find it before it calls `ctx.ready()`",
            humantime::format_duration(NOT_READY),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        pin::pin,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn lines(&self) -> Vec<String> {
            let log = self.0.lock().expect("not poisoned");
            let text = String::from_utf8(log.clone()).expect("text");
            text.lines().map(ToOwned::to_owned).collect()
        }
    }

    #[tokio::test]
    async fn one_warning_names_what_makes_it_ready_and_none_comes_if_it_is() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _logs = tracing::subscriber::set_default(subscriber);
        let (clock, hand) = Clock::manual();

        let mut waiting = pin!(warn_unless(std::future::pending(), "slow", &clock));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        hand.advance(NOT_READY - Duration::from_millis(1));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(log.lines(), [""; 0]);
        hand.advance(Duration::from_millis(1));
        waiting.await;
        let [warning] = &log.lines()[..] else {
            panic!("one: {:?}", log.lines());
        };
        assert!(warning.contains(" WARN "), "{warning}");
        assert!(
            warning.contains("slow") && warning.contains("ctx.ready()"),
            "{warning}"
        );

        warn_unless(std::future::ready(()), "fast", &clock).await;
        hand.advance(NOT_READY);
        assert_eq!(log.lines().len(), 1);
    }
}
