//! What a `#[locked]` function returns, and its body behind the gate.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{LockGuard, gate::Gate};
use crate::error::Error;

/// A return type that can say that the lock was not got, or was lost: a `Result` whose error is made
/// from [`coord::Error`](crate::Error).
#[diagnostic::on_unimplemented(
    message = "`#[locked]` cannot return a failed lock as `{Self}`",
    label = "must be a `Result` whose error type is made from `coord::Error`",
    note = "return `Result<_, E>` and give `E` an `impl From<coord::Error>`; \
            `coord::Error` itself, `anyhow::Error` and `Box<dyn std::error::Error>` have one"
)]
pub trait Outcome {
    /// The lock failed.
    fn from_error(error: Error) -> Self;
}

// Without it rustc reports the missing `From` instead of the message above.
#[diagnostic::do_not_recommend]
impl<T, E: From<Error>> Outcome for Result<T, E> {
    fn from_error(error: Error) -> Self {
        Err(error.into())
    }
}

/// A function's return type, as a token of function pointers: the one place with a bound, so that a
/// wrong type is one error.
pub struct Returns<R> {
    error: fn(Error) -> R,
}

impl<R: Outcome> Returns<R> {
    pub(crate) const fn new() -> Self {
        Self {
            error: R::from_error,
        }
    }
}

impl<R> Returns<R> {
    /// The lock failed.
    pub fn failed(self, error: Error) -> R {
        (self.error)(error)
    }

    /// Never called: it tells the compiler the type of the body.
    #[must_use]
    pub fn pin(self) -> R {
        unreachable!("stands behind `if false`")
    }

    /// `body`, for as long as the lock is held.
    pub fn run<F: Future<Output = R>>(self, held: &LockGuard, body: F) -> Run<F, R> {
        Run {
            gate: Gate::new(held, body),
            returns: self,
        }
    }
}

impl<R> Clone for Returns<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Returns<R> {}

impl<R> fmt::Debug for Returns<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returns").finish_non_exhaustive()
    }
}

pin_project! {
    /// See [`Returns::run`].
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Run<F, R> {
        #[pin]
        gate: Gate<F>,
        returns: Returns<R>,
    }
}

impl<F: Future<Output = R>, R> Future for Run<F, R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.project();
        let returns = *this.returns;
        Poll::Ready(ready!(this.gate.poll(cx)).unwrap_or_else(|error| returns.failed(error)))
    }
}

impl<F, R> fmt::Debug for Run<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
