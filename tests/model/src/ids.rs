//! [`Ids`]: who holds which number: leases, claims, releases, deadlines, those who wait.
//!
//! A few processes claim from a pool of one or two numbers. Each claim has a lease and an owner key of
//! its own, which no other claim ever has. Requests are applied late or twice, or their answers are
//! lost; deadlines pass, and then, or never, the lease runs out; processes die, callers go away, and
//! somebody deletes slots or revokes leases by hand.
//!
//! What happens by itself is told from the chances, as in the model of the locks: where only chances
//! are left, everybody must be done and nothing must be left on etcd.

mod etcd;
mod steps;
mod world;

use stateright::{Model, Property};
pub use steps::Step;
pub use world::World;
use world::{Belief, Phase, Process};

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

impl Ids {
    fn is(&self, lapse: Lapse) -> bool {
        self.lapse == Some(lapse)
    }

    fn life(&self, world: &World, p: u8) -> Life {
        p * self.bounds.lives + world.processes[usize::from(p)].life
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
