//! The sticky channel: one endpoint at a time, dialled before the request is sent, left on error.
//!
//! A [`Supervisor`] task on coord's own runtime finds an endpoint that answers and says so in the
//! [`State`], which every call reads where its caller polls it. A call whose connection turned out
//! bad *leaves* it: from that moment on calls wait for the next one, and only calls that were sent
//! before are lost.
//!
//! # Invariants
//! 1. A connection is published only after its member has answered on it.
//! 2. While no endpoint answers, calls fail at once, with the proof that they were not sent.
//! 3. A generation that was left never comes back: a late failure of an old call leaves nothing.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::{
    future::{FutureExt as _, select_ok},
    stream::{FuturesUnordered, StreamExt as _},
};
use http::{HeaderName, HeaderValue};
use tokio::sync::watch;
use tonic::body::Body;
use tower::{BoxError, Service};

use super::{
    Purpose,
    dial::{self, Connection},
    error::{Failure, NotSent},
    target::Target,
};
use crate::{clock::Clock, retry::Backoff};

/// A further endpoint is tried when the ones before it have been silent for this long, so that one
/// that swallows packets does not use up the connect timeout.
const STAGGER: Duration = Duration::from_millis(250);

/// The first and the longest wait between rounds over all endpoints.
const ROUND_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The longest one of keep-alives. An etcd that is back gives each lease its whole time again, and
/// the shortest have two seconds.
const BEAT_WAIT: Duration = Duration::from_millis(500);

/// A connection that lived for this long was a good one: what follows starts without a wait.
const STEADY: Duration = Duration::from_secs(5);

/// What the supervisor says and the calls read.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Calls wait. With the connection that was left, if it was not seen to break.
    Connecting(Option<Arc<Connection>>),
    Connected(Arc<Connection>),
    /// No endpoint answers; calls fail at once, and the endpoints are tried again and again.
    Down(Arc<[Failure]>),
    /// For good.
    Closed,
}

/// What the calls and the supervisor share.
#[derive(Debug)]
pub(super) struct Shared {
    state: watch::Sender<State>,
    /// The authentication token.
    pub(super) token: ArcSwapOption<HeaderValue>,
}

impl Shared {
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The connection in use, waiting while there is none yet.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn connected(&self) -> Result<Arc<Connection>, NotSent> {
        loop {
            if let Some(outcome) = self.connected_now() {
                return outcome;
            }
            let mut states = self.state.subscribe();
            // Fails only when the sender is gone, and that is a field of this.
            let _ = states
                .wait_for(|state| !matches!(state, State::Connecting(_)))
                .await;
        }
    }

    /// `None`: it is not decided yet.
    pub(super) fn connected_now(&self) -> Option<Result<Arc<Connection>, NotSent>> {
        let lost = match &*self.state.borrow() {
            State::Connecting(_) => return None,
            State::Connected(connection) if connection.lost.is_cancelled() => connection.generation,
            State::Connected(connection) => return Some(Ok(connection.clone())),
            State::Down(failures) => return Some(Err(NotSent::Down(failures.clone()))),
            State::Closed => return Some(Err(NotSent::Closed)),
        };
        self.leave(lost);
        None
    }

    /// Gives the connection up, if it is still the current one.
    pub(super) fn leave(&self, generation: u64) {
        self.state.send_if_modified(|state| match state {
            State::Connected(connection) if connection.generation == generation => {
                *state = State::Connecting(Some(connection.clone()));
                true
            }
            _ => false,
        });
    }

    /// Gives the current connection up, whichever it is. The only endpoint is asked again.
    pub(super) fn leave_current(&self) {
        let current = match &*self.state.borrow() {
            State::Connected(connection) => connection.generation,
            _ => return,
        };
        self.leave(current);
    }
}

/// Finds endpoints for as long as it runs. Dropping it closes the channel.
#[derive(Debug)]
pub(super) struct Supervisor {
    purpose: Purpose,
    shared: Arc<Shared>,
    targets: Vec<Target>,
    clock: Clock,
    connect_timeout: Duration,
    generations: AtomicU64,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.state.send_replace(State::Closed);
    }
}

impl Supervisor {
    pub(super) fn new(
        purpose: Purpose,
        targets: Vec<Target>,
        clock: Clock,
        connect_timeout: Duration,
    ) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Connecting(None)),
            token: ArcSwapOption::empty(),
        });
        let supervisor = Self {
            purpose,
            shared: shared.clone(),
            targets,
            clock,
            connect_timeout,
            generations: AtomicU64::new(0),
        };
        (supervisor, shared)
    }

    pub(super) async fn run(self) {
        let mut states = self.shared.state.subscribe();
        let (initial, max) = match self.purpose {
            Purpose::KeepAlives => (ROUND_WAIT.0, BEAT_WAIT),
            Purpose::Calls | Purpose::Watches => ROUND_WAIT,
        };
        let mut backoff = Backoff::endless(initial, max);
        let mut first = 0;
        let mut left = None;
        // There was a connection before; and: it was said that there is none any more.
        let (mut known, mut told) = (false, false);
        loop {
            match self.round(first, left.take()).await {
                Ok(connection) => {
                    known = true;
                    if std::mem::take(&mut told) {
                        tracing::info!(target: "coord::client", endpoint = %connection.endpoint,
                            purpose = %self.purpose, "connected to etcd again");
                    }
                    first = connection.index + 1;
                    let since = self.clock.now();
                    left = self.watch_over(connection, &mut states).await;
                    if self.clock.now().since(since) >= STEADY {
                        backoff.reset();
                        continue;
                    }
                }
                Err(failures) => {
                    // Before the first connection whoever opens the client is told by an error.
                    self.publish_down(failures, known && !told);
                    told = known;
                }
            }
            self.clock.sleep(backoff.next_delay()).await;
        }
    }

    /// Publishes the connection; done when it was left. Returns it, unless it broke.
    async fn watch_over(
        &self,
        connection: Connection,
        states: &mut watch::Receiver<State>,
    ) -> Option<Arc<Connection>> {
        let (purpose, endpoint) = (self.purpose, connection.endpoint.clone());
        tracing::debug!(target: "coord::client", %endpoint, %purpose, "connected to etcd");
        let connection = Arc::new(connection);
        let (generation, lost) = (connection.generation, connection.lost.clone());
        self.shared
            .state
            .send_replace(State::Connected(connection.clone()));
        drop(connection);
        tokio::select! {
            biased;
            () = lost.cancelled() => {
                self.shared.leave(generation);
                tracing::debug!(target: "coord::client", %endpoint, %purpose, "the connection to etcd was lost");
                None
            }
            left = states.wait_for(|state| !matches!(state, State::Connected(_))) => {
                tracing::debug!(target: "coord::client", %endpoint, %purpose, "leaving the etcd endpoint");
                match left.as_deref() {
                    Ok(State::Connecting(left)) => left.clone(),
                    _ => None,
                }
            }
        }
    }

    /// `news`: it was not so before.
    fn publish_down(&self, failures: Vec<Failure>, news: bool) {
        let purpose = self.purpose;
        let not_sent = NotSent::Down(failures.into());
        if news {
            tracing::warn!(target: "coord::client", %purpose, "{not_sent}; trying on");
        } else {
            tracing::debug!(target: "coord::client", %purpose, "{not_sent}");
        }
        if let NotSent::Down(failures) = not_sent {
            self.shared.state.send_replace(State::Down(failures));
        }
    }

    /// Tries every endpoint once, from the one after the last used on, within the connect timeout. The
    /// first that answers wins; one without a leader only if no other answers.
    async fn round(
        &self,
        first: usize,
        left: Option<Arc<Connection>>,
    ) -> Result<Connection, Vec<Failure>> {
        let count = self.targets.len();
        let mut waiting: VecDeque<usize> = (first..first + count).map(|i| i % count).collect();
        let mut failures: Vec<Option<String>> = vec![None; count];
        let mut second_choice = None;
        let mut dials = FuturesUnordered::new();
        let mut limit = self.clock.sleep(self.connect_timeout);
        loop {
            if let Some(index) = waiting.pop_front() {
                dials.push(self.attempt(index, left.as_deref()));
            } else if dials.is_empty() {
                break;
            }
            let stagger = self.clock.sleep(STAGGER);
            tokio::select! {
                biased;
                Some((index, outcome)) = dials.next() => match outcome {
                    Ok(connection) if connection.member.has_leader => return Ok(connection),
                    Ok(connection) => {
                        failures[index] = Some("it has no leader".into());
                        second_choice.get_or_insert(connection);
                    }
                    Err(error) => failures[index] = Some(error),
                },
                () = &mut limit => break,
                () = stagger, if !waiting.is_empty() => {}
            }
        }
        second_choice.ok_or_else(|| self.failures(failures))
    }

    /// One endpoint: asked again on the connection that was left, if that still stands (a call that
    /// took too long is no proof against a member, and is no reason to connect anew), else dialled.
    /// Also dialled if the old connection is silent: the member may be well while a firewall between
    /// has forgotten the connection.
    async fn attempt(
        &self,
        index: usize,
        left: Option<&Connection>,
    ) -> (usize, Result<Connection, String>) {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let dialled = || {
            let target = &self.targets[index];
            dial::dial(target, index, generation, self.connect_timeout)
        };
        let outcome = match left {
            Some(left) if left.index == index && !left.lost.is_cancelled() => {
                let mut again = async {
                    dial::status(&left.channel).await.map(|member| Connection {
                        generation,
                        index,
                        endpoint: left.endpoint.clone(),
                        channel: left.channel.clone(),
                        lost: left.lost.clone(),
                        member,
                    })
                }
                .boxed();
                match self.clock.timeout(STAGGER, &mut again).await {
                    Ok(outcome) => outcome,
                    Err(_elapsed) => select_ok([again, dialled().boxed()])
                        .await
                        .map(|(connection, _other)| connection),
                }
            }
            _ => dialled().await,
        };
        (index, outcome)
    }

    fn failures(&self, errors: Vec<Option<String>>) -> Vec<Failure> {
        let failures = self.targets.iter().zip(errors);
        failures
            .map(|(target, error)| Failure {
                endpoint: target.name.clone(),
                error: error.unwrap_or_else(|| {
                    let limit = humantime::format_duration(self.connect_timeout);
                    format!("no answer within {limit}")
                }),
            })
            .collect()
    }
}

/// The channel, as the stubs use it.
#[derive(Clone, Debug)]
pub(super) struct Sticky(pub(super) Arc<Shared>);

impl Sticky {
    pub(super) fn into_etcd(self) -> etcd_client::Channel {
        etcd_client::Channel::Custom(tower::util::BoxCloneSyncService::new(self))
    }
}

const TOKEN: HeaderName = HeaderName::from_static("token");
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

impl Service<http::Request<Body>> for Sticky {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Whether it can be sent is known once it is; so that the proof belongs to this request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let connection = shared.connected().await.map_err(NotSent::into_status)?;
            match request.uri().path() {
                "/etcdserverpb.Auth/Authenticate" => {}
                path => {
                    // A member without a leader would leave a stream silent for ever. A call is
                    // better off without: it may outlast an election.
                    if matches!(
                        path,
                        "/etcdserverpb.Watch/Watch" | "/etcdserverpb.Lease/LeaseKeepAlive"
                    ) {
                        let yes = HeaderValue::from_static("true");
                        request.headers_mut().insert(HAS_LEADER, yes);
                    }
                    if let Some(token) = &*shared.token.load() {
                        request.headers_mut().insert(TOKEN, (**token).clone());
                    }
                }
            }
            let mut channel = connection.channel.clone();
            let lost = |_| {
                shared.leave(connection.generation);
                NotSent::Lost.into_status()
            };
            std::future::poll_fn(|cx| channel.poll_ready(cx))
                .await
                .map_err(lost)?;
            channel.call(request).await.map_err(|error| {
                shared.leave(connection.generation);
                match NotSent::find(&error) {
                    Some(not_sent) => not_sent.clone().into_status().into(),
                    None => error.into(),
                }
            })
        })
    }
}
