//! Requests that nobody waits for any more.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    world::{Late, Rev, World},
};

impl Protocol {
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
            Late::Downgrade { attempt } => self.delete_part(world, attempt),
            Late::Write { attempt, token } => self.write(world, attempt, token),
            Late::Move { attempt, guard, to } => {
                let _ = self.move_entry(world, attempt, guard, to);
            }
        }
    }

    /// A write under the lock: it compares the entry's create revision.
    pub(crate) fn write(&self, world: &mut World, a: u8, token: Rev) {
        let slot = self.first_slot(world, a);
        if slot.created == token || self.mutated(Mutation::UnguardedWrite) {
            world.written = world.written.max(token);
        }
    }
}
