//! Declarative distributed coordination for services, on etcd.
//!
//! A struct bound to etcd keys and reloaded live, a function that runs under a distributed lock or
//! not at all, a `main` that is registered exactly while it can serve: declared by three macros, and
//! every one of them with a hand-written equal below it.
//!
//! # Terms
//!
//! - **coordinator** — the handle: connections to one etcd cluster and all that lives on them.
//! - **lease** — etcd's timer; keys put under it go when it runs out or is revoked.
//! - **session** — one life of one lease, renewed in the background on a thread of its own.
//! - **revision** — etcd's store-wide counter; each write is one. A key's *create revision* is its
//!   identity, its *mod revision* its version.
//! - **fencing token** — a lock's create revision: grows from holder to holder, so that a resource
//!   can refuse the one that came too late.
//! - **instance** — one process of a service, as the registry knows it: an address and what else is
//!   told. Its *instance id* is a small number that no other live one has.
//! - **watch** — etcd's stream of changes; here always gap-free, and never ended by an error.
//!
//! # First steps
//!
//! ```
//! use coord::{Coordinator, Options};
//!
//! # #[tokio::main]
//! # async fn main() -> coord::Result<()> {
//! let options = Options::from_env()?;                                    // COORD_ENDPOINTS=…
//! # let server = coord::embedded::Server::start().await?;
//! # let options = server.options();
//! let coordinator = Coordinator::connect(options).await?;
//! coord::set_global(coordinator.clone());                                // for `#[locked]`
//! coordinator.ping().await?;
//! coordinator.close().await;                                             // releases all it holds
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | what it brings; why to turn it off |
//! |---|---|---|
//! | `macros` | yes | the macros; off: no proc-macro to build, the library alone |
//! | `tls` | yes | TLS to etcd (rustls with ring); off: plain endpoints only |
//! | `embedded` | no | an etcd in memory, for development and tests: `coord::embedded`, `#[coord::test]`, `coord::testing`, [`Mode::Off`]; off: no server in the program |
//! | `grpc` | no | balanced channels and servers for tonic 0.14: `coord::grpc`, `Context::serve_tonic`; off: no gRPC in the API |
//! | `toml` | no | config documents in TOML: `document = toml`, `codec = toml`; off: JSON alone |
//!
//! # Where to go on
//!
//! | declared | by hand |
//! |---|---|
//! | [`#[derive(CoordConfig)]`](derive@CoordConfig) | [`Coordinator::config`]; single values, history: [`ConfigCenter`] |
//! | [`#[locked]`](macro@locked) | [`Coordinator::lock`], [`lock_all`](Coordinator::lock_all); [`Coordinator::election`] |
//! | [`#[coord::service]`](macro@service) | [`Service`]; [`Registry`], [`InstanceIds`], [`Snowflakes`] |
//! | `Context::serve_tonic` (feature `grpc`) | `Coordinator::channel`, `coord::grpc` |
//! | `#[coord::test]` (feature `embedded`) | `coord::embedded::Server`, `coord::testing` |
//!
//! What can be set: [`Options`]; what can go wrong: [`Error`]; what is told: `tracing` and
//! [metrics](LockBuilder#metrics-and-spans), [`Coordinator::health`].

// Library code says why it cannot fail (`expect`); tests and tools may `unwrap`.
#![warn(clippy::unwrap_used)]

// In reading order: the handle, the parts, what they stand on, the leaves.
mod service;

mod coordinator;
mod global;

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "embedded")]
pub mod testing;

pub mod config;
#[cfg(feature = "grpc")]
pub mod grpc;
mod instance_id;
mod lock;
mod registry;

mod engine;

mod session;
mod watch;

mod client;

mod clock;
mod error;
mod host;
mod key;
mod metrics;
mod options;
#[doc(hidden)]
pub mod private;
mod retry;
mod tasks;

pub use config::{Config, ConfigBuilder, ConfigCenter, CoordConfig};
#[cfg(feature = "macros")]
#[doc = include_str!("config/derive.md")]
pub use coord_macros::CoordConfig;
pub use coordinator::{ConnectionHealth, Coordinator, Health, SessionHealth, WatchHealth};
pub use error::{Context as ErrorContext, Error, Holder, LostReason, Result};
pub use global::{global, set_global};
pub use instance_id::{
    InstanceId, InstanceIds, SnowflakeLayout, SnowflakeParts, Snowflakes, Timestamps,
};
pub use lock::{
    Election, FencingToken, Held, Leader, Leaders, Leadership, LockBuilder, LockEntry, LockGuard,
    LockMode, LockStatus, LockTransaction, OnLost, ReentrantLock, Release, Released,
};
pub use options::{
    ConfigOptions, LockOptions, Mode, OffOptions, Options, Pem, RegistryOptions, RetryOptions,
    Secret, TlsOptions,
};
pub use registry::{
    Discover, Instance, InstanceEvent, InstanceEvents, InstanceHealth, InstanceSet, InstanceSpec,
    InstanceUpdate, Registration, Registry, ServiceView,
};
pub use service::{
    Context, FromContext, Listeners, OnExhausted, OnIdLost, Ready, Service, Shutdown,
};

#[cfg(feature = "macros")]
#[doc = include_str!("lock/locked.md")]
pub use coord_macros::locked;

#[cfg(feature = "macros")]
#[doc = include_str!("service/service.md")]
pub use coord_macros::service;

/// Makes an `async fn` a test with an [embedded server](embedded) and a coordinator of its own.
///
/// ```
/// use coord::{Coordinator, embedded::Server, locked};
///
/// #[locked("orders/{id}", try)]
/// async fn ship(id: u64) -> Result<(), coord::Error> {
///     Ok(())
/// }
///
/// #[coord::test]
/// async fn an_order_is_shipped_by_one_at_a_time(coordinator: Coordinator, server: &Server) {
///     let elsewhere = coordinator.lock("orders/42").acquire().await.unwrap();
///     assert!(ship(42).await.is_err());
///     assert!(tokio::spawn(ship(42)).await.unwrap().is_err());
///     server.advance(std::time::Duration::from_secs(60)); // every lease runs out
///     elsewhere.lost().await;
///     ship(42).await.unwrap();
/// }
/// ```
///
/// Functions with [`#[locked]`](macro@locked), and [`global()`], use this coordinator on every thread
/// of the test's runtime: in the test, in spawned tasks, and where `spawn_blocking` blocks on a
/// future. Tests that run at the same time have nothing in common, and no variable of the environment
/// has a say.
///
/// A thread that the code starts by itself, or a further runtime, is not the test's: there `global()`
/// is what it is in every program, the coordinator of [`set_global`], which all tests of the process
/// share, or of `COORD_ENDPOINTS`. Hand the test's coordinator to such code, and name it with `via`.
///
/// A [`Service`], or a function with [`#[coord::service]`](macro@service), runs in a test when it is
/// called in `spawn_blocking`. It uses the test's server, too, and watches no signal:
/// [`Context::stop`] stops it.
///
/// The rest is as with `#[test]`: it returns what a test may, `#[should_panic]` and `#[ignore]` mean
/// what they always do. A test that could not begin has failed, also one that should panic.
///
/// # The end of a test
/// Its tasks are dropped, the coordinator is closed, the server shut down: also when the test panics.
/// A task that blocks its thread is waited for a second at most, and then left behind.
///
/// # Arguments
/// Up to eight, in any order: [`Coordinator`], [`&Server`](embedded::Server), and any type of yours
/// that implements [`FromTest`](testing::FromTest).
///
/// # Words
/// | word | meaning | default |
/// |---|---|---|
/// | `runtime(flavor = multi_thread, worker_threads = 4)` | tokio's; the other flavor is `current_thread` | multi-thread, as a service has, with two workers: tests run side by side already |
/// | `crate = ::path` | where this crate is | `::coord` |
///
/// Time cannot be paused: the server answers in real time.
///
/// # Notes
/// - Other attributes go to the function that the harness calls, which is not async; those that want
///   the `async fn`, such as `#[locked]`, stand above this one.
/// - After `use coord::*` a plain `#[test]` is ambiguous (E0659). Import by name, or write
///   `#[core::prelude::v1::test]`.
/// - A test depends on nothing but this crate; only its own code needs `tokio`, if it names it.
///
/// # The same by hand
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> coord::Result<()> {
/// let server = coord::embedded::Server::start().await?;
/// let coordinator = server.coordinator().await?;
/// coordinator.ping().await?; // a function with `#[locked]` would be told `via = coordinator`
/// coordinator.close().await;
/// server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[cfg(all(feature = "embedded", feature = "macros"))]
pub use coord_macros::test;
