//! The end of an attempt: what may be of it on etcd is taken away.
//!
//! An attempt whose every copy was answered is undone by a plain delete; one with a copy whose fate
//! is not known by the barrier, which rewrites the session key that each copy compares.

use crate::{
    etcd::Undone,
    mutation::Mutation,
    protocol::Protocol,
    world::{Late, Moving, Phase, Undo, World},
};

impl Protocol {
    pub(crate) fn lose(&self, world: &mut World, a: u8) {
        let attempt = &world.attempts[usize::from(a)];
        let stayed = attempt.moved == 0 && attempt.moving == Moving::No;
        if stayed || self.mutated(Mutation::MovedIsForgotten) {
            // Everything of it goes with the lease.
            self.done(world, a, false);
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

    /// A definite error: it settles this copy alone.
    pub(crate) fn refuse(&self, world: &mut World, a: u8) {
        if self.mutated(Mutation::RefusalSettles) {
            world.attempts[usize::from(a)].unknown = false;
        }
        self.end(world, a, false);
    }

    pub(crate) fn ended_gone(&self, world: &mut World, a: u8) {
        if self.mutated(Mutation::NoBarrierWhenGone) {
            world.attempts[usize::from(a)].unknown = false;
        }
        self.end(world, a, false);
    }

    /// It ends without its session being lost: what may be on etcd is undone.
    pub(crate) fn end(&self, world: &mut World, a: u8, confirms: bool) {
        let attempt = &world.attempts[usize::from(a)];
        let barrier = attempt.unknown && !self.mutated(Mutation::NoBarrier);
        if !barrier && !attempt.unknown && attempt.created == 0 {
            self.done(world, a, true);
            return;
        }
        self.leave(world, a);
        world.attempts[usize::from(a)].phase = Phase::Undo(Undo {
            barrier,
            sweep: false,
            confirms,
        });
    }

    pub(crate) fn is_reused(&self, a: u8) -> bool {
        let mut plans = self.scenario.attempts.iter();
        plans.any(|plan| plan.reuses == Some(a))
    }

    pub(crate) fn leave(&self, world: &mut World, a: u8) {
        world.attempts[usize::from(a)].views.fill(None);
    }

    /// Nothing of it matters any more. `free`: nor can anything of it come.
    pub(crate) fn done(&self, world: &mut World, a: u8, free: bool) {
        self.leave(world, a);
        for (key, slot) in world.store.entries.iter_mut().enumerate() {
            if self.own[usize::from(a)] & (1 << key) != 0 && slot.created == 0 {
                slot.first = 0;
            }
        }
        let attempt = &mut world.attempts[usize::from(a)];
        attempt.phase = Phase::Done;
        attempt.free = free && self.is_reused(a);
        attempt.dirty = false;
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
        let attempt = &world.attempts[index];
        let late = attempt.dirty && !self.mutated(Mutation::ReusedAfterLateDelete);
        let part = attempt.part && !self.mutated(Mutation::ReusedBeforeDowngraded);
        self.done(world, a, !undo.barrier && !late && !part);
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

    pub(crate) fn undo_late(&self, world: &mut World, a: u8) {
        if let Phase::Undo(undo) = world.attempts[usize::from(a)].phase {
            let barrier = undo.barrier && !undo.sweep;
            world.attempts[usize::from(a)].dirty = self.is_reused(a);
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
            world.attempts[usize::from(a)].dirty = self.is_reused(a);
        }
    }

    pub(crate) fn no_space(&self, world: &mut World, a: u8) {
        if let Phase::Undo(undo) = &mut world.attempts[usize::from(a)].phase {
            undo.sweep = true;
        }
    }
}
