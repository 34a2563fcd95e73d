//! An etcd in memory, for development and tests.

#[allow(dead_code, reason = "the server over it comes next")]
mod core;
