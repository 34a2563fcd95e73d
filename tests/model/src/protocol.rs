//! [`Protocol`]: a scenario with what follows from it for good, and the model's steps.

use std::ops::Not as _;

use stateright::{Model, Property};

use crate::{
    action::Action,
    mutation::Mutation,
    properties,
    scenario::{Letter, Mode, Scenario},
    world::{Attempt, Go, GoPhase, Keys, Lease, Moving, Phase, Session, Slot, Store, Watch, World},
};

/// What an entry's key says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// `None`: the Go peer's.
    pub(crate) attempt: Option<u8>,
    pub(crate) name: u8,
    pub(crate) letter: Letter,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Protocol {
    pub(crate) scenario: Scenario,
    pub(crate) keys: Vec<Info>,
    /// For each attempt, its keys.
    pub(crate) own: Vec<Keys>,
    /// For each name, its keys.
    pub(crate) named: Vec<Keys>,
    /// For each key, those that its holder waits for if they are ahead.
    pub(crate) relevant: Vec<Keys>,
}

impl Protocol {
    /// The model of a scenario.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let shared = scenario.mutation == Some(Mutation::SharedEntryKey);
        let mut keys: Vec<Info> = Vec::new();
        let mut own: Vec<Keys> = Vec::new();
        for (index, plan) in scenario.attempts.iter().enumerate() {
            let mut plans = scenario.attempts.iter();
            let first = match plan.reuses {
                None if shared => plans.position(|p| p.session == plan.session),
                reuses => reuses.map(usize::from),
            };
            if let Some(first) = first.filter(|first| *first < index) {
                own.push(own[first]);
                continue;
            }
            let start = keys.len();
            for name in (0..8).filter(|name| plan.names & (1 << name) != 0) {
                let letters: &[Letter] = match plan.mode {
                    Mode::Write => &[Letter::X],
                    Mode::Read => &[Letter::R],
                    Mode::Downgradable => &[Letter::X, Letter::R],
                    Mode::Permits { take, of } => &[Letter::S { take, of }],
                };
                keys.extend(letters.iter().map(|letter| Info {
                    attempt: Some(index as u8),
                    name,
                    letter: *letter,
                }));
            }
            own.push((start..keys.len()).fold(0, |own, key| own | (1 << key)));
        }
        if scenario.go_rounds > 0 {
            keys.push(Info {
                attempt: None,
                name: 0,
                letter: Letter::X,
            });
        }
        assert!(keys.len() <= 32, "too many keys for a set");
        let those = |is: &dyn Fn(&Info) -> bool| {
            keys.iter().enumerate().fold(0, |those, (key, info)| {
                those | (Keys::from(is(info)) << key)
            })
        };
        let named = (0..scenario.names() as u8)
            .map(|name| those(&|info| info.name == name))
            .collect();
        let relevant = keys
            .iter()
            .map(|me| {
                those(&|info| {
                    info.name == me.name
                        && (info.attempt != me.attempt)
                        && !(me.letter == Letter::R && info.letter == Letter::R)
                })
            })
            .collect();
        Self {
            scenario,
            keys,
            own,
            named,
            relevant,
        }
    }

    pub(crate) fn mutated(&self, mutation: Mutation) -> bool {
        self.scenario.mutation == Some(mutation)
    }

    /// The key that stands for the attempt at a name.
    pub(crate) fn entry(&self, attempt: u8, name: usize, downgraded: bool) -> u8 {
        let own = self.own[usize::from(attempt)] & self.named[name];
        let key = match downgraded {
            false => own.trailing_zeros(),
            true => own.checked_ilog2().unwrap_or(0),
        };
        key as u8
    }

    /// The keys that stand for the attempt, one for each of its names.
    pub(crate) fn entries(
        &self,
        attempt: u8,
        downgraded: bool,
    ) -> impl Iterator<Item = u8> + Clone + use<'_> {
        self.names_of(attempt)
            .map(move |name| self.entry(attempt, name, downgraded))
    }

    pub(crate) fn names_of(&self, attempt: u8) -> impl Iterator<Item = usize> + Clone + use<> {
        let names = self.scenario.attempts[usize::from(attempt)].names;
        (0..8_usize).filter(move |name| names & (1 << name) != 0)
    }

    /// All keys of whoever has this one.
    pub(crate) fn of_holder(&self, key: usize) -> Keys {
        match self.keys[key].attempt {
            Some(attempt) => self.own[usize::from(attempt)],
            None => 1 << key,
        }
    }

    pub(crate) fn go_index(&self) -> u8 {
        (self.keys.len() - 1) as u8
    }

    pub(crate) fn go_key(&self) -> Keys {
        match self.scenario.go_rounds {
            0 => 0,
            _ => 1 << self.go_index(),
        }
    }

    /// The watch of the attempt's client at a name.
    pub(crate) fn watch(&self, attempt: u8, name: usize) -> usize {
        let session = self.scenario.attempts[usize::from(attempt)].session;
        let client = usize::from(self.scenario.sessions[usize::from(session)]);
        client * self.scenario.names() + name
    }

    /// What comes of a state by an action.
    #[must_use]
    pub fn after(&self, world: &World, action: Action) -> World {
        let mut next = world.clone();
        self.act(&mut next, action);
        next.renumber();
        next.broken = 0;
        next.broken = self.judge(world, &next, action);
        next
    }

    /// True: nothing goes on by itself.
    pub(crate) fn is_quiet(&self, world: &World) -> bool {
        let mut some = false;
        self.calm(world, &mut |_| some = true);
        some.not()
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let scenario = &self.scenario;
        let names = scenario.names();
        let attempt = Attempt {
            phase: Phase::Idle,
            created: 0,
            modified: 0,
            unknown: false,
            views: vec![None; names],
            downgraded: false,
            part: false,
            dirty: false,
            free: false,
            moved: 0,
            moving: Moving::No,
            wrote: false,
            tampered: false,
        };
        vec![World {
            store: Store {
                revision: 1,
                entries: vec![Slot::default(); self.keys.len()],
                leases: vec![
                    Lease {
                        alive: true,
                        key: 1,
                        attached: true,
                    };
                    scenario.sessions.len()
                ],
                last: None,
            },
            watches: vec![Watch::default(); scenario.clients() * names],
            sessions: vec![
                Session {
                    incarnation: 1,
                    past: false,
                    lost: false,
                };
                scenario.sessions.len()
            ],
            attempts: vec![attempt; scenario.attempts.len()],
            late: Vec::new(),
            go: Go {
                phase: GoPhase::Idle,
                rounds: scenario.go_rounds,
            },
            faults: scenario.faults,
            declared: [0; 2],
            written: 0,
            broken: 0,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.calm(world, &mut |action| actions.push(action));
        self.chances(world, &mut |action| actions.push(action));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.after(world, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
