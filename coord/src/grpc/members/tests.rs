//! Random histories keep the laws.

use std::{
    any::Any,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use http::uri::Scheme;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::{
    clock::Clock,
    grpc::{
        endpoint::Outcome,
        load::{InFlight, Load},
        pick::tests::fleet::connection,
        shares::shares,
        state::{LINGER, Standing},
    },
    registry::{Instance, InstanceHealth},
};

const NAMES: u8 = 5;
const ADDRESSES: u8 = 4;

#[derive(Clone, Debug)]
enum Op {
    /// What the registry names, by name: an address, or nothing. Of those with nothing, who said what
    /// it is instead.
    See(Vec<Option<u8>>, Vec<Option<InstanceHealth>>),
    /// How the oldest dial ends.
    Dialled(bool),
    /// The connection of one of them breaks.
    Broke(prop::sample::Index),
    /// Calls to one of them fail.
    Fail(prop::sample::Index),
    /// The probe of one of them ends.
    Probe(prop::sample::Index, bool),
    /// Time passes.
    Pass(Duration),
}

fn op() -> impl Strategy<Value = Op> {
    let names = usize::from(NAMES);
    let seen = prop::collection::vec(prop::option::weighted(0.7, 0..ADDRESSES), names);
    let index = any::<prop::sample::Index>;
    let said = [InstanceHealth::Draining, InstanceHealth::Unhealthy].map(Some);
    let said = prop::sample::select([&said[..], &[None]].concat());
    prop_oneof![
        2 => (seen, prop::collection::vec(said, names))
            .prop_map(|(seen, left)| Op::See(seen, left)),
        4 => prop::bool::weighted(0.8).prop_map(Op::Dialled),
        1 => index().prop_map(Op::Broke),
        3 => index().prop_map(Op::Fail),
        1 => (index(), any::<bool>()).prop_map(|(one, passed)| Op::Probe(one, passed)),
        1 => (0..60_000_u64).prop_map(|ms| Op::Pass(Duration::from_millis(ms))),
    ]
}

pub(in crate::grpc) fn record(name: u8, address: u8) -> Arc<Instance> {
    Arc::new(Instance::bare(
        "s",
        &name.to_string(),
        &format!("10.0.0.{address}:1"),
    ))
}

pub(in crate::grpc) struct World {
    pub(in crate::grpc) members: Members,
    pub(in crate::grpc) clock: Clock,
    pub(in crate::grpc) hand: crate::clock::ManualClock,
    dials: Vec<Dial>,
    live: Vec<u64>,
    trouble: Arc<Notify>,
    /// What keeps the connections open.
    open: Vec<Box<dyn Any + Send + Sync>>,
}

impl World {
    fn new() -> Self {
        let (clock, hand) = Clock::manual();
        Self {
            members: Members::new("s".into()),
            clock,
            hand,
            dials: Vec::new(),
            live: Vec::new(),
            trouble: Arc::default(),
            open: Vec::new(),
        }
    }

    /// With these, all connected from the start.
    pub(in crate::grpc) fn connected(records: &[Arc<Instance>]) -> Self {
        let mut world = Self::new();
        world.see(records, &HashMap::new());
        for _ in records {
            world.dialled(true);
        }
        world
    }

    pub(in crate::grpc) fn see(
        &mut self,
        suitable: &[Arc<Instance>],
        left: &HashMap<Name, InstanceHealth>,
    ) {
        let seen = Seen {
            suitable,
            filtered: &[],
            left,
        };
        self.members.see(&seen, self.clock.now());
        self.settle();
    }

    /// The oldest dial ends.
    pub(in crate::grpc) fn dialled(&mut self, connected: bool) {
        self.settle();
        if self.dials.is_empty() {
            return;
        }
        let dial = self.dials.remove(0);
        let now = self.clock.now();
        if connected {
            let (connection, open) = connection();
            let endpoint = Endpoint {
                scheme: Scheme::HTTP,
                authority: dial.authority.clone(),
                load: Load::default(),
                clock: self.clock.clone(),
                connection,
                trouble: self.trouble.clone(),
            };
            self.members.connected(dial.number, Arc::new(endpoint), now);
            self.live.push(dial.number);
            self.open.push(open);
        } else {
            self.members.refused(dial.number, "refused", now);
        }
        self.settle();
    }

    /// One of those that are connected is not any more.
    pub(in crate::grpc) fn breaks(&mut self, index: usize) {
        let number = self.live.remove(index);
        self.members.broke(number, self.clock.now());
        self.settle();
    }

    pub(in crate::grpc) fn settle(&mut self) {
        let now = self.clock.now();
        while self.members.due_at().is_some_and(|at| at <= now) {
            self.members.due(now);
        }
        self.dials.extend(self.members.dials());
        let members = &self.members;
        self.dials.retain(|dial| members.wants(dial.number));
        self.live.retain(|number| members.wants(*number));
    }

    fn fail(&self, endpoint: &Arc<Endpoint>) {
        for _ in 0..FAILURES {
            let mut flight = InFlight::begin(endpoint.clone(), self.clock.now());
            flight.ended(Outcome::Failed);
        }
    }

    /// Those that calls go to.
    fn chosen(&self) -> Vec<Arc<Endpoint>> {
        let shares = shares(&self.members, None, Duration::ZERO, self.clock.now());
        shares.members.into_iter().map(|m| m.endpoint).collect()
    }

    /// The same, by address.
    fn ready(&self) -> BTreeSet<String> {
        let chosen = self.chosen();
        chosen.iter().map(|it| it.authority.to_string()).collect()
    }

    fn ejected(&self) -> usize {
        let entries = self.members.entries();
        entries.filter(|entry| entry.life.is_ejected()).count()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::See(seen, left) => {
                // Of two with one address the registry shows one.
                let mut taken = BTreeSet::new();
                let mut suitable = Vec::new();
                let mut gone = HashMap::new();
                for (name, (address, left)) in (0..).zip(seen.iter().zip(left)) {
                    match address {
                        Some(address) if taken.insert(*address) => {
                            suitable.push(record(name, *address));
                        }
                        _ => {
                            gone.extend(left.map(|said| ((None, name.to_string()), said)));
                        }
                    }
                }
                let before = self.ready();
                self.see(&suitable, &gone);
                let registered = self.members.entries().filter(|e| e.life.is_registered());
                let mut registered: Vec<_> = registered.map(|e| e.record.clone()).collect();
                registered.sort_by(|a, b| a.instance.cmp(&b.instance));
                assert_eq!(registered, suitable);
                if suitable.is_empty() && gone.is_empty() {
                    assert_eq!(self.ready(), before, "an emptied registry closes nothing");
                }
            }
            Op::Dialled(connected) => self.dialled(*connected),
            Op::Broke(one) if !self.live.is_empty() => {
                let number = self.live.remove(one.index(self.live.len()));
                self.members.broke(number, self.clock.now());
                // Told twice, it is nothing new.
                self.members.broke(number, self.clock.now());
            }
            Op::Fail(one) => {
                let endpoints = self.members.entries().filter_map(|e| e.endpoint.clone());
                let endpoints: Vec<_> = endpoints.collect();
                if !endpoints.is_empty() {
                    self.fail(&endpoints[one.index(endpoints.len())]);
                }
                let (before, usable) = (self.ejected(), !self.ready().is_empty());
                self.members.trouble(self.clock.now());
                let registered = self.members.entries().filter(|e| e.life.is_registered());
                let most = (registered.count() / EJECTED).max(1);
                assert!(self.ejected() <= most.max(before));
                assert!(!usable || !self.ready().is_empty(), "never the last one");
            }
            Op::Probe(one, passed) => {
                let probes: Vec<_> = self.members.probes().collect();
                if !probes.is_empty() {
                    probes[one.index(probes.len())].decide(*passed);
                }
                self.members.trouble(self.clock.now());
            }
            Op::Pass(time) => self.hand.advance(*time),
            Op::Broke(_) => {}
        }
        self.settle();
    }

    fn laws(&self) {
        let serving = |entry: &Entry| entry.life.ready_since().is_some();
        for entry in self.members.entries() {
            let (standing, link, _) = entry.life.place();
            assert_ne!(link, Link::Gone);
            let up = matches!(link, Link::Up { .. });
            assert_eq!(entry.endpoint.is_some(), up, "{entry:?}");
            assert!(
                up || standing == Standing::Registered,
                "dead and kept: {entry:?}"
            );
            if serving(entry) {
                assert!(up && !entry.life.is_ejected(), "{entry:?}");
                assert!(entry.life.leaves().is_none(), "{entry:?}");
            }
            assert!(!(serving(entry) && entry.life.is_spare()), "{entry:?}");
            assert_eq!(entry.probe.is_some(), entry.life.wants_probe(), "{entry:?}");
            assert!(entry.probe.is_none() || !serving(entry));
        }
        let any = |suits: fn(&Life) -> bool| self.members.entries().any(|it| suits(&it.life));
        if any(Life::is_spare) || any(Life::could_serve) {
            assert!(
                !self.ready().is_empty(),
                "calls wait although something answers"
            );
        }
        let barred = |entry: &&Entry| matches!(entry.life.place().0, Standing::Barred { .. });
        for entry in self.members.entries().filter(barred) {
            let none = |it: &Arc<Endpoint>| !self.chosen().iter().any(|one| Arc::ptr_eq(one, it));
            assert!(entry.endpoint.iter().all(none), "{entry:?}");
        }
        let connecting = self.members.summary().connecting;
        assert_eq!(
            connecting,
            self.dials.len(),
            "each that connects is dialled once"
        );
        let known: usize = self.members.dialled.len();
        assert_eq!(known, self.dials.len() + self.live.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn histories_keep_the_laws(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.laws();
        }
        // Nothing is kept for ever.
        let all = |health| (0..NAMES).map(|name| ((None, name.to_string()), health)).collect();
        world.see(&[], &all(InstanceHealth::Draining));
        world.hand.advance(LINGER);
        world.settle();
        prop_assert!(world.members.entries().all(|e| e.life.leaves().is_none() || e.life.is_spare()));
        world.see(&[], &all(InstanceHealth::Unhealthy));
        world.hand.advance(LINGER);
        world.settle();
        let barred = |entry: &Entry| matches!(entry.life.place().0, Standing::Barred { .. });
        prop_assert!(!world.members.entries().any(barred));
        for number in std::mem::take(&mut world.live) {
            world.members.broke(number, world.clock.now());
        }
        prop_assert_eq!(world.members.entries().count(), 0);
        prop_assert!(world.members.named.is_empty() && world.members.dialled.is_empty());
    }
}

#[test]
fn an_orphan_serves_until_its_address_is_taken_over() {
    let mut world = World::connected(&[record(1, 1)]);
    // The same place under a new key: a restarted process, whose old record has not run out.
    world.see(&[record(2, 1)], &HashMap::new());
    assert_eq!(world.ready().len(), 1);
    let before = world
        .members
        .entries()
        .next()
        .map(|entry| entry.record.clone());
    assert_eq!(before, Some(record(1, 1)));
    world.dialled(true);
    let serving = world
        .members
        .entries()
        .filter(|e| e.life.ready_since().is_some());
    let serving: Vec<_> = serving.map(|entry| entry.record.clone()).collect();
    assert_eq!(serving, [record(2, 1)]);
}

#[test]
fn one_that_moves_is_used_where_it_was_until_it_is_connected_where_it_is() {
    let mut world = World::connected(&[record(1, 1)]);
    world.see(&[record(1, 2)], &HashMap::new());
    assert_eq!(world.ready(), ["10.0.0.1:1".to_owned()].into());
    world.dialled(true);
    assert_eq!(world.ready(), ["10.0.0.2:1".to_owned()].into());
}

#[test]
fn at_most_a_tenth_is_ejected_at_once() {
    for (all, most) in [(1, 0), (2, 1), (9, 1), (20, 2), (35, 3)] {
        let records: Vec<_> = (0..all).map(|one| record(one, one)).collect();
        let world = &mut World::connected(&records);
        for entry in world.members.entries() {
            world.fail(entry.endpoint.as_ref().expect("connected"));
        }
        world.members.trouble(world.clock.now());
        assert_eq!(world.ejected(), most, "of {all}");
        assert_eq!(world.ready().len(), usize::from(all) - most);
        assert_eq!(world.members.summary().ejected, most);
    }
}

#[test]
fn the_last_one_standing_is_used_whatever_it_answered() {
    let mut world = World::connected(&[record(1, 1), record(2, 2)]);
    let failing = world
        .members
        .entries()
        .next()
        .and_then(|e| e.endpoint.clone());
    world.fail(&failing.expect("connected"));
    world.members.trouble(world.clock.now());
    assert_eq!(world.ready(), ["10.0.0.2:1".to_owned()].into());
    world.breaks(1);
    assert_eq!(world.ready(), ["10.0.0.1:1".to_owned()].into());
    // And begins anew: its failures do not eject it at once when the other is back.
    world.members.trouble(world.clock.now());
    assert_eq!(world.ejected(), 0);
}

#[test]
fn an_address_that_is_none_is_told_and_holds_up_nobody() {
    let bad = Arc::new(Instance::bare("s", "9", "unix:///tmp/s"));
    let mut world = World::connected(&[record(1, 1)]);
    world.see(&[record(1, 1), bad], &HashMap::new());
    let summary = world.members.summary();
    assert_eq!((summary.registered, summary.ready), (2, 1));
    assert_eq!(
        summary.last_error.as_deref(),
        Some("unix:///tmp/s: it is not host:port")
    );
    for odd in ["", "a", "a:", "a:0", ":1", "u@a:1", "a:1/x", "a b:1"] {
        assert_eq!(authority(odd), None, "{odd}");
    }
    for good in ["a:1", "[::1]:50051", "10.0.0.1:65535"] {
        assert!(authority(good).is_some(), "{good}");
    }
}
