//! [`Calls`]: what every call goes through: its deadline, its connection, its token.

use std::{pin::pin, sync::Arc, time::Duration};

use etcd_client::{AuthClient, KvClient, LeaseClient, WatchClient};
use http::HeaderValue;
use tokio_util::sync::DropGuard;

use super::{
    CallError, Certainty, Purpose, Reason, channel::Sticky, dial::Connection, error::NotSent,
};
use crate::{
    clock::{Clock, Instant},
    options::Secret,
};

/// What every call goes through.
pub(super) struct Calls {
    pub(super) purpose: Purpose,
    pub(super) clock: Clock,
    pub(super) request_timeout: Duration,
    pub(super) sticky: Sticky,
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    pub(super) auth: AuthClient,
    pub(super) user: Option<(String, Secret)>,
    /// One sign-in at a time: etcd takes 50 ms of a core for each.
    pub(super) signing_in: tokio::sync::Mutex<()>,
    /// The supervisor ends with the last clone.
    pub(super) _supervisor: DropGuard,
}

impl Calls {
    /// See [`call_on`](Self::call_on).
    pub(super) async fn call<T, F>(&self, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.call_on(send).await.map(|(reply, _)| reply)
    }

    /// One call within the request timeout, and the generation of the connection that it used.
    ///
    /// `send` runs a second time only when it is certain that the first did nothing: it did not
    /// leave, or etcd refused its token.
    pub(super) async fn call_on<T, F>(&self, send: impl Fn() -> F) -> Result<(T, u64), CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = self.clock.now() + self.request_timeout;
        let mut signed_in = false;
        loop {
            let connection = self.connected(deadline).await?;
            let token = self.sticky.0.token.load_full();
            // Pinned here, for a future that is handed on takes its room twice, at each hand.
            let sent = pin!(async {
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
            });
            match self.within(deadline, &connection, sent).await? {
                Ok(reply) => return Ok((reply, connection.generation)),
                Err(Again::Lost) => {}
                Err(Again::BadToken(error)) if signed_in => return Err(error),
                Err(Again::BadToken(_)) => {
                    signed_in = true;
                    let signing_in = Box::pin(self.sign_in(token));
                    self.within(deadline, &connection, signing_in).await?;
                }
            }
        }
    }

    /// The connection in use. Nothing has been sent if there is none before the deadline.
    pub(super) async fn connected(&self, deadline: Instant) -> Result<Arc<Connection>, CallError> {
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
    pub(super) async fn within<T>(
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
    pub(super) async fn sign_in(&self, stale: Option<Arc<HeaderValue>>) -> Result<(), CallError> {
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
