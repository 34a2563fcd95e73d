//! The watch engine against a scripted server. Nothing here waits: the clock is moved by hand, and
//! every poll makes a new `next()` and drops it, so each test also shows that dropping loses nothing.

mod from_now;
mod live;
mod mutations;
mod random;
mod scenarios;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    Cause, Update, WatchOptions, WatchStatus, Watcher,
    place::Map,
    script::{Call, Script},
};
use crate::{
    client::Span,
    clock::{Clock, ManualClock},
    key::Layout,
};

type Outcome = Result<(), String>;

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The manual clock counts microseconds, a backoff's jitter is finer.
fn whole_micros(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_nanos().div_ceil(1_000)).expect("short"))
}

/// The range of most tests: everything below `/a/b/`.
fn below_a_b() -> Span {
    let layout = Layout::new("", "config/", "lock/", "svc/");
    Span::prefix(&layout.config("test", "/a/b").expect("a prefix"))
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A watcher, its server and its clock, with everything that must always hold checked on the way.
struct Rig {
    script: Script,
    hand: ManualClock,
    clock: Clock,
    span: Span,
    watcher: Watcher<Script>,
    /// What the updates so far make of an empty map.
    mirror: Map,
    updates: Vec<Update>,
    /// The map equals the store at every revision that the status names. Not after a restore that
    /// was overtaken by new writes, nor after a lost event: until the next audit.
    strict: bool,
}

impl Rig {
    fn new(script: &Script) -> Self {
        Self::with(script, WatchOptions::default())
    }

    fn with(script: &Script, options: WatchOptions) -> Self {
        let (clock, hand) = Clock::manual();
        let watcher = Watcher::new(script.clone(), clock.clone(), below_a_b(), options);
        Self {
            script: script.clone(),
            hand,
            clock,
            span: below_a_b(),
            watcher,
            mirror: Map::new(),
            updates: Vec::new(),
            strict: true,
        }
    }

    fn status(&self) -> WatchStatus {
        self.watcher.status().borrow().clone()
    }

    /// Polls until nothing more happens at this instant.
    fn run(&mut self) -> Outcome {
        let stutters = self.script.world().stutter.is_some();
        let mut pending = 0;
        for _ in 0..10_000 {
            match poll_once(self.watcher.next()) {
                Some(update) => {
                    pending = 0;
                    self.take(update)?;
                }
                None if stutters && pending < 64 => pending += 1,
                None => return self.check_place(),
            }
        }
        Err("it never comes to rest".to_owned())
    }

    /// Moves the clock, stopping wherever the machine wants to act.
    fn advance(&mut self, duration: Duration) -> Outcome {
        self.run()?;
        let end = self.clock.now() + duration;
        for _ in 0..100_000 {
            let now = self.clock.now();
            let next = self.watcher.due().map_or(end, |due| due.min(end));
            if next.since(now).is_zero() && now >= end {
                return Ok(());
            }
            self.hand.advance(whole_micros(next.since(now)));
            self.run()?;
        }
        Err("its timers never come to rest".to_owned())
    }

    /// Runs long enough for a backoff to pass, and not for a silence to be noticed.
    fn recover(&mut self) -> Outcome {
        self.advance(seconds(5))
    }

    fn take(&mut self, update: Update) -> Outcome {
        for change in &update.changes {
            let old = match &change.new {
                Some(new) => self.mirror.insert(change.key.clone(), new.clone()),
                None => self.mirror.remove(&change.key),
            };
            ensure(old == change.old, "a change's old value is what was there")?;
            ensure(change.old != change.new, "a change changes something")?;
        }
        ensure(&self.mirror == self.watcher.map(), "updates make the map")?;
        ensure(
            self.status().revision == update.revision,
            "the place is the update's",
        )?;
        self.updates.push(update);
        self.check_place()
    }

    fn check_place(&self) -> Outcome {
        let revision = self.status().revision;
        let world = self.script.world();
        ensure(world.streams() <= 1, "a stream that is left is closed")?;
        match world.map_at(&self.span, revision) {
            Some(map) if self.strict => {
                if &map == self.watcher.map() {
                    return Ok(());
                }
                Err(format!(
                    "the map is not the store's at {revision}: {:?} for {map:?}",
                    self.watcher.map()
                ))
            }
            _ => Ok(()),
        }
    }

    /// The map equals the store as it is now.
    fn is_current(&self) -> Outcome {
        let world = self.script.world();
        let map = world.map_at(&self.span, world.rev);
        ensure(
            map.as_ref() == Some(self.watcher.map()),
            "the map is the store's",
        )
    }

    fn causes(&self) -> Vec<Cause> {
        self.updates.iter().map(|update| update.cause).collect()
    }

    fn lists(&self) -> usize {
        self.script
            .count(|call| matches!(call, Call::Range(r) if r.limit > 1 && r.revision == 0))
    }
}
