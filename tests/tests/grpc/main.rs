//! `coord::grpc`: channels that find and balance, and servers that leave in order.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

mod calls;
mod discovery;
mod interop;
mod failure;
mod kit;
mod load;
mod retry;
mod scripted;
mod rolling;
mod serve;
mod waiting;
mod world;
