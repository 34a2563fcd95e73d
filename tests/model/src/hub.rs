//! The hub of a client: one watch for each name that is contended, and the reads of those who wait.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    view::Me,
    world::{Phase, Signal, View, World},
};

impl Protocol {
    pub(crate) fn me(&self, world: &World, attempt: u8, name: usize) -> Me {
        let state = &world.attempts[usize::from(attempt)];
        let key = self.entry(attempt, name, state.downgraded);
        Me {
            key,
            letter: self.keys[usize::from(key)].letter,
            created: state.created,
        }
    }

    /// A place at the name. `opens`: watch it if it is not.
    pub(crate) fn sit(&self, world: &mut World, attempt: u8, name: usize, opens: bool) {
        let watch = &mut world.watches[self.watch(attempt, name)];
        watch.wanted |= opens;
        let view = &mut world.attempts[usize::from(attempt)].views[name];
        if watch.wanted && view.is_none() {
            *view = Some(View::new(watch.told));
        }
    }

    /// Everybody who has a place at the watch.
    fn seated(
        &self,
        world: &mut World,
        watch: usize,
        mut f: impl FnMut(&mut View, Me, &mut Phase),
    ) {
        let name = watch % self.scenario.names();
        for a in 0..world.attempts.len() as u8 {
            if self.own[usize::from(a)] & self.named[name] == 0 || self.watch(a, name) != watch {
                continue;
            }
            let me = self.me(world, a, name);
            let attempt = &mut world.attempts[usize::from(a)];
            if let Some(view) = &mut attempt.views[name] {
                f(view, me, &mut attempt.phase);
            }
        }
    }

    pub(crate) fn hear(&self, world: &mut World, watch: usize) {
        let signal = world.watches[watch].signals.remove(0);
        match signal {
            Signal::Opened(revision) => {
                world.watches[watch].told = revision;
                self.seated(world, watch, |view, _, _| view.opened(self, revision));
            }
            Signal::Deleted(revision, keys) => {
                world.watches[watch].told = revision;
                self.seated(world, watch, |view, me, _| {
                    view.deleted(self, me, revision, keys);
                });
            }
        }
    }

    /// etcd forgets to tell of a deletion.
    pub(crate) fn swallow(&self, world: &mut World, watch: usize) {
        if let Signal::Deleted(revision, _) = world.watches[watch].signals.remove(0) {
            world.watches[watch].told = revision;
            self.seated(world, watch, |view, _, _| view.owed = true);
        }
    }

    pub(crate) fn break_watch(&self, world: &mut World, watch: usize) {
        let state = &mut world.watches[watch];
        state.exists = false;
        state.told = 0;
        state.signals.clear();
        self.seated(world, watch, |view, _, _| {
            view.closed();
            view.owed = false;
        });
    }

    pub(crate) fn open_lagging(&self, world: &mut World, watch: usize) {
        let Some((before, at, keys)) = world.store.last else {
            return;
        };
        let here = keys & self.named[watch % self.scenario.names()];
        let watch = &mut world.watches[watch];
        watch.exists = true;
        watch.signals = vec![Signal::Opened(before)];
        if here != 0 {
            watch.signals.push(Signal::Deleted(at, here));
        }
    }

    /// The read is linearizable, and sent after the watch was opened. Nothing that matters happens
    /// between its sending and its being applied.
    pub(crate) fn send_read(&self, world: &mut World, attempt: u8, name: usize) {
        let me = self.me(world, attempt, name);
        let read = self.read(world, me.key, me.created);
        if let Some(view) = &mut world.attempts[usize::from(attempt)].views[name] {
            view.read = Some(read);
        }
    }

    pub(crate) fn read_answer(&self, world: &mut World, attempt: u8, name: usize) {
        let me = self.me(world, attempt, name);
        let Some(view) = &mut world.attempts[usize::from(attempt)].views[name] else {
            return;
        };
        let Some(read) = view.read else { return };
        if view.answered(self, me, read) {
            self.break_watch(world, self.watch(attempt, name));
        }
    }

    /// Nothing was heard for long: a safety read.
    pub(crate) fn audit(&self, world: &mut World, attempt: u8, name: usize) {
        let exists = self.exists(world) & self.named[name];
        if let Some(view) = &mut world.attempts[usize::from(attempt)].views[name] {
            view.owed = false;
            view.audit = true;
            if self.mutated(Mutation::AuditByCount) {
                let ahead = view.known.map_or(0, |known| known.ahead);
                view.audit = exists.count_ones() < ahead.count_ones() + 1;
            }
        }
    }
}
