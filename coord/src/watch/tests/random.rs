//! Seeded runs of everything that can go wrong, in any order: in the end the map is the server's.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    client::Version,
    watch::script::{Progress, World},
};

/// What may happen in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Whatever the watch must stand without ever showing a state that was not.
    Faults,
    /// Also what only an audit can find: lost events, a restore overtaken by new writes.
    FaultsAndLies,
}

/// Heals the server. What the streams have missed they have missed, and what is half-open stays so.
fn heal(world: &mut World) {
    world.down = false;
    world.token_expired = false;
    world.denied = false;
    world.refuse = None;
    world.stall_opens = false;
    world.open_silent = false;
    world.trickle = None;
    world.decodable_events = 0;
    world.decodable_keys = 0;
    for member in &mut world.members {
        member.lag = None;
        member.version = Version::new(3, 5, 16);
        member.progress = Progress::Behind;
    }
    world.release();
}

fn disturb(dice: &mut StdRng, kind: Kind, world: &mut World) {
    const KEYS: [&str; 7] = [
        "/a/b/1", "/a/b/2", "/a/b/3", "/a/b/4", "/a/b/5", "/a/bc/1", "/c",
    ];
    const VALUES: [Option<&str>; 4] = [Some("p"), Some("q"), Some("p"), None];
    let first = dice.random_range(0..KEYS.len());
    let value = VALUES[dice.random_range(0..VALUES.len())];
    match dice.random_range(0..64) {
        0..=19 => {
            world.write(&[(KEYS[first], value)]);
        }
        20..=27 => {
            let second = KEYS[(first + 1) % KEYS.len()];
            world.write(&[(KEYS[first], value), (second, Some("r"))]);
        }
        28..=29 => {
            let back = dice.random_range(0..4);
            let revision = world.rev - back;
            world.compact(revision);
        }
        30..=31 => world.cut(),
        32 => world.end(),
        33 => world.silence(),
        34 => world.open_silent = !world.open_silent,
        35 => world.stall_opens = !world.stall_opens,
        36 => world.down = true,
        37 => world.token_expired = true,
        38 => world.denied = true,
        39 => world.refuse = Some("etcdserver: some other reason"),
        40..=41 => world.batch = dice.random_range(1..4),
        42..=43 => world.fragment = dice.random_range(0..3),
        44..=45 => world.trickle = Some(dice.random_range(0..4)),
        46 => world.decodable_events = dice.random_range(1..6),
        47 => world.decodable_keys = dice.random_range(1..6),
        48..=49 => world.hold = Some(|range| range.limit > 1),
        50 => world.hold = Some(|range| range.limit == 1 || range.count_only),
        51 => world.release(),
        52..=53 => {
            let member = dice.random_range(0..world.members.len());
            let lag = world.rev - dice.random_range(0..3);
            world.members[member].lag = Some(lag);
        }
        54 => {
            let member = dice.random_range(0..world.members.len());
            (
                world.members[member].version,
                world.members[member].progress,
            ) = match dice.random_range(0..3) {
                0 => (Version::new(3, 5, 7), Progress::Ahead),
                1 => (Version::new(3, 5, 12), Progress::Never),
                _ => (Version::new(3, 5, 30), Progress::Behind),
            };
            // Another server: its streams do not survive that.
            world.cut();
        }
        55 => world.compact_between_pages = dice.random_range(1..5),
        56 => world.put_between_pages = Some(KEYS[first]),
        57..=60 => heal(world),
        61..=62 if kind == Kind::FaultsAndLies => {
            let revision = world.write(&[(KEYS[first], value)]);
            world.lose(revision);
        }
        63 if kind == Kind::FaultsAndLies => {
            let to = (world.rev - dice.random_range(0..5)).max(1);
            let lower = dice.random_bool(0.5) && world.term > 1;
            world.restore(to, lower);
        }
        _ => {}
    }
}

fn run(seed: u64, kind: Kind, stutter: bool) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed);
    let script = Script::with_two_members();
    let options = WatchOptions {
        page: 3,
        ..WatchOptions::default()
    };
    let mut rig = Rig::with(&script, options);
    rig.strict = kind == Kind::Faults;
    if stutter {
        script.world().stutter = Some(StdRng::seed_from_u64(seed));
    }
    for _ in 0..150 {
        disturb(&mut dice, kind, &mut script.world());
        let pause = [0, 0, 0, 1, 10, 100, 3_000, 40_000][dice.random_range(0..8)];
        rig.advance(Duration::from_millis(pause))?;
    }
    heal(&mut script.world());
    // Two audits, and the longest backoffs before them.
    rig.advance(seconds(800))?;
    rig.is_current()?;
    ensure(rig.status().trouble.is_none(), "all is well again")?;
    // And it is followed. A half-open stream of a quiet store is found out only when the store moves.
    script.put("/a/b/last", "seen");
    rig.advance(seconds(90))?;
    rig.is_current()?;
    script.put("/a/b/last", "seen at once");
    rig.run()?;
    rig.is_current()
}

fn runs(seeds: std::ops::Range<u64>, kind: Kind, stutter: bool) {
    for seed in seeds {
        if let Err(fault) = run(seed, kind, stutter) {
            panic!("seed {seed}: {fault}");
        }
    }
}

#[test]
fn the_map_is_always_a_state_of_the_store_and_ends_as_its_last() {
    runs(0..100, Kind::Faults, false);
}

#[test]
fn lost_events_and_restores_are_healed_in_the_end() {
    runs(1_000..1_100, Kind::FaultsAndLies, false);
}

/// Every await of the watcher is pending now and then, and `next()` is dropped there each time.
#[test]
fn nothing_is_lost_when_next_is_dropped_at_any_await() {
    runs(2_000..2_015, Kind::Faults, true);
    runs(3_000..3_015, Kind::FaultsAndLies, true);
}
