//! etcd: one store, its leases, and the watches' queues. All members agree but for a watch that is
//! opened at one that lags.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    scenario::Letter,
    world::{Answer, Keys, Moved, Read, Rev, Signal, Slot, World},
};

/// How an undo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Applied; what it deleted.
    Deleted { count: u32, created: Rev },
    /// The barrier's put found no lease, so nothing of the transaction was done.
    LeaseNotFound,
}

impl Protocol {
    pub(crate) fn exists(&self, world: &World) -> Keys {
        let mut keys = 0;
        for (key, slot) in world.store.entries.iter().enumerate() {
            keys |= Keys::from(slot.created > 0) << key;
        }
        keys
    }

    /// Those of `keys` that were created before `revision`.
    pub(crate) fn before(&self, world: &World, keys: Keys, revision: Rev) -> Keys {
        let mut before = 0;
        for (key, slot) in world.store.entries.iter().enumerate() {
            let is = slot.created > 0 && slot.created < revision;
            before |= (Keys::from(is) << key) & keys;
        }
        before
    }

    /// True if an entry of this letter may own with `ahead` of it.
    pub(crate) fn admits(&self, letter: Letter, ahead: Keys) -> bool {
        let Letter::S { take, of } = letter else {
            return ahead == 0;
        };
        let mut taken = take;
        for (key, info) in self.keys.iter().enumerate() {
            if ahead & (1 << key) != 0 {
                match info.letter {
                    Letter::S { take, .. } => taken += take,
                    Letter::X | Letter::R => return false,
                }
            }
        }
        taken <= of
    }

    fn put(&self, world: &mut World, key: u8, revision: Rev, lease: u8) {
        let slot = &mut world.store.entries[usize::from(key)];
        if slot.created == 0 {
            slot.created = revision;
        }
        slot.modified = revision;
        slot.lease = lease;
    }

    /// Deletes what is there of `keys`, in one revision, and tells the watches.
    pub(crate) fn delete(&self, world: &mut World, keys: Keys) -> u32 {
        let gone = keys & self.exists(world);
        if gone != 0 {
            world.store.revision += 1;
            self.gone(world, gone);
        }
        gone.count_ones()
    }

    fn gone(&self, world: &mut World, gone: Keys) {
        let revision = world.store.revision;
        for (key, slot) in world.store.entries.iter_mut().enumerate() {
            if gone & (1 << key) != 0 {
                *slot = Slot {
                    first: slot.first,
                    ..Slot::default()
                };
            }
        }
        if self.scenario.faults.lag > 0 {
            world.store.last = Some((revision - 1, revision, gone));
        }
        let names = self.scenario.names();
        for (index, watch) in world.watches.iter_mut().enumerate() {
            let here = gone & self.named[index % names];
            if watch.exists && here != 0 {
                watch.signals.push(Signal::Deleted(revision, here));
            }
        }
        self.note_first(world);
    }

    /// Notes which entries are admissible now.
    fn note_first(&self, world: &mut World) {
        for key in 0..self.keys.len() {
            let slot = world.store.entries[key];
            if slot.created > slot.first {
                let ahead = self.before(world, self.relevant[key], slot.created);
                if self.admits(self.keys[key].letter, ahead) {
                    world.store.entries[key].first = slot.created;
                }
            }
        }
    }

    /// The nearest of those before `revision` that matter to the entry `own`.
    fn list(&self, world: &World, own: u8, revision: Rev) -> (Keys, bool) {
        let own = usize::from(own);
        let limit = u32::from(self.scenario.limit);
        let cut = |keys: Keys| {
            let mut rest = keys;
            let mut nearest = 0;
            for _ in 0..limit {
                let newest = (0..self.keys.len())
                    .filter(|key| rest & (1 << key) != 0)
                    .max_by_key(|key| world.store.entries[*key].created);
                let Some(newest) = newest else { break };
                rest &= !(1 << newest);
                nearest |= 1 << newest;
            }
            (nearest, rest != 0)
        };
        let relevant = self.relevant[own];
        if self.keys[own].letter != Letter::R {
            return cut(self.before(world, relevant, revision));
        }
        if self.mutated(Mutation::ReaderListsReaders) {
            let all = self.named[usize::from(self.keys[own].name)] & !self.of_holder(own);
            let (nearest, _) = cut(self.before(world, all, revision));
            return (nearest & relevant, false);
        }
        // Two ranges, without the readers between them.
        let (low, low_more) = cut(self.before(world, relevant & self.go_key(), revision));
        let (high, high_more) = cut(self.before(world, relevant & !self.go_key(), revision));
        (low | high, low_more || high_more)
    }

    /// A copy of the acquire reaches etcd. `None`: the lease was not found.
    pub(crate) fn acquire(&self, world: &mut World, attempt: u8, expected: Rev) -> Option<Answer> {
        let plan = &self.scenario.attempts[usize::from(attempt)];
        let lease = world.store.leases[usize::from(plan.session)];
        let exists = self.exists(world);
        let own = self.own[usize::from(attempt)];
        let entries = self.entries(attempt, false);
        let others = entries.clone().fold(0, |others, key| {
            others | (self.relevant[usize::from(key)] & exists)
        });
        let compared = match self.mutated(Mutation::ComparesOneOfTwo) {
            true => 1 << self.first_entry(attempt, false),
            false => own,
        };
        let absent = compared & exists == 0;
        let busy = plan.tries && others != 0;
        if absent && lease.key == expected && !busy {
            if !lease.alive {
                return None;
            }
            let revision = world.store.revision + 1;
            let mut ahead = [(0, false); 2];
            for key in entries {
                let name = usize::from(self.keys[usize::from(key)].name);
                ahead[name] = self.list(world, key, revision);
            }
            world.store.revision = revision;
            for key in 0..self.keys.len() {
                if own & (1 << key) != 0 {
                    self.put(world, key as u8, revision, plan.session);
                }
            }
            self.note_first(world);
            return Some(Answer::Put(revision, ahead));
        }
        let there = entries
            .map(|key| world.store.entries[usize::from(key)].created)
            .find(|created| *created > 0);
        Some(match there {
            Some(_) if self.mutated(Mutation::BusyFirst) && busy => Answer::Busy(false),
            Some(created) => Answer::There(created),
            None if lease.key == 0 => Answer::NoSession,
            None if busy => Answer::Busy(true),
            None if self.mutated(Mutation::BusyFirst) && plan.tries => Answer::Busy(false),
            None => Answer::Moved(lease.key),
        })
    }

    /// A queue read for an attempt: its own entry, and who is ahead.
    pub(crate) fn read(&self, world: &World, own: u8, created: Rev) -> Read {
        let up_to = match self.mutated(Mutation::ListsLaterEntries) {
            true => Rev::MAX,
            false => created,
        };
        let (ahead, more) = self.list(world, own, up_to);
        Read {
            at: world.store.revision,
            own: world.store.entries[usize::from(own)].created,
            ahead,
            more,
        }
    }

    /// A copy of an undo reaches etcd.
    pub(crate) fn undo(&self, world: &mut World, attempt: u8, barrier: bool) -> Undone {
        let index = usize::from(attempt);
        let session = usize::from(self.scenario.attempts[index].session);
        let mut keys = self.own[index];
        let state = &world.attempts[index];
        if state.downgraded {
            // The other one has an undo of its own since.
            keys = 1 << self.first_entry(attempt, true);
        }
        let first = usize::from(self.first_entry(attempt, false));
        let exists = keys & self.exists(world);
        let created = world.store.entries[first].created;
        if barrier {
            let attached = !self.mutated(Mutation::BarrierWithoutLease);
            let lease = &mut world.store.leases[session];
            if attached && !lease.alive {
                return Undone::LeaseNotFound;
            }
            world.store.revision += 1;
            lease.key = world.store.revision;
            lease.attached = attached;
            if self.mutated(Mutation::BarrierKeepsEntry) {
                return Undone::Deleted { count: 0, created };
            }
            if exists != 0 {
                self.gone(world, exists);
            }
        } else {
            self.delete(world, keys);
        }
        Undone::Deleted {
            count: exists.count_ones(),
            created,
        }
    }

    /// The write entry of who downgrades goes.
    pub(crate) fn delete_part(&self, world: &mut World, attempt: u8) {
        let reads = 1 << self.first_entry(attempt, true);
        self.delete(world, self.own[usize::from(attempt)] & !reads);
    }

    /// A copy of a move reaches etcd. It compares `guard`.
    pub(crate) fn move_entry(&self, world: &mut World, attempt: u8, guard: Rev, to: u8) -> Moved {
        let key = self.first_entry(attempt, false);
        let slot = world.store.entries[usize::from(key)];
        let compared = match self.mutated(Mutation::MoveComparesCreation) {
            true => slot.created,
            false => slot.modified,
        };
        let token = match self.mutated(Mutation::MoveTakesAnyEntry) {
            true => slot.created,
            false => world.attempts[usize::from(attempt)].created,
        };
        if slot.created > 0 && compared == guard {
            if !world.store.leases[usize::from(to)].alive {
                return Moved::Refused;
            }
            world.store.revision += 1;
            let revision = world.store.revision;
            self.put(world, key, revision, to);
            Moved::There(revision)
        } else if slot.created == 0 || slot.created != token {
            Moved::Gone
        } else if slot.lease == to {
            Moved::There(slot.modified)
        } else {
            Moved::Refused
        }
    }

    /// The lease goes, with everything on it, in one revision.
    pub(crate) fn end_lease(&self, world: &mut World, session: u8) {
        let lease = &mut world.store.leases[usize::from(session)];
        lease.alive = false;
        if lease.attached {
            lease.key = 0;
        }
        let mut keys = 0;
        for (key, slot) in world.store.entries.iter().enumerate() {
            keys |= Keys::from(slot.created > 0 && slot.lease == session) << key;
        }
        world.store.revision += 1;
        if keys != 0 {
            self.gone(world, keys);
        }
    }

    /// Go's transaction: put if absent.
    pub(crate) fn go_put(&self, world: &mut World) {
        world.store.revision += 1;
        let revision = world.store.revision;
        self.put(world, self.go_index(), revision, u8::MAX);
        self.note_first(world);
    }
}
