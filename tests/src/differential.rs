//! The same random operations to two servers, and every answer and every event compared.
//!
//! A [sequence](Op) is data, made from a seed. It is sent operation by operation to both servers of
//! a [`Pair`]; each answer is compared as soon as it is there, and what the watches were sent when
//! everything has arrived. Of two servers that differ one is wrong: the [`Difference`] shows where,
//! and [`Pair::shrink`] drops every operation that it does not need.
//!
//! Compared is every field but those that say who answered (cluster, member, term), and with these
//! exceptions, where etcd itself does not give the same answer twice:
//!
//! * How a watch's history is cut into messages, and at which revision they say they were sent: of
//!   each watch the sequence of its revisions with their events is compared, and that no revision
//!   came in two messages without a fragment mark.
//! * How many of several requests for progress are answered: a watch that has not caught up keeps
//!   its stream from answering. That one is answered, with the current revision, is compared.
//! * The seconds that a lease has left, within a minute of what it was granted; the order of its
//!   keys; an id that the server chose.
//! * Leases run out one at a time: etcd revokes those that are due together in any order.
//! * There are no more than twelve keys: of more, etcd's sort does not keep the order of equals.
//!
//! Both servers begin a sequence at one revision, with neither keys nor leases and all history
//! compacted, so two processes serve for any number of sequences.

mod generate;
pub mod known;
mod normal;
mod op;
mod place;
mod shrink;
mod side;
mod tally;
mod watches;

pub use op::{Op, Reply, Request};
pub use side::{Side, Tamper};
pub use tally::Tally;

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::{join, try_join_all};

use crate::rpc::{
    Answer, LeaseGrantRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeRequest, Refused,
    WatchCreateRequest,
};
use place::{Whereabouts, brief};

/// How long the leases live that run out: the shortest that etcd grants as it is shipped.
const SHORT: Duration = Duration::from_secs(2);
/// Within which part of that its use must be over; else the sequence says nothing.
const IN_TIME: Duration = Duration::from_millis(1_500);
/// How often a sequence is tried that was too slow for its short lease.
const ATTEMPTS: usize = 10;
/// The first revision at which a sequence begins: what is some revisions before another is one, not
/// zero, which has a meaning of its own.
const ROOM: i64 = 32;
/// One sequence in so many has a lease that runs out.
const EXPIRY: u64 = 20;

/// The sequence of a seed.
#[must_use]
pub fn sequence(seed: u64, length: usize) -> Vec<Op> {
    generate::sequence(seed, length, seed.is_multiple_of(EXPIRY))
}

/// Two servers that ought to be the same.
#[derive(Debug)]
pub struct Pair {
    left: Side,
    right: Side,
    tally: Tally,
}

/// Where two servers differ.
#[derive(Clone, PartialEq)]
pub struct Difference {
    /// What was done.
    pub after: String,
    /// What one server made of it, with its name.
    pub left: String,
    /// What the other made of it.
    pub right: String,
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, left, right } = self;
        write!(f, "after {after}\n  {left}\n  {right}")
    }
}

/// Why a sequence was not run to its end.
enum Stop {
    Difference(Difference),
    /// The machine was too slow for a short lease.
    Late,
}

impl Pair {
    /// Of two servers; nothing else may use them.
    #[must_use]
    pub fn new(left: Side, right: Side) -> Self {
        Self {
            left,
            right,
            tally: Tally::default(),
        }
    }

    /// Runs a sequence and returns the first difference.
    ///
    /// # Panics
    ///
    /// If the machine is so slow that a lease of two seconds runs out before it is used, often.
    pub async fn run(&mut self, ops: &[Op]) -> Option<Difference> {
        for _ in 0..ATTEMPTS {
            match self.attempt(ops).await {
                Ok(()) => return None,
                Err(Stop::Difference(difference)) => return Some(difference),
                Err(Stop::Late) => {}
            }
        }
        panic!("{ATTEMPTS} times a lease of {SHORT:?} ran out before it was used");
    }

    async fn attempt(&mut self, ops: &[Op]) -> Result<(), Stop> {
        let mut at = self.reset().await?;
        for op in ops {
            self.apply(op, &mut at).await?;
        }
        self.finish(&mut at).await
    }

    /// The same beginning for both.
    async fn reset(&mut self) -> Result<Whereabouts, Stop> {
        let (left, right) = join(self.left.earliest(), self.right.earliest()).await;
        let begin = match (left, right) {
            (Ok(left), Ok(right)) => left.max(right).max(ROOM),
            (left, right) => return Err(self.differ(&"nothing", &left, &right)),
        };
        let (left, right) = join(self.left.reset(begin), self.right.reset(begin)).await;
        if left.is_err() || right.is_err() {
            return Err(self.differ(&"a reset", &left, &right));
        }
        let (left, right) = join(self.left.revision(), self.right.revision()).await;
        let current = self.same(&"a reset", left, right)?.unwrap_or(0);
        Ok(Whereabouts {
            current,
            compacted: current,
        })
    }

    async fn apply(&mut self, op: &Op, at: &mut Whereabouts) -> Result<(), Stop> {
        match op {
            Op::Call(request) => {
                if matches!(request, Request::Compact(_)) {
                    // A watch that lags behind loses what is compacted, and no other does.
                    self.settle(op, at).await?;
                }
                self.call(request, at).await
            }
            Op::Watch(stream, request) => self.watch(op, *stream, request, at).await,
            Op::Cancel(stream, id) => {
                // One that lags behind is not sent what it has missed.
                self.settle(op, at).await?;
                let [left, right] = self.streams(*stream);
                let (left, right) = join(left.cancel(*id), right.cancel(*id)).await;
                self.same(op, left, right)?.ok();
                self.same_watches(op)
            }
            Op::Settle => self.settle(op, at).await,
            Op::Expire(lease, calls) => self.expire(op, *lease, calls, at).await,
        }
    }

    async fn call(&mut self, request: &Request, at: &mut Whereabouts) -> Result<(), Stop> {
        let mut resolved = request.clone();
        resolved.revisions(&mut |revision| at.resolve(revision));
        let (left, right) = (resolved.clone(), resolved.clone());
        let (left, right) = join(self.left.call(left), self.right.call(right)).await;
        let shown = (request, *at);
        let answer = self.same(&shown, left, right)?;
        let refusal = answer.as_ref().err().map(|refused| &*refused.message);
        self.tally
            .count(format!("{} {}", request.name(), refusal.unwrap_or("")));
        if let Ok(reply) = answer {
            at.current = at.current.max(normal::revision(&reply));
            if let Request::Compact(compaction) = resolved {
                at.compacted = compaction.revision;
            }
        }
        Ok(())
    }

    async fn watch(
        &mut self,
        op: &Op,
        stream: usize,
        request: &WatchCreateRequest,
        at: &Whereabouts,
    ) -> Result<(), Stop> {
        let mut request = request.clone();
        at.resolve(&mut request.start_revision);
        let [left, right] = self.streams(stream);
        let (left, right) = join(left.create(request.clone()), right.create(request)).await;
        self.same(op, left, right)?.ok();
        let refusal = self.left.watches[stream].last_refusal();
        self.tally.count(format!("Watch {refusal}"));
        Ok(())
    }

    /// Waits until all watches have everything, and compares what they have.
    async fn settle(&mut self, op: &Op, at: &mut Whereabouts) -> Result<(), Stop> {
        // A stream with a watch that begins in the future is told of no progress before.
        while self.left.watches.iter().any(|w| w.begins_after(at.current)) {
            let pad = crate::rpc::PutRequest {
                key: "b".into(),
                ..Default::default()
            };
            self.call(&pad.into(), at).await?;
        }
        for stream in 0..generate::STREAMS {
            let [left, right] = self.streams(stream);
            let (left, right) = join(left.settle(at.current), right.settle(at.current)).await;
            self.same(op, left, right)?.ok();
        }
        self.same_watches(op)
    }

    async fn expire(
        &mut self,
        op: &Op,
        id: i64,
        calls: &[Request],
        at: &mut Whereabouts,
    ) -> Result<(), Stop> {
        let granted = Instant::now();
        let ttl = i64::try_from(SHORT.as_secs()).expect("few seconds");
        let grant = Request::from(LeaseGrantRequest { id, ttl });
        let (left, right) = join(self.left.call(grant.clone()), self.right.call(grant)).await;
        let was_granted = self.same(op, left, right)?.is_ok();
        for call in calls {
            self.call(call, at).await?;
        }
        if !was_granted {
            return Ok(());
        }
        self.tally.count("Expire ");
        self.settle(op, at).await?;
        // Nothing above is a difference if the lease was gone by then.
        if granted.elapsed() > IN_TIME {
            return Err(Stop::Late);
        }
        join(self.left.expired(id, SHORT), self.right.expired(id, SHORT)).await;
        let read = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        self.call(&read.into(), at).await?;
        self.settle(op, at).await
    }

    /// Compares what is left in the end: watches, leases, and all of the history there still is.
    async fn finish(&mut self, at: &mut Whereabouts) -> Result<(), Stop> {
        for id in 1..=5 {
            let left = LeaseTimeToLiveRequest { id, keys: true };
            self.call(&left.into(), at).await?;
        }
        self.call(&LeaseLeasesRequest {}.into(), at).await?;
        let history = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: at.compacted,
            prev_kv: true,
            ..Default::default()
        };
        let op = Op::Watch(0, history.clone());
        self.watch(&op, 0, &history, at).await?;
        self.settle(&Op::Settle, at).await?;
        let streams = self.left.watches.iter();
        self.tally.events += streams.map(watches::Watches::events).sum::<u64>();
        self.tally.sequences += 1;
        Ok(())
    }

    fn streams(&mut self, stream: usize) -> [&mut watches::Watches; 2] {
        [
            &mut self.left.watches[stream],
            &mut self.right.watches[stream],
        ]
    }

    fn same_watches(&self, op: &Op) -> Result<(), Stop> {
        let pairs = self.left.watches.iter().zip(&self.right.watches);
        for (left, right) in pairs {
            let logs = left.logs.len().max(right.logs.len());
            for at in 0..logs {
                let (left, right) = (left.logs.get(at), right.logs.get(at));
                if left != right || left.is_some_and(watches::Log::is_faulty) {
                    return Err(self.differ(op, &left, &right));
                }
            }
            if !left.strays.is_empty() || !right.strays.is_empty() {
                return Err(self.differ(op, &left.strays, &right.strays));
            }
        }
        Ok(())
    }

    fn same<T: PartialEq + fmt::Debug>(
        &self,
        after: &impl fmt::Debug,
        left: Answer<T>,
        right: Answer<T>,
    ) -> Result<Result<T, Refused>, Stop> {
        if left == right {
            Ok(left)
        } else {
            Err(self.differ(after, &left, &right))
        }
    }

    fn differ(
        &self,
        after: &impl fmt::Debug,
        left: &impl fmt::Debug,
        right: &impl fmt::Debug,
    ) -> Stop {
        let [left, right] = [
            format!("{}: {}", self.left.name(), brief(left)),
            format!("{}: {}", self.right.name(), brief(right)),
        ];
        Stop::Difference(Difference {
            after: brief(after),
            left,
            right,
        })
    }
}

/// The sequence of a seed that the two servers of a pair do not treat alike.
#[derive(Clone)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What is left of the sequence.
    pub ops: Vec<Op>,
    /// The difference that these make.
    pub difference: Difference,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, left) = (self.seed, self.ops.len());
        writeln!(f, "seed {seed} makes a difference; {left} operations do:")?;
        for op in &self.ops {
            writeln!(f, "  {}", brief(op))?;
        }
        write!(f, "{:?}", self.difference)
    }
}

impl Pair {
    /// Runs the sequence of a seed; if it makes a difference, what is left of it: all of it, if one
    /// of the servers has ended.
    pub async fn check(&mut self, seed: u64, length: usize) -> Option<Found> {
        let mut ops = sequence(seed, length);
        ops.retain(|op| !self.is_known(op));
        let mut difference = self.run(&ops).await?;
        let ended = [&self.left, &self.right]
            .into_iter()
            .find_map(Side::last_words);
        if let Some(last_words) = ended {
            difference.left = last_words;
            return Some(Found {
                seed,
                ops,
                difference,
            });
        }
        Some(self.shrink(seed, ops, difference).await)
    }
}

impl Pair {
    /// Whether the two servers are known to do an operation otherwise.
    fn is_known(&self, op: &Op) -> bool {
        let versions = [&self.left, &self.right]
            .into_iter()
            .filter_map(Side::version);
        let mut known = versions.flat_map(known::in_version);
        known.any(|known| (known.meets)(op))
    }
}

/// Pairs of a real etcd and an embedded server; `None` if this machine has no etcd.
///
/// Most of a sequence's time etcd has nothing to do but to let a tenth of a second pass, so several
/// pairs side by side are as many times as fast.
///
/// # Panics
///
/// If one does not start.
pub async fn pairs(count: usize) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        let (etcd, embedded) = join(Side::etcd(), Side::embedded()).await;
        pairs.push(Pair::new(etcd?, embedded));
    }
    Some(pairs)
}

/// Runs the sequences of all these seeds, on several pairs at once, until a difference is found, and
/// returns what was compared.
///
/// # Errors
///
/// The first difference that was found, shrunk.
pub async fn fuzz(pairs: &mut [Pair], seeds: Range<u64>, length: usize) -> Result<Tally, Found> {
    let next = AtomicU64::new(seeds.start);
    let next = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed));
    let run = async |pair: &mut Pair| {
        while let Some(seed) = next() {
            if let Some(found) = pair.check(seed, length).await {
                return Err(found);
            }
        }
        Ok(())
    };
    try_join_all(pairs.iter_mut().map(run)).await?;
    let mut all = Tally::default();
    pairs.iter().for_each(|pair| all += &pair.tally);
    Ok(all)
}
