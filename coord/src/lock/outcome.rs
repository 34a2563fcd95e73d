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

    /// There is something that the lock may have to be confirmed for.
    fn is_ok(&self) -> bool;
}

// Without it rustc reports the missing `From` instead of the message above.
#[diagnostic::do_not_recommend]
impl<T, E: From<Error>> Outcome for Result<T, E> {
    fn from_error(error: Error) -> Self {
        Err(error.into())
    }

    fn is_ok(&self) -> bool {
        Self::is_ok(self)
    }
}

/// A return type that can say that there was nothing to do: for `busy = skip`.
#[diagnostic::on_unimplemented(
    message = "`busy = skip` cannot return nothing as `{Self}`",
    label = "must be `Result<(), E>` or `Result<Option<T>, E>`",
    note = "a function that skips returns `Ok(())` or `Ok(None)`; without `busy = skip` a busy lock \
            is an error"
)]
pub trait Skip {
    /// Somebody else holds the lock.
    fn skipped() -> Self;
}

impl<E> Skip for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

impl<T, E> Skip for Result<Option<T>, E> {
    fn skipped() -> Self {
        Ok(None)
    }
}

/// A function's return type, as a token of function pointers: the one place with a bound, so that a
/// wrong type is one error.
pub struct Returns<R> {
    error: fn(Error) -> R,
    is_ok: fn(&R) -> bool,
    skip: Option<fn() -> R>,
}

impl<R: Outcome> Returns<R> {
    pub(crate) const fn new() -> Self {
        Self::by(R::from_error, R::is_ok)
    }
}

impl<R> Returns<R> {
    /// `map_err = path`.
    pub(crate) const fn by(error: fn(Error) -> R, is_ok: fn(&R) -> bool) -> Self {
        Self {
            error,
            is_ok,
            skip: None,
        }
    }

    /// `busy = skip`.
    #[must_use]
    pub fn or_skip(mut self, skip: fn() -> R) -> Self {
        self.skip = Some(skip);
        self
    }

    /// The lock was not had.
    pub fn failed(self, error: Error) -> R {
        match (self.skip, &error) {
            // Not one that etcd has kept from finding out.
            (
                Some(skip),
                Error::Busy { .. }
                | Error::Timeout {
                    holder: Some(_), ..
                },
            ) => skip(),
            _ => (self.error)(error),
        }
    }

    /// The end of a section that waits for its release.
    pub async fn leave(self, guard: LockGuard, output: R) -> R {
        match guard.leave((self.is_ok)(&output)).await {
            Ok(()) => output,
            Err(error) => (self.error)(error),
        }
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
        Poll::Ready(ready!(this.gate.poll(cx)).unwrap_or_else(returns.error))
    }
}

impl<F, R> fmt::Debug for Run<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
