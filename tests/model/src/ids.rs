//! [`Ids`]: who holds which number: leases, claims, releases, deadlines, those who wait.
//!
//! A few processes claim from a pool of one or two numbers. Each claim has a lease and an owner key of
//! its own, which no other claim ever has. Requests are applied late or twice, or their answers are
//! lost; deadlines pass, and then, or never, the lease runs out; processes die, callers go away, and
//! somebody deletes slots or revokes leases by hand.
//!
//! What happens by itself is told from the chances, as in the model of the locks: where only chances
//! are left, everybody must be done and nothing must be left on etcd.

use stateright::{Model, Property};

/// The rule that is left out, or what is done instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lapse {
    /// A claim neither compares nor puts the owner key.
    NoOwner,
    /// Nobody looks at the deadline.
    NoDeadline,
    /// A claim's answer is believed although the deadline has passed.
    AnswerNotCompared,
    /// The number is believed in until the release is answered.
    BelievedUntilReleased,
    /// After a renewal the slot is not read.
    NoRead,
    /// A slot that was read before the renewal counts.
    ReadBeside,
    /// A release does not compare the slot.
    ReleaseNotCompared,
    /// An owner key is believed without its slot.
    OwnerTrusted,
    /// A lost id's lease is kept alive.
    LeaseKept,
    /// A release deletes the owner key.
    OwnerDeleted,
    /// Who waits follows deletions from when it begins to.
    WatchFromNow,
    /// Who waits looks whether a number is free, instead of sending the claim again.
    LooksForFree,
}

/// What takes part, and how often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// How many processes there are.
    pub processes: u8,
    /// How many numbers the pool has.
    pub slots: u8,
    /// How many leases each process may use up.
    pub lives: u8,
    /// How many answers do not come in time.
    pub late: u8,
    /// How many deadlines pass.
    pub past: u8,
    /// How many processes die.
    pub crashes: u8,
    /// How many callers go away.
    pub cancels: u8,
    /// How many slots are deleted by hand.
    pub deletes: u8,
    /// How many leases are revoked by hand.
    pub revokes: u8,
    /// How many deletions are not told to those who wait.
    pub swallows: u8,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// How much may happen.
    pub bounds: Bounds,
    /// What is wrong, if anything.
    pub lapse: Option<Lapse>,
}

type Rev = u8;
/// A lease and its owner key: life `n` of process `p` is `p * lives + n`.
type Life = u8;

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    rev: Rev,
    /// When it was taken, and by which life.
    slots: Vec<Option<(Rev, Life)>>,
    /// When each was freed last; 0: never.
    freed: Vec<Rev>,
    leases: Vec<bool>,
    /// When each owner key was put, and of which slot; 0: not there.
    owners: Vec<(Rev, u8)>,
    processes: Vec<Process>,
    /// Requests that nobody waits for, in order.
    late: Vec<Request>,
    left: Bounds,
    /// A life has two slots at once, or one that it has given back.
    odd: bool,
    /// Lives whose release was applied.
    given_back: Vec<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    /// How many lives it has used up.
    life: u8,
    phase: Phase,
    request: Option<(Request, Option<Answer>)>,
    belief: Belief,
    read: Option<Read>,
    /// Something was missed: the claim is due again, whatever the watch says.
    owed: bool,
    /// Somebody has taken its slot or lease by hand: it cannot know at once.
    robbed: bool,
    /// The slots are tried in the other order.
    turned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
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
enum Belief {
    Live,
    Past,
    /// Renewed after the deadline.
    Renewed,
}

/// A read of the slot, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Read {
    Sent,
    /// Whether it showed the own slot.
    Answered(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Request {
    Grant(Life),
    Claim { life: Life, turned: bool },
    Release { life: Life, slot: u8, epoch: Rev },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Granted,
    Mine(u8, Rev),
    Full(Rev),
    /// The lease or the owner key is of no more use.
    Spent,
    Released,
}

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
    fn is(&self, lapse: Lapse) -> bool {
        self.lapse == Some(lapse)
    }

    fn life(&self, world: &World, p: u8) -> Life {
        p * self.bounds.lives + world.processes[usize::from(p)].life
    }

    fn free(&self, world: &mut World, slot: u8) {
        world.slots[usize::from(slot)] = None;
        world.freed[usize::from(slot)] = world.rev;
    }

    fn end_lease(&self, world: &mut World, life: Life) {
        if !std::mem::replace(&mut world.leases[usize::from(life)], false) {
            return;
        }
        world.rev += 1;
        for slot in 0..self.bounds.slots {
            if world.slots[usize::from(slot)].is_some_and(|(_, of)| of == life) {
                self.free(world, slot);
            }
        }
        world.owners[usize::from(life)] = (0, 0);
        world.given_back[usize::from(life)] = false;
    }

    fn claim(&self, world: &mut World, life: Life, turned: bool) -> Answer {
        let at = usize::from(life);
        let (owned, of) = world.owners[at];
        if owned > 0 {
            if self.is(Lapse::OwnerTrusted) {
                return Answer::Mine(of, owned);
            }
            let mine = (0..self.bounds.slots)
                .find(|slot| world.slots[usize::from(*slot)] == Some((owned, life)));
            return mine.map_or(Answer::Spent, |slot| Answer::Mine(slot, owned));
        }
        let mut order: Vec<u8> = (0..self.bounds.slots).collect();
        if turned {
            order.reverse();
        }
        let free = order
            .into_iter()
            .find(|slot| world.slots[usize::from(*slot)].is_none());
        let Some(slot) = free else {
            return Answer::Full(world.rev);
        };
        if !world.leases[at] {
            return Answer::Spent;
        }
        world.odd |=
            world.given_back[at] || world.slots.iter().flatten().any(|(_, of)| *of == life);
        world.rev += 1;
        world.slots[usize::from(slot)] = Some((world.rev, life));
        if !self.is(Lapse::NoOwner) {
            world.owners[at] = (world.rev, slot);
        }
        Answer::Mine(slot, world.rev)
    }

    fn apply(&self, world: &mut World, request: Request) -> Answer {
        match request {
            // "It exists" is as good.
            Request::Grant(life) => {
                world.leases[usize::from(life)] = true;
                Answer::Granted
            }
            Request::Claim { life, turned } => self.claim(world, life, turned),
            Request::Release { life, slot, epoch } => {
                let found = world.slots[usize::from(slot)];
                let mine = found.is_some_and(|(since, _)| since == epoch);
                if mine || self.is(Lapse::ReleaseNotCompared) && found.is_some() {
                    world.rev += 1;
                    self.free(world, slot);
                    if mine {
                        world.given_back[usize::from(life)] = true;
                    }
                    if self.is(Lapse::OwnerDeleted) {
                        world.owners[usize::from(life)] = (0, 0);
                    }
                }
                Answer::Released
            }
        }
    }

    /// Its lease and its owner key are used up.
    fn give_up(&self, world: &mut World, p: u8, then: Phase) {
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

    fn ask(&self, world: &mut World, p: u8, request: Request) {
        world.processes[usize::from(p)].request = Some((request, None));
    }

    fn send_claim(&self, world: &mut World, p: u8) {
        let life = self.life(world, p);
        let process = &mut world.processes[usize::from(p)];
        process.phase = Phase::Claiming;
        let turned = process.turned;
        self.ask(world, p, Request::Claim { life, turned });
    }

    fn answer(&self, world: &mut World, p: u8, answer: Answer) {
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

    fn holds_its_slot(&self, world: &World, p: u8) -> bool {
        let life = self.life(world, p);
        match world.processes[usize::from(p)].phase {
            Phase::Holds { slot, epoch } => world.slots[usize::from(slot)] == Some((epoch, life)),
            _ => false,
        }
    }

    /// Whether somebody still renews it.
    fn is_renewed(&self, world: &World, life: Life) -> bool {
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
    fn believes(&self, world: &World, p: u8) -> Option<u8> {
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

    fn calm(&self, world: &World, add: &mut impl FnMut(Step)) {
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

    fn chances(&self, world: &World, add: &mut impl FnMut(Step)) {
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

    fn rob(&self, world: &mut World, life: Life) {
        let p = life / self.bounds.lives;
        if self.life(world, p) == life
            && let Some(process) = world.processes.get_mut(usize::from(p))
        {
            process.robbed = true;
        }
    }

    fn after(&self, world: &World, step: Step) -> Option<World> {
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

    fn exclusive(&self, world: &World) -> bool {
        let mut believed = vec![false; usize::from(self.bounds.slots)];
        (0..self.bounds.processes).all(|p| match self.believes(world, p) {
            Some(slot) => !std::mem::replace(&mut believed[usize::from(slot)], true),
            None => true,
        })
    }

    fn settled(&self, world: &World) -> bool {
        let mut calm = false;
        self.calm(world, &mut |_| calm = true);
        let done = |process: &Process| matches!(process.phase, Phase::Idle | Phase::Done);
        calm || world.processes.iter().all(done)
            && world.slots.iter().all(Option::is_none)
            && world.leases.iter().all(|alive| !alive)
    }
}

impl World {
    /// Only the order of revisions means anything, and what is equal.
    fn renumber(&mut self) {
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

impl Model for Ids {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let lives = usize::from(self.bounds.processes * self.bounds.lives);
        let process = |index| Process {
            life: 0,
            phase: Phase::Idle,
            request: None,
            belief: Belief::Live,
            read: None,
            owed: false,
            robbed: false,
            turned: index % 2 == 1,
        };
        vec![World {
            rev: 0,
            slots: vec![None; usize::from(self.bounds.slots)],
            freed: vec![0; usize::from(self.bounds.slots)],
            leases: vec![false; lives],
            owners: vec![(0, 0); lives],
            processes: (0..self.bounds.processes).map(process).collect(),
            late: Vec::new(),
            left: self.bounds,
            odd: false,
            given_back: vec![false; lives],
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let mut add = |step| steps.push(step);
        self.calm(world, &mut add);
        self.chances(world, &mut add);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        self.after(world, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Law::Exclusion.name(), Self::exclusive),
            Property::always(Law::OneSlot.name(), |_, world: &World| !world.odd),
            Property::always(Law::Progress.name(), Self::settled),
            // Else the laws would hold of those who never believe anything.
            Property::sometimes(Law::Verified.name(), |ids: &Self, world: &World| {
                // It was the first one's deadline, for no other has begun, and it has its first lease.
                let first = &world.processes[0];
                let alone = world.processes[1..]
                    .iter()
                    .all(|other| other.phase == Phase::Idle);
                let past = world.left.past < ids.bounds.past;
                past && alone && first.life == 0 && ids.believes(world, 0).is_some()
            }),
        ]
    }
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// No two believe in one number, but for who was robbed and cannot know yet.
    Exclusion,
    /// A lease has one slot at most, and none that was given back.
    OneSlot,
    /// Where nothing happens by itself any more, everybody is done and nothing is left.
    Progress,
    /// This one is to be found: that somebody believes although a deadline has passed.
    Verified,
}

impl Law {
    /// As it is reported.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exclusion => "no two believe in one number",
            Self::OneSlot => "a lease has one slot at most",
            Self::Progress => "everybody gets done",
            Self::Verified => "somebody believes after a deadline",
        }
    }
}
