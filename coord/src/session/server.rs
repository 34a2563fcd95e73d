//! [`Server`]: what the session engine needs of a connection, so that a script can stand in for etcd.

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;

use crate::client::{CallError, Certainty, Client, KeepAlive, KeepAlives, Reason, Txn, TxnReply};

/// The outcome of a call.
pub(super) type Called<'a, T> = BoxFuture<'a, Result<T, CallError>>;

/// One connection to etcd, or a script that plays one.
///
/// Boxed futures: grants, undos and streams are rare next to what they cost on the wire, and the
/// Keeper stays one plain type for everything above it.
pub(super) trait Server: Debug + Send + Sync + 'static {
    /// The TTL that was granted.
    fn grant(&self, id: i64, ttl: Duration) -> Called<'_, Duration>;
    fn revoke(&self, id: i64) -> Called<'_, ()>;
    /// The TTL that was granted; `None`: no such lease.
    fn granted(&self, id: i64) -> Called<'_, Option<Duration>>;
    fn txn(&self, txn: Txn) -> Called<'_, TxnReply>;
    fn keep_alives(&self) -> Called<'_, Box<dyn Stream>>;
    fn refresh_token(&self) -> Called<'_, ()>;
    fn leave_endpoint(&self);
}

/// An open keep-alive stream.
pub(super) trait Stream: Send + 'static {
    fn send(&mut self, lease: i64) -> Called<'_, ()>;
    /// Safe to drop: an answer is returned or stays.
    fn next(&mut self) -> Called<'_, Option<KeepAlive>>;
}

impl Server for Client {
    fn grant(&self, id: i64, ttl: Duration) -> Called<'_, Duration> {
        Box::pin(async move { Ok(self.lease_grant(id, ttl).await?.ttl) })
    }
    fn revoke(&self, id: i64) -> Called<'_, ()> {
        Box::pin(self.lease_revoke(id))
    }
    fn granted(&self, id: i64) -> Called<'_, Option<Duration>> {
        Box::pin(async move {
            let found = self.lease_time_to_live(id).await?;
            Ok(found.remaining.map(|_| found.granted))
        })
    }
    fn txn(&self, txn: Txn) -> Called<'_, TxnReply> {
        Box::pin(self.txn(txn))
    }
    fn keep_alives(&self) -> Called<'_, Box<dyn Stream>> {
        Box::pin(async move { Ok(Box::new(self.keep_alives().await?) as Box<dyn Stream>) })
    }
    fn refresh_token(&self) -> Called<'_, ()> {
        Box::pin(self.refresh_token())
    }
    fn leave_endpoint(&self) {
        self.leave_endpoint();
    }
}

impl Stream for KeepAlives {
    fn send(&mut self, lease: i64) -> Called<'_, ()> {
        Box::pin(self.send(lease))
    }
    fn next(&mut self) -> Called<'_, Option<KeepAlive>> {
        Box::pin(self.next())
    }
}

/// Whether the same request may do better later. What etcd refused for a reason that stays is final,
/// and so is our own connection's end.
pub(super) fn transient(error: &CallError) -> bool {
    match error.reason {
        Reason::Closed => false,
        Reason::Unavailable | Reason::Timeout | Reason::BadToken => true,
        _ => error.certainty != Certainty::Refused,
    }
}
