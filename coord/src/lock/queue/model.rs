//! The rules against a model of etcd: random schedules of acquires, lost answers, reads, releases,
//! deletions from outside, revoked leases, watches that lag, break and lose an event.
//!
//! Two things must hold. *Exclusion*: whoever is said to own was the first in the queue at some
//! moment, and of those who were said to own at most one entry exists. *Progress*: once nothing goes
//! wrong any more, everybody gets the lock or learns that the entry is gone.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

const SEEDS: u64 = 3_000;
const STEPS: usize = 80;
/// Small, so that lists are cut.
const LIMIT: usize = 2;
const ATTEMPTS: usize = 6;

/// The store, with its history as far as it matters.
#[derive(Default)]
struct Store {
    revision: i64,
    keys: Vec<KeyValue>,
    deletions: Vec<(i64, Vec<Vec<u8>>)>,
    /// Who has ever been the first, with its create revision.
    firsts: HashSet<(Vec<u8>, i64)>,
}

#[derive(Clone)]
struct Reply {
    at: i64,
    kvs: Vec<KeyValue>,
    more: bool,
}

impl Store {
    /// Lists, then puts: as the acquire's transaction.
    fn acquire(&mut self, key: &[u8], lease: i64) -> Reply {
        let mut reply = self.list(i64::MAX, LIMIT);
        self.revision += 1;
        self.keys.push(KeyValue {
            key: key.to_vec(),
            create_revision: self.revision,
            lease,
            ..KeyValue::default()
        });
        self.note();
        reply.at = self.revision;
        reply
    }

    fn list(&self, max_create: i64, limit: usize) -> Reply {
        let all: Vec<_> = self
            .keys
            .iter()
            .rev()
            .filter(|kv| kv.create_revision <= max_create)
            .cloned()
            .collect();
        Reply {
            at: self.revision,
            more: all.len() > limit,
            kvs: all.into_iter().take(limit).collect(),
        }
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
        if let Some(first) = self.keys.first() {
            self.firsts
                .insert((first.key.clone(), first.create_revision));
        }
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
    key: Vec<u8>,
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
            94..97 => match self.store.keys.iter().any(|kv| kv.key == b"go") {
                true => self.store.delete(|kv| kv.key == b"go"),
                false => drop(self.store.acquire(b"go", 9)),
            },
            97 => self.audit(at),
            _ => {}
        }
        self.check();
    }

    fn start(&mut self, at: usize) {
        self.made += 1;
        let key = format!("x{}", self.made).into_bytes();
        let registered = self.chance(0.7);
        let view = registered.then(|| View::new(key.clone(), self.processes[at].told, self.now));
        // Sent only now: events may be told before it is applied, and before it is answered.
        let lease = at as i64 + 1;
        let acquire = self.store.acquire(&key, lease);
        self.processes[at].attempts.push(Attempt {
            key,
            view,
            created: acquire.at,
            acquire: Some(acquire),
            reads: VecDeque::new(),
            owns: false,
        });
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
        let new = || View::new(attempt.key.clone(), told, now);
        // A repeat finds the entry only while it is there; else it would put it again.
        if lost && here.contains(&attempt.key) {
            attempt.view.get_or_insert_with(new).found(reply.at, now);
            return;
        }
        if attempt.view.is_none() && reply.kvs.is_empty() {
            attempt.owns = true;
            return;
        }
        let view = attempt.view.get_or_insert_with(new);
        attempt.owns = view.put(reply.at, &reply.kvs, reply.more, now) == Step::Own;
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
        let own = |a: &Attempt| keys.contains(&a.key);
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
        let queue = super::tests::queue();
        for attempt in &mut self.processes[at].attempts {
            let range = attempt.view.as_mut().and_then(|v| v.start_read(&queue));
            if let Some(range) = range {
                let reply = self.store.list(range.max_create_revision, LIMIT + 1);
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
                missed |= view.read(reply.at, &reply.kvs, reply.more, now);
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
            self.store.delete(|kv| kv.key == ended.key);
        }
    }

    /// Takes note of who owns now, and who is gone; checks exclusion.
    fn check(&mut self) {
        let mut owners = 0;
        for process in &mut self.processes {
            process.attempts.retain_mut(|attempt| {
                let step = attempt.view.as_ref().map(View::step);
                attempt.owns |= step == Some(Step::Own);
                let is_first = (attempt.key.clone(), attempt.created);
                assert!(
                    !attempt.owns || self.store.firsts.contains(&is_first),
                    "an owner that was never the first"
                );
                step != Some(Step::Gone)
            });
            for owner in process.attempts.iter().filter(|a| a.owns) {
                owners += usize::from(self.store.keys.iter().any(|kv| kv.key == owner.key));
            }
        }
        assert!(owners <= 1, "two owners whose entries exist");
    }

    /// Nothing goes wrong any more.
    fn settle(&mut self) {
        self.store.delete(|kv| kv.key == b"go");
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
                    self.store.delete(|kv| kv.key == owner.key);
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
