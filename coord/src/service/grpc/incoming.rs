//! [`accept`]: connections that can be cut.

use std::{
    io,
    pin::Pin,
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

use crate::clock::{Clock, Sleep};

/// How long a machine that has no file descriptor left is given to find one.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long a client that was told that nothing more comes is given to end the connection.
const LINGER: Duration = Duration::from_secs(1);

/// The connections that come in; they break when `cut` is cancelled.
pub(super) fn accept(
    listener: TcpListener,
    clock: Clock,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let state = (listener, clock, cut);
    stream::unfold(state, async |(listener, clock, cut)| {
        loop {
            let error = match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = Connection::new(stream, cut.child_token(), clock.clone());
                    return Some((Ok(connection), (listener, clock, cut)));
                }
                Err(error) => error,
            };
            // Of one connection, which has gone again.
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
            ) {
                continue;
            }
            tracing::warn!(target: "coord::service", %error, "cannot accept a connection; trying again");
            clock.sleep(EXHAUSTED).await;
        }
    })
}

/// One accepted connection. Cut, it fails as if the network had.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Of a token of its own: looking at one that all connections share would make them wait for one
    /// another.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    clock: Clock,
    /// Since nothing more is sent.
    linger: Option<Sleep>,
}

impl Connection {
    fn new(stream: TcpStream, cut: CancellationToken, clock: Clock) -> Self {
        // Refused only by a connection that is gone already, as its first read will tell.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            cut: Box::pin(cut.cancelled_owned()),
            clock,
            linger: None,
        }
    }

    /// Wakes whoever asks once it is cut.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that nothing more comes, and hears the client out: of a connection that is closed with
    /// something unread the kernel discards what it has not sent yet. A client that has not heard of
    /// the end goes on sending, and would lose its last answers.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let clock = &this.clock;
        let linger = this.linger.get_or_insert_with(|| clock.sleep(LINGER));
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
        Pin::new(linger).poll(cx).map(Ok)
    }
}
