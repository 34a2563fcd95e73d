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

mod instance_id;
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
mod retry;
mod tasks;

pub use coordinator::{ConnectionHealth, Coordinator, Health, SessionHealth, WatchHealth};
pub use error::{Context as ErrorContext, Error, Holder, LostReason, Result};
pub use global::{global, set_global};
pub use instance_id::{InstanceId, InstanceIds};
pub use options::{
    ConfigOptions, LockOptions, Options, Pem, RegistryOptions, RetryOptions, Secret, TlsOptions,
};
pub use registry::{
    Instance, InstanceEvent, InstanceEvents, InstanceSpec, Registration, Registry, Status,
};
