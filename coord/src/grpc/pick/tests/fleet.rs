//! [`Fleet`]: endpoints whose connections are open and go nowhere. [`Crowd`]: callers on a clock that
//! is moved by hand.

use std::{any::Any, cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use http::uri::{Authority, Scheme};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::sync::Notify;

use super::super::Picker;
use crate::{
    clock::{Clock, Instant, ManualClock},
    grpc::{
        builder::Strategy,
        connection::Connection,
        endpoint::{Endpoint, Outcome},
        load::InFlight,
        ready::{Member, ReadySet},
        socket::Socket,
    },
};

pub(in crate::grpc) const STRATEGIES: [Strategy; 5] = [
    Strategy::P2c,
    Strategy::RoundRobin,
    Strategy::Random,
    Strategy::Weighted,
    Strategy::LeastConnections,
];

pub(in crate::grpc) struct Fleet {
    pub(in crate::grpc) picker: Picker,
    pub(in crate::grpc) set: ReadySet,
    pub(in crate::grpc) clock: Clock,
    pub(in crate::grpc) hand: ManualClock,
    pub(in crate::grpc) dice: StdRng,
    /// What keeps each connection open.
    open: Vec<Option<Box<dyn Any + Send + Sync>>>,
}

impl Fleet {
    pub(in crate::grpc) fn new(strategy: Strategy, weights: &[f64]) -> Self {
        let (clock, hand) = Clock::manual();
        let mut fleet = Self {
            picker: Picker::new(strategy),
            set: ReadySet::default(),
            clock,
            hand,
            dice: StdRng::seed_from_u64(7),
            open: Vec::new(),
        };
        weights.iter().for_each(|&weight| fleet.join(weight));
        fleet
    }

    pub(in crate::grpc) fn even(strategy: Strategy, count: usize) -> Self {
        Self::new(strategy, &vec![100.0; count])
    }

    /// One more, without a latency.
    pub(in crate::grpc) fn join(&mut self, weight: f64) {
        let (connection, open) = connection();
        let endpoint = Arc::new(Endpoint {
            scheme: Scheme::HTTP,
            authority: Authority::from_static("10.0.0.5:50051"),
            load: Default::default(),
            clock: self.clock.clone(),
            connection,
            trouble: Arc::new(Notify::new()),
        });
        self.open.push(Some(open));
        let mut members = self.set.members.to_vec();
        members.push(Member { endpoint, weight });
        self.publish(members);
    }

    /// As the keeper does it: another set, the same endpoints.
    pub(in crate::grpc) fn weigh(&mut self, weights: &[f64]) {
        let mut members = self.set.members.to_vec();
        for (member, &weight) in members.iter_mut().zip(weights) {
            member.weight = weight;
        }
        self.publish(members);
    }

    fn publish(&mut self, members: Vec<Member>) {
        self.set = ReadySet {
            tables: self.picker.tables(&members),
            members: members.into(),
            ..ReadySet::default()
        };
    }

    /// Its connection closes; the set is still the same.
    pub(in crate::grpc) fn close(&mut self, index: usize) {
        self.open[index] = None;
    }

    pub(in crate::grpc) fn endpoint(&self, index: usize) -> &Arc<Endpoint> {
        &self.set.members[index].endpoint
    }

    pub(in crate::grpc) fn pick(&mut self) -> Option<usize> {
        self.pick_but(&[])
    }

    pub(in crate::grpc) fn pick_but(&mut self, tried: &[usize]) -> Option<usize> {
        let tried: Vec<_> = tried
            .iter()
            .map(|&one| self.endpoint(one).clone())
            .collect();
        let now = self.clock.now();
        let picked = self
            .picker
            .pick_with(&self.set, &tried, now, &mut self.dice);
        picked.map(|endpoint| self.index(endpoint))
    }

    pub(in crate::grpc) fn index(&self, endpoint: &Arc<Endpoint>) -> usize {
        let own = |member: &Member| Arc::ptr_eq(&member.endpoint, endpoint);
        self.set.members.iter().position(own).expect("one of them")
    }

    pub(in crate::grpc) fn begin(&mut self) -> (usize, InFlight) {
        let index = self.pick().expect("one can be used");
        let flight = InFlight::begin(self.endpoint(index).clone(), self.clock.now());
        (index, flight)
    }

    /// How many of so many picks went where; nothing stays in flight.
    pub(in crate::grpc) fn spread(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.open.len()];
        for _ in 0..picks {
            counts[self.pick().expect("one can be used")] += 1;
        }
        counts
    }

    pub(in crate::grpc) fn in_flight(&self) -> Vec<u32> {
        let load = |member: &Member| member.endpoint.load.in_flight();
        self.set.members.iter().map(load).collect()
    }
}

/// A connection whose other end nobody reads, and what it is open for as long as that lives.
pub(in crate::grpc) fn connection() -> (Connection, Box<dyn Any + Send + Sync>) {
    #[derive(Clone)]
    struct Nowhere;
    impl<F> hyper::rt::Executor<F> for Nowhere {
        fn execute(&self, _: F) {}
    }
    let (ours, theirs) = tokio::io::duplex(1 << 12);
    let (sender, driver) = http2::handshake(Nowhere, TokioIo::new(ours))
        .now_or_never()
        .expect("the greeting fits in")
        .expect("nobody refuses");
    let open = std::sync::Mutex::new((driver, theirs));
    (Connection::new(sender, Socket::default()), Box::new(open))
}

/// Callers who call again as soon as they are answered.
pub(in crate::grpc) struct Crowd<'f> {
    pub(in crate::grpc) fleet: &'f mut Fleet,
    answers: BinaryHeap<Answer>,
    begun: u64,
}

/// One call that was answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct Answered {
    pub(in crate::grpc) index: usize,
    pub(in crate::grpc) took: Duration,
}

struct Answer {
    /// And the number of the call, so that no two are equal.
    at: Reverse<(Instant, u64)>,
    index: usize,
    begun: Instant,
    flight: InFlight,
    outcome: Outcome,
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Answer {}

impl PartialOrd for Answer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Answer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// How a server answers: after how long, and how the call ends.
pub(in crate::grpc) type Behaviour<'b> = &'b dyn Fn(usize, &mut StdRng) -> (Duration, Outcome);

impl<'f> Crowd<'f> {
    /// `callers` who all begin at once.
    pub(in crate::grpc) fn gather(
        fleet: &'f mut Fleet,
        callers: usize,
        behaviour: Behaviour<'_>,
    ) -> Self {
        let mut crowd = Self {
            fleet,
            answers: BinaryHeap::new(),
            begun: 0,
        };
        (0..callers).for_each(|_| crowd.call(behaviour));
        crowd
    }

    fn call(&mut self, behaviour: Behaviour<'_>) {
        let (index, mut flight) = self.fleet.begin();
        let begun = self.fleet.clock.now();
        let (took, outcome) = behaviour(index, &mut self.fleet.dice);
        flight.ended(outcome);
        self.begun += 1;
        self.answers.push(Answer {
            at: Reverse((begun + took, self.begun)),
            index,
            begun,
            flight,
            outcome,
        });
    }

    /// So long; what was answered in that time.
    pub(in crate::grpc) fn run(
        &mut self,
        time: Duration,
        behaviour: Behaviour<'_>,
    ) -> Vec<Answered> {
        let until = self.fleet.clock.now() + time;
        let mut log = Vec::new();
        while self.answers.peek().is_some_and(|next| next.at.0.0 <= until) {
            let mut answer = self.answers.pop().expect("it was there");
            let at = answer.at.0.0;
            self.fleet.hand.advance(at.since(self.fleet.clock.now()));
            if answer.outcome == Outcome::Answered {
                answer.flight.answering(at);
            }
            log.push(Answered {
                index: answer.index,
                took: at.since(answer.begun),
            });
            drop(answer);
            self.call(behaviour);
        }
        log
    }
}

/// Each one's part of the calls.
pub(in crate::grpc) fn shares(answered: &[Answered], count: usize) -> Vec<f64> {
    let of = |index| answered.iter().filter(|one| one.index == index).count();
    let total = answered.len() as f64;
    (0..count).map(|index| of(index) as f64 / total).collect()
}

pub(in crate::grpc) fn p99(answered: &[Answered]) -> Duration {
    let mut took: Vec<_> = answered.iter().map(|one| one.took).collect();
    took.sort_unstable();
    took[(took.len() - 1) * 99 / 100]
}
