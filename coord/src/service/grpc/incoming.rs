//! [`accept`]: connections that can be cut.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{
    clock::{Clock, Sleep},
    service::Shutdown,
};

/// How long a machine that has no file descriptor left is given to find one.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long a client that was told that nothing more comes is given to end the connection.
const LINGER: Duration = Duration::from_secs(1);

/// What ends connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    /// All of them: they break.
    pub(super) cut: CancellationToken,
    /// Those on which the client has not said a word: it seems to have gone. HTTP/2 takes leave only of
    /// who has greeted.
    pub(super) silent: CancellationToken,
}

/// The connections that come in, until `shutdown`: then the listener closes, and the last ones are
/// those that wait to be accepted. Their clients may have called already; closed on, they would see
/// those calls break.
pub(super) fn accept(
    listener: TcpListener,
    shutdown: Shutdown,
    clock: Clock,
    ends: Ends,
) -> impl Stream<Item = io::Result<Connection>> {
    let connection = {
        let clock = clock.clone();
        move |stream| Ok(Connection::new(stream, &ends, clock.clone()))
    };
    let state = (Listening::Open(listener), shutdown);
    let streams = stream::unfold(state, move |(mut listening, mut shutdown)| {
        let clock = clock.clone();
        async move {
            let stream = listening.next(&mut shutdown, &clock).await?;
            Some((stream, (listening, shutdown)))
        }
    });
    streams.map(connection)
}

enum Listening {
    Open(TcpListener),
    Closed(vec::IntoIter<TcpStream>),
}

impl Listening {
    async fn next(&mut self, shutdown: &mut Shutdown, clock: &Clock) -> Option<TcpStream> {
        loop {
            let listener = match self {
                Self::Open(listener) => listener,
                Self::Closed(rest) => return rest.next(),
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut *shutdown => {
                    let closed = Self::Closed(Vec::new().into_iter());
                    if let Self::Open(listener) = mem::replace(self, closed) {
                        *self = Self::Closed(waiting(listener).into_iter());
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) if has_gone(&error) => {}
                Err(error) => {
                    tracing::warn!(target: "coord::service", %error,
                        "cannot accept a connection; trying again");
                    clock.sleep(EXHAUSTED).await;
                }
            }
        }
    }
}

/// Those that wait to be accepted. The system is asked: tokio may not have heard of them.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    let Ok(listener) = listener.into_std() else {
        return waiting;
    };
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                // Else it has gone, or there is no memory for it.
                if stream.set_nonblocking(true).is_ok() {
                    waiting.extend(TcpStream::from_std(stream));
                }
            }
            Err(error) if has_gone(&error) => {}
            // There are no more; or no file descriptor.
            Err(_) => return waiting,
        }
    }
}

/// The fault is that of one connection.
fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// One accepted connection. Cut, it fails as if the network had.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Of a token of its own: looking at one that all connections share would make them wait for one
    /// another.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the client's first word.
    silent: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    clock: Clock,
    /// Since nothing more is sent.
    linger: Option<Sleep>,
}

impl Connection {
    fn new(stream: TcpStream, ends: &Ends, clock: Clock) -> Self {
        // Refused only by a connection that is gone already, as its first read will tell.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            cut: Box::pin(ends.cut.child_token().cancelled_owned()),
            silent: Some(Box::pin(ends.silent.child_token().cancelled_owned())),
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
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(silent) = &mut self.silent {
            if read.is_pending() {
                // As if the client had closed it.
                return silent.as_mut().poll(cx).map(Ok);
            }
            self.silent = None;
        }
        read
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
