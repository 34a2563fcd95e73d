//! coord
#![allow(dead_code)]

mod client;
mod clock;
mod coordinator;
mod engine;
mod error;
mod global;
mod host;
mod instance_id;
mod key;
#[cfg(test)]
mod mini_etcd;
mod options;
mod registry;
mod retry;
mod session;
mod tasks;
mod watch;

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
