//! The chain against a small model of etcd: copies that arrive late or twice, answers that are lost,
//! leases that end, an operator's deletions.

use proptest::prelude::*;

use super::*;
use crate::{client::MiniEtcd, key::Layout};

const LIFE_CYCLE: &str = "coord/inst/s/u";
const ROUTABLE: &str = "coord/svc/s/-/u";

/// Where the tests want the instance. The weight stands for what its records say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wanted(Place, u32);

const STARTING: Wanted = Wanted(Place::Hidden(InstanceHealth::Starting), 1);
const SHOWN: Wanted = Wanted(Place::Shown, 1);
const HEAVY: Wanted = Wanted(Place::Shown, 2);
const UNHEALTHY: Wanted = Wanted(Place::Hidden(InstanceHealth::Unhealthy), 1);
const WITHDRAWN: Wanted = Wanted(Place::Hidden(InstanceHealth::Draining), 1);
const GONE: Wanted = Wanted(Place::Gone, 1);

impl Wanted {
    fn target(self) -> Target {
        let record = Record {
            service: "s".into(),
            instance: "u".into(),
            address: "a:1".into(),
            weight: self.1,
            ..Record::default()
        };
        Target {
            place: self.0,
            record: Arc::new(record),
        }
    }
}

/// One instance, its etcd, and the copies of its links that the network still has.
struct World {
    etcd: MiniEtcd,
    chain: Chain,
    lease: i64,
    late: Vec<Txn>,
    /// A healthy routable record was deleted by one of our own transactions.
    unmarked: bool,
    /// The rule that this world does without.
    mistake: Option<Mistake>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    /// A link compares the lease alone, not what the link before wrote.
    GuardedByTheLeaseOnly,
    /// A link without an answer is taken for one that was not carried out.
    UnknownIsNotDone,
    /// The deletion compares nothing.
    UnguardedDelete,
    /// The first link leaves the routable record that it finds.
    CreateLeavesTheRoutable,
    /// Nobody looks after the records.
    NoWatchOfTheOwnKeys,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    /// Executed, and the answer is lost.
    Unanswered,
    /// Unanswered, and a copy stays in the network.
    Duplicated,
    /// Not executed yet.
    Late,
}

impl World {
    fn new() -> Self {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        let mut world = Self {
            etcd: MiniEtcd::new(),
            chain: Chain::new(
                layout.life_cycles("s").expect("valid").key("u"),
                layout.instance("s", "", "u").expect("valid"),
            ),
            lease: 0,
            late: Vec::new(),
            unmarked: false,
            mistake: None,
        };
        world.new_lease();
        world
    }

    fn new_lease(&mut self) {
        self.lease += 1;
        self.etcd.grant(self.lease);
        self.chain.adopt(self.lease);
    }

    fn execute(&mut self, txn: &Txn) -> Option<TxnReply> {
        let healthy = self.status(ROUTABLE) == Some(InstanceHealth::Healthy);
        let mut txn = txn.clone();
        let life_cycle = self.etcd.get(LIFE_CYCLE);
        let deletes = |op: &Op, key: &str| matches!(op, Op::Delete { span, .. } if *span == Span::Key(key.into()));
        match self.mistake {
            Some(Mistake::GuardedByTheLeaseOnly)
                if life_cycle.as_ref().is_some_and(|kv| kv.lease == self.lease) =>
            {
                txn.when.clear();
            }
            Some(Mistake::UnguardedDelete) if txn.then.iter().any(|op| deletes(op, LIFE_CYCLE)) => {
                txn.when.clear();
            }
            Some(Mistake::CreateLeavesTheRoutable) if life_cycle.is_none() => {
                txn.then.retain(|op| !deletes(op, ROUTABLE));
            }
            _ => {}
        }
        let reply = self.etcd.txn(&txn).ok();
        self.unmarked |= healthy && self.status(ROUTABLE).is_none();
        reply
    }

    /// Sends the next link, if there is one.
    fn send(&mut self, target: Wanted, fate: Fate) -> bool {
        let before = self.chain.clone();
        let Some(link) = self.chain.next(&target.target()) else {
            return false;
        };
        let txn = self.chain.txn(&link);
        if matches!(fate, Fate::Late | Fate::Duplicated) {
            self.late.push(txn.clone());
        }
        if fate == Fate::Late {
            self.chain.unknown();
            return true;
        }
        match self.execute(&txn) {
            Some(reply) if fate == Fate::Answered => self.chain.replied(&link, &reply),
            Some(_) if self.mistake == Some(Mistake::UnknownIsNotDone) => self.chain = before,
            Some(_) => self.chain.unknown(),
            // The only refusal of the model: the lease is gone.
            None if fate == Fate::Answered => self.new_lease(),
            None => self.chain.unknown(),
        }
        true
    }

    fn look(&mut self) {
        if self.mistake == Some(Mistake::NoWatchOfTheOwnKeys) {
            return;
        }
        let reply = self.etcd.txn(&self.chain.look()).expect("reads");
        self.chain.looked(&reply);
    }

    /// Everything still under way arrives, the watches show it, and no answer is lost any more.
    fn settle(&mut self, target: Wanted) {
        for _ in 0..20 {
            for txn in std::mem::take(&mut self.late) {
                self.execute(&txn);
            }
            let mut steps = 0;
            while self.send(target, Fate::Answered) {
                steps += 1;
                assert!(
                    steps < 20,
                    "the chain does not come to rest: {:?}",
                    self.chain
                );
            }
            self.look();
        }
        assert_eq!(self.chain.next(&target.target()), None);
    }

    fn wire(&self, key: &str) -> Option<serde_json::Value> {
        Some(serde_json::from_slice(&self.etcd.get(key)?.value).expect("JSON"))
    }

    fn status(&self, key: &str) -> Option<InstanceHealth> {
        let status = self.wire(key)?["Coord"]["status"].clone();
        Some(serde_json::from_value(status).expect("a status"))
    }

    fn records(&self) -> (Option<InstanceHealth>, Option<InstanceHealth>) {
        (self.status(LIFE_CYCLE), self.status(ROUTABLE))
    }

    fn check(&self, target: Wanted) {
        let expected = match target.0 {
            Place::Shown => (Some(InstanceHealth::Healthy), Some(InstanceHealth::Healthy)),
            Place::Hidden(health) => (Some(health), None),
            Place::Gone => (None, None),
        };
        assert_eq!(self.records(), expected, "{:?}", self.chain);
        for key in [LIFE_CYCLE, ROUTABLE] {
            let weight = self
                .wire(key)
                .map(|wire| wire["Metadata"]["weight"].clone());
            assert!(
                weight.is_none_or(|weight| weight == target.1),
                "{:?}",
                self.chain
            );
        }
        for key in [LIFE_CYCLE, ROUTABLE] {
            assert!(self.etcd.get(key).is_none_or(|kv| kv.lease == self.lease));
        }
    }
}

fn published() -> World {
    let mut world = World::new();
    world.settle(SHOWN);
    world.check(SHOWN);
    world
}

#[test]
fn a_registration_is_two_links_and_leaving_is_two_more() {
    let mut world = World::new();
    assert!(world.send(SHOWN, Fate::Answered));
    assert_eq!(world.records(), (Some(InstanceHealth::Starting), None));
    assert!(world.send(SHOWN, Fate::Answered));
    assert!(!world.send(SHOWN, Fate::Answered));
    world.check(SHOWN);
    assert!(world.send(GONE, Fate::Answered));
    assert_eq!(world.records().1, Some(InstanceHealth::Draining));
    assert!(world.send(GONE, Fate::Answered));
    assert!(!world.send(GONE, Fate::Answered));
    world.check(GONE);
}

#[test]
fn draining_deletes_the_routable_record_and_keeps_the_other() {
    let mut world = published();
    world.settle(WITHDRAWN);
    world.check(WITHDRAWN);
    world.settle(GONE);
    world.check(GONE);
    assert!(!world.unmarked);
}

/// Only healthy ones are routable: the same two steps, and back in one.
#[test]
fn what_is_not_healthy_is_not_routable() {
    let mut world = published();
    assert!(world.send(UNHEALTHY, Fate::Answered));
    assert_eq!(
        world.records(),
        (
            Some(InstanceHealth::Unhealthy),
            Some(InstanceHealth::Unhealthy)
        )
    );
    assert!(world.send(UNHEALTHY, Fate::Answered));
    assert!(!world.send(UNHEALTHY, Fate::Answered));
    world.check(UNHEALTHY);
    assert!(world.send(SHOWN, Fate::Answered));
    world.check(SHOWN);
    assert!(!world.unmarked);
}

#[test]
fn what_the_records_say_is_changed_in_one_link_and_once() {
    let mut world = published();
    assert!(world.send(HEAVY, Fate::Answered));
    world.check(HEAVY);
    assert!(!world.send(HEAVY, Fate::Answered));
    // The answer is lost, and the wish goes back: only a committed link tells what is there.
    world.send(SHOWN, Fate::Unanswered);
    world.settle(HEAVY);
    world.check(HEAVY);
}

/// Readers that do not know the mark would route to it.
#[test]
fn what_was_never_shown_is_never_marked() {
    let mut world = World::new();
    world.send(STARTING, Fate::Answered);
    world.send(UNHEALTHY, Fate::Late);
    world.send(STARTING, Fate::Answered);
    for step in [WITHDRAWN, GONE] {
        while world.send(step, Fate::Answered) {
            assert_eq!(world.status(ROUTABLE), None);
        }
    }
    world.check(GONE);
}

/// Who never published has nothing to mark.
#[test]
fn leaving_before_publishing_writes_no_routable_record() {
    let mut world = World::new();
    world.settle(STARTING);
    world.send(GONE, Fate::Answered);
    assert_eq!(world.records(), (None, None));
}

#[test]
fn a_create_whose_answer_was_lost_is_recognized() {
    let mut world = World::new();
    world.send(SHOWN, Fate::Unanswered);
    world.send(SHOWN, Fate::Answered);
    assert_eq!(
        world.chain.known(),
        Some(Form::Hidden(InstanceHealth::Starting))
    );
    let before = world.etcd.revision();
    world.send(SHOWN, Fate::Answered);
    assert_eq!(world.etcd.revision(), before + 1);
    world.check(SHOWN);
}

/// The publish is unknown and the wish changes: it may still be committed before the mark.
#[test]
fn an_unknown_publish_does_not_outlive_the_deregistration() {
    for late_first in [true, false] {
        let mut world = World::new();
        world.settle(STARTING);
        world.send(SHOWN, Fate::Late);
        if late_first {
            let late = world.late.pop().expect("it is under way");
            world.execute(&late);
        }
        world.settle(GONE);
        world.check(GONE);
        assert!(!world.unmarked, "a leaver must not look crashed");
    }
}

/// A late copy of a link finds another revision than the one it stands on.
#[test]
fn a_late_copy_of_an_older_link_changes_nothing() {
    let mut world = World::new();
    world.settle(STARTING);
    world.send(SHOWN, Fate::Duplicated);
    world.settle(WITHDRAWN);
    let publish = world.chain.clone();
    let revision = world.etcd.revision();
    for txn in std::mem::take(&mut world.late) {
        world.execute(&txn);
    }
    assert_eq!(world.etcd.revision(), revision);
    assert_eq!(publish.known(), world.chain.known());
    world.check(WITHDRAWN);
}

/// A routable record without a life-cycle record is somebody's leftover: the first link removes it.
#[test]
fn the_first_link_removes_a_stale_routable_record() {
    let mut world = World::new();
    world.etcd.put(
        ROUTABLE,
        r#"{"Addr":"old:1","Coord":{"v":1,"status":"healthy"}}"#,
    );
    world.send(SHOWN, Fate::Answered);
    assert_eq!(world.records(), (Some(InstanceHealth::Starting), None));
}

#[test]
fn what_an_operator_deletes_or_writes_is_repaired() {
    for key in [LIFE_CYCLE, ROUTABLE] {
        let mut world = published();
        world.etcd.delete(key);
        world.look();
        world.settle(SHOWN);
        world.check(SHOWN);
        world
            .etcd
            .put(key, r#"{"Addr":"x:1","Coord":{"v":1,"status":"healthy"}}"#);
        world.look();
        world.settle(SHOWN);
        world.check(SHOWN);
    }
    let mut world = published();
    world.settle(WITHDRAWN);
    world.etcd.put(
        ROUTABLE,
        r#"{"Addr":"x:1","Coord":{"v":1,"status":"healthy"}}"#,
    );
    world.look();
    world.settle(WITHDRAWN);
    world.check(WITHDRAWN);
}

/// Without a life-cycle record to stand on, draining still removes the routable one.
#[test]
fn draining_removes_the_record_also_when_the_chain_was_cut() {
    let mut world = published();
    world.etcd.delete(LIFE_CYCLE);
    world.look();
    world.settle(WITHDRAWN);
    world.check(WITHDRAWN);
}

#[test]
fn an_old_view_of_the_keys_casts_no_doubt() {
    let mut world = World::new();
    world.settle(STARTING);
    let old = world.etcd.clone();
    world.settle(SHOWN);
    let seen = |key| Seen::new(old.revision(), old.get(key).as_ref());
    world.chain.saw_life_cycle(seen(LIFE_CYCLE));
    world.chain.saw_routable(seen(ROUTABLE));
    assert_eq!(world.chain.known(), Some(Form::Shown));
    // A restored backup is another matter: its revisions are lower, and true.
    world.chain.saw_life_cycle(Seen {
        regressed: true,
        ..seen(LIFE_CYCLE)
    });
    assert_eq!(world.chain.known(), None);
}

#[test]
fn a_lost_lease_is_replaced_and_the_records_follow() {
    let mut world = published();
    world.etcd.revoke(world.lease);
    // The answer to the next link says it; so would a keep-alive.
    world.new_lease();
    world.settle(SHOWN);
    world.check(SHOWN);
}

/// The old lease's records are still there: they move to the new lease in place.
#[test]
fn records_of_an_old_lease_are_taken_over() {
    let mut world = published();
    let old = world.lease;
    world.new_lease();
    world.settle(SHOWN);
    world.check(SHOWN);
    world.etcd.revoke(old);
    world.check(SHOWN);
}

/// A late create cannot bring back what has left: its lease is revoked with the last link.
#[test]
fn nothing_comes_back_after_the_lease_is_revoked() {
    let mut world = World::new();
    world.send(SHOWN, Fate::Duplicated);
    let copies = world.late.clone();
    world.late.clear();
    world.settle(GONE);
    world.etcd.revoke(world.lease);
    for txn in copies {
        world.execute(&txn);
    }
    world.check(GONE);
}

/// Sends links, each answered, until there is none to send.
fn send_all(world: &mut World, target: Wanted) {
    while world.send(target, Fate::Answered) {}
}

/// `story` holds, and does not if the mistake is made.
fn notices(mistake: Mistake, story: fn(&mut World) -> bool) {
    for made in [None, Some(mistake)] {
        let mut world = World::new();
        world.mistake = made;
        assert_eq!(
            story(&mut world),
            made.is_none(),
            "{mistake:?}: {:?}",
            world.records()
        );
    }
}

const HEALTHY: (Option<InstanceHealth>, Option<InstanceHealth>) =
    (Some(InstanceHealth::Healthy), Some(InstanceHealth::Healthy));

#[test]
fn a_late_copy_that_compares_the_lease_alone_takes_a_healthy_one_out() {
    notices(Mistake::GuardedByTheLeaseOnly, |world| {
        send_all(world, SHOWN);
        world.send(UNHEALTHY, Fate::Answered);
        world.send(UNHEALTHY, Fate::Duplicated);
        send_all(world, UNHEALTHY);
        send_all(world, SHOWN);
        for late in std::mem::take(&mut world.late) {
            world.execute(&late);
        }
        !world.unmarked && world.records() == HEALTHY
    });
}

#[test]
fn a_link_without_an_answer_that_counts_as_not_done_leaves_what_nobody_wants() {
    notices(Mistake::UnknownIsNotDone, |world| {
        send_all(world, SHOWN);
        world.send(HEAVY, Fate::Unanswered);
        send_all(world, SHOWN);
        let wire = world.wire(ROUTABLE).expect("it is shown");
        wire["Metadata"]["weight"] == SHOWN.1
    });
}

/// Between the mark and the deletion somebody has made it healthy again: it is marked again.
#[test]
fn a_deletion_is_of_what_was_marked() {
    notices(Mistake::UnguardedDelete, |world| {
        send_all(world, SHOWN);
        let healthy = [LIFE_CYCLE, ROUTABLE].map(|key| world.wire(key).expect("JSON").to_string());
        world.send(GONE, Fate::Answered);
        for (key, value) in [LIFE_CYCLE, ROUTABLE].into_iter().zip(&healthy) {
            world.etcd.put(key, value);
        }
        send_all(world, GONE);
        !world.unmarked && world.records() == (None, None)
    });
}

#[test]
fn a_first_link_that_leaves_what_it_finds_shows_a_starting_instance() {
    notices(Mistake::CreateLeavesTheRoutable, |world| {
        world.etcd.put(
            ROUTABLE,
            r#"{"Addr":"old:1","Coord":{"v":1,"status":"healthy"}}"#,
        );
        send_all(world, STARTING);
        world.status(ROUTABLE).is_none()
    });
}

#[test]
fn records_that_nobody_looks_after_stay_deleted() {
    notices(Mistake::NoWatchOfTheOwnKeys, |world| {
        send_all(world, SHOWN);
        world.etcd.delete(ROUTABLE);
        world.look();
        send_all(world, SHOWN);
        world.records() == HEALTHY
    });
}

#[derive(Clone, Debug)]
enum Act {
    Send(Fate),
    Late(usize),
    Wish(usize),
    Look,
    Expire,
    Delete(bool),
}

/// Once it leaves it only goes on leaving.
const WISHES: [Wanted; 5] = [SHOWN, HEAVY, UNHEALTHY, WITHDRAWN, GONE];

fn act(operator: bool) -> impl Strategy<Value = Act> {
    let fate = prop_oneof![
        3 => Just(Fate::Answered),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::Duplicated),
        1 => Just(Fate::Late),
    ];
    prop_oneof![
        8 => fate.prop_map(Act::Send),
        4 => (0..8_usize).prop_map(Act::Late),
        3 => (0..WISHES.len()).prop_map(Act::Wish),
        2 => Just(Act::Look),
        1 => Just(Act::Expire),
        u32::from(operator) => any::<bool>().prop_map(Act::Delete),
    ]
}

fn play(acts: &[Act]) -> (World, Wanted) {
    let (mut world, mut target) = (World::new(), STARTING);
    for act in acts {
        match act {
            Act::Send(fate) => drop(world.send(target, *fate)),
            Act::Late(index) if !world.late.is_empty() => {
                let index = index % world.late.len();
                let copy = world.late.swap_remove(index);
                world.execute(&copy);
            }
            Act::Late(_) => {}
            Act::Wish(_) if target == GONE => {}
            Act::Wish(wish) if target == WITHDRAWN => {
                target = if *wish == 0 { GONE } else { target }
            }
            Act::Wish(wish) => target = WISHES[*wish],
            Act::Look => world.look(),
            Act::Expire => world.etcd.revoke(world.lease),
            Act::Delete(which) => world
                .etcd
                .delete([LIFE_CYCLE, ROUTABLE][usize::from(*which)]),
        }
    }
    (world, target)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happened on the way: once the network is calm the records are where they should be.
    #[test]
    fn the_records_end_where_they_should(acts in prop::collection::vec(act(true), 0..40)) {
        let (mut world, target) = play(&acts);
        if !world.etcd.lives(world.lease) {
            world.new_lease();
        }
        world.settle(target);
        if target == GONE {
            // As the registration does it: what a late create brought back goes with the lease.
            world.etcd.revoke(world.lease);
        }
        world.check(target);
    }

    /// As long as nobody else deletes records, none that is healthy is ever deleted without a mark.
    #[test]
    fn a_leaver_never_looks_crashed(acts in prop::collection::vec(act(false), 0..40)) {
        let (mut world, target) = play(&acts);
        world.settle(target);
        prop_assert!(!world.unmarked);
    }
}
