//! [`Wire`]: what a connection runs over: whether what comes over it is HTTP/2, and all of it.
//!
//! A client may send as soon as it is connected, and hyper counts a connection as made before the
//! server has said a word. A server that speaks something else, or nothing, would then take calls and
//! lose them. So the first bytes are looked at: they must be the header of a SETTINGS frame, which a
//! server has to begin with.
//!
//! And what the server has said last is read, although nothing can be written any more: a server that
//! goes away names the last stream that it has processed, closes, and breaks the connection of a client
//! that is still sending. h2 gives up at the first error of a write, with that word unread: then nobody
//! knows of any call on the connection whether it was processed. So a write that fails is none to h2,
//! until all that has come is read.
//!
//! It also ends with the channel's tasks, and so ends all that hyper has spawned for the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The length of a frame's header.
const HEADER: usize = 9;

/// A connection that tells what it begins with.
#[derive(Debug)]
pub(super) struct Wire<S> {
    io: S,
    /// `None` once that has been told.
    opening: Option<Opening>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Nothing can be written any more.
    broken: bool,
}

#[derive(Debug)]
struct Opening {
    seen: Vec<u8>,
    told: oneshot::Sender<Result<(), String>>,
}

impl<S> Wire<S> {
    /// The receiver is told whether the server speaks HTTP/2, and if not, what is known instead. Once
    /// `cut` is cancelled, nothing can be read or written any more.
    pub(super) fn new(
        io: S,
        cut: &CancellationToken,
    ) -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (told, opening) = oneshot::channel();
        let seen = Vec::with_capacity(HEADER);
        let wire = Self {
            io,
            opening: Some(Opening { seen, told }),
            cut: Box::pin(cut.clone().cancelled_owned()),
            broken: false,
        };
        (wire, opening)
    }

    /// Whether it may still be used; whoever asks is woken when it may not.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::other("the channel is closed")),
            Poll::Pending => Ok(()),
        }
    }

    /// `read`: what came; nothing: the server has closed the connection.
    fn look(&mut self, read: &[u8]) {
        if let Some(opening) = &mut self.opening {
            let missing = HEADER - opening.seen.len();
            let more = &read[..read.len().min(missing)];
            opening.seen.extend_from_slice(more);
            if opening.seen.len() == HEADER || read.is_empty() {
                self.end(None);
            }
        }
    }

    /// Nothing more comes.
    fn end(&mut self, error: Option<&io::Error>) {
        if let Some(opening) = &self.opening {
            let judged = match error {
                Some(error) if opening.seen.is_empty() => Err(error.to_string()),
                _ => judge(&opening.seen),
            };
            self.tell(judged);
        }
    }

    fn tell(&mut self, judged: Result<(), String>) {
        if let Some(opening) = self.opening.take() {
            // Nobody may be waiting any more.
            let _ = opening.told.send(judged);
        }
    }
}

/// What a connection is that begins like this. Less than a header: nothing follows.
fn judge(seen: &[u8]) -> Result<(), String> {
    match seen {
        // Length; SETTINGS; flags, not of an acknowledgement; stream 0.
        [_, _, _, 4, flags, 0, 0, 0, 0] if flags & 1 == 0 => Ok(()),
        [] => Err("the server closed the connection without a word".into()),
        [b'H', b'T', b'T', b'P', b'/', b'1', ..] => {
            Err("the server speaks HTTP/1, not HTTP/2".into())
        }
        // An alert or a handshake.
        [0x15 | 0x16, 0x03, ..] => Err("the server speaks TLS, and the channel does not".into()),
        _ => Err("the server does not speak HTTP/2".into()),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if self.opening.is_none() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        match &read {
            Ok(()) => self.look(&buf.filled()[before..]),
            Err(error) => self.end(Some(error)),
        }
        Poll::Ready(read)
    }
}

impl<S> Wire<S> {
    /// What was written; all of it, if nothing can be any more.
    fn written<T>(&mut self, written: Poll<io::Result<T>>, all: T) -> Poll<io::Result<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match written {
            // Then reading comes to an end by itself.
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset
                ) =>
            {
                self.broken = true;
                Poll::Ready(Ok(all))
            }
            written => written,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        if self.broken {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(written, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.written(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        self.check(cx)?;
        if self.broken {
            return Poll::Ready(Ok(all));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(written, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<S> Drop for Wire<S> {
    /// The connection may have been given up before the end was read.
    fn drop(&mut self) {
        self.end(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];

    fn told(reads: &[&[u8]]) -> Option<Result<(), String>> {
        let (mut wire, mut told) = Wire::new((), &CancellationToken::new());
        for read in reads {
            wire.look(read);
        }
        let judged = told.try_recv().ok();
        // What follows changes nothing.
        drop(wire);
        judged.or_else(|| told.try_recv().ok())
    }

    #[test]
    fn settings_come_first_however_they_are_cut() {
        assert_eq!(told(&[SETTINGS]), Some(Ok(())));
        let bytes: Vec<_> = SETTINGS.chunks(1).collect();
        assert_eq!(told(&bytes), Some(Ok(())));
    }

    #[test]
    fn anything_else_is_told_in_words() {
        for (reads, word) in [
            (&[&b"HTTP/1.1 400 Bad Request\r\n"[..]][..], "HTTP/1"),
            (&[&[0x15, 3, 3, 0, 2, 2, 70], &[]], "TLS"),
            (&[&[0x15, 3, 3, 0, 2, 2, 70]], "TLS"),
            (&[], "without a word"),
            (&[&[]], "without a word"),
            (&[b"SSH-2.0-OpenSSH"], "does not speak HTTP/2"),
            // The acknowledgement of ours, before its own.
            (&[&[0, 0, 0, 4, 1, 0, 0, 0, 0]], "does not speak HTTP/2"),
            (&[&SETTINGS[..5], &[]], "does not speak HTTP/2"),
        ] {
            let told = told(reads)
                .expect("it is clear")
                .expect_err("it is not HTTP/2");
            assert!(told.contains(word), "{told}");
        }
    }

    /// Has one word left to be read, and cannot be written.
    struct Broken(&'static [u8]);

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buf.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_came_before_a_write_failed_is_read() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut wire, _told) = Wire::new(Broken(b"go away"), &CancellationToken::new());
        for _ in 0..2 {
            wire.write_all(b"one more request")
                .await
                .expect("it seems so");
            wire.flush().await.expect("it seems so");
        }
        let mut read = Vec::new();
        wire.read_to_end(&mut read).await.expect("it ends");
        assert_eq!(read, b"go away");
    }
}
