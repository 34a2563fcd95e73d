//! One direction of a link: the flow that it obeys, and what has gone through.

use std::{
    io::{self, Cursor},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, watch},
    time::Instant,
};

/// What happens to bytes, and to the end of a connection, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They go through.
    Pass,
    /// They go through this much later, in order; the link has room for any number of them.
    Delay(Duration),
    /// They wait until the flow is another.
    Hold,
    /// They are lost, and nobody is told. Once the flow is another, the connection is closed: a
    /// stream cannot go on behind a gap.
    Discard,
}

/// How many bytes have come in one direction, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// All that have come.
    pub arrived: u64,
    /// Of these, those that were passed on.
    pub passed: u64,
    /// Of these, those that were discarded.
    pub discarded: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    flow: watch::Sender<Flow>,
    arrived: AtomicU64,
    passed: AtomicU64,
    discarded: AtomicU64,
}

/// What was read at one time; empty: the end of the stream.
#[derive(Debug)]
struct Chunk {
    bytes: Cursor<Vec<u8>>,
    read_at: Instant,
}

/// What has come in one direction of a connection, and has not been passed on yet.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Without a bound: what waits here is what a test holds back.
    queued: mpsc::UnboundedReceiver<Chunk>,
    /// The one that the flow decides about now, or what is left of it.
    next: Option<Chunk>,
}

impl Waiting {
    /// All of it, without the end of the stream.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let queued = std::iter::from_fn(|| self.queued.try_recv().ok());
        for chunk in self.next.into_iter().chain(queued) {
            let passed = usize::try_from(chunk.bytes.position()).expect("it is in memory");
            bytes.extend_from_slice(&chunk.bytes.get_ref()[passed..]);
        }
        bytes
    }
}

/// One direction of one connection: what reads puts in, and what is to be written takes out.
pub(super) fn queue() -> (Arrivals, Waiting) {
    let (arrivals, queued) = mpsc::unbounded_channel();
    (Arrivals(arrivals), Waiting { queued, next: None })
}

pub(super) struct Arrivals(mpsc::UnboundedSender<Chunk>);

impl Lane {
    pub(super) fn new() -> Self {
        let flow = watch::Sender::new(Flow::Pass);
        Self {
            flow,
            arrived: 0.into(),
            passed: 0.into(),
            discarded: 0.into(),
        }
    }

    pub(super) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    pub(super) fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            arrived: read(&self.arrived),
            passed: read(&self.passed),
            discarded: read(&self.discarded),
        }
    }

    /// Carries one stream until its end has been passed on, or until it breaks. When it is dropped,
    /// what has been read and not been written is in `waiting`.
    pub(super) async fn relay(
        &self,
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
        arrivals: Arrivals,
        waiting: &mut Waiting,
    ) -> io::Result<()> {
        tokio::try_join!(self.read(from, arrivals), self.write(to, waiting))?;
        Ok(())
    }

    async fn read(&self, mut from: impl AsyncRead + Unpin, arrivals: Arrivals) -> io::Result<()> {
        loop {
            let mut bytes = Vec::with_capacity(16 * 1024);
            let end = from.read_buf(&mut bytes).await? == 0;
            self.arrived
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let chunk = Chunk {
                bytes: Cursor::new(bytes),
                read_at: Instant::now(),
            };
            if arrivals.0.send(chunk).is_err() || end {
                return Ok(());
            }
        }
    }

    async fn write(
        &self,
        mut to: impl AsyncWrite + Unpin,
        waiting: &mut Waiting,
    ) -> io::Result<()> {
        let mut flow = self.flow.subscribe();
        let mut gap = false;
        loop {
            if gap && *flow.borrow_and_update() != Flow::Discard {
                return Err(io::Error::other("bytes of this stream were discarded"));
            }
            waiting.next = tokio::select! {
                chunk = waiting.queued.recv() => chunk,
                // Only the lane's owner ends this; then the task is ending too.
                _ = flow.changed(), if gap => continue,
            };
            let Some(chunk) = &mut waiting.next else {
                return Ok(());
            };
            let length = chunk.bytes.get_ref().len() as u64;
            if admitted(&mut flow, chunk.read_at).await {
                if gap {
                    continue;
                }
                if length == 0 {
                    return to.shutdown().await;
                }
                to.write_all_buf(&mut chunk.bytes).await?;
                self.passed.fetch_add(length, Ordering::Relaxed);
            } else {
                gap = true;
                self.discarded.fetch_add(length, Ordering::Relaxed);
            }
            waiting.next = None;
        }
    }
}

/// Waits until the flow decides about what was read at `read_at`: whether it goes on.
async fn admitted(flow: &mut watch::Receiver<Flow>, read_at: Instant) -> bool {
    loop {
        let now = *flow.borrow_and_update();
        let due = match now {
            Flow::Pass => return true,
            Flow::Discard => return false,
            Flow::Delay(delay) => Some(read_at + delay),
            Flow::Hold => None,
        };
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => return true,
            _ = flow.changed() => {}
        }
    }
}
