//! [`Coalesced`]: one write for what is sent at once.
//!
//! One small call over HTTP/2 is three frames from three steps of two tasks: the headers, the message,
//! the end. Each is flushed by itself: three system calls here, three wake-ups there, and on a near
//! network those are about a tenth of the time of a small call. So a flush lets the tasks that are
//! ready go first, and sees whether they have more to send. It waits for nothing: no time passes in
//! which this thread would have been idle.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is gathered. What is more fills a packet or two by itself.
const MOST: usize = 16 * 1024;

/// How often a flush lets others go first: what a call has steps after the first one. Without a bound, a
/// busy connection would be flushed when the buffer is full.
const TURNS: u8 = 2;

/// What is written is sent by a flush, or when there is much of it.
#[derive(Debug)]
pub(crate) struct Coalesced<S> {
    io: S,
    gathered: Vec<u8>,
    /// So much of it is sent.
    sent: usize,
    /// Something came since the last flush let others go first.
    fresh: bool,
    /// How often it has, since something was sent.
    turns: u8,
}

impl<S> Coalesced<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            gathered: Vec::new(),
            sent: 0,
            fresh: false,
            turns: 0,
        }
    }
}

impl<S: AsyncWrite + Unpin> Coalesced<S> {
    /// Sends what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let rest = &self.gathered[self.sent..];
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.gathered.clear();
        (self.sent, self.fresh, self.turns) = (0, false, 0);
        Poll::Ready(Ok(()))
    }

    /// Room for so many bytes. `false`: they are too many to be gathered; nothing else is waiting.
    fn poll_room(&mut self, cx: &mut Context<'_>, more: usize) -> Poll<io::Result<bool>> {
        if self.gathered.len() + more > MOST {
            ready!(self.poll_send(cx))?;
        }
        // With what is sent as it is, nothing else could go.
        self.fresh = more <= MOST;
        Poll::Ready(Ok(self.fresh))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !ready!(self.poll_room(cx, buf.len()))? {
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        self.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if !ready!(self.poll_room(cx, all))? {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            self.gathered.extend_from_slice(buf);
        }
        Poll::Ready(Ok(all))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fresh && self.turns < TURNS {
            self.fresh = false;
            self.turns += 1;
            // The runtime polls this task again after those that are ready now.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Notes each write; takes so many bytes at a time.
    #[derive(Clone)]
    struct Wire {
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
        most: usize,
    }

    impl Wire {
        fn new(most: usize) -> Self {
            let writes = Arc::default();
            Self { writes, most }
        }

        fn writes(&self) -> Vec<Vec<u8>> {
            self.writes.lock().expect("no panic").clone()
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = &buf[..buf.len().min(self.most)];
            self.writes.lock().expect("no panic").push(taken.to_vec());
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// How often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(io: &mut Coalesced<Wire>, bytes: &[u8], cx: &mut Context<'_>) {
        let written = Pin::new(io).poll_write(cx, bytes);
        assert!(matches!(written, Poll::Ready(Ok(n)) if n == bytes.len()));
    }

    #[test]
    fn what_comes_in_the_turns_of_others_goes_together() {
        let wire = Wire::new(usize::MAX);
        let mut io = Coalesced::new(wire.clone());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        for (turn, frame) in [&b"headers "[..], b"message "].iter().enumerate() {
            write(&mut io, frame, cx);
            assert!(Pin::new(&mut io).poll_flush(cx).is_pending());
            // Whoever waits for others must be polled again without them.
            assert_eq!(woken.0.load(Ordering::Relaxed), turn + 1);
        }
        assert!(wire.writes().is_empty());
        write(&mut io, b"end", cx);
        assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
        assert_eq!(wire.writes(), [b"headers message end"]);
        // And then from the beginning.
        write(&mut io, b"next", cx);
        assert!(Pin::new(&mut io).poll_flush(cx).is_pending());
        assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
        assert_eq!(wire.writes().len(), 2);
    }

    #[test]
    fn it_is_sent_although_more_comes_all_the_time() {
        let wire = Wire::new(usize::MAX);
        let mut io = Coalesced::new(wire.clone());
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..=TURNS {
            write(&mut io, b"more ", cx);
            let _ = Pin::new(&mut io).poll_flush(cx);
        }
        assert_eq!(wire.writes(), [b"more more more "]);
    }

    /// Else each frame of a large message would wait for a round of the runtime.
    #[test]
    fn what_is_too_large_to_be_gathered_is_flushed_at_once() {
        let wire = Wire::new(usize::MAX);
        let mut io = Coalesced::new(wire.clone());
        let cx = &mut Context::from_waker(Waker::noop());
        write(&mut io, b"small ", cx);
        write(&mut io, &[7; MOST + 1], cx);
        assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
        assert_eq!(wire.writes(), [b"small ".to_vec(), vec![7; MOST + 1]]);
    }

    #[tokio::test]
    async fn a_flush_that_nothing_was_written_for_and_a_shutdown_do_not_wait() {
        let wire = Wire::new(usize::MAX);
        let mut io = Coalesced::new(wire.clone());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
        write(&mut io, b"last", cx);
        io.shutdown().await.expect("it ends");
        assert_eq!(wire.writes(), [b"last"]);
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_order(
            sizes in prop::collection::vec((0..3 * MOST, any::<bool>(), any::<bool>()), 1..20),
            most in 1..2 * MOST,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let (near, mut far) = tokio::io::duplex(most);
            runtime.expect("a runtime").block_on(async move {
                let total: usize = sizes.iter().map(|(size, ..)| size).sum();
                let all: Vec<u8> = (0..total).map(|n| (n % 251) as u8).collect();
                let sent = all.clone();
                let sender = tokio::spawn(async move {
                    let mut io = Coalesced::new(near);
                    let mut rest = &sent[..];
                    for (size, vectored, flush) in sizes {
                        let (mut now, later) = rest.split_at(size);
                        while !now.is_empty() {
                            let (one, two) = now.split_at(now.len() / 2);
                            let both = [io::IoSlice::new(one), io::IoSlice::new(two)];
                            let written = match vectored {
                                true => io.write_vectored(&both).await,
                                false => io.write(now).await,
                            };
                            now = &now[written.expect("it is open")..];
                        }
                        if flush {
                            io.flush().await.expect("it is open");
                        }
                        rest = later;
                    }
                    io.shutdown().await.expect("it is open");
                });
                let mut came = Vec::new();
                far.read_to_end(&mut came).await.expect("it ends");
                sender.await.expect("no panic");
                assert_eq!(came, all);
            });
        }
    }
}
