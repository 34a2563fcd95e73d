//! [`Windows`]: who may stamp a number with which moment: the mark, its moves, and clocks that say
//! anything.
//!
//! One number and a few holders, one after the other: a slot is lost at any time, and whoever has lost
//! it goes on stamping for ever, unless it has given it back itself. A clock's reading is chosen anew
//! each time it is read. Moves of the mark and releases are applied late, or twice, or their answers
//! are lost. The law: no moment is stamped twice.

use stateright::{Model, Property};

/// How long a window is.
const LENGTH: u8 = 2;

/// The rule that is left out, or what is done instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lapse {
    /// A move of the mark does not compare the slot.
    SlotNotCompared,
    /// A move of the mark does not compare the mark's revision.
    MarkNotCompared,
    /// A new holder starts with its own clock.
    StartsAtNow,
    /// What a move reserves is stamped before it is confirmed.
    UsedWhenSent,
    /// Stamps are made until the release is answered.
    OpenAtRelease,
    /// The slot is freed first, and the mark lowered in a transaction of its own.
    TwoTransactions,
    /// The mark is read before the slot is taken.
    ReadBeforeClaim,
    /// A stamp is of now, also after the clock was set back.
    StampsNow,
    /// The mark is moved also to below what is confirmed.
    MovesDown,
    /// Whoever is refused takes its slot for lost.
    RefusalIsLoss,
    /// A release does not compare the slot.
    ReleaseNotCompared,
    /// A mark that is not known is lowered all the same.
    LowersUnknown,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Up to which moment anything is reserved.
    pub end: u8,
    /// How many holders there are, in no order.
    pub holders: u8,
    /// How many stamps each makes.
    pub stamps: u8,
    /// How many moves of the mark each sends.
    pub moves: u8,
    /// How many answers do not come in time.
    pub late: u8,
    /// How many slots are lost.
    pub losses: u8,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// How much may happen.
    pub bounds: Bounds,
    /// What is wrong, if anything.
    pub lapse: Option<Lapse>,
}

type Rev = u8;

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    rev: Rev,
    /// Whose it is, and since when.
    slot: Option<(u8, Rev)>,
    /// The mark and its revision; 0: none.
    mark: (u8, Rev),
    holders: Vec<Holder>,
    /// Requests that nobody waits for, in order, so that equal states are equal.
    late: Vec<Request>,
    late_left: u8,
    losses_left: u8,
    /// Which moments have been stamped.
    stamped: u16,
    /// One of them was stamped again.
    twice: bool,
    /// A holder has given up a slot that was its own.
    needless: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Holder {
    phase: Phase,
    /// The mark that it has read before its claim: with one lapse only.
    before: Option<(u8, Rev)>,
    epoch: Rev,
    /// The mark's revision as it was seen last.
    seen: Rev,
    /// The last stamp, or what is as good.
    last: u8,
    until: u8,
    request: Option<(Request, Option<Answer>)>,
    stamps: u8,
    moves: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Phase {
    #[default]
    Before,
    /// Believes that the slot is its own.
    Holds,
    /// Knows that it is not; stamps what it has.
    Lost,
    /// Has released it.
    Released,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Request {
    Move {
        epoch: Rev,
        seen: Rev,
        to: u8,
    },
    /// 0: the mark is left as it is.
    Release {
        epoch: Rev,
        lowered: u8,
    },
    /// The second transaction of two.
    Lower {
        to: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Done(Rev),
    /// Whether the slot is the asker's, and the mark.
    Refused {
        mine: bool,
        mark: (u8, Rev),
    },
}

/// One step of somebody; the last number is what a clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The mark is read before the claim.
    Look(u8),
    /// The free slot is taken; its answer arrives and shows the mark.
    Claim(u8),
    /// The slot is taken; the answer is lost, and a repeated claim tells of the slot only.
    ClaimFoundAgain(u8),
    /// A move of the mark is sent.
    Send(u8, u8),
    /// What was sent reaches etcd.
    Apply(u8),
    /// Its answer reaches the holder.
    Answer(u8),
    /// The answer does not come in time: a copy is still on its way, if it has not arrived.
    Timeout(u8),
    /// A copy that nobody waits for reaches etcd.
    Late(u8),
    /// A moment is stamped.
    Stamp(u8, u8),
    /// The slot is given back.
    Release(u8),
    /// The slot is gone: its lease has run out, or somebody has deleted it.
    Lose,
}

impl Windows {
    fn is(&self, lapse: Lapse) -> bool {
        self.lapse == Some(lapse)
    }

    fn apply(&self, world: &mut World, request: Request) -> Answer {
        let holds = |epoch| world.slot.is_some_and(|(_, since)| since == epoch);
        let refused = |mine| Answer::Refused {
            mine,
            mark: world.mark,
        };
        match request {
            Request::Move { epoch, seen, to } => {
                let slot = holds(epoch) || self.is(Lapse::SlotNotCompared);
                let mark = world.mark.1 == seen || self.is(Lapse::MarkNotCompared);
                if !slot || !mark {
                    return refused(holds(epoch));
                }
                world.rev += 1;
                world.mark = (to, world.rev);
            }
            Request::Release { epoch, lowered } => {
                if !holds(epoch) && !self.is(Lapse::ReleaseNotCompared) {
                    return refused(false);
                }
                world.rev += 1;
                world.slot = None;
                if lowered > 0 && !self.is(Lapse::TwoTransactions) {
                    world.mark = (lowered, world.rev);
                }
            }
            Request::Lower { to } => {
                world.rev += 1;
                world.mark = (to, world.rev);
            }
        }
        Answer::Done(world.rev)
    }

    fn claim(&self, world: &mut World, h: u8, shown: bool) {
        world.rev += 1;
        world.slot = Some((h, world.rev));
        let (rev, mark) = (world.rev, world.mark);
        let holder = &mut world.holders[usize::from(h)];
        holder.phase = Phase::Holds;
        holder.epoch = rev;
        let found = holder.before.take().unwrap_or(mark);
        if shown {
            holder.seen = mark.1;
            if found.1 > 0 && !self.is(Lapse::StartsAtNow) {
                holder.last = found.0;
            }
        }
    }

    fn answer(&self, world: &mut World, h: u8, request: Request, answer: Answer) {
        let twice = self.is(Lapse::TwoTransactions);
        let holder = &mut world.holders[usize::from(h)];
        match (request, answer) {
            (Request::Move { to, .. }, Answer::Done(rev)) => {
                holder.seen = rev;
                holder.until = holder.until.max(to);
            }
            (Request::Move { .. }, Answer::Refused { mine, mark }) => {
                if !mine || self.is(Lapse::RefusalIsLoss) {
                    world.needless |= mine;
                    holder.phase = Phase::Lost;
                } else {
                    holder.seen = mark.1;
                    if mark.1 > holder.epoch {
                        holder.until = holder.until.max(mark.0);
                    } else if mark.1 > 0 && !self.is(Lapse::StartsAtNow) {
                        holder.last = holder.last.max(mark.0);
                    }
                }
            }
            (Request::Release { lowered, .. }, Answer::Done(_)) if twice && lowered > 0 => {
                holder.request = Some((Request::Lower { to: lowered }, None));
            }
            (Request::Release { .. } | Request::Lower { .. }, _) => {}
        }
    }
}

impl Holder {
    fn stamps_on(&self, windows: &Windows) -> bool {
        match self.phase {
            Phase::Before => false,
            Phase::Holds | Phase::Lost => true,
            Phase::Released => windows.is(Lapse::OpenAtRelease) && self.request.is_some(),
        }
    }
}

impl Model for Windows {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            rev: 0,
            slot: None,
            mark: (0, 0),
            holders: vec![Holder::default(); usize::from(self.bounds.holders)],
            late: Vec::new(),
            late_left: self.bounds.late,
            losses_left: self.bounds.losses,
            stamped: 0,
            twice: false,
            needless: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (index, holder) in world.holders.iter().enumerate() {
            let h = index as u8;
            match (&holder.phase, &holder.request) {
                (Phase::Before, _) => {
                    // Holders that have not begun are all the same: one stands for them.
                    if index > 0
                        && *holder == Holder::default()
                        && world.holders[index - 1] == *holder
                    {
                        continue;
                    }
                    if self.is(Lapse::ReadBeforeClaim) && holder.before.is_none() {
                        steps.push(Step::Look(h));
                    } else if world.slot.is_none() {
                        steps.push(Step::Claim(h));
                        if world.late_left > 0 {
                            steps.push(Step::ClaimFoundAgain(h));
                        }
                    }
                }
                (Phase::Holds, None) => {
                    steps.push(Step::Release(h));
                    if holder.moves < self.bounds.moves {
                        let clocks = (0..=self.bounds.end).filter(|now| {
                            let to = (*now).max(holder.last) + LENGTH;
                            to <= self.bounds.end
                                && (to > holder.until || self.is(Lapse::MovesDown))
                        });
                        // Clocks that stand before the last stamp all give the same.
                        let clocks = clocks.filter(|now| *now >= holder.last);
                        steps.extend(clocks.map(|now| Step::Send(h, now)));
                    }
                }
                (_, Some((_, None))) => steps.push(Step::Apply(h)),
                (_, Some((_, Some(_)))) => steps.push(Step::Answer(h)),
                (Phase::Lost | Phase::Released, None) => {}
            }
            if holder.request.is_some() && world.late_left > 0 {
                steps.push(Step::Timeout(h));
            }
            if holder.stamps_on(self) && holder.stamps < self.bounds.stamps {
                let until = match (&holder.request, self.is(Lapse::UsedWhenSent)) {
                    (Some((Request::Move { to, .. }, _)), true) => holder.until.max(*to),
                    _ => holder.until,
                };
                let first = match self.is(Lapse::StampsNow) {
                    true => 0,
                    false => holder.last + 1,
                };
                steps.extend((first..until).map(|now| Step::Stamp(h, now)));
            }
        }
        for (index, request) in world.late.iter().enumerate() {
            if index == 0 || world.late[index - 1] != *request {
                steps.push(Step::Late(index as u8));
            }
        }
        if world.slot.is_some() && world.losses_left > 0 {
            steps.push(Step::Lose);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = self.after(world, step)?;
        next.renumber();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Law::Unique.name(), |_, world: &World| !world.twice),
            Property::always(Law::NoNeedlessLoss.name(), |_, world: &World| {
                !world.needless
            }),
            // Else the laws would hold of holders that never stamp anything.
            Property::sometimes(Law::AllStamp.name(), |_, world: &World| {
                world.holders.iter().all(|holder| holder.stamps > 0)
            }),
        ]
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
        self.rev = all.len() as Rev;
    }

    fn each_rev(&mut self, visit: &mut impl FnMut(&mut Rev)) {
        if let Some((_, since)) = &mut self.slot {
            visit(since);
        }
        visit(&mut self.mark.1);
        for holder in &mut self.holders {
            visit(&mut holder.epoch);
            visit(&mut holder.seen);
            if let Some((_, rev)) = &mut holder.before {
                visit(rev);
            }
            if let Some((request, answer)) = &mut holder.request {
                request.each_rev(visit);
                match answer {
                    Some(Answer::Done(rev)) => visit(rev),
                    Some(Answer::Refused { mark, .. }) => visit(&mut mark.1),
                    None => {}
                }
            }
        }
        for request in &mut self.late {
            request.each_rev(visit);
        }
    }
}

impl Request {
    fn each_rev(&mut self, visit: &mut impl FnMut(&mut Rev)) {
        match self {
            Self::Move { epoch, seen, .. } => {
                visit(epoch);
                visit(seen);
            }
            Self::Release { epoch, .. } => visit(epoch),
            Self::Lower { .. } => {}
        }
    }
}

impl Windows {
    fn after(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Look(h) => next.holders[usize::from(h)].before = Some(world.mark),
            Step::Claim(h) => self.claim(&mut next, h, true),
            Step::ClaimFoundAgain(h) => {
                next.late_left -= 1;
                self.claim(&mut next, h, false);
            }
            Step::Send(h, now) => {
                let holder = &mut next.holders[usize::from(h)];
                let to = match self.is(Lapse::MovesDown) {
                    true => now + LENGTH,
                    false => now.max(holder.last) + LENGTH,
                };
                let request = Request::Move {
                    epoch: holder.epoch,
                    seen: holder.seen,
                    to,
                };
                holder.moves += 1;
                holder.request = Some((request, None));
            }
            Step::Apply(h) => {
                let (request, _) = world.holders[usize::from(h)].request?;
                let answer = self.apply(&mut next, request);
                next.holders[usize::from(h)].request = Some((request, Some(answer)));
            }
            Step::Answer(h) => {
                let (request, answer) = next.holders[usize::from(h)].request.take()?;
                self.answer(&mut next, h, request, answer?);
            }
            Step::Timeout(h) => {
                next.late_left -= 1;
                let holder = &mut next.holders[usize::from(h)];
                let (request, answer) = holder.request.take()?;
                // A release is repeated; a move is made anew, with what the clock says then.
                if !matches!(request, Request::Move { .. }) {
                    holder.request = Some((request, None));
                }
                if answer.is_none() {
                    next.late.push(request);
                    next.late.sort_unstable();
                }
            }
            Step::Late(index) => {
                let request = next.late.remove(usize::from(index));
                self.apply(&mut next, request);
            }
            Step::Stamp(h, now) => {
                let bit = 1 << now;
                next.twice |= next.stamped & bit != 0;
                next.stamped |= bit;
                let holder = &mut next.holders[usize::from(h)];
                holder.last = holder.last.max(now);
                holder.stamps += 1;
            }
            Step::Release(h) => {
                let holder = &mut next.holders[usize::from(h)];
                holder.phase = Phase::Released;
                // Nothing was seen of the mark, nor stamped: it is left as it is.
                let known = holder.last > 0 || self.is(Lapse::LowersUnknown);
                let request = Request::Release {
                    epoch: holder.epoch,
                    lowered: if known { holder.last + 1 } else { 0 },
                };
                holder.request = Some((request, None));
            }
            Step::Lose => {
                next.losses_left -= 1;
                next.rev += 1;
                next.slot = None;
            }
        }
        Some(next)
    }
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// No moment is stamped twice.
    Unique,
    /// Nobody gives up a slot that is its own.
    NoNeedlessLoss,
    /// This one is to be found: that all holders have stamped something.
    AllStamp,
}

impl Law {
    /// As it is reported.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unique => "no moment is stamped twice",
            Self::NoNeedlessLoss => "nobody gives up a slot that is its own",
            Self::AllStamp => "all have stamped",
        }
    }
}
