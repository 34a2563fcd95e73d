//! The rules against a model of etcd: random schedules of acquires, lost answers, reads, releases,
//! deletions from outside, revoked leases, watches that lag, break and lose an event.
//!
//! Two things must hold. *Exclusion*: whoever is said to own conflicted with nobody ahead at some
//! moment, and of those who were said to own and whose entries exist none conflicts with another.
//! *Progress*: once nothing goes wrong any more, everybody gets the lock or learns that the entry is
//! gone.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{super::modes::Permits, tests::queue, *};

const SEEDS: u64 = 3_000;
const STEPS: usize = 80;
/// Small, so that lists are cut.
const LIMIT: usize = 2;
const PERMITS: u32 = 3;
const ATTEMPTS: usize = 6;

/// The store, with its history as far as it matters.
#[derive(Default)]
struct Store {
    revision: i64,
    keys: Vec<KeyValue>,
    deletions: Vec<(i64, Vec<Vec<u8>>)>,
    /// Who has ever had nobody ahead to conflict with, with its create revision.
    owned: HashSet<(Vec<u8>, i64)>,
}

#[derive(Clone)]
struct Reply {
    at: i64,
    listed: Listed,
}

impl Store {
    /// Lists, then puts: as the acquire's transaction.
    fn acquire(&mut self, mode: Mode, keys: &[Vec<u8>], lease: i64) -> Reply {
        let mut reply = self.list(mode, i64::MAX);
        self.revision += 1;
        self.keys.extend(keys.iter().map(|key| KeyValue {
            key: key.clone(),
            create_revision: self.revision,
            lease,
            ..KeyValue::default()
        }));
        self.note();
        reply.at = self.revision;
        reply
    }

    /// Those that were created before, in the ranges of `mode`, each cut.
    fn list(&self, mode: Mode, before: i64) -> Reply {
        let mut listed = Listed::default();
        let limit = LIMIT + mode.room() as usize;
        for span in mode.conflicting(&queue()) {
            let all: Vec<_> = self
                .keys
                .iter()
                .rev()
                .filter(|kv| kv.create_revision < before && within(&span, &kv.key))
                .cloned()
                .collect();
            listed.more |= all.len() > limit;
            listed.kvs.extend(all.into_iter().take(limit));
        }
        let at = self.revision;
        Reply { at, listed }
    }

    /// The entry, and those before it.
    fn read(&self, mode: Mode, entry: &[u8], created: i64) -> Reply {
        let mut reply = self.list(mode, created);
        let own = self.keys.iter().find(|kv| kv.key == entry).cloned();
        reply.listed.kvs.splice(0..0, own);
        reply
    }

    fn delete(&mut self, which: impl Fn(&KeyValue) -> bool) {
        let (gone, stay) = std::mem::take(&mut self.keys).into_iter().partition(which);
        self.keys = stay;
        let gone: Vec<KeyValue> = gone;
        if !gone.is_empty() {
            self.revision += 1;
            let keys = gone.into_iter().map(|kv| kv.key).collect();
            self.deletions.push((self.revision, keys));
            self.note();
        }
    }

    fn note(&mut self) {
        for kv in &self.keys {
            let ahead = self
                .keys
                .iter()
                .filter(|other| other.create_revision < kv.create_revision);
            if may_own(kind(&kv.key), ahead.map(|kv| kind(&kv.key))) {
                self.owned.insert((kv.key.clone(), kv.create_revision));
            }
        }
    }
}

fn kind(key: &[u8]) -> Kind {
    Kind::of(&queue(), key)
}

fn within(span: &Span, key: &[u8]) -> bool {
    match span {
        Span::Key(own) => own == key,
        Span::Interval(from, to) => from.as_slice() <= key && key < to.as_slice(),
    }
}

/// What locks are, said once more.
fn may_own(kind: Kind, ahead: impl Iterator<Item = Kind>) -> bool {
    let mut taken = 0;
    for other in ahead {
        match (kind, other) {
            (Kind::Read, Kind::Read) => {}
            (Kind::Permits(_), Kind::Permits(other)) => taken += other.take,
            _ => return false,
        }
    }
    match kind {
        Kind::Permits(own) => taken + own.take <= own.of,
        Kind::Read | Kind::Exclusive => true,
    }
}

/// One process: a watch, and the attempts that are told by it.
#[derive(Default)]
struct Process {
    /// The revision up to which it has told; `None`: closed.
    told: Option<i64>,
    attempts: Vec<Attempt>,
}

struct Attempt {
    mode: Mode,
    /// The first one is the entry.
    keys: Vec<Vec<u8>>,
    /// `None`: it registers only once the answer shows that it is needed.
    view: Option<View>,
    acquire: Option<Reply>,
    created: i64,
    reads: VecDeque<Reply>,
    owns: bool,
}

struct World {
    random: StdRng,
    store: Store,
    processes: [Process; 2],
    made: usize,
    swallowed: bool,
    now: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            store: Store::default(),
            processes: Default::default(),
            made: 0,
            swallowed: false,
            now: Instant::from_micros(1),
        }
    }

    fn chance(&mut self, of: f64) -> bool {
        self.random.random_bool(of)
    }

    fn step(&mut self) {
        let at = self.random.random_range(0..2);
        self.now = self.now + Duration::from_secs(1);
        match self.random.random_range(0..100) {
            0..12 if self.made < ATTEMPTS => self.start(at),
            12..30 => self.answer(at),
            30..45 => self.event(at),
            45..55 => self.open(at),
            55..60 => {
                self.processes[at].told = None;
                self.views(at, View::closed);
            }
            60..70 => self.send_read(at),
            70..82 => self.answer_read(at),
            82..90 => self.release(at),
            // From outside: one key, or all of one lease.
            90..92 if !self.store.keys.is_empty() => {
                let which = self.random.random_range(0..self.store.keys.len());
                let key = self.store.keys[which].key.clone();
                self.store.delete(|kv| kv.key == key);
            }
            92..94 => {
                let lease = self.random.random_range(1..3);
                self.store.delete(|kv| kv.lease == lease);
            }
            // Another client, which uses one key again and again.
            94..97 => match self.store.keys.iter().any(|kv| kv.key == go()) {
                true => self.store.delete(|kv| kv.key == go()),
                false => drop(self.store.acquire(Mode::WRITE, &[go()], 9)),
            },
            97 => self.audit(at),
            98.. => self.downgrade(at),
            _ => {}
        }
        self.check();
    }

    fn start(&mut self, at: usize) {
        self.made += 1;
        let lease = at as i64 + 1;
        let mode = match self.random.random_range(0..6) {
            0 | 1 => Mode::WRITE,
            2 => Mode::Write { downgradable: true },
            3 => Mode::Read,
            _ => Mode::Permits(Permits {
                take: self.random.random_range(1..=PERMITS),
                of: PERMITS,
            }),
        };
        let keys = mode.entries(&queue(), lease, self.made as u64);
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let registered = self.chance(0.7);
        let told = self.processes[at].told;
        let view = registered.then(|| View::new(queue(), mode, keys[0].clone(), told, self.now));
        // Sent only now: events may be told before it is applied, and before it is answered.
        let acquire = self.store.acquire(mode, &keys, lease);
        self.processes[at].attempts.push(Attempt {
            mode,
            keys,
            view,
            created: acquire.at,
            acquire: Some(acquire),
            reads: VecDeque::new(),
            owns: false,
        });
    }

    /// An owner's read entry stays, and is what counts from now on.
    fn downgrade(&mut self, at: usize) {
        let downgradable = Mode::Write { downgradable: true };
        let attempts = &mut self.processes[at].attempts;
        if let Some(owner) = attempts
            .iter_mut()
            .find(|a| a.owns && a.mode == downgradable)
        {
            owner.mode = Mode::Read;
            owner.view = None;
            let written = owner.keys.remove(0);
            self.store.delete(|kv| kv.key == written);
        }
    }

    /// Some attempt's acquire is answered; or the answer was lost, and a repeat finds the entry.
    fn answer(&mut self, at: usize) {
        let (lost, now) = (self.chance(0.2), self.now);
        let here: HashSet<Vec<u8>> = self.store.keys.iter().map(|kv| kv.key.clone()).collect();
        let process = &mut self.processes[at];
        let told = process.told;
        let Some(attempt) = process.attempts.iter_mut().find(|a| a.acquire.is_some()) else {
            return;
        };
        let reply = attempt.acquire.take().expect("it was found by it");
        let new = || View::new(queue(), attempt.mode, attempt.keys[0].clone(), told, now);
        // A repeat finds the entry only while it is there; else it would put it again.
        if lost && here.contains(&attempt.keys[0]) {
            attempt.view.get_or_insert_with(new).found(reply.at, now);
            return;
        }
        if attempt.view.is_none() && reply.listed.lets_in(&queue(), attempt.mode) {
            attempt.owns = true;
            return;
        }
        let view = attempt.view.get_or_insert_with(new);
        attempt.owns = view.put(reply.at, &reply.listed, now) == Step::Own;
    }

    fn views(&mut self, at: usize, mut f: impl FnMut(&mut View)) {
        for attempt in &mut self.processes[at].attempts {
            attempt.view.iter_mut().for_each(&mut f);
        }
    }

    /// The next deletion is told; rarely it is swallowed.
    fn event(&mut self, at: usize) {
        let swallow = self.chance(0.02);
        let (now, told) = (self.now, self.processes[at].told);
        let next = told.and_then(|told| {
            let deletions = &self.store.deletions;
            deletions.iter().find(|(revision, _)| *revision > told)
        });
        let Some((revision, keys)) = next.cloned() else {
            return;
        };
        self.processes[at].told = Some(revision);
        // An own entry that is deleted from outside, and the event of it lost as well, is known at the
        // next read only.
        let own = |a: &Attempt| a.keys.iter().any(|key| keys.contains(key));
        if swallow && !self.processes[at].attempts.iter().any(own) {
            self.swallowed = true;
        } else {
            self.views(at, |view| view.deleted(revision, &keys, now));
        }
    }

    /// The watch is opened, by a member that may lag.
    fn open(&mut self, at: usize) {
        if self.processes[at].told.is_some() {
            return;
        }
        let lag = self.random.random_range(0..3);
        let revision = (self.store.revision - lag).max(0);
        self.processes[at].told = Some(revision);
        self.views(at, |view| view.opened(revision));
    }

    fn send_read(&mut self, at: usize) {
        for attempt in &mut self.processes[at].attempts {
            let read = attempt.view.as_mut().and_then(View::start_read);
            if read.is_some() {
                let reply = self
                    .store
                    .read(attempt.mode, &attempt.keys[0], attempt.created);
                attempt.reads.push_back(reply);
                return;
            }
        }
    }

    fn answer_read(&mut self, at: usize) {
        let now = self.now;
        let mut missed = false;
        for attempt in &mut self.processes[at].attempts {
            if let (Some(reply), Some(view)) = (attempt.reads.pop_front(), &mut attempt.view) {
                missed |= view.read(reply.at, &reply.listed, now);
                break;
            }
        }
        if missed {
            self.processes[at].told = None;
            self.views(at, View::closed);
        }
    }

    fn audit(&mut self, at: usize) {
        let now = self.now;
        self.views(at, |view| view.audit(now));
    }

    /// An owner releases, or a waiter that has been answered gives up.
    fn release(&mut self, at: usize) {
        let cancel = self.chance(0.2);
        let attempts = &mut self.processes[at].attempts;
        let ends = |a: &Attempt| a.acquire.is_none() && (a.owns || cancel);
        if let Some(which) = attempts.iter().position(ends) {
            let ended = attempts.remove(which);
            self.store.delete(|kv| ended.keys.contains(&kv.key));
        }
    }

    /// Takes note of who owns now, and who is gone; checks exclusion.
    fn check(&mut self) {
        let mut owners = Vec::new();
        let mut gone = Vec::new();
        for process in &mut self.processes {
            process.attempts.retain_mut(|attempt| {
                let step = attempt.view.as_ref().map(View::step);
                attempt.owns |= step == Some(Step::Own);
                let is_owner = (attempt.keys[0].clone(), attempt.created);
                assert!(
                    !attempt.owns || self.store.owned.contains(&is_owner),
                    "an owner that had somebody ahead all the time"
                );
                let stays = step != Some(Step::Gone);
                if !stays {
                    gone.append(&mut attempt.keys);
                }
                stays
            });
            for owner in process.attempts.iter().filter(|a| a.owns) {
                owners.extend(self.store.keys.iter().filter(|kv| kv.key == owner.keys[0]));
            }
        }
        owners.sort_by_key(|kv| kv.create_revision);
        let kinds: Vec<_> = owners.iter().map(|kv| kind(&kv.key)).collect();
        for (index, owner) in kinds.iter().enumerate() {
            let ahead = kinds[..index].iter().copied();
            assert!(
                may_own(*owner, ahead),
                "two owners that conflict: {owners:?}"
            );
        }
        // Whoever is gone takes along what is left of it.
        self.store.delete(|kv| gone.contains(&kv.key));
    }

    /// Nothing goes wrong any more.
    fn settle(&mut self) {
        self.store.delete(|kv| kv.key == go());
        for round in 0..200 {
            if self.processes.iter().all(|p| p.attempts.is_empty()) {
                return;
            }
            self.now = self.now + Duration::from_secs(1);
            for at in 0..2 {
                self.open(at);
                self.answer(at);
                for _ in 0..ATTEMPTS {
                    self.send_read(at);
                    self.answer_read(at);
                }
                while {
                    let told = self.processes[at].told;
                    self.event(at);
                    self.processes[at].told != told
                } {}
                // Owners whose entry was deleted from outside are not told if nobody watches it.
                let attempts = &mut self.processes[at].attempts;
                if let Some(which) = attempts.iter().position(|a| a.owns) {
                    let owner = attempts.remove(which);
                    self.store.delete(|kv| owner.keys.contains(&kv.key));
                }
                if self.swallowed && round % 10 == 9 {
                    self.audit(at);
                }
            }
            self.check();
        }
        panic!("somebody waits for ever");
    }
}

/// The key of another client.
fn go() -> Vec<u8> {
    queue().key("694d7c1a").as_bytes().to_vec()
}

#[test]
fn whatever_happens_nobody_is_let_in_twice_and_nobody_waits_for_ever() {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.settle();
        });
        assert!(result.is_ok(), "seed {seed}");
    }
}
