//! [`Connections`]: what a server has accepted, to be counted and cut.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::lock;

/// How long a client that was told that nothing more comes is given to end the connection.
const LINGER: Duration = Duration::from_secs(1);

/// The connections of a server. Cheap to clone; every clone is the same set.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accepted: AtomicU64,
    open: AtomicU64,
    /// Cancelled: those of now are cut.
    cut: Mutex<CancellationToken>,
    /// Cancelled: all are, and none is accepted any more.
    refused: CancellationToken,
}

impl Connections {
    /// How many have been accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(SeqCst)
    }

    /// How many of them are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.0.open.load(SeqCst)
    }

    /// Breaks those that are open.
    pub fn cut(&self) {
        let next = self.0.refused.child_token();
        std::mem::replace(&mut *lock(&self.0.cut), next).cancel();
    }

    /// Breaks those that are open, and accepts no more.
    pub fn refuse(&self) {
        self.0.refused.cancel();
        self.cut();
    }

    /// All that come, until they are refused.
    pub(super) fn accept(
        &self,
        listener: TcpListener,
    ) -> impl Stream<Item = io::Result<Connection>> + use<> {
        let this = self.clone();
        stream::unfold((this, listener), async |(this, listener)| {
            let accepted = this
                .0
                .refused
                .run_until_cancelled(listener.accept())
                .await?;
            let connection = accepted.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(this.begin(stream))
            });
            Some((connection, (this, listener)))
        })
    }

    fn begin(&self, stream: TcpStream) -> Connection {
        self.0.accepted.fetch_add(1, SeqCst);
        self.0.open.fetch_add(1, SeqCst);
        let cut = lock(&self.0.cut).clone();
        Connection {
            stream,
            cut: Box::pin(cut.cancelled_owned()),
            connections: self.clone(),
            linger: None,
        }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    connections: Connections,
    /// Since nothing more is sent.
    linger: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.0.open.fetch_sub(1, SeqCst);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Hears the client out, as a careful server does: what is closed with something unread loses
    /// answers that were not sent yet.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this
            .linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut rest = [0; 4096];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            match Pin::new(&mut this.stream).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        linger.as_mut().poll(cx).map(Ok)
    }
}
