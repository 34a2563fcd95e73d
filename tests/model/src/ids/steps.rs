//! [`Step`]: what may happen next, and what comes of it.

use super::{
    Ids, Lapse, Life,
    world::{Answer, Belief, Phase, Read, Request, World},
};

/// One step. Those of the first part happen by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The request reaches etcd.
    Apply(u8),
    /// Its answer reaches the process.
    Answer(u8),
    /// Who waits opens its watch.
    Watch(u8),
    /// Who waits is woken, and sends its claim again.
    Wake(u8),
    /// Who waits sends its claim again because that is due.
    Again(u8),
    /// A renewal after the deadline is applied and answered.
    Renew(u8),
    /// The read that verifies reaches etcd.
    Read(u8),
    /// Its answer reaches the process.
    Verify(u8),
    /// It hears that its slot, or its lease, is gone.
    Lost(u8),
    /// It gives the number back.
    Release(u8),
    /// A lease that nobody renews runs out.
    Expire(Life),

    /// It wants a number.
    Start(u8),
    /// An answer does not come in time; the request is sent again, and a copy is still on its way.
    Timeout(u8),
    /// A copy that nobody waits for is applied.
    Late(u8),
    /// The deadline passes.
    Past(u8),
    /// The process dies.
    Crash(u8),
    /// The caller goes away.
    Cancel(u8),
    /// A slot is deleted by hand.
    Delete(u8),
    /// A lease is revoked by hand.
    Revoke(Life),
    /// Who waits is not told of what was deleted.
    Swallow(u8),
}

impl Ids {
    /// Its lease and its owner key are used up.
    pub(super) fn give_up(&self, world: &mut World, p: u8, then: Phase) {
        let lives = self.bounds.lives;
        let process = &mut world.processes[usize::from(p)];
        if let Some((request, None)) = process.request.take() {
            world.late.push(request);
            world.late.sort_unstable();
        }
        process.life += 1;
        process.phase = if process.life < lives {
            then
        } else {
            Phase::Done
        };
        process.belief = Belief::Live;
        process.read = None;
        process.owed = false;
        process.robbed = false;
    }

    pub(super) fn ask(&self, world: &mut World, p: u8, request: Request) {
        world.processes[usize::from(p)].request = Some((request, None));
    }

    pub(super) fn send_claim(&self, world: &mut World, p: u8) {
        let life = self.life(world, p);
        let process = &mut world.processes[usize::from(p)];
        process.phase = Phase::Claiming;
        let turned = process.turned;
        self.ask(world, p, Request::Claim { life, turned });
    }

    pub(super) fn answer(&self, world: &mut World, p: u8, answer: Answer) {
        let process = &mut world.processes[usize::from(p)];
        match answer {
            Answer::Granted => self.send_claim(world, p),
            Answer::Mine(slot, epoch) => {
                process.phase = Phase::Holds { slot, epoch };
                if self.is(Lapse::AnswerNotCompared) {
                    process.belief = Belief::Live;
                }
            }
            Answer::Full(at) => process.phase = Phase::Full(at, None),
            Answer::Spent => self.give_up(world, p, Phase::Idle),
            Answer::Released => {
                let life = self.life(world, p);
                self.give_up(world, p, Phase::Done);
                self.end_lease(world, life);
            }
        }
    }

    pub(super) fn holds_its_slot(&self, world: &World, p: u8) -> bool {
        let life = self.life(world, p);
        match world.processes[usize::from(p)].phase {
            Phase::Holds { slot, epoch } => world.slots[usize::from(slot)] == Some((epoch, life)),
            _ => false,
        }
    }

    /// Whether somebody still renews it.
    pub(super) fn is_renewed(&self, world: &World, life: Life) -> bool {
        let of = world.processes.get(usize::from(life / self.bounds.lives));
        let n = life % self.bounds.lives;
        of.is_some_and(|process| {
            let lives = match process.phase {
                Phase::Idle | Phase::Granting | Phase::Done => false,
                Phase::Claiming | Phase::Full(..) | Phase::Holds { .. } | Phase::Releasing => true,
            };
            lives && process.life == n && process.belief != Belief::Past
                || self.is(Lapse::LeaseKept) && process.life > n
        })
    }

    /// The number that it takes for its own.
    pub(super) fn believes(&self, world: &World, p: u8) -> Option<u8> {
        let process = &world.processes[usize::from(p)];
        let holds = match (process.phase, process.request) {
            (Phase::Holds { slot, .. }, _) => Some(slot),
            (Phase::Releasing, Some((Request::Release { slot, .. }, _)))
                if self.is(Lapse::BelievedUntilReleased) =>
            {
                Some(slot)
            }
            _ => None,
        };
        let live = process.belief == Belief::Live || self.is(Lapse::NoDeadline);
        holds.filter(|_| live && !process.robbed)
    }

    pub(super) fn calm(&self, world: &World, add: &mut impl FnMut(Step)) {
        for (index, process) in world.processes.iter().enumerate() {
            let p = index as u8;
            let life = self.life(world, p);
            match process.request {
                Some((_, None)) => add(Step::Apply(p)),
                Some((_, Some(_))) => add(Step::Answer(p)),
                None => {}
            }
            match process.phase {
                Phase::Full(_, None) => add(Step::Watch(p)),
                Phase::Full(_, Some(from)) => {
                    if world.freed.iter().any(|freed| *freed > from) {
                        add(Step::Wake(p));
                    }
                    let free = world.slots.iter().any(Option::is_none);
                    let owned = world.owners[usize::from(life)].0 > 0;
                    let useful = free || owned && !self.is(Lapse::LooksForFree);
                    if process.owed && useful {
                        add(Step::Again(p));
                    }
                }
                Phase::Holds { .. } => {
                    add(Step::Release(p));
                    if !self.holds_its_slot(world, p) {
                        add(Step::Lost(p));
                    }
                    let reads = match process.belief {
                        Belief::Renewed => true,
                        Belief::Past => self.is(Lapse::ReadBeside),
                        Belief::Live => false,
                    };
                    if reads && process.read.is_none() {
                        add(Step::Read(p));
                    }
                    if process.read.is_some_and(|read| read != Read::Sent) {
                        add(Step::Verify(p));
                    }
                }
                _ => {}
            }
            let renews = matches!(
                process.phase,
                Phase::Claiming | Phase::Full(..) | Phase::Holds { .. }
            );
            if renews && process.belief == Belief::Past {
                add(Step::Renew(p));
            }
            if renews && !world.leases[usize::from(life)] && process.belief != Belief::Past {
                add(Step::Lost(p));
            }
        }
        for (index, alive) in world.leases.iter().enumerate() {
            if *alive && !self.is_renewed(world, index as u8) {
                add(Step::Expire(index as u8));
            }
        }
    }

    pub(super) fn chances(&self, world: &World, add: &mut impl FnMut(Step)) {
        let left = world.left;
        for (index, process) in world.processes.iter().enumerate() {
            let p = index as u8;
            let waits = matches!(
                process.phase,
                Phase::Granting | Phase::Claiming | Phase::Full(..)
            );
            if process.phase == Phase::Idle {
                add(Step::Start(p));
                continue;
            }
            if process.request.is_some() && left.late > 0 {
                add(Step::Timeout(p));
            }
            if (waits || matches!(process.phase, Phase::Holds { .. }))
                && process.belief != Belief::Past
                && left.past > 0
            {
                add(Step::Past(p));
            }
            if process.phase != Phase::Done && left.crashes > 0 {
                add(Step::Crash(p));
            }
            if waits && left.cancels > 0 {
                add(Step::Cancel(p));
            }
            if let Phase::Full(_, Some(from)) = process.phase
                && left.swallows > 0
                && world.freed.iter().any(|freed| *freed > from)
            {
                add(Step::Swallow(p));
            }
        }
        for index in 0..world.late.len() {
            if index == 0 || world.late[index] != world.late[index - 1] {
                add(Step::Late(index as u8));
            }
        }
        for (index, slot) in world.slots.iter().enumerate() {
            if slot.is_some() && left.deletes > 0 {
                add(Step::Delete(index as u8));
            }
        }
        for (index, alive) in world.leases.iter().enumerate() {
            if *alive && left.revokes > 0 {
                add(Step::Revoke(index as u8));
            }
        }
    }

    pub(super) fn rob(&self, world: &mut World, life: Life) {
        let p = life / self.bounds.lives;
        if self.life(world, p) == life
            && let Some(process) = world.processes.get_mut(usize::from(p))
        {
            process.robbed = true;
        }
    }

    pub(super) fn after(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        let w = &mut next;
        match step {
            Step::Apply(p) => {
                let (request, _) = world.processes[usize::from(p)].request?;
                let answer = self.apply(w, request);
                let process = &mut w.processes[usize::from(p)];
                process.request = Some((request, Some(answer)));
                if matches!(request, Request::Claim { .. }) {
                    // Its answer is younger than what was done by hand.
                    process.robbed = false;
                }
            }
            Step::Answer(p) => {
                let (_, answer) = w.processes[usize::from(p)].request.take()?;
                self.answer(w, p, answer?);
            }
            Step::Watch(p) => {
                let process = &mut w.processes[usize::from(p)];
                if let Phase::Full(at, _) = process.phase {
                    let from = if self.is(Lapse::WatchFromNow) {
                        world.rev
                    } else {
                        at
                    };
                    process.phase = Phase::Full(at, Some(from));
                }
            }
            Step::Wake(p) | Step::Again(p) => self.send_claim(w, p),
            Step::Renew(p) => {
                let life = self.life(world, p);
                let process = &mut w.processes[usize::from(p)];
                if world.leases[usize::from(life)] {
                    process.belief = match self.is(Lapse::NoRead) {
                        true => Belief::Live,
                        false => Belief::Renewed,
                    };
                } else {
                    self.give_up(w, p, Phase::Idle);
                }
            }
            Step::Read(p) => {
                let mine = self.holds_its_slot(world, p);
                w.processes[usize::from(p)].read = Some(Read::Answered(mine));
            }
            Step::Verify(p) => {
                let process = &mut w.processes[usize::from(p)];
                match (process.read.take()?, process.belief) {
                    (Read::Answered(true), Belief::Renewed) => process.belief = Belief::Live,
                    (Read::Answered(true), Belief::Past) if self.is(Lapse::ReadBeside) => {
                        // Kept until the renewal is answered.
                        process.read = Some(Read::Answered(true));
                        return None;
                    }
                    (Read::Answered(false), _) => self.give_up(w, p, Phase::Idle),
                    _ => {}
                }
            }
            Step::Lost(p) => self.give_up(w, p, Phase::Idle),
            Step::Release(p) => {
                let life = self.life(world, p);
                let process = &mut w.processes[usize::from(p)];
                if let Phase::Holds { slot, epoch } = process.phase {
                    process.phase = Phase::Releasing;
                    process.read = None;
                    self.ask(w, p, Request::Release { life, slot, epoch });
                }
            }
            Step::Expire(life) => self.end_lease(w, life),
            Step::Start(p) => {
                let life = self.life(world, p);
                w.processes[usize::from(p)].phase = Phase::Granting;
                self.ask(w, p, Request::Grant(life));
            }
            Step::Timeout(p) => {
                w.left.late -= 1;
                let process = &mut w.processes[usize::from(p)];
                let (request, answer) = process.request?;
                if answer.is_none() {
                    w.late.push(request);
                    w.late.sort_unstable();
                    process.owed = true;
                }
                let again = match request {
                    Request::Claim { life, turned } => {
                        process.turned = !turned;
                        Request::Claim {
                            life,
                            turned: !turned,
                        }
                    }
                    other => other,
                };
                process.request = Some((again, None));
            }
            Step::Late(index) => {
                let request = w.late.remove(usize::from(index));
                self.apply(w, request);
            }
            Step::Past(p) => {
                w.left.past -= 1;
                let process = &mut w.processes[usize::from(p)];
                process.belief = Belief::Past;
                if !self.is(Lapse::ReadBeside) {
                    process.read = None;
                }
            }
            Step::Crash(p) => {
                w.left.crashes -= 1;
                self.give_up(w, p, Phase::Done);
            }
            Step::Cancel(p) => {
                w.left.cancels -= 1;
                self.give_up(w, p, Phase::Done);
            }
            Step::Delete(slot) => {
                w.left.deletes -= 1;
                let (_, life) = world.slots[usize::from(slot)]?;
                w.rev += 1;
                self.free(w, slot);
                self.rob(w, life);
            }
            Step::Revoke(life) => {
                w.left.revokes -= 1;
                self.end_lease(w, life);
                self.rob(w, life);
            }
            Step::Swallow(p) => {
                w.left.swallows -= 1;
                let process = &mut w.processes[usize::from(p)];
                if let Phase::Full(at, _) = process.phase {
                    process.phase = Phase::Full(at, Some(world.rev));
                    process.owed = true;
                }
            }
        }
        next.renumber();
        Some(next)
    }
}
