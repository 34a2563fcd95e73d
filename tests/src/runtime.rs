//! The kit's own runtime.
//!
//! A proxy goes on relaying while a test blocks or pauses its own runtime, or ends one and goes on
//! with another; so the kit's tasks live on a thread that no test has to do with.

use std::{future::Future, sync::OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};

pub(crate) fn handle() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start = || {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .thread_name("coord-tests-kit")
            .enable_all();
        builder.build().expect("the kit's runtime starts")
    };
    RUNTIME.get_or_init(start).handle()
}

/// Runs `work` on the kit's runtime, whichever the caller is on.
pub(crate) async fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    unwrap(handle().spawn(work).await)
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    unwrap(handle().spawn_blocking(work).await)
}

/// The result of a task that nothing cancels: a panic in it is the caller's.
fn unwrap<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
