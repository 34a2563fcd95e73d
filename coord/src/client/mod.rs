//! Talking to etcd: the only user of `etcd-client` in this crate.
//!
//! A [`Client`] is one connection with one purpose (calls, watches, or keep-alives: unread watch
//! streams block the calls that share their connection). It has a deadline on every call and says of
//! every failure whether the request was not sent, was refused, or may have been applied: every
//! retry and the lock protocol stand on that. It sends a request again only where it is certain that
//! the first one did nothing: it did not leave, or its token was refused.

mod call;
mod channel;
mod classify;
mod coalesce;
mod dial;
mod error;
mod lease;
#[cfg(test)]
mod mini_etcd;
mod target;
mod txn;
mod types;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::{LeaseGrantOptions, LeaseTimeToLiveOptions};

#[cfg(feature = "grpc")]
pub(crate) use coalesce::Coalesced;
pub(crate) use dial::Dialer;
#[cfg(feature = "grpc")]
pub(crate) use error::in_one_line;
pub(crate) use error::{CallError, Certainty, Reason};
pub(crate) use lease::{Granted, KeepAlive, KeepAlives, TimeToLive};
#[cfg(test)]
pub(crate) use mini_etcd::MiniEtcd;
pub(crate) use types::{
    Compare, CompareOp, DeleteReply, Header, KeyValue, Op, OpReply, Order, Range, RangeReply, Span,
    Target, Txn, TxnReply, Version,
};
pub(crate) use watch::{Event, EventKind, WatchMessage, WatchRequest, WatchStream};

use self::{
    call::Calls,
    channel::{State, Sticky, Supervisor},
};
use crate::{
    clock::Clock,
    error::{Context, Error, Result},
    options::Options,
    tasks::Tasks,
};

/// The largest reply that is decoded. etcd's own limit is on requests (1.5 MiB by default); a reply
/// may hold many of them.
const LARGEST_REPLY: usize = 64 * 1024 * 1024;

/// One connection to the cluster. Cheap to clone; every clone is the same connection.
#[derive(Clone)]
pub(crate) struct Client(Arc<Calls>);

/// What a connection carries, for the health report and the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Calls,
    Watches,
    KeepAlives,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
            Self::Watches => "watches",
            Self::KeepAlives => "keep-alives",
        })
    }
}

impl Client {
    /// Connects: some endpoint has accepted, and answered, within the connect timeout. `tasks` is
    /// where the connection lives. With a `dialer`, the endpoints are names alone.
    ///
    /// # Errors
    /// `NotConfigured` without endpoints, `Invalid` with every fault of the endpoints and the TLS
    /// options, `Unavailable` with every endpoint and its error, `Denied` for a wrong user or
    /// password, `Closed` if `tasks` is.
    ///
    /// # Cancel safety
    /// Safe: what was begun is closed.
    pub(crate) async fn open(
        purpose: Purpose,
        options: &Options,
        dialer: Option<&Dialer>,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Self> {
        const OPERATION: &str = "connect to etcd";
        let limit = options.connect_timeout;
        let deadline = clock.now() + limit;
        let failed = |error: CallError| error.into_error(Context::new(OPERATION));
        let late = || failed(CallError::timeout(Certainty::NotSent, limit, None));
        // On coord's own runtime: reading files needs one, and the caller's may be of another kind.
        let mut targets = {
            let options = options.clone();
            let reading = tasks.spawn(async move { target::targets(&options).await });
            match clock.timeout(limit, reading).await {
                Ok(outcome) => outcome.ok_or_else(|| Error::closed(OPERATION))??,
                Err(_elapsed) => return Err(late()),
            }
        };
        for target in &mut targets {
            target.dialer = dialer.cloned();
        }
        let (supervisor, shared) = Supervisor::new(purpose, targets, clock.clone(), limit);
        let stop = tasks.cancelled().child_token();
        let guard = stop.clone().drop_guard();
        tasks.spawn(async move { stop.run_until_cancelled(supervisor.run()).await });

        // Ends within the connect timeout: the supervisor's first round does.
        shared
            .connected()
            .await
            .map_err(|error| failed(error.into()))?;
        let sticky = Sticky(shared);
        let etcd = etcd_client::Client::from_channel(sticky.clone().into_etcd(), None)
            .await
            .map_err(|error| failed(error.into()))?;
        let client = Self(Arc::new(Calls {
            purpose,
            clock: clock.clone(),
            request_timeout: options.request_timeout,
            sticky,
            kv: etcd.kv_client().max_decoding_message_size(LARGEST_REPLY),
            lease: etcd.lease_client(),
            watch: etcd.watch_client().max_decoding_message_size(LARGEST_REPLY),
            auth: etcd.auth_client(),
            user: options.user.clone().map(|user| {
                let password = options.password.clone().unwrap_or_default();
                (user, password)
            }),
            signing_in: tokio::sync::Mutex::new(()),
            _supervisor: guard,
        }));
        let signed_in = client.0.sign_in(None);
        match clock.timeout(deadline.since(clock.now()), signed_in).await {
            Ok(outcome) => outcome.map_err(failed)?,
            Err(_elapsed) => return Err(late()),
        }
        Ok(client)
    }

    /// One linearizable read, unless the range says serializable.
    pub(crate) async fn range(&self, range: Range) -> Result<RangeReply, CallError> {
        let reply = self.0.call(|| {
            let (key, options) = txn::get(&range);
            let mut kv = self.0.kv.clone();
            async move { kv.get(key, Some(options)).await }
        });
        Ok(txn::range_reply(reply.await?.0))
    }

    /// One transaction: the only write. A single put is one without compares; so is a single delete,
    /// but etcd has a call for that, which costs it less, and most unlocks are one.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnReply, CallError> {
        if let Some((span, prev)) = txn::only_delete(&txn) {
            return Box::pin(self.delete(span, prev)).await;
        }
        let reply = self.0.call(|| {
            let txn = txn::txn(&txn);
            let mut kv = self.0.kv.clone();
            async move { kv.txn(txn).await }
        });
        txn::txn_reply(reply.await?.0)
    }

    async fn delete(&self, span: &Span, prev: bool) -> Result<TxnReply, CallError> {
        let reply = self.0.call(|| {
            let (key, options) = txn::delete(span, prev);
            let mut kv = self.0.kv.clone();
            async move { kv.delete(key, Some(options)).await }
        });
        Ok(txn::deleted(reply.await?.0))
    }

    /// Grants a lease with an id that the caller chose (so that an unknown answer can be retried).
    /// `AlreadyExists` is [`Reason::LeaseExists`].
    pub(crate) async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<Granted, CallError> {
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let reply = self.0.call(|| {
            let options = LeaseGrantOptions::new().with_id(id);
            let mut lease = self.0.lease.clone();
            async move { lease.grant(seconds, Some(options)).await }
        });
        let reply = reply.await?.0;
        Ok(Granted {
            header: txn::header(reply.header),
            ttl: lease::seconds(reply.ttl).unwrap_or_default(),
        })
    }

    pub(crate) async fn lease_revoke(&self, id: i64) -> Result<(), CallError> {
        let reply = self.0.call(|| {
            let mut lease = self.0.lease.clone();
            async move { lease.revoke(id).await }
        });
        reply.await.map(|_| ())
    }

    pub(crate) async fn lease_time_to_live(&self, id: i64) -> Result<TimeToLive, CallError> {
        let reply = self.0.call(|| {
            let mut lease = self.0.lease.clone();
            async move { lease.time_to_live(id, None).await }
        });
        let reply = reply.await?;
        Ok(TimeToLive {
            // A lease in its last second has a TTL of 0 and is not gone; one that is has −1.
            remaining: u64::try_from(reply.ttl()).ok().map(Duration::from_secs),
            granted: lease::seconds(reply.granted_ttl()).unwrap_or_default(),
        })
    }

    /// The keys that live with the lease; `None`: it is gone.
    pub(crate) async fn lease_keys(&self, id: i64) -> Result<Option<Vec<Vec<u8>>>, CallError> {
        let reply = self.0.call(|| {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let mut lease = self.0.lease.clone();
            async move { lease.time_to_live(id, Some(options)).await }
        });
        let reply = reply.await?;
        Ok((reply.ttl() >= 0).then(|| reply.keys().to_vec()))
    }

    /// A keep-alive stream for any number of leases. It opens with the first request; its endpoint
    /// is connected.
    pub(crate) async fn keep_alives(&self) -> Result<KeepAlives, CallError> {
        let deadline = self.0.clock.now() + self.0.request_timeout;
        let connection = self.0.connected(deadline).await?;
        Ok(KeepAlives::open(
            self.0.sticky.clone(),
            connection.generation,
            connection.endpoint.clone(),
            self.0.clock.clone(),
            self.0.request_timeout,
        ))
    }

    /// Opens one gRPC stream with one watch on it. Returns when the stream is open; `created` comes
    /// as its first message.
    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<WatchStream, CallError> {
        let (key, options) = watch::open(&request);
        let opening = self.0.call_on(|| {
            let (key, options) = (key.clone(), options.clone());
            let mut watch = self.0.watch.clone();
            async move { watch.watch(key, Some(options)).await }
        });
        let (stream, generation) = opening.await?;
        Ok(WatchStream::new(
            stream,
            self.0.sticky.0.clone(),
            generation,
            self.0.clock.clone(),
            self.0.request_timeout,
        ))
    }

    /// Fetches a new authentication token. A no-op without a user.
    pub(crate) async fn refresh_token(&self) -> Result<(), CallError> {
        if self.0.user.is_none() {
            return Ok(());
        }
        let stale = self.0.sticky.0.token.load_full();
        let deadline = self.0.clock.now() + self.0.request_timeout;
        let connection = self.0.connected(deadline).await?;
        self.0
            .within(deadline, &connection, self.0.sign_in(stale))
            .await
    }

    /// Leaves the current endpoint for another one: for a stream that does not deliver. If there is no
    /// other, it is asked again, and dialled anew if the connection is silent.
    pub(crate) fn leave_endpoint(&self) {
        self.0.sticky.0.leave_current();
    }

    /// The endpoint in use and what is known of it, for `health`.
    pub(crate) fn connection(&self) -> ConnectionState {
        match self.0.sticky.0.state() {
            State::Connected(connection) => ConnectionState::Connected {
                endpoint: connection.endpoint.to_string(),
                version: connection.member.version.map(|(_, version)| version),
            },
            State::Connecting(_) => ConnectionState::Connecting,
            State::Down(failures) => ConnectionState::Down {
                errors: failures
                    .iter()
                    .map(|failure| (failure.endpoint.to_string(), failure.error.clone()))
                    .collect(),
            },
            State::Closed => ConnectionState::Down { errors: Vec::new() },
        }
    }

    /// The version of the member with this id, as `Status` on the current endpoint told it; `None`
    /// if another member answered or none did: then nothing may be assumed.
    pub(crate) async fn version_of(&self, member: u64) -> Option<Version> {
        let connection = self.0.sticky.0.connected_now()?.ok()?;
        let (id, version) = connection.member.version?;
        (id == member).then_some(version)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("purpose", &self.0.purpose)
            .field("connection", &self.connection())
            .finish_non_exhaustive()
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
