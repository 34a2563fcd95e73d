//! The entry's move to the lease of another session: how a lock's TTL is changed.
//!
//! The move compares the entry's `mod_revision` with the last one that is known. So of all copies of
//! all moves one at most is applied after each answer, and none to an entry that was deleted, or made
//! anew by a late acquire: it needs no barrier. While a move's fate is not known the entry may hang
//! on either lease, and the holder counts on both.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    world::{Late, Moved, Moving, Rev, World},
};

impl Protocol {
    pub(crate) fn next_move(&self, world: &World, a: u8) -> (Rev, u8) {
        let attempt = &world.attempts[usize::from(a)];
        let to = self.scenario.attempts[usize::from(a)].moves[usize::from(attempt.moved)];
        (attempt.modified, to)
    }

    pub(crate) fn apply_move(&self, world: &mut World, a: u8) {
        let (guard, to) = self.next_move(world, a);
        let answer = self.move_entry(world, a, guard, to);
        world.attempts[usize::from(a)].moving = Moving::Answered(answer);
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
    pub(crate) fn stop_moving(&self, world: &mut World, a: u8) {
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

    pub(crate) fn move_copy_stays(&self, world: &mut World, a: u8) {
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
}
