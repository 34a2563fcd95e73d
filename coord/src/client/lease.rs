//! Leases: grant, revoke, time to live, and one keep-alive stream for all of them.

use std::time::Duration;

use super::{CallError, Header};

/// A granted lease. etcd may grant more than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) header: Header,
    pub(crate) ttl: Duration,
}

/// What etcd says about a lease. `None`: it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    pub(crate) remaining: Option<Duration>,
    pub(crate) granted: Duration,
}

/// One answer on the stream. `ttl` `None`: the lease is gone (etcd answers a TTL ≤ 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    pub(crate) lease: i64,
    pub(crate) ttl: Option<Duration>,
}

/// The stream: requests for any lease go in, answers come out in order.
#[derive(Debug)]
pub(crate) struct KeepAlives {}

impl KeepAlives {
    /// Sends one keep-alive.
    pub(crate) async fn send(&mut self, _lease: i64) -> Result<(), CallError> {
        todo!()
    }

    /// The next answer. An error or `None` ends the stream; that says nothing about the leases.
    ///
    /// # Cancel safety
    /// Safe: an answer is returned or stays.
    pub(crate) async fn next(&mut self) -> Result<Option<KeepAlive>, CallError> {
        todo!()
    }
}
