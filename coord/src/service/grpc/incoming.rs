//! [`accept`]: connections that can be cut.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::clock::Clock;

/// How long a machine that has no file descriptor left is given to find one.
const EXHAUSTED: Duration = Duration::from_millis(100);

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
                    let connection = Connection::new(stream, cut.child_token());
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
}

impl Connection {
    fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        // Refused only by a connection that is gone already, as its first read will tell.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            cut: Box::pin(cut.cancelled_owned()),
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
