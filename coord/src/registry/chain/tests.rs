//! The chain against a small model of etcd: copies that arrive late or twice, answers that are lost,
//! leases that end, an operator's deletions.

use proptest::prelude::*;

use super::*;
use crate::{client::MiniEtcd, key::Layout};

const LIFE_CYCLE: &str = "coord/inst/s/u";
const ROUTABLE: &str = "coord/svc/s/-/u";

/// One instance, its etcd, and the copies of its links that the network still has.
struct World {
    etcd: MiniEtcd,
    chain: Chain,
    lease: i64,
    late: Vec<Txn>,
    /// A healthy routable record was deleted by one of our own transactions.
    unmarked: bool,
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
        let record = Record {
            service: "s".into(),
            instance: "u".into(),
            address: "a:1".into(),
            version: None,
            id: None,
            module: None,
            host: String::new(),
            pid: 1,
            started_ms: 1,
        };
        let mut world = Self {
            etcd: MiniEtcd::new(),
            chain: Chain::new(
                layout.life_cycle("s", "u").expect("valid"),
                layout.instance("s", "", "u").expect("valid"),
                record,
            ),
            lease: 0,
            late: Vec::new(),
            unmarked: false,
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
        let healthy = self.status(ROUTABLE) == Some(Status::Healthy);
        let reply = self.etcd.txn(txn).ok();
        self.unmarked |= healthy && self.status(ROUTABLE).is_none();
        reply
    }

    /// Sends the next link, if there is one.
    fn send(&mut self, target: Target, fate: Fate) -> bool {
        let Some(link) = self.chain.next(target) else {
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
            Some(_) => self.chain.unknown(),
            // The only refusal of the model: the lease is gone.
            None if fate == Fate::Answered => self.new_lease(),
            None => self.chain.unknown(),
        }
        true
    }

    fn look(&mut self) {
        let reply = self.etcd.txn(&self.chain.look()).expect("reads");
        self.chain.looked(&reply);
    }

    /// Everything still under way arrives, the watches show it, and no answer is lost any more.
    fn settle(&mut self, target: Target) {
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
        assert_eq!(self.chain.next(target), None);
    }

    fn status(&self, key: &str) -> Option<Status> {
        let wire: serde_json::Value =
            serde_json::from_slice(&self.etcd.get(key)?.value).expect("JSON");
        Some(serde_json::from_value(wire["Coord"]["status"].clone()).expect("a status"))
    }

    fn records(&self) -> (Option<Status>, Option<Status>) {
        (self.status(LIFE_CYCLE), self.status(ROUTABLE))
    }

    fn check(&self, target: Target) {
        let expected = match target {
            Target::Starting => (Some(Status::Starting), None),
            Target::Published => (Some(Status::Healthy), Some(Status::Healthy)),
            Target::Withdrawn => (Some(Status::Draining), None),
            Target::Gone => (None, None),
        };
        assert_eq!(self.records(), expected, "{:?}", self.chain);
        for key in [LIFE_CYCLE, ROUTABLE] {
            assert!(self.etcd.get(key).is_none_or(|kv| kv.lease == self.lease));
        }
    }
}

fn published() -> World {
    let mut world = World::new();
    world.settle(Target::Published);
    world.check(Target::Published);
    world
}

#[test]
fn a_registration_is_two_links_and_leaving_is_two_more() {
    let mut world = World::new();
    assert!(world.send(Target::Published, Fate::Answered));
    assert_eq!(world.records(), (Some(Status::Starting), None));
    assert!(world.send(Target::Published, Fate::Answered));
    assert!(!world.send(Target::Published, Fate::Answered));
    world.check(Target::Published);
    assert!(world.send(Target::Gone, Fate::Answered));
    assert_eq!(world.records().1, Some(Status::Draining));
    assert!(world.send(Target::Gone, Fate::Answered));
    assert!(!world.send(Target::Gone, Fate::Answered));
    world.check(Target::Gone);
}

#[test]
fn draining_deletes_the_routable_record_and_keeps_the_other() {
    let mut world = published();
    world.settle(Target::Withdrawn);
    world.check(Target::Withdrawn);
    world.settle(Target::Gone);
    world.check(Target::Gone);
    assert!(!world.unmarked);
}

/// Who never published has nothing to mark.
#[test]
fn leaving_before_publishing_writes_no_routable_record() {
    let mut world = World::new();
    world.settle(Target::Starting);
    world.send(Target::Gone, Fate::Answered);
    assert_eq!(world.records(), (None, None));
}

#[test]
fn a_create_whose_answer_was_lost_is_recognized() {
    let mut world = World::new();
    world.send(Target::Published, Fate::Unanswered);
    world.send(Target::Published, Fate::Answered);
    assert_eq!(world.chain.known(), Some(Content::Starting));
    let before = world.etcd.revision();
    world.send(Target::Published, Fate::Answered);
    assert_eq!(world.etcd.revision(), before + 1);
    world.check(Target::Published);
}

/// The publish is unknown and the wish changes: it may still be committed before the mark.
#[test]
fn an_unknown_publish_does_not_outlive_the_deregistration() {
    for late_first in [true, false] {
        let mut world = World::new();
        world.settle(Target::Starting);
        world.send(Target::Published, Fate::Late);
        if late_first {
            let late = world.late.pop().expect("it is under way");
            world.execute(&late);
        }
        world.settle(Target::Gone);
        world.check(Target::Gone);
        assert!(!world.unmarked, "a leaver must not look crashed");
    }
}

/// A late copy of a link finds another revision than the one it stands on.
#[test]
fn a_late_copy_of_an_older_link_changes_nothing() {
    let mut world = World::new();
    world.settle(Target::Starting);
    world.send(Target::Published, Fate::Duplicated);
    world.settle(Target::Withdrawn);
    let publish = world.chain.clone();
    let revision = world.etcd.revision();
    for txn in std::mem::take(&mut world.late) {
        world.execute(&txn);
    }
    assert_eq!(world.etcd.revision(), revision);
    assert_eq!(publish.known(), world.chain.known());
    world.check(Target::Withdrawn);
}

/// A routable record without a life-cycle record is somebody's leftover: the first link removes it.
#[test]
fn the_first_link_removes_a_stale_routable_record() {
    let mut world = World::new();
    world.etcd.put(
        ROUTABLE,
        r#"{"Addr":"old:1","Coord":{"v":1,"status":"healthy"}}"#,
    );
    world.send(Target::Published, Fate::Answered);
    assert_eq!(world.records(), (Some(Status::Starting), None));
}

#[test]
fn what_an_operator_deletes_or_writes_is_repaired() {
    for key in [LIFE_CYCLE, ROUTABLE] {
        let mut world = published();
        world.etcd.delete(key);
        world.look();
        world.settle(Target::Published);
        world.check(Target::Published);
        world
            .etcd
            .put(key, r#"{"Addr":"x:1","Coord":{"v":1,"status":"healthy"}}"#);
        world.look();
        world.settle(Target::Published);
        world.check(Target::Published);
    }
    let mut world = published();
    world.settle(Target::Withdrawn);
    world.etcd.put(
        ROUTABLE,
        r#"{"Addr":"x:1","Coord":{"v":1,"status":"healthy"}}"#,
    );
    world.look();
    world.settle(Target::Withdrawn);
    world.check(Target::Withdrawn);
}

/// Without a life-cycle record to stand on, draining still removes the routable one.
#[test]
fn draining_removes_the_record_also_when_the_chain_was_cut() {
    let mut world = published();
    world.etcd.delete(LIFE_CYCLE);
    world.look();
    world.settle(Target::Withdrawn);
    world.check(Target::Withdrawn);
}

#[test]
fn an_old_view_of_the_keys_casts_no_doubt() {
    let mut world = World::new();
    world.settle(Target::Starting);
    let old = world.etcd.clone();
    world.settle(Target::Published);
    let seen = |key| old.get(key);
    world
        .chain
        .saw_life_cycle(old.revision(), seen(LIFE_CYCLE).as_ref(), false);
    world
        .chain
        .saw_routable(old.revision(), seen(ROUTABLE).as_ref(), false);
    assert_eq!(world.chain.known(), Some(Content::Published));
    // A restored backup is another matter: its revisions are lower, and true.
    world
        .chain
        .saw_life_cycle(old.revision(), seen(LIFE_CYCLE).as_ref(), true);
    assert_eq!(world.chain.known(), None);
}

#[test]
fn a_lost_lease_is_replaced_and_the_records_follow() {
    let mut world = published();
    world.etcd.revoke(world.lease);
    // The answer to the next link says it; so would a keep-alive.
    world.new_lease();
    world.settle(Target::Published);
    world.check(Target::Published);
}

/// The old lease's records are still there: they move to the new lease in place.
#[test]
fn records_of_an_old_lease_are_taken_over() {
    let mut world = published();
    let old = world.lease;
    world.new_lease();
    world.settle(Target::Published);
    world.check(Target::Published);
    world.etcd.revoke(old);
    world.check(Target::Published);
}

/// A late create cannot bring back what has left: its lease is revoked with the last link.
#[test]
fn nothing_comes_back_after_the_lease_is_revoked() {
    let mut world = World::new();
    world.send(Target::Published, Fate::Duplicated);
    let copies = world.late.clone();
    world.late.clear();
    world.settle(Target::Gone);
    world.etcd.revoke(world.lease);
    for txn in copies {
        world.execute(&txn);
    }
    world.check(Target::Gone);
}

#[derive(Clone, Debug)]
enum Act {
    Send(Fate),
    Late(usize),
    Forward,
    Look,
    Expire,
    Delete(bool),
}

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
        2 => Just(Act::Forward),
        2 => Just(Act::Look),
        1 => Just(Act::Expire),
        u32::from(operator) => any::<bool>().prop_map(Act::Delete),
    ]
}

fn play(acts: &[Act]) -> (World, Target) {
    const TARGETS: [Target; 4] = [
        Target::Starting,
        Target::Published,
        Target::Withdrawn,
        Target::Gone,
    ];
    let (mut world, mut target) = (World::new(), 0);
    for act in acts {
        match act {
            Act::Send(fate) => drop(world.send(TARGETS[target], *fate)),
            Act::Late(index) if !world.late.is_empty() => {
                let index = index % world.late.len();
                let copy = world.late.swap_remove(index);
                world.execute(&copy);
            }
            Act::Late(_) => {}
            Act::Forward => target = (target + 1).min(TARGETS.len() - 1),
            Act::Look => world.look(),
            Act::Expire => world.etcd.revoke(world.lease),
            Act::Delete(which) => world
                .etcd
                .delete([LIFE_CYCLE, ROUTABLE][usize::from(*which)]),
        }
    }
    (world, TARGETS[target])
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
        if target == Target::Gone {
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
