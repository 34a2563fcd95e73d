//! A client's attempts: from the acquire to the end of the undo.

use crate::{
    etcd::Undone,
    mutation::Mutation,
    protocol::Protocol,
    scenario::Mode,
    view::Step,
    world::{Answer, Late, Moved, Moving, Phase, Rev, Slot, Undo, World},
};

impl Protocol {
    fn session_of(&self, attempt: u8) -> usize {
        usize::from(self.scenario.attempts[usize::from(attempt)].session)
    }

    pub(crate) fn start(&self, world: &mut World, a: u8) {
        // Registered before the acquire is sent, where there is a watch.
        for name in self.names_of(a) {
            self.sit(world, a, name, false);
        }
        self.send(world, a);
    }

    fn send(&self, world: &mut World, a: u8) {
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
                self.done(world, a);
            }
            Answer::Busy(_) => self.end(world, a, false),
            Answer::Moved(incarnation) => {
                if !self.mutated(Mutation::IncarnationFromOwnBarrierOnly) {
                    let session = &mut world.sessions[self.session_of(a)];
                    session.incarnation = session.incarnation.max(incarnation);
                }
                self.send(world, a);
            }
        }
    }

    fn found(&self, world: &mut World, a: u8, revision: Rev) {
        let attempt = &mut world.attempts[usize::from(a)];
        attempt.created = revision;
        attempt.modified = revision;
    }

    /// Granted, if the session allows.
    fn own(&self, world: &mut World, a: u8) {
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

    pub(crate) fn is_exclusive(&self, a: u8) -> bool {
        let mode = self.scenario.attempts[usize::from(a)].mode;
        matches!(mode, Mode::Write | Mode::Downgradable)
    }

    /// True: it owns at each name, or its entry is gone.
    pub(crate) fn decided(&self, world: &World, a: u8) -> bool {
        let mut owns = true;
        for name in self.names_of(a) {
            match self.step_at(world, a, name) {
                Step::Gone => return true,
                step => owns &= step == Step::Own,
            }
        }
        owns
    }

    fn step_at(&self, world: &World, a: u8, name: usize) -> Step {
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

    fn ended_gone(&self, world: &mut World, a: u8) {
        if self.mutated(Mutation::NoBarrierWhenGone) {
            world.attempts[usize::from(a)].unknown = false;
        }
        self.end(world, a, false);
    }

    /// The leases that a holder's belief rests on, by session.
    fn counted(&self, world: &World, a: u8) -> impl Iterator<Item = usize> + use<> {
        let plan = &self.scenario.attempts[usize::from(a)];
        let attempt = &world.attempts[usize::from(a)];
        let now = match attempt.moved.checked_sub(1) {
            None => plan.session,
            Some(last) => plan.moves[usize::from(last)],
        };
        let to = match attempt.moving {
            Moving::No => now,
            Moving::Sent | Moving::Answered(_) => plan.moves[usize::from(attempt.moved)],
        };
        let counted = if self.mutated(Mutation::MoveCountsOldLease) {
            [now, now]
        } else if self.mutated(Mutation::MoveCountsNewLease) {
            [to, to]
        } else {
            [now, to]
        };
        counted.into_iter().map(usize::from)
    }

    /// A lease that it counts on is past its deadline, or lost.
    fn is_lost(&self, world: &World, a: u8) -> bool {
        let no_clock = self.mutated(Mutation::NoDeadlineCheck);
        self.counted(world, a).any(|session| {
            let session = world.sessions[session];
            session.lost || (session.past && !no_clock)
        })
    }

    /// The holder believes that it holds.
    pub(crate) fn believes(&self, world: &World, a: u8) -> bool {
        let attempt = &world.attempts[usize::from(a)];
        attempt.phase == Phase::Owner
            && !self.is_lost(world, a)
            && !attempt.views.iter().flatten().any(|view| view.gone)
    }

    /// It learns that its session is lost, if it has not.
    pub(crate) fn must_end(&self, world: &World, a: u8) -> bool {
        let attempt = &world.attempts[usize::from(a)];
        match attempt.phase {
            Phase::Sent(_) | Phase::Answered(_) | Phase::Queued => {
                let session = world.sessions[self.session_of(a)];
                session.past || session.lost
            }
            Phase::Owner => self.is_lost(world, a),
            Phase::Idle | Phase::Undo(_) | Phase::Done => false,
        }
    }

    pub(crate) fn lose(&self, world: &mut World, a: u8) {
        let attempt = &world.attempts[usize::from(a)];
        let stayed = attempt.moved == 0 && attempt.moving == Moving::No;
        if stayed || self.mutated(Mutation::MovedIsForgotten) {
            // Everything of it goes with the lease.
            self.done(world, a);
        } else {
            self.stop_moving(world, a);
            self.end(world, a, false);
        }
    }

    pub(crate) fn release(&self, world: &mut World, a: u8) {
        self.stop_moving(world, a);
        self.end(world, a, true);
    }

    /// The call is dropped; its request may be under way.
    pub(crate) fn cancel(&self, world: &mut World, a: u8) {
        let attempt = &mut world.attempts[usize::from(a)];
        let in_flight = match attempt.phase {
            Phase::Sent(incarnation) => {
                self.send_late(
                    world,
                    Late::Acquire {
                        attempt: a,
                        incarnation,
                    },
                );
                true
            }
            Phase::Answered(_) => true,
            _ => false,
        };
        if in_flight {
            let unknown = !self.mutated(Mutation::ReleaseBeforeKnown);
            let attempt = &mut world.attempts[usize::from(a)];
            attempt.unknown |= unknown;
            if !unknown && !attempt.unknown {
                self.leave(world, a);
                world.attempts[usize::from(a)].phase = Phase::Undo(Undo {
                    barrier: false,
                    sweep: false,
                    confirms: false,
                });
                return;
            }
        }
        self.end(world, a, false);
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

    /// A definite error: it settles this copy alone.
    pub(crate) fn refuse(&self, world: &mut World, a: u8) {
        if self.mutated(Mutation::RefusalSettles) {
            world.attempts[usize::from(a)].unknown = false;
        }
        self.end(world, a, false);
    }

    /// It ends without its session being lost: what may be on etcd is undone.
    fn end(&self, world: &mut World, a: u8, confirms: bool) {
        let attempt = &world.attempts[usize::from(a)];
        let barrier = attempt.unknown && !self.mutated(Mutation::NoBarrier);
        if !barrier && !attempt.unknown && attempt.created == 0 {
            self.done(world, a);
            return;
        }
        self.leave(world, a);
        world.attempts[usize::from(a)].phase = Phase::Undo(Undo {
            barrier,
            sweep: false,
            confirms,
        });
    }

    fn leave(&self, world: &mut World, a: u8) {
        world.attempts[usize::from(a)].views.fill(None);
    }

    /// Nothing of it matters any more.
    fn done(&self, world: &mut World, a: u8) {
        self.leave(world, a);
        for (key, slot) in world.store.entries.iter_mut().enumerate() {
            if self.own[usize::from(a)] & (1 << key) != 0 && slot.created == 0 {
                slot.first = 0;
            }
        }
        let attempt = &mut world.attempts[usize::from(a)];
        attempt.phase = Phase::Done;
        attempt.created = 0;
        attempt.modified = 0;
        attempt.unknown = false;
        attempt.moving = Moving::No;
        attempt.moved = 0;
        attempt.wrote = false;
        attempt.tampered = false;
    }

    pub(crate) fn undone(&self, world: &mut World, a: u8) {
        let index = usize::from(a);
        let Phase::Undo(undo) = world.attempts[index].phase else {
            return;
        };
        let moved = world.attempts[index].moved > 0;
        let was = self.undo(world, a, undo.barrier && !undo.sweep);
        if undo.sweep && !self.mutated(Mutation::NoSpaceSettles) {
            world.attempts[index].phase = Phase::Undo(Undo {
                sweep: false,
                confirms: false,
                ..undo
            });
            return;
        }
        if was == Undone::LeaseNotFound && moved && !self.mutated(Mutation::MovedBarrierSettles) {
            // No late acquire finds a lease; but the entry may hang on another one.
            world.attempts[index].phase = Phase::Undo(Undo {
                barrier: false,
                ..undo
            });
            return;
        }
        if undo.barrier && self.mutated(Mutation::IncarnationFromOwnBarrierOnly) {
            let session = self.session_of(a);
            world.sessions[session].incarnation = world.store.leases[session].key;
        }
        self.done(world, a);
    }

    /// What a release would be told, if it were applied and answered now.
    pub(crate) fn confirmation(&self, before: &World, a: u8) -> Option<bool> {
        let attempt = &before.attempts[usize::from(a)];
        let Phase::Undo(undo) = attempt.phase else {
            return None;
        };
        let slot = self.first_slot(before, a);
        let confirmed = match self.mutated(Mutation::ConfirmByCount) {
            true => slot.created > 0,
            false => slot.created == attempt.created,
        };
        (undo.confirms && confirmed).then_some(slot.created == attempt.created)
    }

    pub(crate) fn first_slot(&self, world: &World, a: u8) -> Slot {
        let downgraded = world.attempts[usize::from(a)].downgraded;
        world.store.entries[usize::from(self.first_entry(a, downgraded))]
    }

    pub(crate) fn first_entry(&self, a: u8, downgraded: bool) -> u8 {
        self.entries(a, downgraded).next().unwrap_or(0)
    }

    pub(crate) fn undo_late(&self, world: &mut World, a: u8) {
        if let Phase::Undo(undo) = world.attempts[usize::from(a)].phase {
            let barrier = undo.barrier && !undo.sweep;
            self.send_late(
                world,
                Late::Undo {
                    attempt: a,
                    barrier,
                },
            );
        }
    }

    /// What a repeat finds says nothing about the whole time.
    pub(crate) fn undo_answer_lost(&self, world: &mut World, a: u8) {
        if let Phase::Undo(undo) = world.attempts[usize::from(a)].phase {
            self.undo(world, a, undo.barrier && !undo.sweep);
        }
    }

    pub(crate) fn no_space(&self, world: &mut World, a: u8) {
        if let Phase::Undo(undo) = &mut world.attempts[usize::from(a)].phase {
            undo.sweep = true;
        }
    }

    pub(crate) fn adopt(&self, world: &mut World, session: u8) {
        let index = usize::from(session);
        world.sessions[index].incarnation = world.store.leases[index].key;
    }

    pub(crate) fn send_late(&self, world: &mut World, copy: Late) {
        world.late.push(copy);
        world.late.sort_unstable();
    }

    pub(crate) fn late(&self, world: &mut World, index: usize) {
        match world.late.remove(index) {
            Late::Acquire {
                attempt,
                incarnation,
            } => {
                let _ = self.acquire(world, attempt, incarnation);
            }
            Late::Undo { attempt, barrier } => {
                let _ = self.undo(world, attempt, barrier);
            }
            Late::Downgrade { attempt } => {
                let both = self.own[usize::from(attempt)];
                let reads = 1 << self.first_entry(attempt, true);
                self.delete(world, both & !reads);
            }
            Late::Write { attempt, token } => self.write(world, attempt, token),
            Late::Move { attempt, guard, to } => {
                let _ = self.move_entry(world, attempt, guard, to);
            }
        }
    }

    /// A write under the lock: it compares the entry's create revision.
    fn write(&self, world: &mut World, a: u8, token: Rev) {
        let slot = self.first_slot(world, a);
        if slot.created == token || self.mutated(Mutation::UnguardedWrite) {
            world.written = world.written.max(token);
        }
    }

    pub(crate) fn apply_move(&self, world: &mut World, a: u8) {
        let (guard, to) = self.next_move(world, a);
        let answer = self.move_entry(world, a, guard, to);
        world.attempts[usize::from(a)].moving = Moving::Answered(answer);
    }

    fn next_move(&self, world: &World, a: u8) -> (Rev, u8) {
        let attempt = &world.attempts[usize::from(a)];
        let to = self.scenario.attempts[usize::from(a)].moves[usize::from(attempt.moved)];
        (attempt.modified, to)
    }

    pub(crate) fn move_answer(&self, world: &mut World, a: u8) {
        let index = usize::from(a);
        let Moving::Answered(answer) = world.attempts[index].moving else {
            return;
        };
        world.attempts[index].moving = Moving::No;
        match answer {
            Moved::There(revision) => {
                let creation = self.mutated(Mutation::MoveComparesCreation);
                let attempt = &mut world.attempts[index];
                attempt.moved += 1;
                if !creation {
                    attempt.modified = revision;
                }
            }
            Moved::Gone => self.ended_gone(world, a),
            Moved::Refused => {}
        }
    }

    pub(crate) fn move_timeout(&self, world: &mut World, a: u8) {
        if world.attempts[usize::from(a)].moving == Moving::Sent {
            self.move_copy_stays(world, a);
        }
        world.attempts[usize::from(a)].moving = Moving::Sent;
    }

    /// The holder goes; a move that is under way may yet be applied.
    fn stop_moving(&self, world: &mut World, a: u8) {
        if world.attempts[usize::from(a)].moving == Moving::Sent {
            self.move_copy_stays(world, a);
        }
        let attempt = &mut world.attempts[usize::from(a)];
        if attempt.moving != Moving::No {
            // Where it hangs is not known: as one that was moved.
            attempt.moved += 1;
            attempt.moving = Moving::No;
        }
    }

    fn move_copy_stays(&self, world: &mut World, a: u8) {
        let (guard, to) = self.next_move(world, a);
        self.send_late(
            world,
            Late::Move {
                attempt: a,
                guard,
                to,
            },
        );
    }

    /// Somebody outside takes what hangs on a session.
    pub(crate) fn tamper_session(&self, world: &mut World, session: u8) {
        for a in 0..world.attempts.len() as u8 {
            let hangs = self
                .entries(a, false)
                .chain(self.entries(a, true))
                .any(|key| {
                    let slot = world.store.entries[usize::from(key)];
                    slot.created > 0 && slot.lease == session
                });
            let index = usize::from(a);
            let of_it = usize::from(session) == self.session_of(a);
            let open = !matches!(world.attempts[index].phase, Phase::Idle | Phase::Done);
            world.attempts[index].tampered |= open && (hangs || of_it);
        }
    }
}
