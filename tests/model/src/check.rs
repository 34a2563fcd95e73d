//! Running the checker, and what it found.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use stateright::{Checker as _, HasDiscoveries, Model};

use crate::{action::Action, protocol::Protocol, scenario::Scenario, world::World};

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// The scenario's name.
    pub name: String,
    /// How many different states there are, or were seen until it ended.
    pub states: usize,
    /// How many steps the longest of the shortest ways to a state has.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// What was found, mostly laws that are broken: each with the steps to such a state, few as they
    /// are found in breadth first.
    pub found: Vec<(&'static str, Vec<String>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} states, depth {}, {:.1} s",
            self.name,
            self.states,
            self.depth,
            self.took.as_secs_f64()
        )?;
        for (law, steps) in &self.found {
            write!(f, "\n  {law}, after {} steps:", steps.len())?;
            for step in steps {
                write!(f, "\n    {step}")?;
            }
        }
        Ok(())
    }
}

/// Looks at every state of `model`, or at all up to the first that breaks each law.
pub fn check<M>(name: &str, model: M, until: HasDiscoveries) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: fmt::Debug + Hash + Send + Sync + Clone + PartialEq,
    M::Action: fmt::Debug + Clone + PartialEq + Send,
{
    let started = Instant::now();
    // One thread: the tests share the cores, and the same ways are found each time.
    let checker = model.checker().finish_when(until).spawn_bfs().join();
    let found = checker
        .discoveries()
        .into_iter()
        .map(|(law, path)| {
            let steps = path
                .into_actions()
                .iter()
                .map(|a| format!("{a:?}"))
                .collect();
            (law, steps)
        })
        .collect();
    Report {
        name: name.to_owned(),
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: started.elapsed(),
        found,
    }
}

/// Looks for calm steps that go round in a circle: then "when nothing is left to do" may never come,
/// and the laws that are judged there would say nothing.
///
/// A search in depth over all states: from each along its calm steps, with the chances put by for
/// later. A calm step to a state on the current way closes a circle. Returns the number of states,
/// or the circle.
///
/// # Errors
/// The steps of the circle.
pub fn no_circle(scenario: Scenario) -> Result<usize, Vec<Action>> {
    let protocol = Protocol::new(scenario);
    // True: on the current way.
    let mut seen: HashMap<u64, bool, BuildHasherDefault<Known>> = HashMap::default();
    let mut later: Vec<World> = protocol.init_states();
    let mut way: Vec<(u64, World, Vec<Action>, Action)> = Vec::new();
    while let Some(start) = later.pop() {
        let mut next = Some((start, Action::GoOwn));
        while next.is_some() || !way.is_empty() {
            if let Some((world, by)) = next.take() {
                let print = fingerprint(&world);
                match seen.entry(print) {
                    Entry::Occupied(known) => {
                        if *known.get() && !way.is_empty() {
                            let from = way.iter().position(|(at, ..)| *at == print);
                            let steps = way.iter().skip(from.unwrap_or(0) + 1);
                            return Err(steps.map(|(.., by)| *by).chain([by]).collect());
                        }
                    }
                    Entry::Vacant(free) => {
                        free.insert(true);
                        protocol.chances(&world, &mut |action| {
                            let after = protocol.after(&world, action);
                            if !seen.contains_key(&fingerprint(&after)) {
                                later.push(after);
                            }
                        });
                        let mut calm = Vec::new();
                        protocol.calm(&world, &mut |action| calm.push(action));
                        way.push((print, world, calm, by));
                    }
                }
            }
            let Some((print, world, calm, _)) = way.last_mut() else {
                break;
            };
            match calm.pop() {
                Some(action) => next = Some((protocol.after(world, action), action)),
                None => {
                    seen.insert(*print, false);
                    way.pop();
                }
            }
        }
    }
    Ok(seen.len())
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// For what is a hash already.
#[derive(Debug, Default)]
struct Known(u64);

impl Hasher for Known {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "fingerprints are written as such");
    }

    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}
