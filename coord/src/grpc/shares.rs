//! Which of the endpoints calls go to, and in what proportion: the caller's zone, slow start, and those
//! that leave, if there is no other.

use std::time::Duration;

use super::{
    members::{Entry, Members},
    ready::Member,
};
use crate::clock::Instant;

/// Calls stay in their zone while this part of its weight is ready.
const ENOUGH: f64 = 0.7;
/// What one that starts slowly gets at first, of its whole share.
const FIRST: f64 = 0.1;
/// In so many steps to the whole.
const STEPS: u32 = 10;

/// What is picked from now, and when that changes by itself.
#[derive(Debug)]
pub(super) struct Shares {
    pub(super) members: Vec<Member>,
    pub(super) until: Option<Instant>,
}

/// `zone`: the caller's. `ramp`: how long a new endpoint takes to its whole share.
pub(super) fn shares(
    members: &Members,
    zone: Option<&str>,
    ramp: Duration,
    now: Instant,
) -> Shares {
    let local = |entry: &&Entry| zone.is_some() && entry.record.zone.as_deref() == zone;
    let weight = |entry: &Entry| f64::from(entry.record.weight);
    let serving = |entry: &&Entry| entry.life.ready_since().is_some();
    // One that vanished counts as well: as long as it answers, nobody knows that it is gone.
    let stays = |entry: &&Entry| entry.life.leaves().is_none();
    let all: f64 = members
        .entries()
        .filter(local)
        .filter(stays)
        .map(weight)
        .sum();
    let ready: f64 = members
        .entries()
        .filter(local)
        .filter(serving)
        .map(weight)
        .sum();
    let at_home = ready > 0.0 && ready >= ENOUGH * all;

    let mut ramping = false;
    let alone = !members.entries().any(|entry| serving(&entry));
    let spare = |entry: &&Entry| alone && entry.life.is_spare();
    let chosen = members.entries().filter(|it| serving(it) || spare(it));
    let chosen = chosen.filter(|entry| !at_home || local(entry));
    let member = |entry: &Entry| {
        // What is up has one.
        let endpoint = entry.endpoint.clone()?;
        let run = entry.life.ready_since().map_or(ramp, |at| now.since(at));
        let mut share = weight(entry);
        if !entry.warm && run < ramp {
            ramping = true;
            share *= FIRST + (1.0 - FIRST) * (run.as_secs_f64() / ramp.as_secs_f64());
        }
        Some(Member {
            endpoint,
            weight: share,
        })
    };
    let members = chosen.filter_map(member).collect();
    Shares {
        members,
        until: ramping.then(|| now + ramp / STEPS),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use super::*;
    use crate::{
        grpc::{
            members::{
                name,
                tests::{World, record},
            },
            state::LINGER,
        },
        registry::{Instance, InstanceHealth},
    };

    const RAMP: Duration = Duration::from_secs(10);

    fn weights(world: &World, zone: Option<&str>) -> (Vec<f64>, Option<Duration>) {
        let now = world.clock.now();
        let shares = shares(&world.members, zone, RAMP, now);
        let weights = shares.members.iter().map(|member| member.weight);
        // As whole numbers: a tenth is none.
        let weights = weights.map(f64::round).collect();
        (weights, shares.until.map(|at| at.since(now)))
    }

    #[test]
    fn who_comes_later_starts_with_a_tenth_and_has_its_whole_share_at_the_end() {
        let first = [record(1, 1), record(2, 2)];
        let mut world = World::connected(&first);
        world.hand.advance(RAMP);
        assert_eq!(weights(&world, None), (vec![100.0, 100.0], None));
        let [a, b] = first;
        world.see(&[a, b, record(3, 3)], &HashMap::new());
        world.dialled(true);
        for percent in [10.0, 19.0, 28.0, 37.0, 46.0, 55.0, 64.0, 73.0, 82.0, 91.0] {
            let (shares, until) = weights(&world, None);
            assert_eq!(shares, [100.0, 100.0, percent]);
            assert_eq!(until, Some(RAMP / STEPS));
            world.hand.advance(RAMP / STEPS);
        }
        assert_eq!(weights(&world, None), (vec![100.0; 3], None));
        // One of the first starts slowly when it has been away.
        world.breaks(0);
        world.dialled(true);
        assert_eq!(weights(&world, None).0, [10.0, 100.0, 100.0]);
    }

    #[test]
    fn calls_stay_at_home_while_seven_tenths_of_it_are_ready() {
        let at = |zone: &str, name, weight| {
            let mut instance = Instance::clone(&record(name, name));
            instance.zone = Some(zone.into());
            instance.weight = weight;
            Arc::new(instance)
        };
        let all = [at("a", 1, 30), at("a", 2, 70), at("b", 3, 500)];
        let mut world = World::connected(&all);
        world.hand.advance(RAMP);
        assert_eq!(weights(&world, None).0.len(), 3);
        assert_eq!(weights(&world, Some("c")).0.len(), 3);
        assert_eq!(weights(&world, Some("a")).0, [30.0, 70.0]);
        // Vanished, and still there.
        world.see(&[], &HashMap::new());
        assert_eq!(weights(&world, Some("a")).0, [30.0, 70.0]);
        world.see(&all, &HashMap::new());
        world.breaks(0);
        assert_eq!(weights(&world, Some("a")).0, [70.0]);
        world.dialled(true);
        world.breaks(0);
        assert_eq!(weights(&world, Some("a")).0, [3.0, 500.0]);
    }

    #[test]
    fn who_leaves_has_its_share_while_there_is_no_other() {
        let (a, b) = (record(1, 1), record(2, 2));
        let mut world = World::connected(&[a.clone(), b.clone()]);
        let left = |all: &[&Arc<Instance>]| -> HashMap<_, _> {
            let left = all.iter().map(|one| (name(one), InstanceHealth::Draining));
            left.collect()
        };
        world.see(std::slice::from_ref(&b), &left(&[&a]));
        assert_eq!(weights(&world, None).0, [100.0]);
        world.see(&[], &left(&[&a, &b]));
        assert_eq!(weights(&world, None), (vec![100.0, 100.0], None));
        // For as long as that may be.
        for _ in 0..3 {
            world.hand.advance(LINGER);
            world.settle();
            assert_eq!(weights(&world, None).0.len(), 2);
        }
        // The next comes up, and takes it all.
        world.see(&[record(3, 3)], &left(&[&a, &b]));
        assert_eq!(weights(&world, None).0.len(), 2);
        world.dialled(true);
        assert_eq!(weights(&world, None).0, [10.0]);
        world.hand.advance(LINGER);
        world.settle();
        assert_eq!(world.members.entries().count(), 1);
    }
}
