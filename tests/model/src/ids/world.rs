//! [`World`]: one state; what processes and requests can be.

use super::{Bounds, Life, Rev};

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(super) rev: Rev,
    /// When it was taken, and by which life.
    pub(super) slots: Vec<Option<(Rev, Life)>>,
    /// When each was freed last; 0: never.
    pub(super) freed: Vec<Rev>,
    pub(super) leases: Vec<bool>,
    /// When each owner key was put, and of which slot; 0: not there.
    pub(super) owners: Vec<(Rev, u8)>,
    pub(super) processes: Vec<Process>,
    /// Requests that nobody waits for, in order.
    pub(super) late: Vec<Request>,
    pub(super) left: Bounds,
    /// A life has two slots at once, or one that it has given back.
    pub(super) odd: bool,
    /// Lives whose release was applied.
    pub(super) given_back: Vec<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// How many lives it has used up.
    pub(super) life: u8,
    pub(super) phase: Phase,
    pub(super) request: Option<(Request, Option<Answer>)>,
    pub(super) belief: Belief,
    pub(super) read: Option<Read>,
    /// Something was missed: the claim is due again, whatever the watch says.
    pub(super) owed: bool,
    /// Somebody has taken its slot or lease by hand: it cannot know at once.
    pub(super) robbed: bool,
    /// The slots are tried in the other order.
    pub(super) turned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    Granting,
    Claiming,
    /// The pool was full at the first revision; the watch tells deletions after the second.
    Full(Rev, Option<Rev>),
    Holds {
        slot: u8,
        epoch: Rev,
    },
    Releasing,
    Done,
}

/// What the clock and the renewals say of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Belief {
    Live,
    Past,
    /// Renewed after the deadline.
    Renewed,
}

/// A read of the slot, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Read {
    Sent,
    /// Whether it showed the own slot.
    Answered(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Request {
    Grant(Life),
    Claim { life: Life, turned: bool },
    Release { life: Life, slot: u8, epoch: Rev },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Granted,
    Mine(u8, Rev),
    Full(Rev),
    /// The lease or the owner key is of no more use.
    Spent,
    Released,
}

impl World {
    /// Only the order of revisions means anything, and what is equal.
    pub(super) fn renumber(&mut self) {
        let mut all = vec![0];
        self.each_rev(&mut |rev| all.push(*rev));
        all.sort_unstable();
        all.dedup();
        self.each_rev(&mut |rev| {
            let place = all.iter().position(|known| known == rev);
            *rev = place.map_or(*rev, |place| place as Rev);
        });
    }

    fn each_rev(&mut self, visit: &mut impl FnMut(&mut Rev)) {
        visit(&mut self.rev);
        self.slots
            .iter_mut()
            .flatten()
            .for_each(|(rev, _)| visit(rev));
        self.owners.iter_mut().for_each(|(rev, _)| visit(rev));
        for process in &mut self.processes {
            match &mut process.phase {
                Phase::Full(at, from) => {
                    visit(at);
                    from.iter_mut().for_each(&mut *visit);
                }
                Phase::Holds { epoch, .. } => visit(epoch),
                _ => {}
            }
            if let Some((request, answer)) = &mut process.request {
                request.each_rev(visit);
                if let Some(Answer::Mine(_, rev) | Answer::Full(rev)) = answer {
                    visit(rev);
                }
            }
        }
        self.late
            .iter_mut()
            .for_each(|request| request.each_rev(visit));
        self.freed.iter_mut().for_each(visit);
    }
}

impl Request {
    fn each_rev(&mut self, visit: &mut impl FnMut(&mut Rev)) {
        if let Self::Release { epoch, .. } = self {
            visit(epoch);
        }
    }
}
