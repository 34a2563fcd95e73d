//! What must hold: laws of states, and laws of steps. A step that breaks one is noted in the state
//! that it leads to.

use stateright::Property;

use crate::{
    action::Action,
    mutation::Mutation,
    protocol::Protocol,
    view::Step,
    world::{Answer, GoPhase, Keys, Late, Phase, World},
};

/// One thing that must hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Law {
    /// No two believe that they hold what excludes each other.
    Exclusion = 1,
    /// Whoever believes has its entry, created when it says.
    Entry = 1 << 1,
    /// Whoever declares itself holder was the first at some revision.
    First = 1 << 2,
    /// No guarded write is applied after one with a higher token.
    Fencing = 1 << 3,
    /// The tokens of exclusive holders grow.
    Tokens = 1 << 4,
    /// When nothing is left to do, nothing of those who are done is left.
    NoOrphan = 1 << 5,
    /// "Busy" is said only if somebody else was there, and never by one whose own entry was.
    TrueBusy = 1 << 6,
    /// A confirmed holder's entry was there throughout.
    Confirmed = 1 << 7,
    /// When nothing is left to do, everybody is done.
    Progress = 1 << 8,
    /// A holder that has been told all there is to tell knows that its entry is gone.
    Noticed = 1 << 9,
}

impl Law {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Exclusion,
        Self::Entry,
        Self::First,
        Self::Fencing,
        Self::Tokens,
        Self::NoOrphan,
        Self::TrueBusy,
        Self::Confirmed,
        Self::Progress,
        Self::Noticed,
    ];

    /// How stateright names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exclusion => "exclusion",
            Self::Entry => "a believer's entry exists",
            Self::First => "a holder was the first",
            Self::Fencing => "fencing",
            Self::Tokens => "tokens grow",
            Self::NoOrphan => "no orphan",
            Self::TrueBusy => "busy is true",
            Self::Confirmed => "confirmed is true",
            Self::Progress => "progress",
            Self::Noticed => "a loss is noticed",
        }
    }

    fn property(self) -> Property<Protocol> {
        let holds: fn(&Protocol, &World) -> bool = match self {
            Self::Exclusion => Protocol::exclusion,
            Self::Entry => Protocol::entries_exist,
            Self::Noticed => Protocol::noticed,
            Self::TrueBusy => |_, world| !says_busy_falsely(world),
            Self::NoOrphan => |protocol, world| {
                // Cheaper than to see whether all is quiet.
                !protocol.orphans(world) || !protocol.is_quiet(world)
            },
            Self::Progress => |protocol, world| {
                protocol.finished(world) || protocol.orphans(world) || !protocol.is_quiet(world)
            },
            Self::First => |_, world| world.keeps(Self::First),
            Self::Fencing => |_, world| world.keeps(Self::Fencing),
            Self::Tokens => |_, world| world.keeps(Self::Tokens),
            Self::Confirmed => |_, world| world.keeps(Self::Confirmed),
        };
        Property::always(self.name(), holds)
    }
}

pub(crate) fn all() -> Vec<Property<Protocol>> {
    Law::ALL.into_iter().map(Law::property).collect()
}

impl Protocol {
    /// Which of the laws of steps are broken by this one.
    pub(crate) fn judge(&self, before: &World, after: &World, action: Action) -> u16 {
        let mut broken = 0;
        let mut law = |law: Law, holds: bool| {
            if !holds {
                broken |= law as u16;
            }
        };
        if let Action::Late(index) = action {
            let late = before.late[usize::from(index)];
            law(Law::Fencing, !self.writes_too_late(before, late));
        }
        if let Action::Undo(a) = action {
            law(Law::Confirmed, self.confirmation(before, a).unwrap_or(true));
        }
        if let Action::Answer(a) | Action::Decide(a) = action
            && after.attempts[usize::from(a)].phase == Phase::Owner
        {
            let attempt = &after.attempts[usize::from(a)];
            let was_first = self
                .entries(a, attempt.downgraded)
                .all(|key| after.store.entries[usize::from(key)].first >= attempt.created);
            law(Law::First, was_first);
            let grows = attempt.tampered
                || !self.is_exclusive(a)
                || self
                    .names_of(a)
                    .all(|name| attempt.created == after.declared[name]);
            law(Law::Tokens, grows);
        }
        broken
    }

    fn exclusion(&self, world: &World) -> bool {
        let mut held: Keys = 0;
        for a in 0..world.attempts.len() as u8 {
            let attempt = &world.attempts[usize::from(a)];
            if attempt.tampered || !self.believes(world, a) {
                continue;
            }
            for key in self.entries(a, attempt.downgraded) {
                let others = self.relevant[usize::from(key)];
                // In the mutation with one key for several, it stands for two holders at once.
                let twice = held & (1 << key) != 0;
                if twice || !self.admits(self.keys[usize::from(key)].letter, held & others) {
                    return false;
                }
                held |= 1 << key;
            }
        }
        world.go.phase != GoPhase::Owner || held & self.relevant[usize::from(self.go_index())] == 0
    }

    fn entries_exist(&self, world: &World) -> bool {
        (0..world.attempts.len() as u8).all(|a| {
            let attempt = &world.attempts[usize::from(a)];
            attempt.tampered
                || !self.believes(world, a)
                || self
                    .entries(a, attempt.downgraded)
                    .all(|key| world.store.entries[usize::from(key)].created == attempt.created)
        })
    }

    fn noticed(&self, world: &World) -> bool {
        (0..world.attempts.len() as u8).all(|a| {
            let attempt = &world.attempts[usize::from(a)];
            attempt.phase != Phase::Owner
                || self.names_of(a).all(|name| {
                    let Some(view) = &attempt.views[name] else {
                        return true;
                    };
                    let me = self.me(world, a, name);
                    let watch = &world.watches[self.watch(a, name)];
                    let told_all = watch.told > 0 && watch.signals.is_empty();
                    let reads = view.read.is_some()
                        || (view.step(self, me) == Step::Read
                            && !self.mutated(Mutation::HolderNotVerified));
                    let there = world.store.entries[usize::from(me.key)].created == attempt.created;
                    !told_all || reads || view.owed || view.gone || there
                })
        })
    }

    fn writes_too_late(&self, before: &World, late: Late) -> bool {
        let Late::Write { attempt, token } = late else {
            return false;
        };
        let applied = self.first_slot(before, attempt).created == token
            || self.mutated(Mutation::UnguardedWrite);
        applied && token < before.written
    }

    /// Some entry or session key is there of whoever will never take it away.
    fn orphans(&self, world: &World) -> bool {
        let entry = self.exists(world) & !self.go_key();
        let kept = world
            .attempts
            .iter()
            .zip(&self.own)
            .filter(|(attempt, _)| attempt.phase != Phase::Done)
            .fold(0, |kept, (_, own)| kept | own);
        let detached = world.store.leases.iter().any(|l| !l.alive && l.key > 0);
        entry & !kept != 0 || detached
    }

    fn finished(&self, world: &World) -> bool {
        world.go.phase == GoPhase::Idle
            && world
                .attempts
                .iter()
                .all(|attempt| matches!(attempt.phase, Phase::Idle | Phase::Done))
    }
}

impl World {
    /// The step that led here kept a law of steps.
    fn keeps(&self, law: Law) -> bool {
        self.broken & law as u16 == 0
    }
}

fn says_busy_falsely(world: &World) -> bool {
    world
        .attempts
        .iter()
        .any(|attempt| attempt.phase == Phase::Answered(Answer::Busy(false)))
}
