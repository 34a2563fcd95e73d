//! coord
#![allow(dead_code)]

mod client;
mod clock;
mod coordinator;
mod engine;
mod error;
mod global;
mod key;
mod lock;
mod options;
#[doc(hidden)]
pub mod private;
mod retry;
mod session;
mod tasks;
mod watch;

pub use coordinator::{ConnectionHealth, Coordinator, Health, SessionHealth, WatchHealth};
pub use error::{Context as ErrorContext, Error, Holder, LostReason, Result};
pub use global::{global, set_global};
pub use lock::{FencingToken, Held, LockBuilder, LockGuard, Released};
pub use options::{
    ConfigOptions, LockOptions, Options, Pem, RegistryOptions, RetryOptions, Secret, TlsOptions,
};
