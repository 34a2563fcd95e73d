//! coord
#![allow(dead_code)]

mod client;
mod clock;
pub mod config;
mod engine;
mod error;
mod key;
mod options;
#[doc(hidden)]
pub mod private;
mod retry;
mod session;
mod tasks;
mod watch;

pub use config::{Config, ConfigBuilder, ConfigCenter, CoordConfig};
pub use error::{Context as ErrorContext, Error, Holder, LostReason, Result};
pub use options::{
    ConfigOptions, LockOptions, Options, Pem, RegistryOptions, RetryOptions, Secret, TlsOptions,
};
