//! `coord::grpc`: channels that find and balance, and servers that leave in order.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

mod adversary;
mod calls;
mod discovery;
mod failure;
mod interop;
mod kit;
mod load;
mod retry;
mod rolling;
mod scripted;
mod serve;
mod waiting;
mod world;
