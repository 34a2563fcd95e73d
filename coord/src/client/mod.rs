//! Talking to etcd: the only user of `etcd-client` in this crate.
//!
//! A [`Client`] is one connection with one purpose (calls, watches, or keep-alives: unread watch
//! streams block the calls that share their connection). It has a deadline on every call and says of
//! every failure whether the request was not sent, was refused, or may have been applied: every
//! retry and the lock protocol stand on that. It never repeats anything by itself.

mod channel;
mod error;
mod lease;
mod txn;
mod types;
mod watch;

pub(crate) use error::{CallError, Certainty, Reason};
pub(crate) use lease::{Granted, KeepAlive, KeepAlives, TimeToLive};
pub(crate) use types::{
    Compare, CompareOp, DeleteReply, Header, KeyValue, Op, OpReply, Order, Range, RangeReply, Span,
    Target, Txn, TxnReply, Version,
};
pub(crate) use watch::{Event, EventKind, WatchMessage, WatchRequest, WatchStream};

use crate::{clock::Clock, error::Result, options::Options, tasks::Tasks};

/// One connection to the cluster. Cheap to clone; every clone is the same connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {}

/// What a connection carries, for the health report and the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Calls,
    Watches,
    KeepAlives,
}

impl Client {
    /// Connects: some endpoint has accepted, and answered, within the connect timeout. `tasks` is
    /// where the connection lives.
    pub(crate) async fn open(
        _purpose: Purpose,
        _options: &Options,
        _clock: &Clock,
        _tasks: &Tasks,
    ) -> Result<Self> {
        todo!()
    }

    /// One linearizable read, unless the range says serializable.
    pub(crate) async fn range(&self, _range: Range) -> Result<RangeReply, CallError> {
        todo!()
    }

    /// One transaction: the only write (a single put or delete is a transaction without compares, so
    /// that its answer always carries a header).
    pub(crate) async fn txn(&self, _txn: Txn) -> Result<TxnReply, CallError> {
        todo!()
    }

    /// Grants a lease with an id that the caller chose (so that an unknown answer can be retried).
    /// `AlreadyExists` is [`Reason::LeaseExists`].
    pub(crate) async fn lease_grant(
        &self,
        _id: i64,
        _ttl: std::time::Duration,
    ) -> Result<Granted, CallError> {
        todo!()
    }

    pub(crate) async fn lease_revoke(&self, _id: i64) -> Result<(), CallError> {
        todo!()
    }

    pub(crate) async fn lease_time_to_live(&self, _id: i64) -> Result<TimeToLive, CallError> {
        todo!()
    }

    /// Opens one keep-alive stream for any number of leases.
    pub(crate) async fn keep_alives(&self) -> Result<KeepAlives, CallError> {
        todo!()
    }

    /// Opens one gRPC stream with one watch on it. Returns when the stream is open; `created` comes
    /// as its first message.
    pub(crate) async fn watch(&self, _request: WatchRequest) -> Result<WatchStream, CallError> {
        todo!()
    }

    /// Fetches a new authentication token. A no-op without a user.
    pub(crate) async fn refresh_token(&self) -> Result<(), CallError> {
        todo!()
    }

    /// Leaves the current endpoint for another one, if there is another: for a stream that answers
    /// but does not deliver.
    pub(crate) fn leave_endpoint(&self) {
        todo!()
    }

    /// The endpoint in use and what is known of it, for `health`.
    pub(crate) fn connection(&self) -> ConnectionState {
        todo!()
    }

    /// The version of the member with this id, as `Status` on the current endpoint told it; `None`
    /// if another member answered or none did: then nothing may be assumed.
    pub(crate) async fn version_of(&self, _member: u64) -> Option<Version> {
        todo!()
    }
}

/// See [`Client::connection`].
#[derive(Clone, Debug)]
pub(crate) enum ConnectionState {
    Connected {
        endpoint: String,
        version: Option<Version>,
    },
    Connecting,
    Down {
        errors: Vec<(String, String)>,
    },
}
