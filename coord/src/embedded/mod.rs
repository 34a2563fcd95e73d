//! An etcd in memory, for development and tests.

mod core;
