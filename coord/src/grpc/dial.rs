//! [`Dialer`]: makes connections to instances.
//!
//! A dead machine is found by the kernel, which probes an idle connection and gives up one whose bytes
//! nobody acknowledges: no server takes offence at that. HTTP/2 PINGs find a dead process behind a
//! live proxy too, but a server may close connections that send them more often than it allows (Go's
//! does, below 5 min, while it sends nothing itself), so they are sent only if the channel's builder
//! says so.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Authority};
use hyper::{client::conn::http2, rt};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

#[cfg(feature = "tls")]
use super::tls::Tls;
use super::{connection::Connection, socket::Socket, wire::Wire};
use crate::{
    client::{Coalesced, in_one_line},
    clock::{self, Clock, Instant},
    tasks::Tasks,
};

/// An idle connection is probed after this, and one whose bytes are not acknowledged for as long is
/// given up.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two probes.
const PROBE: Duration = Duration::from_secs(5);

/// No keep-alive is longer: hyper adds it to the time, which has an end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    tcp: HttpConnector,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    http: http2::Builder<Spawn>,
    clock: Clock,
    tasks: Tasks,
    limit: Duration,
}

impl Dialer {
    /// `limit`: for all of one dial. `keep_alive`: how long a connection with calls on it may be
    /// silent before the server is asked whether it is there, and how long it may take to answer.
    pub(super) fn new(
        tasks: Tasks,
        clock: Clock,
        limit: Duration,
        keep_alive: Option<Duration>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared out among a name's addresses, so that one that swallows packets leaves time for the
        // rest.
        tcp.set_connect_timeout(Some(limit));
        tcp.set_keepalive(Some(SILENCE));
        tcp.set_keepalive_interval(Some(PROBE));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        tcp.set_tcp_user_timeout(Some(SILENCE));
        let mut http = http2::Builder::new(Spawn(tasks.clone()));
        http.timer(Timer(clock.clone()));
        if let Some(interval) = keep_alive.map(|interval| interval.min(LONGEST)) {
            http.keep_alive_interval(interval)
                .keep_alive_timeout(interval);
        }
        Self {
            tcp,
            #[cfg(feature = "tls")]
            tls: None,
            http,
            clock,
            tasks,
            limit,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A connection on which the server has said that it speaks HTTP/2. `ended` is called, once, when
    /// no more calls can be sent on it. The error says why there is none, without the address.
    ///
    /// # Cancel safety
    /// Safe: what was connected by then is closed.
    pub(super) async fn dial(
        &self,
        authority: &Authority,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Connection, String> {
        let until = self.clock.now() + self.limit;
        let uri = Uri::builder().scheme("http").authority(authority.clone());
        let uri = uri.path_and_query("/").build();
        let uri = uri.map_err(|error| error.to_string())?;
        let tcp = self.within(until, "no connection", self.tcp.clone().oneshot(uri));
        let tcp = tcp
            .await?
            .map_err(|error| self.refused(&error))?
            .into_inner();
        let socket = Socket::of(&tcp);
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let secured = self.within(until, "no TLS", tls.connect(authority, tcp));
            return self.speak(until, secured.await??, socket, ended).await;
        }
        self.speak(until, tcp, socket, ended).await
    }

    async fn speak<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        until: Instant,
        io: S,
        socket: Socket,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Connection, String> {
        let (wire, opening) = Wire::new(Coalesced::new(io), self.tasks.cancelled());
        let shake = self.http.handshake(TokioIo::new(wire));
        let shaken = self.within(until, "no HTTP/2", shake).await?;
        let (sender, driver) = shaken.map_err(|error| in_one_line(&error))?;
        let connection = Connection::new(sender, socket);
        let (ended, driven) = (Ended(Some(ended)), connection.driven());
        drop(self.tasks.spawn(async move {
            let _ended = ended;
            let _driven = driven;
            // How it ended is told to the calls that were on it.
            let _ = driver.await;
        }));
        match self.within(until, "no HTTP/2", opening).await? {
            Ok(judged) => judged.map(|()| connection),
            // The wire is gone, and has told nothing.
            Err(_) => Err("the connection was closed before it was used".into()),
        }
    }

    async fn within<F: Future>(
        &self,
        until: Instant,
        what: &str,
        future: F,
    ) -> Result<F::Output, String> {
        let left = until.since(self.clock.now());
        let output = self.clock.timeout(left, future).await;
        output.map_err(|_| self.too_late(what))
    }

    fn too_late(&self, what: &str) -> String {
        format!("{what} within {}", humantime::format_duration(self.limit))
    }

    /// What the system says of a connect, without what the layers above add.
    fn refused(&self, error: &(dyn StdError + 'static)) -> String {
        let mut level = Some(error);
        while let Some(error) = level {
            match error.downcast_ref::<io::Error>() {
                Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return self.too_late("no connection");
                }
                Some(error) => return error.to_string(),
                None => level = error.source(),
            }
        }
        in_one_line(error)
    }
}

/// Calls it when it is dropped, however that comes.
struct Ended<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Ended<F> {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended();
        }
    }
}

/// Spawns a connection's tasks among those of the channel: one that drives it, and for each call on it
/// one or two. All end with what the connection runs over, which ends with the channel's tasks.
#[derive(Clone, Debug)]
struct Spawn(Tasks);

impl<F> rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_bound(task);
    }
}

/// The one clock, as hyper asks for the time.
#[derive(Clone, Debug)]
struct Timer(Clock);

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep(self.0.sleep(duration)))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}

struct Sleep(clock::Sleep);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl rt::Sleep for Sleep {}
