//! One dial: a connection on which a member has answered.

use std::{
    collections::BTreeSet,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tower::{BoxError, ServiceExt};

use super::{
    CallError, Certainty, Reason, Version,
    coalesce::Coalesced,
    error::{NotSent, in_one_line},
    target::Target,
};

/// An open connection to a member that has answered on it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Never the same for two connections, nor for one that was left and found well again.
    pub(super) generation: u64,
    /// Which target.
    pub(super) index: usize,
    pub(super) endpoint: Arc<str>,
    /// Does not connect again by itself: see [`dial`].
    pub(super) channel: Channel,
    /// Cancelled once the socket is closed.
    pub(super) lost: CancellationToken,
    pub(super) member: Member,
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its id and version; unknown if it tells them to signed-in users only.
    pub(super) version: Option<(u64, Version)>,
    pub(super) has_leader: bool,
}

/// What a connection runs over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for S {}

/// Gives what connections run over, in place of TCP to an endpoint. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer(Arc<dyn Fn() -> io::Result<Box<dyn Io>> + Send + Sync>);

impl Dialer {
    #[cfg_attr(
        not(any(test, feature = "embedded")),
        expect(dead_code, reason = "only the embedded server is not on a network")
    )]
    pub(crate) fn new<S: Io>(dial: impl Fn() -> io::Result<S> + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || Ok(Box::new(dial()?))))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}

/// Connects to `target` and asks it for its status: a stopped process still accepts connections,
/// its kernel does that.
///
/// The channel never connects a second time. tonic's own would, in the middle of somebody's call and
/// to the same dead member; here that call gets the proof that it was not sent.
pub(super) async fn dial(
    target: &Target,
    index: usize,
    generation: u64,
    limit: Duration,
) -> Result<Connection, String> {
    let lost = CancellationToken::new();
    // Both are gone once it is connected: whatever the channel keeps, it keeps neither.
    let mut once = Some((lost.clone().drop_guard(), target.dialer.clone()));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared out among a name's addresses, so that one that swallows packets leaves time for the rest.
    tcp.set_connect_timeout(Some(limit));
    let connector = tower::service_fn(move |uri: Uri| {
        let once = once.take();
        let tcp = tcp.clone();
        async move {
            let (guard, dialer) = once.ok_or(NotSent::Lost)?;
            let io: Box<dyn Io> = match dialer {
                None => Box::new(tcp.oneshot(uri).await?.into_inner()),
                Some(dialer) => dialer.0()?,
            };
            let io = Coalesced::new(io);
            Ok::<_, BoxError>(TokioIo::new(Wire { io, _guard: guard }))
        }
    });
    let channel = target
        .endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| in_one_line(&error))?;
    let member = status(&channel).await?;
    if let Some((_, version)) = member.version {
        warn_of_faults(&target.name, version);
    }
    Ok(Connection {
        generation,
        index,
        endpoint: target.name.clone(),
        channel,
        lost,
        member,
    })
}

/// Asks the member on `channel` for its status.
pub(super) async fn status(channel: &Channel) -> Result<Member, String> {
    let raw = etcd_client::Channel::Tonic(channel.clone());
    let client = etcd_client::Client::from_channel(raw, None)
        .await
        .map_err(|error| in_one_line(&error))?;
    match client.maintenance_client().status().await {
        Ok(status) if status.is_learner() => Err("it is a learner, which serves no calls".into()),
        Ok(status) => Ok(Member {
            version: version(&status),
            has_leader: status.leader() != 0,
        }),
        Err(error) => {
            let error = CallError::from(error);
            match (error.certainty, error.reason) {
                // It answers, but tells its version to signed-in users only.
                (Certainty::Refused, Reason::Denied | Reason::BadToken) => Ok(Member {
                    version: None,
                    has_leader: true,
                }),
                _ => Err(in_one_line(&error)),
            }
        }
    }
}

/// The member's id and version, if the answer has both.
pub(super) fn version(status: &etcd_client::StatusResponse) -> Option<(u64, Version)> {
    let header = status.header()?;
    Some((header.member_id(), Version::parse(status.version())?))
}

/// Once per process and endpoint.
fn warn_of_faults(endpoint: &str, version: Version) {
    static TOLD: Mutex<BTreeSet<(String, Version)>> = Mutex::new(BTreeSet::new());
    let Some(fault) = known_fault(version) else {
        return;
    };
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.insert((endpoint.to_owned(), version)) {
        tracing::warn!(target: "coord::client", endpoint, %version, "etcd {version} {fault}");
    }
}

fn known_fault(version: Version) -> Option<&'static str> {
    if version < Version::new(3, 5, 8) {
        Some("is not supported: below 3.5.8 its watches report wrong progress")
    } else if version < Version::new(3, 5, 23)
        || (Version::new(3, 6, 0) <= version && version < Version::new(3, 6, 5))
    {
        Some("has known faults in its leases: use 3.5.23, 3.6.5 or later")
    } else {
        None
    }
}

/// The connection. Its owner drops it when the connection has ended, however it did; that is the signal.
struct Wire {
    io: Coalesced<Box<dyn Io>>,
    _guard: DropGuard,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
