//! [`Election`]: one leader among candidates.
//!
//! A lock whose entries say what their candidates proclaim: whoever's entry was created first leads,
//! and the entry's value is the leader's word. Go's `concurrency.Election` and `etcdctl elect` do the
//! same with the same keys, so all of them are candidates of one election.

mod leaders;
mod leadership;

pub use leaders::{Leader, Leaders};
pub use leadership::Leadership;

use std::{sync::Arc, time::Duration};

use super::{LockBuilder, Locks};
use crate::{
    client::{Order, Range, Span},
    error::{Context, Error, Result},
    key::Prefix,
};

/// An election: one leader at a time among all candidates, first come, first served. From
/// `coordinator.election("scheduler")`.
///
/// Each candidate has a *value* that all others can read once it leads: an address, say. A leader that
/// crashes leads no more when its lease runs out ([`ttl`](Self::ttl)), and the next candidate does.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// let election = coordinator.election("scheduler");
///
/// // Leads, again and again, until the body is done.
/// let scheduled = election
///     .lead("10.0.0.7:9000", |term| async move {
///         println!("leads, under token {}", term.fencing_token());
///         // Carried out only while it leads.
///         term.transaction().put("jobs/last-run", "2026-11-22").commit().await?;
///         Ok::<_, coord::Error>(12)
///     })
///     .await??;
///
/// // The same by hand.
/// let leadership = election.campaign("10.0.0.7:9000").await?;
/// leadership.proclaim("10.0.0.7:9001").await?;
/// let leader = election.leader().await?.expect("it leads");
/// assert_eq!(leader.value, b"10.0.0.7:9001");
/// assert_eq!(leader.fencing_token, leadership.fencing_token());
/// leadership.resign().await?;
/// # assert_eq!(scheduled, 12);
/// # Ok(())
/// # }
/// ```
///
/// A process that stands for election for as long as it lives, and asks now and then whether it leads:
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// let election = coordinator.election("scheduler");
/// let (tell, mut term) = tokio::sync::watch::channel(None);
/// let candidate = tokio::spawn(async move {
///     let lead = election.lead("10.0.0.7:9000", |term| {
///         tell.send_replace(Some(term.clone()));
///         std::future::pending::<()>() // until leadership is lost; then it campaigns anew
///     });
///     lead.await
/// });
///
/// let leads = || term.borrow().as_ref().is_some_and(|term| term.is_held());
/// println!("{}", if leads() { "leads" } else { "waits" });
/// # term.changed().await.expect("it leads");
/// # assert!(term.borrow().as_ref().is_some_and(|term| term.is_held()));
/// candidate.abort(); // it leads no more, nor waits, once no clone of its term is left
/// # Ok(())
/// # }
/// ```
///
/// # Coming from elsewhere
/// | Curator | Go's `concurrency` | here |
/// |---|---|---|
/// | `LeaderSelector`: `takeLeadership`, `autoRequeue` | – | [`lead`](Self::lead) |
/// | `LeaderLatch`: `start`, `await` | `Campaign` | [`campaign`](Self::campaign); [`try_campaign`](Self::try_campaign) does not wait |
/// | `hasLeadership` | – | [`Held::is_held`](crate::Held::is_held) of the [`Leadership`] |
/// | `LeaderLatchListener` | `Session.Done` | the body of [`lead`](Self::lead) begins and is dropped; [`Held::lost`](crate::Held::lost) |
/// | `getLeader`, `getParticipants` | `Leader` | [`leader`](Self::leader), [`candidates`](Self::candidates) |
/// | – | `Observe`, `Proclaim` | [`observe`](Self::observe), [`Leadership::proclaim`] |
/// | `close`, `interruptLeadership` | `Resign` | [`Leadership::resign`], or drop what waits or leads |
/// | – | `Key`, `Rev` | [`Leader::entry`], [`Leader::fencing_token`] |
///
/// Go's `ResumeElection` has no counterpart: what is left of a process is its lease, which runs out.
#[derive(Clone, Debug)]
#[must_use = "an election does nothing by itself"]
pub struct Election {
    entries: LockBuilder,
}

impl Election {
    pub(super) fn new(locks: Locks, name: String) -> Self {
        Self {
            entries: LockBuilder::election(locks, name),
        }
    }

    /// The name as it stands on etcd, to join an election of Go's
    /// `concurrency.NewElection(session, name)` or of `etcdctl elect name`, whose keys stand below
    /// `name/`: neither the namespace nor the options' prefix is put before it, and no `!` behind it.
    pub fn raw(mut self) -> Self {
        self.entries = self.entries.raw();
        self
    }

    /// How long a leader that has crashed still leads; in whole seconds. It is renewed for as long as
    /// the leader lives. Default: [`LockOptions::ttl`](crate::LockOptions::ttl).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.entries = self.entries.ttl(ttl);
        self
    }

    /// Campaigns for at most `limit`, the time to connect included. Default: for ever, also while etcd
    /// cannot be reached: a candidate is there to wait. (Locks have a limit by default.)
    pub fn wait(mut self, limit: Duration) -> Self {
        self.entries = self.entries.wait(limit);
        self
    }

    /// Becomes a candidate with `value`, and waits until it leads. A candidate whose place was lost
    /// queues again.
    ///
    /// # Errors
    /// [`Error::Timeout`] if [`wait`](Self::wait) says so; [`Error::Invalid`] for an impossible name,
    /// for a value that etcd does not take (above 1.5 MB by default), and for a key in the queue that
    /// has no lease, so that it would never go; [`Error::WouldDeadlock`] if this is called from a body
    /// that [leads](Self::lead) this election; [`Error::Denied`] and [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Safe to drop at any moment: the candidacy is withdrawn in the background.
    pub async fn campaign(&self, value: impl Into<Vec<u8>>) -> Result<Leadership> {
        let value = value.into();
        let guard = self.entries.clone().acquire_with(Some(value)).await?;
        Ok(Leadership::new(guard))
    }

    /// Becomes the leader with `value` if nobody leads and nobody waits to; else it is no candidate.
    ///
    /// # Errors
    /// [`Error::Busy`] with the key of the leader's entry, else as [`campaign`](Self::campaign); but an
    /// unreachable etcd is an error at once, or within
    /// [`request_timeout`](crate::Options::request_timeout).
    ///
    /// # Cancel safety
    /// Safe to drop at any moment.
    pub async fn try_campaign(&self, value: impl Into<Vec<u8>>) -> Result<Leadership> {
        let value = value.into();
        let entries = self.entries.clone().trying();
        let guard = entries.acquire_with(Some(value)).await?;
        Ok(Leadership::new(guard))
    }

    /// Campaigns with `value` and runs `body` while it leads, until `body` is done: then resigns in the
    /// background, unless a clone of the term is left somewhere: with the last one it resigns.
    ///
    /// Once leadership is lost, `body` is dropped and not polled again, as that of a lock is. Then it
    /// campaigns anew, and when it leads again `body` is called again, with the new term: so `body` may
    /// begin several times, and only its last run goes to its end. A run that was done only after
    /// leadership was lost does not count. To stop at the first loss instead, use
    /// [`campaign`](Self::campaign) and [`Leadership::run`].
    ///
    /// # Errors
    /// As [`campaign`](Self::campaign). A [limit](Self::wait) holds for each campaign.
    ///
    /// # Cancel safety
    /// Safe to drop: `body` is dropped, leadership or candidacy is given up in the background.
    pub async fn lead<T, F, B>(&self, value: impl Into<Vec<u8>>, mut body: F) -> Result<T>
    where
        // Not an async closure, which borrows the term: a future with such a one in it cannot be
        // spawned from within another.
        F: FnMut(Arc<Leadership>) -> B,
        B: Future<Output = T>,
    {
        let value = value.into();
        loop {
            let term = Arc::new(self.campaign(value.clone()).await?);
            match term.run(body(term.clone())).await {
                Err(Error::Lost { .. }) => {}
                done => return done,
            }
        }
    }

    /// Who leads now, as etcd knows it: one linearizable read. `None`: nobody.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an impossible name, [`Error::Unavailable`] or [`Error::Timeout`] if etcd
    /// could not say, [`Error::Denied`], [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        let first = self.first("read leader", 1).await?;
        Ok(first.into_iter().next())
    }

    /// All candidates, in the order in which they lead: the first one does now. One linearizable read.
    ///
    /// # Errors
    /// As [`leader`](Self::leader).
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn candidates(&self) -> Result<Vec<Leader>> {
        // No limit.
        self.first("read candidates", 0).await
    }

    async fn first(&self, operation: &'static str, limit: i64) -> Result<Vec<Leader>> {
        let queue = self.queue()?;
        let engine = &self.entries.locks().shared.engine;
        let first = Range {
            limit,
            order: Order::CreateAscending,
            ..Range::new(Span::prefix(&queue))
        };
        // On the heap, as the acquire is.
        let found = Box::pin(engine.read(first))
            .await
            .map_err(|error| error.into_error(Context::new(operation).key(self.entries.name())))?;
        Ok(found.kvs.into_iter().map(Leader::of).collect())
    }

    /// Who leads, now and from now on: a stream of the newest leader and its newest value. It goes on
    /// through lost connections and compactions.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an impossible name, [`Error::Closed`].
    pub fn observe(&self) -> Result<Leaders> {
        let engine = &self.entries.locks().shared.engine;
        Leaders::start(engine, &self.entries.name(), &self.queue()?)
    }

    fn queue(&self) -> Result<Prefix> {
        let queues = self.entries.queues()?;
        // There is one name, and it is right.
        let queue = queues.into_iter().next();
        queue.ok_or_else(|| Error::invalid("campaign", "there is no name"))
    }
}
