//! coord
#![allow(dead_code)]

mod client;
mod clock;
mod engine;
mod error;
mod key;
mod lock;
mod options;
mod retry;
mod session;
mod tasks;
mod watch;

pub use error::{Context as ErrorContext, Error, Holder, LostReason, Result};
pub use lock::{FencingToken, Held, LockBuilder, LockGuard, Released};
pub use options::{
    ConfigOptions, LockOptions, Options, Pem, RegistryOptions, RetryOptions, Secret, TlsOptions,
};
