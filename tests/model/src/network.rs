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

    /// Whether the acquires of two attempts may be in one transaction: they are of one session, and
    /// their names are different ones.
    pub(crate) fn go_together(&self, a: u8, b: u8) -> bool {
        let [a, b] = [a, b].map(|attempt| &self.scenario.attempts[usize::from(attempt)]);
        let apart = a.names & b.names == 0 || self.mutated(Mutation::BatchesOneName);
        self.scenario.batches && a.session == b.session && apart
    }

    /// Whether two late requests may be in one transaction.
    pub(crate) fn late_together(&self, world: &World, first: usize, second: usize) -> bool {
        match [first, second].map(|index| &world.late[index]) {
            [
                Late::Acquire { attempt: a, .. },
                Late::Acquire { attempt: b, .. },
            ] => a != b && self.go_together(*a, *b),
            // They are in order: the undo is the second of the two, which is applied first.
            [
                Late::Acquire { attempt, .. },
                Late::Undo {
                    attempt: undone,
                    barrier,
                },
            ] => self.rides(*undone, *barrier, *attempt),
            _ => false,
        }
    }

    /// Whether an acquire may go after an undo, in one transaction: it is the same client's, the undo is
    /// a plain delete, and what the acquire compares is not what that deletes.
    pub(crate) fn rides(&self, undone: u8, barrier: bool, acquire: u8) -> bool {
        let [one, other] = [undone, acquire].map(|a| &self.scenario.attempts[usize::from(a)]);
        let [here, there] =
            [one, other].map(|plan| self.scenario.sessions[usize::from(plan.session)]);
        self.scenario.rides && undone != acquire && !barrier && here == there && !other.tries
    }

    /// One transaction of two: what they put has one revision.
    pub(crate) fn together(
        &self,
        world: &mut World,
        one: impl FnOnce(&mut World),
        other: impl FnOnce(&mut World),
    ) {
        let before = world.store.revision;
        one(world);
        let after = std::mem::replace(&mut world.store.revision, before);
        other(world);
        world.store.revision = after.max(world.store.revision);
    }

    /// A write under the lock: it compares the entry's create revision.
    pub(crate) fn write(&self, world: &mut World, a: u8, token: Rev) {
        let slot = self.first_slot(world, a);
        if slot.created == token || self.mutated(Mutation::UnguardedWrite) {
            world.written = world.written.max(token);
        }
    }
}
