//! The life of a test: start, run, end.
//!
//! # Invariants
//! 1. Whatever the body did, the tasks end first, then the coordinator is closed, then the server is
//!    shut down: nothing of a test talks to a server that is gone.
//! 2. Nothing that the body left behind holds up the end by more than [`TASKS_END`].
//! 3. A test that could not begin has failed, also one that should panic.

use std::{
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::runtime::Builder;

use super::{FromTest, Test};
use crate::{global, tasks::Thread};

/// How long tasks that block a thread are waited for when the test has ended.
const TASKS_END: Duration = Duration::from_secs(1);

/// Enough for two tasks to run at the same time. The machine's number of cores would be too many:
/// there are as many tests at a time already.
const WORKERS: usize = 2;

/// Why a test did not begin.
type StartError = Box<dyn StdError + Send + Sync>;

/// The runtime that a test runs on.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    current_thread: bool,
    workers: usize,
}

impl Runtime {
    /// Several threads, as a service has: what is not safe to run in parallel shows.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "only expansions make one")]
    pub fn new() -> Self {
        Self {
            current_thread: false,
            workers: WORKERS,
        }
    }

    /// See the macro's `runtime(flavor = current_thread)`.
    #[must_use]
    pub fn current_thread(mut self) -> Self {
        self.current_thread = true;
        self
    }

    /// See the macro's `runtime(worker_threads = …)`.
    #[must_use]
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.workers = threads;
        self
    }

    /// Its threads carry the test's coordinator.
    fn build(self, test: &Test) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = match self.current_thread {
            true => Builder::new_current_thread(),
            false => Builder::new_multi_thread(),
        };
        builder.worker_threads(self.workers);
        global::carry(&mut builder, &test.coordinator);
        builder.enable_all().build()
    }
}

/// Runs a test.
#[track_caller]
pub fn run<R>(runtime: Runtime, body: impl AsyncFnOnce(&Test) -> Result<R, StartError>) -> R {
    match live(runtime, body) {
        Ok(returned) => returned,
        Err(error) => panic!("the test did not begin: {}", described(&*error)),
    }
}

/// Runs a test that should panic. One that could not begin must not panic.
pub fn run_to_panic(runtime: Runtime, body: impl AsyncFnOnce(&Test) -> Result<(), StartError>) {
    if let Err(error) = live(runtime, body) {
        eprintln!("the test did not begin: {}", described(&*error));
    }
}

fn live<R>(
    runtime: Runtime,
    body: impl AsyncFnOnce(&Test) -> Result<R, StartError>,
) -> Result<R, StartError> {
    // The test's own runtime carries the coordinator, so it is not there before, and not after.
    let thread = Thread::start("coord-test")?;
    let test = thread.handle().block_on(Test::start())?;
    let runtime = match runtime.build(&test) {
        Ok(runtime) => runtime,
        Err(error) => {
            thread.handle().block_on(test.end());
            return Err(error.into());
        }
    };
    let carried = global::enter(&test.coordinator);
    // Nothing of ours is left half done by a panic of the user's: all that follows is ending.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body(&test))));
    // A panic of something that is dropped here is the task's own, and has been printed.
    runtime.shutdown_timeout(TASKS_END);
    drop(carried);
    // Nobody waits for an answer that a stalled server would give later.
    test.server().resume();
    thread.handle().block_on(test.end());
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// With its causes, in one line.
fn described(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// How to make one argument: free of bounds, so that what follows says nothing of traits.
pub struct Argument<'t, T>(fn(&'t Test) -> Making<'t, T>);

type Making<'t, T> = Pin<Box<dyn Future<Output = Result<T, StartError>> + 't>>;

impl<'t, T> Argument<'t, T> {
    /// Makes it.
    pub fn get(self, test: &'t Test) -> Making<'t, T> {
        (self.0)(test)
    }
}

impl<T> fmt::Debug for Argument<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Argument")
    }
}

/// The one place where an argument's type is asked for its trait.
#[must_use]
pub fn argument<'t, T: FromTest<'t>>() -> Argument<'t, T> {
    Argument(|test| {
        // A panic in here is none of the test's.
        let made = AssertUnwindSafe(async { T::from_test(test).await.map_err(Into::into) });
        Box::pin(async {
            let made = made.catch_unwind().await;
            made.unwrap_or_else(|_| Err("making an argument panicked".into()))
        })
    })
}
