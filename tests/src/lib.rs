//! The test kit: real etcds, links that fail on command, processes that are paused and killed.
//!
//! Everything here works against the outside of coord: it starts servers and processes, damages
//! what lies between them, and looks at the store with a client of its own.
//!
//! * [`backend`]: one test body on the embedded server and on a real etcd.
//! * [`etcd`]: a real etcd, alone or as a cluster, with TLS and authentication on request.
//! * [`echo`]: a gRPC server that says who it is, counts, and misbehaves on command.
//! * [`proxy`]: one TCP link that delays, holds, loses or cuts what goes through it.
//! * [`crowd`]: callers who call again as soon as they are answered.
//! * [`worker`]: other processes that run a part of the test.
//! * [`differential`]: the same random operations to two servers, and every answer compared.
//! * [`history`]: what happened to a lock, and whether it was right.
//! * [`numbers`]: what the metrics are told.
//! * [`rpc`]: etcd's API without a client in between.
//! * [`eventually()`]: waits for a condition; no test sleeps.
//! * [`median`]: what measurements are compared by.
//!
//! What the kit starts ends with the test process, however that ends.

pub mod backend;
pub mod crowd;
pub mod differential;
mod dropped;
pub mod echo;
pub mod etcd;
mod eventually;
mod guardian;
pub mod history;
mod median;
pub mod numbers;
mod ports;
mod process;
pub mod proxy;
pub mod rpc;
mod runtime;
pub mod worker;

pub use backend::Backend;
pub use crowd::Crowd;
pub use dropped::dropped_after;
pub use etcd::{Cluster, Etcd, EtcdConfig, ROOT_PASSWORD, ROOT_USER};
pub use eventually::{Outcome, eventually, eventually_within};
pub use history::{History, Mode};
pub use median::median;
pub use proxy::{Flow, Proxy};
pub use worker::Worker;
