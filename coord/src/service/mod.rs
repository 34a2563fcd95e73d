//! The life of an annotated `main`.
//!
//! | step | what | if it fails |
//! |---|---|---|
//! | connect | goes on trying for a minute | the process ends with 1 |
//! | bind | the listeners; what addresses others are told follows from them | ends with 1 |
//! | claim | the instance id; the record that says "starting" | ends with 1 |
//! | run | the arguments, then `main`; `ready()` publishes the record | see below |
//! | drain | after SIGTERM: the record is marked and removed; requests still come, until they do not | |
//! | stop | `shutdown()` is done; `main` is waited for | past the limit it is dropped |
//! | deregister | what of the record is left | it runs out |
//! | close | the runtime ends, then the id is given back, then the connections end | it runs out |
//!
//! # Invariants
//! 1. Registered means routable: the record comes after `ready()`, and goes before `main` is told to
//!    stop.
//! 2. The id is given back last, and only if `main` and its tasks have ended. After a panic, a second
//!    signal or a `main` that would not stop, something may still be using it: it is left to expire,
//!    with every id that the service claimed besides.
//! 3. The signals are watched on a thread of the service's own, so that a `main` that blocks its
//!    threads can still be ended.

mod address;
mod builder;
mod context;
mod environment;
mod extract;
#[cfg(feature = "grpc")]
mod grpc;
mod listeners;
mod prepare;
mod requests;
mod settings;
mod signals;
mod stopping;

use std::{
    error::Error as StdError,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use address::Addresses;
pub use builder::{NoId, OnExhausted, OnIdLost, Ready, Service, WithId};
pub use context::{Context, Shutdown};
use extract::StartError;
pub use extract::{FromContext, MainReturn, Returns, argument, returns};
pub use listeners::Listeners;
use settings::Settings;
use signals::{Signals, Stop};
use stopping::Stopping;
use tokio::runtime::{Builder, Runtime, RuntimeFlavor};
use tokio_util::sync::CancellationToken;
use tracing::subscriber::NoSubscriber;

use crate::{
    clock::Clock,
    coordinator::Coordinator,
    error::{Context as ErrorContext, Error, Result},
    global,
    options::Options,
    retry::Backoff,
    tasks::{Tasks, Thread},
};

/// How long one last call to etcd may take when the process ends.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The whole life. `arguments` makes what `main` takes.
pub fn launch<S, A, F, R>(
    service: Service<S>,
    returns: Returns<R>,
    arguments: impl AsyncFnOnce(&Context) -> Result<A, StartError>,
    main: impl FnOnce(A) -> F,
) -> ExitCode
where
    F: Future<Output = R>,
{
    live(service, returns, arguments, |life, runtime, arguments| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = life.stopping.forced() => Ended::Forced,
                returned = main(arguments) => Ended::Returned(returned),
            }
        })
    })
}

/// [`launch`] with a `main` that is not async: on the calling thread, with the runtime beside it.
/// It cannot be dropped: if it does not return in time, the process ends.
pub fn launch_sync<S, A, R>(
    service: Service<S>,
    returns: Returns<R>,
    arguments: impl AsyncFnOnce(&Context) -> Result<A, StartError>,
    main: impl FnOnce(A) -> R,
) -> ExitCode {
    live(service, returns, arguments, |_, runtime, arguments| {
        let handle = runtime.handle();
        if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let fault =
                "a `current_thread` runtime is not driven while a main that is not async runs";
            return Ended::Failed(Error::invalid("run the service's main", fault).into());
        }
        let _entered = runtime.enter();
        Ended::Returned(main(arguments))
    })
}

fn live<S, A, R>(
    service: Service<S>,
    returns: Returns<R>,
    arguments: impl AsyncFnOnce(&Context) -> Result<A, StartError>,
    main: impl FnOnce(&Life, &Runtime, A) -> Ended<R>,
) -> ExitCode {
    if let Some(before) = service.given.before {
        before();
    }
    let life = match start(service) {
        Ok(Some(life)) => life,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return not_started(&error),
    };
    let runtime = match life.runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            life.close(true);
            return not_started(&error);
        }
    };
    let carried = global::enter(life.context.coordinator());
    // Nothing of ours is left half done by a panic of the user's: all that follows is closing.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        match runtime.block_on(life.prepare(arguments)) {
            Ok(arguments) => main(&life, &runtime, arguments),
            Err(ended) => ended,
        }
    }));
    drop(carried);
    let ended = ended.unwrap_or(Ended::Panicked);
    life.deregister();
    let id_is_free = life.end_tasks(runtime, &ended);
    life.close(id_is_free);
    let code = match ended {
        Ended::Returned(returned) => returns.report(returned),
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Failed(error) => not_started(&*error),
        Ended::Forced => ExitCode::FAILURE,
        // Its message has been printed by the panic hook. This is the code of any Rust program.
        Ended::Panicked => ExitCode::from(101),
    };
    match (code, life.stopping.cause()) {
        // Who starts it again, after a failure, gives it another id.
        (ExitCode::SUCCESS, Some(Stop::IdLost)) => ExitCode::FAILURE,
        (code, _) => code,
    }
}

/// How `main` ended.
enum Ended<R> {
    Returned(R),
    /// It was asked to stop before it began.
    Stopped,
    /// It could not be started.
    Failed(StartError),
    /// It did not stop in time, and was dropped.
    Forced,
    Panicked,
}

/// As `main` prints an error that it returns, but for people.
fn not_started(error: &(dyn StdError + 'static)) -> ExitCode {
    eprintln!("Error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

/// A service from its connection on.
struct Life {
    settings: Settings,
    context: Context,
    /// What others are told, or why they cannot be.
    addresses: Result<Addresses, String>,
    clock: Clock,
    stopping: Stopping,
    thread: Thread,
    /// What goes on beside `main`, on the service's own thread.
    tasks: Tasks,
}

/// `None`: a signal came first.
fn start<S>(service: Service<S>) -> Result<Option<Life>> {
    let carried = global::carried();
    let in_test = carried.is_some();
    let mut settings = match carried {
        // In a test: its etcd, and no other one that happens to stand in the environment.
        Some(coordinator) => {
            let options = coordinator?.options().clone();
            Settings::resolve(service.given, Ok(options), &|_| None)?
        }
        None => {
            let read = |name: &str| std::env::var(name).ok();
            Settings::resolve(service.given, Options::from_env(), &read)?
        }
    };
    tracing::info!(target: "coord::service", service = settings.name,
        "settings: {}", settings.won.join(", "));
    let thread =
        Thread::start("coord-service").map_err(|error| refused("start a thread", error))?;
    let clock = Clock::real(thread.clone());
    let mut signals = match in_test {
        // The process is the test runner's, and so is what Ctrl-C means to it. Once caught, a signal
        // would never again do what it does by itself.
        true => None,
        false => {
            let _runtime = thread.handle().enter();
            Some(Signals::catch().map_err(|error| refused("watch for signals", error))?)
        }
    };
    // Not left to the signals' own effect: the first process of a container has none.
    let coordinator = thread.handle().block_on(async {
        tokio::select! {
            biased;
            signal = Signals::next(&mut signals) => {
                tracing::info!(target: "coord::service", service = settings.name, ?signal, "not started");
                Ok(None)
            }
            connected = connect(&settings, &clock) => connected.map(Some),
        }
    });
    let Some(coordinator) = coordinator? else {
        return Ok(None);
    };
    let listeners = match bind(&settings) {
        Ok(listeners) => listeners,
        Err(error) => {
            thread.handle().block_on(coordinator.close());
            return Err(error);
        }
    };
    // As they took effect.
    settings.options = coordinator.options().clone();
    // Looks names up, which blocks: now, when no runtime waits for this thread.
    let etcd = &coordinator.options().endpoints;
    let addresses = address::advertised(&settings, etcd, listeners.bound());
    let tasks = thread.tasks(&CancellationToken::new());
    let context = Context::new(&settings, &clock, tasks.clone(), coordinator, listeners);
    let stopping = Stopping::new(context.clone(), clock.clone(), &settings);
    tasks.spawn(stopping.clone().watch(signals));
    global::set_global_if_none(context.coordinator());
    Ok(Some(Life {
        settings,
        context,
        addresses,
        clock,
        stopping,
        thread,
        tasks,
    }))
}

fn bind(settings: &Settings) -> Result<Listeners> {
    let bound = settings.listen.iter();
    let bound = bound.map(|(name, wanted)| Ok((name.clone(), address::bind(*wanted)?)));
    Listeners::new(bound.collect::<Result<_>>()?)
}

/// Goes on trying for as long as the settings say.
async fn connect(settings: &Settings, clock: &Clock) -> Result<Coordinator> {
    let give_up = clock.now() + settings.etcd_down;
    let mut backoff = Backoff::endless(Duration::from_millis(100), Duration::from_secs(2));
    let mut warned = false;
    loop {
        let error = match Coordinator::connect(settings.options.clone()).await {
            Ok(coordinator) => {
                if warned {
                    tracing::info!(target: "coord::service", service = settings.name,
                        "etcd answers: starting");
                }
                return Ok(coordinator.module(&settings.name));
            }
            Err(error) => error,
        };
        if !error.is_retryable() || clock.now() >= give_up {
            return Err(error);
        }
        if !std::mem::replace(&mut warned, true) {
            tracing::warn!(
                target: "coord::service",
                service = settings.name,
                endpoints = ?settings.options.endpoints,
                %error,
                "etcd does not answer; trying for {}",
                humantime::format_duration(settings.etcd_down),
            );
            // Else a first try without a subscriber looks like a service that hangs.
            if tracing::dispatcher::get_default(|it| it.is::<NoSubscriber>()) {
                eprintln!(
                    "etcd does not answer; trying for {}: {error}",
                    humantime::format_duration(settings.etcd_down),
                );
            }
        }
        clock.sleep(backoff.next_delay()).await;
    }
}

fn refused(operation: &'static str, error: std::io::Error) -> Error {
    Error::Unavailable {
        context: ErrorContext::new(operation).cause(error),
        maybe_applied: false,
        detail: "the machine refuses".into(),
    }
}

impl Life {
    /// The user's runtime; its threads carry the service's coordinator.
    fn runtime(&self) -> Result<Runtime> {
        let given = &self.settings.runtime;
        let mut builder = match given.builder {
            Some(builder) => builder(),
            None if given.current_thread => Builder::new_current_thread(),
            None => Builder::new_multi_thread(),
        };
        if let Some(threads) = given.worker_threads {
            builder.worker_threads(threads);
        }
        if let Some(name) = &given.thread_name {
            builder.thread_name(name);
        }
        global::carry(&mut builder, self.context.coordinator());
        let built = builder.enable_all().build();
        built.map_err(|error| refused("build the runtime", error))
    }

    /// `main` has ended, so nothing is served any more.
    fn deregister(&self) {
        self.stopping.set_main_ended();
        if let Some(registration) = self.context.registered() {
            self.last_call("deregister", registration.leave());
        }
    }

    /// Ends the user's runtime. True: nothing can be using the id any more.
    fn end_tasks<R>(&self, runtime: Runtime, ended: &Ended<R>) -> bool {
        match ended {
            Ended::Returned(_) | Ended::Stopped | Ended::Failed(_) => {}
            Ended::Forced | Ended::Panicked => {
                // Before its tasks are dropped, with the ids that they claimed for themselves.
                self.context.coordinator().abandon_ids();
                runtime.shutdown_background();
                return false;
            }
        }
        // Tasks end at their next await, blocking ones when they are done. Whether all have ended is
        // told by the time alone.
        let limit = self.stopping.time_left();
        let give_up = self.clock.now() + limit;
        runtime.shutdown_timeout(limit);
        let ended = self.clock.now() < give_up;
        if !ended {
            tracing::warn!(
                target: "coord::service",
                service = self.context.service(),
                "tasks of the service have not ended; its instance id is left to expire",
            );
        }
        ended
    }

    /// The last step: the id, then the connections.
    fn close(&self, id_is_free: bool) {
        let coordinator = self.context.coordinator();
        match self.context.id() {
            _ if !id_is_free => coordinator.abandon_ids(),
            Some(id) => self.last_call("release the instance id", async {
                if let Err(error) = id.release().await {
                    tracing::warn!(target: "coord::service", %error, "the id is left to expire");
                }
            }),
            None => {}
        }
        global::unset_global(coordinator);
        self.last_call("close", coordinator.close());
        // Now that there is nothing left that a second signal could end. A process that lives on may
        // run another service: this one must not take its signals for its own.
        self.thread.handle().block_on(self.tasks.close());
    }

    /// What it does not get done, the end of a lease does later.
    fn last_call(&self, what: &'static str, call: impl Future<Output = ()>) {
        let call = self.clock.timeout(LAST_CALL, call);
        if self.thread.handle().block_on(call).is_err() {
            tracing::warn!(target: "coord::service", service = self.context.service(),
                "no answer from etcd: not waiting any longer to {what}");
        }
    }
}
