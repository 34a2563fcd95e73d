//! [`Leader`] and [`Leaders`]: who leads, seen from outside.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::watch;

use super::super::FencingToken;
use crate::{
    client::{KeyValue, Span},
    engine::Engine,
    error::Result,
    key::Prefix,
};

/// Who leads an election, or will when those before it have resigned.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// What it has proclaimed last.
    pub value: Vec<u8>,
    /// Grows from leader to leader: what [`Held::fencing_token`](crate::Held::fencing_token) says to
    /// the leader itself.
    pub fencing_token: FencingToken,
    /// The etcd key of its entry.
    pub entry: String,
}

impl Leader {
    pub(super) fn of(kv: KeyValue) -> Self {
        Self {
            value: kv.value,
            fencing_token: FencingToken::of(kv.create_revision),
            entry: String::from_utf8_lossy(&kv.key).into_owned(),
        }
    }
}

/// Shows everything but the value: what it is only its users know.
impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader")
            .field("fencing_token", &self.fencing_token)
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

/// A [`Stream`] of who leads: first who does now, then each leader and each value that is proclaimed;
/// `None` while nobody leads. Made by [`Election::observe`](super::Election::observe); dropping it ends
/// the watch. It ends by itself only when the coordinator is closed.
///
/// Who reads slowly sees the newest and not what was in between. While etcd cannot be reached nothing
/// comes, and what came last may be out of date; before it was reached for the first time, too.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// let election = coordinator.election("scheduler");
/// let mut leaders = election.observe()?;
/// assert_eq!(leaders.next().await, Some(None));
///
/// let leadership = election.campaign("10.0.0.7:9000").await?;
/// while let Some(leader) = leaders.next().await {
///     match leader {
///         Some(leader) => println!("{} leads", String::from_utf8_lossy(&leader.value)),
///         None => println!("nobody leads"),
///     }
///     # break;
/// }
/// # drop(leadership);
/// # Ok(())
/// # }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct Leaders(Pin<Box<dyn Stream<Item = Option<Leader>> + Send>>);

impl Leaders {
    /// A task reads the watch, however slowly the stream is read: an unread watch would block the
    /// others on its connection.
    pub(super) fn start(engine: &Engine, name: &str, queue: &Prefix) -> Result<Self> {
        engine.check_open("observe election")?;
        let mut watcher = engine.watcher(format!("election {name}"), Span::prefix(queue));
        // `None`: nothing is known yet.
        let (tell, told) = watch::channel(None::<Option<KeyValue>>);
        engine.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tell.closed() => return,
                    _ = watcher.next() => {}
                }
                let candidates = watcher.map().values();
                let first = candidates.min_by_key(|kv| kv.create_revision);
                tell.send_if_modified(|known| {
                    let news = known.as_ref().is_none_or(|known| known.as_ref() != first);
                    if news {
                        *known = Some(first.cloned());
                    }
                    news
                });
            }
        });
        Ok(Self(Box::pin(futures_util::stream::unfold(
            told,
            |mut told| async move {
                // An error: the task has ended, and what it told last has been read.
                told.changed().await.ok()?;
                let leader = told.borrow_and_update().clone().flatten();
                Some((leader.map(Leader::of), told))
            },
        ))))
    }

    /// The next change; `None` when the coordinator is closed.
    ///
    /// # Cancel safety
    /// Safe to drop at any time.
    pub async fn next(&mut self) -> Option<Option<Leader>> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl Stream for Leaders {
    type Item = Option<Leader>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Option<Leader>>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Leaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaders").finish_non_exhaustive()
    }
}
