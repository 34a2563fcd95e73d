//! What a holder believes, and on what that rests.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    scenario::Mode,
    world::{Moving, Phase, Slot, World},
};

impl Protocol {
    pub(crate) fn is_exclusive(&self, a: u8) -> bool {
        let mode = self.scenario.attempts[usize::from(a)].mode;
        matches!(mode, Mode::Write | Mode::Downgradable)
    }

    /// The leases that a holder's belief rests on, by session.
    pub(crate) fn counted(&self, world: &World, a: u8) -> impl Iterator<Item = usize> + use<> {
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
    pub(crate) fn is_lost(&self, world: &World, a: u8) -> bool {
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

    pub(crate) fn first_entry(&self, a: u8, downgraded: bool) -> u8 {
        self.entries(a, downgraded).next().unwrap_or(0)
    }

    pub(crate) fn first_slot(&self, world: &World, a: u8) -> Slot {
        let downgraded = world.attempts[usize::from(a)].downgraded;
        world.store.entries[usize::from(self.first_entry(a, downgraded))]
    }
}
