//! `coord::grpc`: channels that find and balance, and servers that leave in order.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

mod calls;
mod discovery;
mod drain;
mod failure;
mod hard;
mod interop;
mod kit;
mod load;
mod metrics;
mod retry;
mod rolling;
mod scripted;
mod serve;
mod waiting;
mod world;
