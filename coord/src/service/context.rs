//! [`Context`]: what a service's `main` knows of itself. [`Shutdown`]: when it is to stop.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::Poll,
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{listeners::Listeners, requests::Requests, settings::Settings, signals::Stop};
use crate::{
    clock::Clock,
    coordinator::Coordinator,
    error::{Context as ErrorContext, Error, Result},
    instance_id::InstanceId,
    registry::Registration,
    tasks::Tasks,
};

/// A running service, for its `main`: its listener, its id, when it is ready and when it is to stop.
/// Cheap to clone; every clone is the same service.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    coordinator: Coordinator,
    listeners: Listeners,
    /// Set before `main` runs, if the service has one.
    id: OnceLock<InstanceId>,
    /// Set before `main` runs; or why there is none.
    registration: OnceLock<Result<Registration, String>>,
    ready: CancellationToken,
    leaving: CancellationToken,
    /// Why it is to stop, if it is not a signal; then the token is cancelled.
    asked: OnceLock<Stop>,
    stop: CancellationToken,
    shutdown: CancellationToken,
    requests: Requests,
    #[cfg(feature = "grpc")]
    serve: super::grpc::Terms,
}

impl Context {
    pub(super) fn new(
        settings: &Settings,
        clock: &Clock,
        tasks: Tasks,
        coordinator: Coordinator,
        listeners: Listeners,
    ) -> Self {
        Self(Arc::new(Inner {
            name: settings.name.clone(),
            coordinator,
            listeners,
            id: OnceLock::new(),
            registration: OnceLock::new(),
            ready: CancellationToken::new(),
            leaving: CancellationToken::new(),
            asked: OnceLock::new(),
            stop: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            requests: Requests::new(clock.clone(), tasks),
            #[cfg(feature = "grpc")]
            serve: super::grpc::Terms::new(settings, clock),
        }))
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.0.name
    }

    /// The service's coordinator: locks, config, the registry. `#[locked]` functions on the service's
    /// runtime use it by themselves.
    #[must_use]
    pub fn coordinator(&self) -> &Coordinator {
        &self.0.coordinator
    }

    /// The listener on the address that `listen` names. Its address is what others are told, once
    /// [`ready`](Self::ready) has been called. It was bound before `main` began: until it is accepted
    /// from, connections wait.
    ///
    /// Call it on the service's runtime.
    ///
    /// # Errors
    /// [`NotConfigured`](Error::NotConfigured) without `listen`; [`Invalid`](Error::Invalid) if there
    /// are [several](Self::listeners), if it was taken before (it closes when its one owner drops it), or
    /// on a thread without a runtime.
    pub fn listener(&self) -> Result<tokio::net::TcpListener> {
        self.0.listeners.only()
    }

    /// The listeners by name, of a service that has several.
    #[must_use]
    pub fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    /// From here on other services find this one. Until then it is registered as starting, which
    /// nobody routes to. A second call does nothing.
    pub fn ready(&self) {
        if self.0.ready.is_cancelled() {
            return;
        }
        self.0.ready.cancel();
        match self.0.registration.get() {
            Some(Ok(registration)) => {
                registration.publish();
                tracing::info!(target: "coord::service", service = self.service(),
                    instance = registration.instance(), address = registration.address(),
                    "ready: others find it, as soon as etcd answers");
            }
            Some(Err(why)) => tracing::warn!(target: "coord::service", service = self.service(),
                "ready, but not published, since others could not reach it: {why}"),
            // Only an extractor can call it as early as that.
            None => {}
        }
    }

    /// The service's registration: its health and its weight can be set.
    ///
    /// # Errors
    /// [`NotConfigured`](Error::NotConfigured) if it has none, since others could not reach it: the
    /// error says why.
    pub fn registration(&self) -> Result<&Registration> {
        let why = match self.0.registration.get() {
            Some(Ok(registration)) => return Ok(registration),
            Some(Err(why)) => why.clone(),
            // Nobody has a context as early as that.
            None => "it has not begun".to_owned(),
        };
        Err(Error::NotConfigured {
            context: ErrorContext::new("use the service's registration").key(self.service()),
            detail: format!("it is not registered: {why}"),
        })
    }

    /// Stops the service as SIGTERM does: others no longer find it, and once the drain is over
    /// [`shutdown`](Self::shutdown) is done. Returns at once. What `main` returns then is the exit code.
    ///
    /// How a test stops a service that it runs.
    pub fn stop(&self) {
        self.ask(Stop::Asked);
    }

    /// The service's instance id.
    ///
    /// # Errors
    /// [`NotConfigured`](Error::NotConfigured) without `instance_id(max = …)`.
    pub fn instance_id(&self) -> Result<InstanceId> {
        self.0
            .id
            .get()
            .cloned()
            .ok_or_else(|| Error::NotConfigured {
                context: ErrorContext::new("use the service's instance id"),
                detail: "none is claimed: add `instance_id(max = 1023)` to `#[coord::service]`"
                    .into(),
            })
    }

    /// Done when the service is to stop: others no longer find it, and the drain is over. Stop
    /// accepting then, finish what has begun, and return from `main`.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.0.shutdown.clone())
    }

    pub(super) fn set_id(&self, id: InstanceId) {
        // Set once, by the start.
        let _ = self.0.id.set(id);
    }

    pub(super) fn id(&self) -> Option<&InstanceId> {
        self.0.id.get()
    }

    /// `registration`: or why others could not reach it.
    pub(super) fn set_registration(&self, registration: Result<Registration, String>) {
        // Set once, by the start.
        let _ = self.0.registration.set(registration);
    }

    pub(super) fn registered(&self) -> Option<&Registration> {
        self.0.registration.get()?.as_ref().ok()
    }

    pub(super) fn readiness(&self) -> &CancellationToken {
        &self.0.ready
    }

    /// The first who asks says why.
    pub(super) fn ask(&self, why: Stop) {
        let _ = self.0.asked.set(why);
        self.0.stop.cancel();
    }

    /// Done when the program, not a signal, has asked it to stop.
    pub(super) async fn asked(&self) -> Stop {
        self.0.stop.cancelled().await;
        // It is set before the token is cancelled.
        self.0.asked.get().copied().unwrap_or(Stop::Asked)
    }

    /// Cancelled when it begins to stop: before others are told, and before the drain.
    pub(super) fn leaving(&self) -> &CancellationToken {
        &self.0.leaving
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.0.requests
    }

    pub(super) fn tell(&self) {
        self.0.shutdown.cancel();
    }

    #[cfg(feature = "grpc")]
    pub(super) fn serve_terms(&self) -> &super::grpc::Terms {
        &self.0.serve
    }
}

/// A future that is done when the service is to stop. Clones are done at the same time, and stay so.
///
/// ```
/// # async fn serve(context: coord::Context) {
/// // What servers ask for: `server.with_graceful_shutdown(context.shutdown())`, or:
/// let shutdown = context.shutdown();
/// tokio::spawn(async move {
///     shutdown.await;
///     println!("stopping");
/// });
/// # }
/// ```
#[must_use = "a future does nothing unless it is polled"]
pub struct Shutdown {
    token: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Shutdown {
    fn new(token: CancellationToken) -> Self {
        Self {
            waiting: Box::pin(token.clone().cancelled_owned()),
            token,
        }
    }
}

impl Clone for Shutdown {
    fn clone(&self) -> Self {
        Self::new(self.token.clone())
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        // A future that is done may not be polled again; this one may.
        match self.token.is_cancelled() {
            true => Poll::Ready(()),
            false => self.waiting.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("requested", &self.token.is_cancelled())
            .finish_non_exhaustive()
    }
}
