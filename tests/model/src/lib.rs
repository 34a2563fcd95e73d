//! An explicit-state model of the lock protocol.

pub mod action;
pub mod check;
mod client;
mod etcd;
mod hub;
pub mod mutation;
pub mod properties;
pub mod protocol;
pub mod scenario;
mod view;
pub mod world;
