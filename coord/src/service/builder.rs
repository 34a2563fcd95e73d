//! [`Service`]: what a service says of itself, by the macro's words or by hand.

use std::{marker::PhantomData, process::ExitCode, time::Duration};

use super::{
    Context,
    extract::{MainReturn, Returns},
    launch, launch_sync,
};

/// No instance id is claimed.
#[derive(Debug)]
pub struct NoId;
/// An instance id is claimed, so `main` can be given it.
#[derive(Debug)]
pub struct WithId;

/// When a service is ready, so that others find it: the word `ready`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready {
    /// Once `main` has called [`Context::ready`]. Where nobody chose, `Context::serve_tonic` (feature
    /// `grpc`) calls it, too.
    #[default]
    Manual,
    /// Once `main` has taken all of its listeners: from then on it accepts.
    Listening,
    /// As soon as `main` begins.
    Immediate,
}

/// What becomes of a service whose instance id was lost: the word `on_lost` of `instance_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnIdLost {
    /// It stops as after SIGTERM, and its exit code says failure: who starts it again gives it an id.
    #[default]
    Exit,
    /// It goes on, and [`InstanceId::get`](crate::InstanceId::get) fails.
    Degrade,
}

/// What a service does when all instance ids are taken: the word `on_exhausted` of `instance_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnExhausted {
    /// It waits for one, before `main` runs.
    #[default]
    Wait,
    /// It does not start.
    Fail,
}

/// A service, written by hand: what `#[coord::service]` makes of its words.
///
/// Each word is a method, and can be overridden by the environment: what they mean stands with
/// [`#[coord::service]`](macro@crate::service).
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

/// Values by name. The name of what has none is empty.
pub(super) type Named<T> = Vec<(String, T)>;

/// The words, before the environment.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Cargo's own values for the user's crate, beneath everything else.
    pub(super) crate_name: Option<&'static str>,
    pub(super) crate_version: Option<&'static str>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) endpoints: Option<Vec<String>>,
    pub(super) listen: Option<Named<String>>,
    pub(super) advertise: Option<Named<String>>,
    pub(super) zone: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) metadata: Option<Named<String>>,
    pub(super) ttl: Option<Duration>,
    pub(super) ready: Option<Ready>,
    pub(super) drain: Option<Duration>,
    pub(super) quiet: Option<Duration>,
    pub(super) shutdown_timeout: Option<Duration>,
    /// The inner `None`: it is switched off.
    pub(super) watchdog: Option<Option<Duration>>,
    pub(super) etcd_down: Option<Duration>,
    pub(super) id: Option<GivenId>,
    pub(super) runtime: GivenRuntime,
    pub(super) before: Option<fn()>,
}

/// The words of `instance_id`.
#[derive(Debug)]
pub(super) struct GivenId {
    pub(super) max: u32,
    pub(super) pool: Option<String>,
    pub(super) hold: Option<Duration>,
    pub(super) cool_down: Option<Duration>,
    pub(super) window: Option<Duration>,
    pub(super) dense: bool,
    pub(super) sticky: bool,
    pub(super) on_lost: Option<OnIdLost>,
    pub(super) on_exhausted: Option<OnExhausted>,
}

/// The words of `runtime`.
#[derive(Clone, Debug, Default)]
pub(super) struct GivenRuntime {
    pub(super) current_thread: bool,
    pub(super) worker_threads: Option<usize>,
    pub(super) thread_name: Option<String>,
    pub(super) builder: Option<fn() -> tokio::runtime::Builder>,
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
        service.given.crate_name = binary.or(package);
        service.given.crate_version = version;
        service
    }

    fn unnamed() -> Self {
        Self {
            given: Given::default(),
            scope: PhantomData,
        }
    }

    /// Claims an instance id of 0 to `max`, before `main` runs.
    pub fn instance_id(mut self, max: u32) -> Service<WithId> {
        self.given.id = Some(GivenId {
            max,
            pool: None,
            hold: None,
            cool_down: None,
            window: None,
            dense: false,
            sticky: false,
            on_lost: None,
            on_exhausted: None,
        });
        Service {
            given: self.given,
            scope: PhantomData,
        }
    }
}

impl Service<WithId> {
    fn id(mut self, set: impl FnOnce(&mut GivenId)) -> Self {
        set(self.given.id.as_mut().expect("`instance_id` has set it"));
        self
    }

    /// See the macro's `instance_id(pool = …)`.
    pub fn id_pool(self, pool: impl Into<String>) -> Self {
        self.id(|id| id.pool = Some(pool.into()))
    }

    /// See the macro's `instance_id(hold = …)`.
    pub fn id_hold(self, hold: Duration) -> Self {
        self.id(|id| id.hold = Some(hold))
    }

    /// See the macro's `instance_id(cool_down = …)`.
    pub fn id_cool_down(self, cool_down: Duration) -> Self {
        self.id(|id| id.cool_down = Some(cool_down))
    }

    /// See the macro's `instance_id(window = …)`.
    pub fn id_window(self, length: Duration) -> Self {
        self.id(|id| id.window = Some(length))
    }

    /// See the macro's `instance_id(order = dense)`.
    pub fn id_dense(self) -> Self {
        self.id(|id| id.dense = true)
    }

    /// See the macro's `instance_id(sticky = true)`.
    pub fn id_sticky(self) -> Self {
        self.id(|id| id.sticky = true)
    }

    /// See the macro's `instance_id(on_lost = …)`.
    pub fn id_on_lost(self, on_lost: OnIdLost) -> Self {
        self.id(|id| id.on_lost = Some(on_lost))
    }

    /// See the macro's `instance_id(on_exhausted = …)`.
    pub fn id_on_exhausted(self, on_exhausted: OnExhausted) -> Self {
        self.id(|id| id.on_exhausted = Some(on_exhausted))
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

    /// See the macro's `namespace`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.given.namespace = Some(namespace.into());
        self
    }

    /// See the macro's `endpoints`.
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.given.endpoints = Some(endpoints.into_iter().map(Into::into).collect());
        self
    }

    /// The one address to listen on: see the macro's `listen`.
    pub fn listen(self, address: impl Into<String>) -> Self {
        self.listen_named("", address)
    }

    /// One of several addresses to listen on, and its name: see the macro's `listen(…)`. The first is
    /// the one that others use who ask for no name.
    pub fn listen_named(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        put(&mut self.given.listen, name.into(), address.into());
        self
    }

    /// See the macro's `advertise`.
    pub fn advertise(self, address: impl Into<String>) -> Self {
        self.advertise_named("", address)
    }

    /// What others are told of one named listener: see the macro's `advertise(…)`.
    pub fn advertise_named(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        put(&mut self.given.advertise, name.into(), address.into());
        self
    }

    /// See the macro's `zone`.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.given.zone = Some(zone.into());
        self
    }

    /// See the macro's `weight`.
    pub fn weight(mut self, weight: u32) -> Self {
        self.given.weight = Some(weight);
        self
    }

    /// See the macro's `tags`.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.given.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// One entry of the macro's `metadata`.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        put(&mut self.given.metadata, key.into(), value.into());
        self
    }

    /// See the macro's `ttl`.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.given.ttl = Some(ttl);
        self
    }

    /// See the macro's `ready`.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.given.ready = Some(ready);
        self
    }

    /// See the macro's `drain`.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.given.drain = Some(drain);
        self
    }

    /// See the macro's `quiet`.
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.given.quiet = Some(quiet);
        self
    }

    /// See the macro's `shutdown_timeout`.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.given.shutdown_timeout = Some(limit);
        self
    }

    /// See the macro's `watchdog`.
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.given.watchdog = Some(Some(limit));
        self
    }

    /// See the macro's `watchdog = off`.
    pub fn no_watchdog(mut self) -> Self {
        self.given.watchdog = Some(None);
        self
    }

    /// See the macro's `etcd_down`.
    pub fn etcd_down(mut self, limit: Duration) -> Self {
        self.given.etcd_down = Some(limit);
        self
    }

    /// See the macro's `before`.
    pub fn before(mut self, before: fn()) -> Self {
        self.given.before = Some(before);
        self
    }

    /// See the macro's `runtime(flavor = current_thread)`.
    pub fn current_thread(mut self) -> Self {
        self.given.runtime.current_thread = true;
        self
    }

    /// See the macro's `runtime(worker_threads = …)`.
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.given.runtime.worker_threads = Some(threads);
        self
    }

    /// See the macro's `runtime(thread_name = …)`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.given.runtime.thread_name = Some(name.into());
        self
    }

    /// See the macro's `runtime(builder = …)`.
    pub fn runtime_builder(mut self, builder: fn() -> tokio::runtime::Builder) -> Self {
        self.given.runtime.builder = Some(builder);
        self
    }

    /// Runs the service to its end. Call it from `main`, outside any runtime, and return what it
    /// returns.
    ///
    /// In a test, call it in `spawn_blocking`: on a runtime of `#[coord::test]` it uses that test's
    /// etcd, whatever its endpoints are, reads no variable of the environment and watches no signal:
    /// those are the test runner's. [`Context::stop`] stops it.
    pub fn run<R: MainReturn>(self, main: impl AsyncFnOnce(Context) -> R) -> ExitCode {
        launch(
            self,
            Returns::new(),
            async |context: &Context| Ok(context.clone()),
            async |context| main(context).await,
        )
    }

    /// [`run`](Self::run) with a `main` that is not async: it runs on the calling thread, with the
    /// service's runtime beside it.
    pub fn run_blocking<R: MainReturn>(self, main: impl FnOnce(Context) -> R) -> ExitCode {
        launch_sync(
            self,
            Returns::new(),
            async |context: &Context| Ok(context.clone()),
            main,
        )
    }
}

/// Adds a value, in place of one with the same name.
fn put(all: &mut Option<Named<String>>, name: String, value: String) {
    let all = all.get_or_insert_default();
    match all.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => all.push((name, value)),
    }
}
