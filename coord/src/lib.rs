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
//! - **watch** — etcd's stream of changes; here always gap-free, and never ended by an error.
//!
//! # First steps
//!
//! ```no_run
//! use coord::{Coordinator, Options};
//!
//! # async fn example() -> coord::Result<()> {
//! let coordinator = Coordinator::connect(Options::from_env()?).await?;   // COORD_ENDPOINTS=…
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
//! | `macros` | yes | the three macros; off: no proc-macro to build, the library alone |
//! | `tls` | yes | TLS to etcd (rustls with ring); off: plain endpoints only |
#![allow(dead_code)]

// In reading order: the handle, the parts, what they stand on, the leaves.
mod coordinator;
mod global;

pub mod config;
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
#[cfg(test)]
mod mini_etcd;
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
pub use instance_id::{InstanceId, InstanceIds};
pub use lock::{FencingToken, Held, LockBuilder, LockGuard, Released};
pub use options::{
    ConfigOptions, LockOptions, Options, Pem, RegistryOptions, RetryOptions, Secret, TlsOptions,
};
pub use registry::{
    Instance, InstanceEvent, InstanceEvents, InstanceSpec, Registration, Registry, Status,
};

/// Runs an `async fn` under a distributed lock, or not at all.
///
/// ```no_run
/// # struct Receipt;
/// #[derive(Debug)]
/// enum ShipError {
///     Locked(coord::Error),
///     SoldOut,
/// }
///
/// impl From<coord::Error> for ShipError {
///     fn from(error: coord::Error) -> Self {
///         Self::Locked(error)
///     }
/// }
///
/// #[coord::locked("orders/{order_id}", wait = "5s", guard = held)]
/// async fn ship(order_id: u64) -> Result<Receipt, ShipError> {
///     println!("shipping {order_id} with token {}", held.fencing_token());
///     Ok(Receipt)
/// }
/// ```
///
/// The body runs once the lock is held, and is polled only while it is: when the lock is lost (the
/// process was paused, etcd was unreachable for too long, the lease was revoked), the body is dropped
/// where it stands and the call returns [`Error::Lost`]. Afterwards the lock is released in the
/// background.
///
/// The function returns a `Result` whose error type is made from [`Error`].
///
/// # The key
/// Text and holes: `orders/{order.id:04}`. A hole is any expression over the arguments and `self`,
/// with a format as in [`format!`]. It is evaluated before the arguments move into the body, and
/// percent-encoded (`/`, `!`, `%` and what is not ASCII), so that it stays within its segment. A key
/// that comes out empty or longer than 1 KiB is [`Error::Invalid`].
///
/// # Words
/// | word | meaning | default |
/// |---|---|---|
/// | `wait = "5s"` | longest time in the queue, connecting included; a literal, an expression of type [`Duration`](std::time::Duration), or `forever` | [`LockOptions::wait`] |
/// | `try` | do not wait: [`Error::Busy`] if somebody holds it | |
/// | `guard = name` | the body sees `name: &`[`Held`] | |
/// | `via = expr` | the [`Coordinator`] to use | the runtime's own, else the [global](global()) one |
/// | `crate = ::path` | where this crate is | `::coord` |
///
/// # The same by hand
/// ```no_run
/// # struct Receipt;
/// # async fn example(order_id: u64) -> Result<Receipt, coord::Error> {
/// let coordinator = coord::global().await?;
/// coordinator
///     .lock(format!("orders/{order_id}"))
///     .wait(std::time::Duration::from_secs(5))
///     .run(async |held| {
///         println!("shipping {order_id} with token {}", held.fencing_token());
///         Ok(Receipt)
///     })
///     .await?
/// # }
/// ```
///
/// # Notes
/// - A lock is not reentrant: acquiring it again from inside the body is [`Error::WouldDeadlock`] at
///   once. Branches of a `join!` are not inside of each other and wait properly; what the body spawns
///   does not count as inside.
/// - What the body has spawned, and what it does between two awaits, is not stopped by the loss of the
///   lock. Let what the lock protects compare the [fencing token](FencingToken).
/// - Put `#[locked]` above `#[tokio::main]` and `#[tokio::test]`.
/// - Arguments are dropped before the lock is released, except those behind a pattern (`(a, b): Pair`,
///   `_: Guard`).
#[cfg(feature = "macros")]
pub use coord_macros::locked;
