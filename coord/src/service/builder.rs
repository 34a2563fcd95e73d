//! [`Service`]: what a service says of itself, by the macro's words or by hand.

use std::{marker::PhantomData, process::ExitCode, time::Duration};

use super::{
    Context,
    extract::{MainReturn, Returns},
    launch,
};

/// No instance id is claimed.
#[derive(Debug)]
pub struct NoId;
/// An instance id is claimed, so `main` can be given it.
#[derive(Debug)]
pub struct WithId;

/// A service, written by hand: what `#[coord::service]` makes of its words.
///
/// Every word can be overridden by the environment: see there.
///
/// ```no_run
/// use coord::{Context, Service};
///
/// fn main() -> std::process::ExitCode {
///     Service::new("user-service")
///         .listen("0.0.0.0:50051")
///         .instance_id(1023)
///         .run(async |context: Context| -> coord::Result<()> {
///             let listener = context.listener()?;
///             let id = context.instance_id()?;
///             context.ready();
///             println!("{} serves at {:?}", id.get()?, listener.local_addr());
///             context.shutdown().await;
///             Ok(())
///         })
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Service<S = NoId> {
    pub(super) given: Given,
    scope: PhantomData<fn() -> S>,
}

/// The words, before the environment.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) endpoints: Vec<String>,
    pub(super) listen: Option<String>,
    pub(super) ttl: Option<Duration>,
    pub(super) drain: Option<Duration>,
    pub(super) shutdown_timeout: Option<Duration>,
    pub(super) before: Option<fn()>,
    pub(super) max_id: Option<u32>,
    pub(super) current_thread: bool,
    pub(super) worker_threads: Option<usize>,
}

impl Service<NoId> {
    /// A service called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self::unnamed().name(name)
    }

    /// For the macro: Cargo's own values for the user's crate, beneath everything else.
    #[doc(hidden)]
    pub fn of_crate(
        binary: Option<&'static str>,
        package: Option<&'static str>,
        version: Option<&'static str>,
    ) -> Self {
        let mut service = Self::unnamed();
        service.given.name = binary.or(package).map(Into::into);
        service.given.version = version.map(Into::into);
        service
    }

    fn unnamed() -> Self {
        Self {
            given: Given::default(),
            scope: PhantomData,
        }
    }

    /// Claims an instance id of 0 to `max` from the pool with the service's name, before `main` runs.
    pub fn instance_id(mut self, max: u32) -> Service<WithId> {
        self.given.max_id = Some(max);
        Service {
            given: self.given,
            scope: PhantomData,
        }
    }
}

impl<S> Service<S> {
    /// See the macro's `name`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.given.name = Some(name.into());
        self
    }

    /// See the macro's `version`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.given.version = Some(version.into());
        self
    }

    /// See the macro's `endpoints`.
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.given.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// See the macro's `listen`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.given.listen = Some(address.into());
        self
    }

    /// See the macro's `ttl`.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.given.ttl = Some(ttl);
        self
    }

    /// See the macro's `drain`.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.given.drain = Some(drain);
        self
    }

    /// See the macro's `shutdown_timeout`.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.given.shutdown_timeout = Some(limit);
        self
    }

    /// See the macro's `before`.
    pub fn before(mut self, before: fn()) -> Self {
        self.given.before = Some(before);
        self
    }

    /// See the macro's `runtime(flavor = current_thread)`.
    pub fn current_thread(mut self) -> Self {
        self.given.current_thread = true;
        self
    }

    /// See the macro's `runtime(worker_threads = …)`.
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.given.worker_threads = Some(threads);
        self
    }

    /// Runs the service to its end. Call it from `main`, outside any runtime, and return what it
    /// returns.
    ///
    /// In a test, call it in `spawn_blocking`: on a runtime of `#[coord::test]` it uses that test's
    /// etcd, whatever its endpoints are, and reads no variable of the environment.
    pub fn run<R: MainReturn>(self, main: impl AsyncFnOnce(Context) -> R) -> ExitCode {
        launch(
            self,
            Returns::new(),
            async |context: &Context| Ok(context.clone()),
            async |context| main(context).await,
        )
    }
}
