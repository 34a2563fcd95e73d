//! [`FromContext`]: what `main` can be given; [`MainReturn`]: what it can return.
//!
//! The macro calls [`argument`] and [`returns`] with one type each, at that type's place in the
//! source: a missing trait is one error, under the type.

use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt,
    marker::PhantomData,
    pin::Pin,
    process::{ExitCode, Termination},
};

use super::{Context, Listeners, Shutdown, WithId};
use crate::{
    config::{Config, CoordConfig},
    coordinator::Coordinator,
    error::Error,
    instance_id::InstanceId,
};

/// Why a service did not start.
pub(super) type StartError = Box<dyn StdError + Send + Sync>;

/// An argument of a service's `main`.
///
/// Implement it for a type of your own, for every `S`:
///
/// ```
/// use coord::{Context, FromContext};
///
/// struct Greeting(String);
///
/// impl<S> FromContext<S> for Greeting {
///     type Error = std::env::VarError;
///
///     async fn from_context(context: &Context) -> Result<Self, Self::Error> {
///         Ok(Self(format!("{} greets {}", context.service(), std::env::var("WHOM")?)))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a service's main",
    label = "not made from the service's context",
    note = "an argument is `Context`, `Coordinator`, `Config<T>`, `Shutdown`, `Listeners`, \
            `InstanceId` (with `instance_id(max = …)`), or a type of your own that implements `FromContext<S>`"
)]
pub trait FromContext<S>: Sized + 'static {
    /// Why it could not be made: the service then does not start.
    type Error: Into<Box<dyn StdError + Send + Sync>>;

    /// Makes the value. `main` runs once all of its arguments are made.
    fn from_context(context: &Context) -> impl Future<Output = Result<Self, Self::Error>>;
}

impl<S> FromContext<S> for Context {
    type Error = Infallible;
    async fn from_context(context: &Context) -> Result<Self, Infallible> {
        Ok(context.clone())
    }
}

impl<S> FromContext<S> for Coordinator {
    type Error = Infallible;
    async fn from_context(context: &Context) -> Result<Self, Infallible> {
        Ok(context.coordinator().clone())
    }
}

impl<S> FromContext<S> for Shutdown {
    type Error = Infallible;
    async fn from_context(context: &Context) -> Result<Self, Infallible> {
        Ok(context.shutdown())
    }
}

impl<S> FromContext<S> for Listeners {
    type Error = Infallible;
    async fn from_context(context: &Context) -> Result<Self, Infallible> {
        Ok(context.listeners().clone())
    }
}

impl FromContext<WithId> for InstanceId {
    type Error = Error;
    async fn from_context(context: &Context) -> Result<Self, Error> {
        context.instance_id()
    }
}

impl<S, T: CoordConfig> FromContext<S> for Config<T> {
    type Error = Error;
    async fn from_context(context: &Context) -> Result<Self, Error> {
        context.coordinator().config::<T>().start().await
    }
}

/// How to make one argument: free of bounds, so that what follows says nothing of traits.
pub struct Argument<T>(fn(&Context) -> Making<'_, T>);

type Making<'a, T> = Pin<Box<dyn Future<Output = Result<T, StartError>> + 'a>>;

impl<T> Argument<T> {
    /// Makes it.
    pub fn get(self, context: &Context) -> Making<'_, T> {
        (self.0)(context)
    }
}

impl<T> fmt::Debug for Argument<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Argument")
    }
}

/// The one place where an argument's type is asked for its trait.
#[must_use]
pub fn argument<S, T: FromContext<S>>() -> Argument<T> {
    Argument(|context| Box::pin(async { T::from_context(context).await.map_err(Into::into) }))
}

/// What a service's `main` may return: everything that a Rust `main` may.
#[diagnostic::on_unimplemented(
    message = "a service's main cannot return `{Self}`",
    label = "not what a `main` can return",
    note = "it returns `()`, `ExitCode`, or a `Result` of these whose error implements `Debug`"
)]
pub trait MainReturn {
    /// Prints the error, if it is one, and tells the exit code.
    fn report(self) -> ExitCode;
}

#[diagnostic::do_not_recommend]
impl<T: Termination> MainReturn for T {
    fn report(self) -> ExitCode {
        Termination::report(self)
    }
}

/// How to report what `main` returned: free of bounds, as [`Argument`] is.
pub struct Returns<R>(fn(R) -> ExitCode, PhantomData<fn() -> R>);

impl<R: MainReturn> Returns<R> {
    pub(super) fn new() -> Self {
        Self(R::report, PhantomData)
    }
}

impl<R> Returns<R> {
    pub(super) fn report(self, returned: R) -> ExitCode {
        (self.0)(returned)
    }
}

impl<R> fmt::Debug for Returns<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Returns")
    }
}

/// The one place where the type that `main` returns is asked for its trait.
#[must_use]
pub fn returns<R: MainReturn>() -> Returns<R> {
    Returns::new()
}
