//! [`Check`]: a function of the user's that says, time and again, whether an instance can serve.

use std::{error::Error as StdError, fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    instance::InstanceHealth,
    wish::{Stage, Wish},
};
use crate::{engine::Engine, tasks::Tasks};

type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The function and how often it is called.
#[derive(Clone)]
pub(super) struct Check {
    call: Arc<dyn Fn() -> Running + Send + Sync>,
    /// `None`: as the options say.
    pub(super) interval: Option<Duration>,
}

impl Check {
    pub(super) fn new<F, R, E>(check: F, interval: Option<Duration>) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let call = move || -> Running {
            let running = check();
            Box::pin(async move { running.await.map_err(Into::into) })
        };
        Self {
            call: Arc::new(call),
            interval,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        (self.interval == Some(Duration::ZERO))
            .then(|| "the interval of the health check: must be more than zero".to_owned())
    }

    /// Calls the function until the instance leaves, and tells of each new result.
    ///
    /// The function runs on the `user`'s runtime: coord's own thread must not wait for it, and what it
    /// asks may need that runtime.
    pub(super) async fn run(self, engine: Engine, user: Tasks, wish: Arc<watch::Sender<Wish>>) {
        let interval = (self.interval).unwrap_or(engine.options.registry.health_check_interval);
        let mut leaving = wish.subscribe();
        let repeated = async {
            loop {
                let begun = engine.clock.now();
                self.once(&engine, &user, interval, &wish).await;
                engine.clock.sleep_until(begun + interval).await;
            }
        };
        tokio::select! {
            () = repeated => {}
            // An error: nobody wants anything of it any more.
            _ = leaving.wait_for(|wish| wish.stage >= Stage::Withdrawn) => {}
        }
    }

    async fn once(
        &self,
        engine: &Engine,
        user: &Tasks,
        limit: Duration,
        wish: &watch::Sender<Wish>,
    ) {
        let (call, clock) = (self.call.clone(), engine.clock.clone());
        // The call itself is made there too: it may panic or block like the future that it gives.
        let mut running = user.spawn(async move { clock.timeout(limit, call()).await });
        // A function that blocks its thread does not see its own limit.
        match engine.clock.timeout(limit, &mut running).await {
            Ok(answer) => tell(wish, answer, limit),
            Err(elapsed) => {
                tell(wish, Some(Err(elapsed)), limit);
                // Not a second one beside it. What it says is too late to count.
                running.await;
            }
        }
    }
}

/// `answer`: `None` if the function panicked or its runtime has ended.
fn tell(
    wish: &watch::Sender<Wish>,
    answer: Option<Result<Outcome, crate::clock::Elapsed>>,
    limit: Duration,
) {
    let trouble = match answer {
        Some(Ok(Ok(()))) => None,
        Some(Ok(Err(error))) => Some(error.to_string()),
        Some(Err(_)) => Some(format!(
            "no result within {}",
            humantime::format_duration(limit)
        )),
        None => Some("it panicked, or its runtime has ended".to_owned()),
    };
    let found = match trouble {
        None => InstanceHealth::Healthy,
        Some(_) => InstanceHealth::Unhealthy,
    };
    wish.send_if_modified(|wish| {
        let changed = wish.checked != found;
        if changed {
            match &trouble {
                None => tracing::info!(target: "coord::registry", instance = wish.record.instance,
                    service = wish.record.service, "the health check succeeds"),
                Some(trouble) => tracing::warn!(target: "coord::registry",
                    instance = wish.record.instance, service = wish.record.service, trouble,
                    "the health check fails: others do not find the instance"),
            }
            wish.checked = found;
            wish.number += 1;
        }
        changed
    });
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
