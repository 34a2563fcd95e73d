//! Talking to etcd: the only user of `etcd-client` in this crate.
//!
//! A [`Client`] is one connection with one purpose (calls, watches, or keep-alives: unread watch
//! streams block the calls that share their connection). It has a deadline on every call and says of
//! every failure whether the request was not sent, was refused, or may have been applied: every
//! retry and the lock protocol stand on that. It never repeats anything by itself.

mod channel;
mod dial;
mod error;
mod lease;
mod target;
mod txn;
mod types;
mod watch;

#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod member;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::{AuthClient, KvClient, LeaseClient, LeaseGrantOptions, WatchClient};
use http::HeaderValue;
use tokio_util::sync::DropGuard;

pub(crate) use error::{CallError, Certainty, Reason};
pub(crate) use lease::{Granted, KeepAlive, KeepAlives, TimeToLive};
pub(crate) use types::{
    Compare, CompareOp, DeleteReply, Header, KeyValue, Op, OpReply, Order, Range, RangeReply, Span,
    Target, Txn, TxnReply, Version,
};
pub(crate) use watch::{Event, EventKind, WatchMessage, WatchRequest, WatchStream};

use self::{
    channel::{State, Sticky, Supervisor},
    dial::Connection,
    error::NotSent,
};
use crate::{
    clock::{Clock, Instant},
    error::{Context, Error, Result},
    options::{Options, Secret},
    tasks::Tasks,
};

/// The largest reply that is decoded. etcd's own limit is on requests (1.5 MiB by default); a reply
/// may hold many of them.
const LARGEST_REPLY: usize = 64 * 1024 * 1024;

/// One connection to the cluster. Cheap to clone; every clone is the same connection.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    purpose: Purpose,
    clock: Clock,
    request_timeout: Duration,
    sticky: Sticky,
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
    auth: AuthClient,
    user: Option<(String, Secret)>,
    /// One sign-in at a time: etcd takes 50 ms of a core for each.
    signing_in: tokio::sync::Mutex<()>,
    /// The supervisor ends with the last clone.
    _supervisor: DropGuard,
}

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
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Self> {
        const OPERATION: &str = "connect to etcd";
        let deadline = clock.now() + options.connect_timeout;
        // On coord's own runtime: reading files needs one, and the caller's may be of another kind.
        let targets = {
            let options = options.clone();
            let reading = tasks.spawn(async move { target::targets(&options).await });
            reading.await.ok_or_else(|| Error::closed(OPERATION))??
        };
        let (supervisor, shared) = Supervisor::new(targets, clock.clone(), options.connect_timeout);
        let stop = tasks.cancelled().child_token();
        let guard = stop.clone().drop_guard();
        tasks.spawn(async move { stop.run_until_cancelled(supervisor.run()).await });

        let failed = |error: CallError| error.into_error(Context::new(OPERATION));
        // Ends within the connect timeout: the supervisor's first round does.
        shared
            .connected()
            .await
            .map_err(|error| failed(error.into()))?;
        let sticky = Sticky(shared);
        let etcd = etcd_client::Client::from_channel(sticky.clone().into_etcd(), None)
            .await
            .map_err(|error| failed(error.into()))?;
        let client = Self(Arc::new(Inner {
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
            Err(_elapsed) => {
                let limit = options.connect_timeout;
                return Err(failed(CallError::timeout(Certainty::NotSent, limit, None)));
            }
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

    /// One transaction: the only write (a single put or delete is a transaction without compares, so
    /// that its answer always carries a header).
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnReply, CallError> {
        let reply = self.0.call(|| {
            let txn = txn::txn(&txn);
            let mut kv = self.0.kv.clone();
            async move { kv.txn(txn).await }
        });
        txn::txn_reply(reply.await?.0)
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
        let stale = self.0.sticky.0.token.load_full();
        let deadline = self.0.clock.now() + self.0.request_timeout;
        let connection = self.0.connected(deadline).await?;
        self.0
            .within(deadline, &connection, self.0.sign_in(stale))
            .await
    }

    /// Leaves the current endpoint for another one, if there is another: for a stream that answers
    /// but does not deliver.
    pub(crate) fn leave_endpoint(&self) {
        self.0.sticky.0.leave_for_another();
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

impl Inner {
    /// See [`call_on`](Self::call_on).
    async fn call<T, F>(&self, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.call_on(send).await.map(|(reply, _)| reply)
    }

    /// One call within the request timeout, and the generation of the connection that it used.
    ///
    /// `send` runs a second time only when it is certain that the first did nothing: it did not
    /// leave, or etcd refused its token.
    async fn call_on<T, F>(&self, send: impl Fn() -> F) -> Result<(T, u64), CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = self.clock.now() + self.request_timeout;
        let mut signed_in = false;
        loop {
            let connection = self.connected(deadline).await?;
            let token = self.sticky.0.token.load_full();
            let sent = async {
                match send().await {
                    Ok(reply) => Ok(Ok(reply)),
                    Err(etcd_client::Error::GRpcStatus(status))
                        if matches!(NotSent::find(&status), Some(NotSent::Lost)) =>
                    {
                        Ok(Err(Again::Lost))
                    }
                    Err(error) => match CallError::from(error) {
                        error if error.reason == Reason::BadToken && self.user.is_some() => {
                            Ok(Err(Again::BadToken(error)))
                        }
                        error => Err(error),
                    },
                }
            };
            match self.within(deadline, &connection, sent).await? {
                Ok(reply) => return Ok((reply, connection.generation)),
                Err(Again::Lost) => {}
                Err(Again::BadToken(error)) if signed_in => return Err(error),
                Err(Again::BadToken(_)) => {
                    signed_in = true;
                    let signing_in = self.sign_in(token);
                    self.within(deadline, &connection, signing_in).await?;
                }
            }
        }
    }

    /// The connection in use. Nothing has been sent if there is none before the deadline.
    async fn connected(&self, deadline: Instant) -> Result<Arc<Connection>, CallError> {
        let shared = &self.sticky.0;
        if let Some(outcome) = shared.connected_now() {
            return Ok(outcome?);
        }
        let left = deadline.since(self.clock.now());
        match self.clock.timeout(left, shared.connected()).await {
            Ok(outcome) => Ok(outcome?),
            Err(_elapsed) => {
                let limit = self.request_timeout;
                Err(CallError::timeout(Certainty::NotSent, limit, None))
            }
        }
    }

    /// `future`, on `connection` and not past the deadline. A failure that is the endpoint's leaves it.
    async fn within<T>(
        &self,
        deadline: Instant,
        connection: &Connection,
        future: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let left = deadline.since(self.clock.now());
        let outcome = match self.clock.timeout(left, future).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                let (limit, endpoint) = (self.request_timeout, &connection.endpoint);
                Err(CallError::timeout(
                    Certainty::Unknown,
                    limit,
                    Some(endpoint),
                ))
            }
        };
        if outcome.as_ref().is_err_and(CallError::endpoint_failed) {
            self.sticky.0.leave(connection.generation);
        }
        outcome
    }

    /// Fetches a token, unless there is a newer one than `stale` already.
    async fn sign_in(&self, stale: Option<Arc<HeaderValue>>) -> Result<(), CallError> {
        let Some((user, password)) = &self.user else {
            return Ok(());
        };
        let _one = self.signing_in.lock().await;
        let token = &self.sticky.0.token;
        let same = match (&*token.load(), &stale) {
            (Some(current), Some(stale)) => Arc::ptr_eq(current, stale),
            (current, stale) => current.is_none() && stale.is_none(),
        };
        if !same {
            return Ok(());
        }
        let reply = self
            .auth
            .clone()
            .authenticate(user.clone(), password.expose().to_owned())
            .await?;
        let mut value = HeaderValue::try_from(reply.token()).map_err(|_| CallError::malformed())?;
        value.set_sensitive(true);
        token.store(Some(Arc::new(value)));
        Ok(())
    }
}

/// Why a call that did nothing is sent again.
enum Again {
    Lost,
    BadToken(CallError),
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
