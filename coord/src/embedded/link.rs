//! The wire: which connections there may be, and whether bytes pass.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// Open, or shut: then no byte passes in either direction, on any connection.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Passage>);

#[derive(Debug, Default)]
struct Passage {
    shut: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it returns, the last byte has passed.
    pub(super) fn shut(&self) {
        self.passage().shut = true;
    }

    pub(super) fn open(&self) {
        let waiting = {
            let mut passage = self.passage();
            passage.shut = false;
            std::mem::take(&mut passage.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.passage().shut
    }

    /// Done when it is open.
    pub(super) async fn opened(&self) {
        poll_fn(|cx| self.poll_through(cx, |_| Poll::Ready(()))).await;
    }

    /// Polls while it is open, and holds it open for so long.
    fn poll_through<T>(
        &self,
        cx: &mut Context<'_>,
        io: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut passage = self.passage();
        if !passage.shut {
            return io(cx);
        }
        if !passage.waiting.iter().any(|w| w.will_wake(cx.waker())) {
            passage.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Who may connect.
#[derive(Debug, Default)]
pub(super) struct Door(Mutex<Hinges>);

#[derive(Debug, Default)]
struct Hinges {
    refusing: bool,
    /// Cancelled to cut every connection.
    hangup: CancellationToken,
}

impl Door {
    fn hinges(&self) -> MutexGuard<'_, Hinges> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts every connection.
    pub(super) fn hang_up(&self) {
        std::mem::take(&mut self.hinges().hangup).cancel();
    }

    /// Cuts every connection, and lets no new one in.
    pub(super) fn close(&self) {
        let mut hinges = self.hinges();
        hinges.refusing = true;
        std::mem::take(&mut hinges.hangup).cancel();
    }

    pub(super) fn open(&self) {
        self.hinges().refusing = false;
    }

    /// A new connection; `None`: it is not let in.
    pub(super) fn admit(&self) -> Option<Link> {
        let hinges = self.hinges();
        (!hinges.refusing).then(|| Link(hinges.hangup.child_token()))
    }
}

/// A connection, as those see it who may have to cut it.
#[derive(Clone, Debug)]
pub(super) struct Link(CancellationToken);

impl Link {
    pub(super) fn cut(&self) {
        self.0.cancel();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Runs until the connection is cut; what runs is then dropped.
    pub(super) async fn until_cut(&self, run: impl Future) {
        self.0.run_until_cancelled(run).await;
    }
}

/// A connection's bytes, which pass while the gate is open.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    gate: Arc<Gate>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, gate: Arc<Gate>) -> Self {
        Self { stream, gate }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, gate } = self.get_mut();
        gate.poll_through(cx, |cx| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, gate } = self.get_mut();
        gate.poll_through(cx, |cx| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, gate } = self.get_mut();
        gate.poll_through(cx, |cx| Pin::new(stream).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, gate } = self.get_mut();
        gate.poll_through(cx, |cx| Pin::new(stream).poll_shutdown(cx))
    }
}
