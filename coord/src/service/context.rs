//! [`Context`]: what a service's `main` knows of itself. [`Shutdown`]: when it is to stop.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::Poll,
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    coordinator::Coordinator,
    error::{Context as ErrorContext, Error, Result},
    instance_id::InstanceId,
    registry::Registration,
};

/// A running service, for its `main`: its listener, its id, when it is ready and when it is to stop.
/// Cheap to clone; every clone is the same service.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    coordinator: Coordinator,
    listener: Mutex<Option<std::net::TcpListener>>,
    bound: Option<SocketAddr>,
    /// Set before `main` runs, if the service has one.
    id: OnceLock<InstanceId>,
    /// Set before `main` runs; or why there is none.
    registration: OnceLock<Result<Registration, &'static str>>,
    ready: CancellationToken,
    shutdown: CancellationToken,
}

impl Context {
    pub(super) fn new(
        name: &str,
        coordinator: Coordinator,
        listener: Option<std::net::TcpListener>,
    ) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            coordinator,
            bound: listener
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
            listener: Mutex::new(listener),
            id: OnceLock::new(),
            registration: OnceLock::new(),
            ready: CancellationToken::new(),
            shutdown: CancellationToken::new(),
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
    /// [`NotConfigured`](Error::NotConfigured) without `listen`; [`Invalid`](Error::Invalid) if it was
    /// taken before: it closes when its one owner drops it.
    pub fn listener(&self) -> Result<tokio::net::TcpListener> {
        const OPERATION: &str = "take the service's listener";
        if self.0.bound.is_none() {
            return Err(Error::NotConfigured {
                context: ErrorContext::new(OPERATION),
                detail: "it listens nowhere: add `listen = \"0.0.0.0:50051\"` to \
                         `#[coord::service]`, or set COORD_LISTEN"
                    .into(),
            });
        }
        let mut listener = self
            .0
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let listener = listener
            .take()
            .ok_or_else(|| Error::invalid(OPERATION, "it was taken before"))?;
        tokio::net::TcpListener::from_std(listener).map_err(|error| Error::Unavailable {
            context: ErrorContext::new(OPERATION).cause(error),
            maybe_applied: false,
            detail: "the runtime does not take it".into(),
        })
    }

    /// From here on other services find this one. Until then it is registered as starting, which
    /// nobody routes to. A second call does nothing.
    pub fn ready(&self) {
        if self.0.ready.is_cancelled() {
            return;
        }
        self.0.ready.cancel();
        match self.0.registration.get() {
            Some(Ok(registration)) => registration.publish(),
            Some(Err(why)) => tracing::warn!(target: "coord::service", service = self.service(),
                "ready, but not published, since others could not reach it: {why}"),
            // Only an extractor can call it as early as that.
            None => {}
        }
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
    pub(super) fn set_registration(&self, registration: Result<Registration, &'static str>) {
        // Set once, by the start.
        let _ = self.0.registration.set(registration);
    }

    pub(super) fn registration(&self) -> Option<&Registration> {
        self.0.registration.get()?.as_ref().ok()
    }

    pub(super) fn readiness(&self) -> &CancellationToken {
        &self.0.ready
    }

    pub(super) fn stop(&self) {
        self.0.shutdown.cancel();
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
