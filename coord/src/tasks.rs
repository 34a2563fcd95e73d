//! The one place that spawns: threads with a runtime of coord's own, and tracked tasks on them.
//!
//! # Invariants
//! 1. Every task belongs to a [`Tasks`] and ends when that is cancelled, itself or what it is
//!    [bound to](Tasks::spawn_bound); [`Tasks::close`] waits for it.
//!    What a task has [set aside](Tasks::aside) cannot be cancelled, and is not waited for; nor is one
//!    that runs [elsewhere](Tasks::here).
//! 2. A runtime is dropped on its own thread, never in a caller's async context (tokio panics there).
//! 3. A [`Thread`] ends when its last clone is gone. Tasks may hold clones: they end by (1) first.

use std::{future::Future, io, sync::Arc};

use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// An OS thread that drives a current-thread runtime of coord's own, so that what runs there is
/// neither starved by a busy runtime of the caller's nor stopped by its end.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    handle: Handle,
    /// Dropping the last clone drops the sender, which is the thread's signal to end.
    _alive: Arc<oneshot::Sender<()>>,
}

impl Thread {
    /// Starts a thread called `name`.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error is the signal: the sender was dropped.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            handle,
            _alive: Arc::new(alive),
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A set of tasks on this thread, cancelled with `parent`.
    pub(crate) fn tasks(&self, parent: &CancellationToken) -> Tasks {
        Tasks {
            handle: self.handle.clone(),
            tracker: TaskTracker::new(),
            cancelled: parent.child_token(),
        }
    }
}

/// Tracked tasks on one runtime. Cheap to clone; every clone is the same set.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    handle: Handle,
    tracker: TaskTracker,
    cancelled: CancellationToken,
}

impl Tasks {
    /// Runs `task` until it is done or the set is cancelled, whichever is first; a cancelled task is
    /// dropped at its next await. The output comes back through the handle, whose drop does *not*
    /// stop the task.
    pub(crate) fn spawn<F>(&self, task: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let cancelled = self.cancelled.clone();
        let (done, output) = oneshot::channel();
        self.tracker.spawn_on(
            async move {
                if let Some(value) = cancelled.run_until_cancelled(task).await {
                    // Nobody may be waiting for it: then the output is dropped here.
                    let _ = done.send(value);
                }
            },
            &self.handle,
        );
        Task(output)
    }

    /// Runs `task` until it is done. For one that ends by itself with something that the set's
    /// cancellation ends: to wait for that too would cost each of many small tasks more than it does.
    #[cfg(feature = "grpc")]
    pub(crate) fn spawn_bound<F>(&self, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        drop(self.tracker.spawn_on(task, &self.handle));
    }

    /// Runs code that may take its time, or block, where it holds up no task: that of the
    /// program's own types. `None`: it panicked.
    ///
    /// # Cancel safety
    /// Dropped, `work` still runs to its end, if it has begun.
    pub(crate) async fn aside<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        self.handle.spawn_blocking(work).await.ok()
    }

    /// A value of the program's own type: wherever this is dropped, it is dropped aside.
    pub(crate) fn held<V: Send + 'static>(&self, value: V) -> Held<V> {
        Held {
            value: Some(value),
            handle: self.handle.clone(),
        }
    }

    /// Tasks on the runtime of who calls this, or on this one if there is none: cancelled with this
    /// set, which does not wait for them, since that runtime may be blocked for ever.
    pub(crate) fn here(&self) -> Self {
        Self {
            handle: Handle::try_current().unwrap_or_else(|_| self.handle.clone()),
            tracker: TaskTracker::new(),
            cancelled: self.cancelled.clone(),
        }
    }

    /// Cancelled when the set is.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Cancels every task and waits until the last has ended. Later spawns end at once.
    ///
    /// # Cancel safety
    /// Safe to drop: the cancellation has been sent by the first poll.
    pub(crate) async fn close(&self) {
        self.cancelled.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
impl Tasks {
    /// Tasks on the runtime of the test that calls it.
    pub(crate) fn current() -> Self {
        Self {
            handle: Handle::current(),
            tracker: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        }
    }
}

/// A value whose drop may take its time, block or panic: it runs [aside](Tasks::aside). Made by
/// [`Tasks::held`].
#[derive(Debug)]
pub(crate) struct Held<V: Send + 'static> {
    /// `None` once it was taken.
    value: Option<V>,
    handle: Handle,
}

impl<V: Send + 'static> Held<V> {
    /// The value, to be dropped like any other.
    pub(crate) fn take(mut self) -> V {
        self.value.take().expect("only this takes it, and once")
    }
}

impl<V: Send + 'static> Drop for Held<V> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            drop(self.handle.spawn_blocking(|| drop(value)));
        }
    }
}

/// A spawned task's output. `None`: the task was cancelled, or it panicked.
#[derive(Debug)]
pub(crate) struct Task<T>(oneshot::Receiver<T>);

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_ends_every_task_and_dropping_the_thread_does_not_block() {
        let thread = Thread::start("test").expect("a thread");
        let tasks = thread.tasks(&CancellationToken::new());
        let endless = tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.spawn(async { 7 }).await, Some(7));
        tasks.close().await;
        assert_eq!(endless.await, None);
        // In an async context, where dropping a tokio runtime would panic.
        drop((tasks, thread));
    }
}
