//! An attempt: from the acquire to the grant.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    view::Step,
    world::{Answer, Late, Phase, Rev, World},
};

impl Protocol {
    pub(crate) fn session_of(&self, attempt: u8) -> usize {
        usize::from(self.scenario.attempts[usize::from(attempt)].session)
    }

    pub(crate) fn start(&self, world: &mut World, a: u8) {
        if let Some(of) = self.scenario.attempts[usize::from(a)].reuses {
            world.attempts[usize::from(of)].free = false;
        }
        // Registered before the acquire is sent, where there is a watch.
        for name in self.names_of(a) {
            self.sit(world, a, name, false);
        }
        self.send(world, a);
    }

    pub(crate) fn send(&self, world: &mut World, a: u8) {
        let incarnation = world.sessions[self.session_of(a)].incarnation;
        world.attempts[usize::from(a)].phase = Phase::Sent(incarnation);
    }

    pub(crate) fn apply(&self, world: &mut World, a: u8) {
        let Phase::Sent(incarnation) = world.attempts[usize::from(a)].phase else {
            return;
        };
        // "Lease not found" does not happen: the session key is gone with the lease.
        if let Some(answer) = self.acquire(world, a, incarnation) {
            world.attempts[usize::from(a)].phase = Phase::Answered(answer);
        }
    }

    pub(crate) fn answer(&self, world: &mut World, a: u8) {
        let index = usize::from(a);
        let Phase::Answered(answer) = world.attempts[index].phase else {
            return;
        };
        let tries = self.scenario.attempts[index].tries;
        match answer {
            Answer::Put(revision, ahead) => {
                self.found(world, a, revision);
                let alone = self.names_of(a).all(|name| ahead[name] == (0, false));
                for name in self.names_of(a) {
                    self.sit(world, a, name, !alone);
                    let me = self.me(world, a, name);
                    if let Some(view) = &mut world.attempts[index].views[name] {
                        view.put(self, me, ahead[name].0, ahead[name].1);
                    }
                }
                let gone = world.attempts[index].views.iter().flatten().any(|v| v.gone);
                if gone {
                    self.end(world, a, false);
                } else if alone {
                    // The first one in the very transaction that put it.
                    self.own(world, a);
                } else {
                    world.attempts[index].phase = Phase::Queued;
                }
            }
            Answer::There(revision) => {
                self.found(world, a, revision);
                if tries {
                    self.own(world, a);
                    return;
                }
                for name in self.names_of(a) {
                    self.sit(world, a, name, true);
                    let me = self.me(world, a, name);
                    if let Some(view) = &mut world.attempts[index].views[name] {
                        view.found(me);
                    }
                }
                world.attempts[index].phase = Phase::Queued;
            }
            Answer::NoSession => {
                world.sessions[self.session_of(a)].lost = true;
                self.done(world, a, false);
            }
            Answer::Busy(_) => {
                if self.mutated(Mutation::NoBarrierWhenBusy) {
                    world.attempts[index].unknown = false;
                }
                self.end(world, a, false);
            }
            Answer::Moved(incarnation) => {
                if !self.mutated(Mutation::IncarnationFromOwnBarrierOnly) {
                    let session = &mut world.sessions[self.session_of(a)];
                    session.incarnation = session.incarnation.max(incarnation);
                }
                self.send(world, a);
            }
        }
    }

    pub(crate) fn found(&self, world: &mut World, a: u8, revision: Rev) {
        let attempt = &mut world.attempts[usize::from(a)];
        attempt.created = revision;
        attempt.modified = revision;
    }

    pub(crate) fn timeout(&self, world: &mut World, a: u8) {
        let attempt = &mut world.attempts[usize::from(a)];
        attempt.unknown = true;
        if let Phase::Sent(incarnation) = attempt.phase {
            self.send_late(
                world,
                Late::Acquire {
                    attempt: a,
                    incarnation,
                },
            );
        }
        self.send(world, a);
    }

    pub(crate) fn adopt(&self, world: &mut World, session: u8) {
        let index = usize::from(session);
        world.sessions[index].incarnation = world.store.leases[index].key;
    }

    /// True: it owns at each name, or its entry is gone.
    pub(crate) fn decided(&self, world: &World, a: u8) -> bool {
        let mut owned = 0;
        for name in self.names_of(a) {
            match self.step_at(world, a, name) {
                Step::Gone => return true,
                Step::Own => owned += 1,
                Step::Wait | Step::Read => {}
            }
        }
        let all = match self.mutated(Mutation::OneNameIsEnough) {
            true => 1,
            false => self.names_of(a).count(),
        };
        owned >= all
    }

    pub(crate) fn step_at(&self, world: &World, a: u8, name: usize) -> Step {
        match &world.attempts[usize::from(a)].views[name] {
            Some(view) => view.step(self, self.me(world, a, name)),
            None => Step::Wait,
        }
    }

    pub(crate) fn decide(&self, world: &mut World, a: u8) {
        let gone = self
            .names_of(a)
            .any(|name| self.step_at(world, a, name) == Step::Gone);
        if gone {
            self.ended_gone(world, a);
        } else {
            self.own(world, a);
        }
    }

    /// Granted, if the session allows.
    pub(crate) fn own(&self, world: &mut World, a: u8) {
        let session = world.sessions[self.session_of(a)];
        let late = session.past && !self.mutated(Mutation::NoDeadlineCheck);
        if late || session.lost {
            self.lose(world, a);
            return;
        }
        let attempt = &mut world.attempts[usize::from(a)];
        let waited = attempt.phase == Phase::Queued;
        attempt.phase = Phase::Owner;
        if self.is_exclusive(a) && !attempt.tampered {
            for name in self.names_of(a) {
                world.declared[name] = world.declared[name].max(attempt.created);
            }
        }
        if !waited {
            // Nothing of its queue can concern it any more.
            world.attempts[usize::from(a)].views.fill(None);
        }
    }
}
