//! [`FromNow`] against the script.

use std::collections::BTreeSet;

use super::*;
use crate::watch::{FromNow, Signal, script::Member};

/// A from-now watch and its user, who knows the queue as a lock's waiter does: from its own read
/// after `Opened`, less what is told as deleted.
struct User {
    script: Script,
    hand: ManualClock,
    clock: Clock,
    watch: FromNow<Script>,
    signals: Vec<Signal>,
    queue: BTreeSet<Vec<u8>>,
}

impl User {
    fn new(script: &Script) -> Self {
        let (clock, hand) = Clock::manual();
        Self {
            script: script.clone(),
            hand,
            watch: FromNow::new(script.clone(), clock.clone(), below_a_b()),
            clock,
            signals: Vec::new(),
            queue: script.keys(),
        }
    }

    fn run(&mut self) {
        while let Some(signal) = poll_once(self.watch.next()) {
            match &signal {
                Signal::Opened { .. } => self.queue = self.script.keys(),
                Signal::Deleted { keys, .. } => {
                    self.queue.retain(|key| !keys.contains(key));
                }
                Signal::Closed => {}
            }
            self.signals.push(signal);
        }
    }

    fn advance(&mut self, duration: Duration) {
        self.run();
        let end = self.clock.now() + duration;
        while self.clock.now() < end {
            let now = self.clock.now();
            let next = self.watch.due().map_or(end, |due| due.min(end));
            self.hand.advance(whole_micros(next.since(now)));
            self.run();
        }
    }

    fn told(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }
}

impl Script {
    fn keys(&self) -> BTreeSet<Vec<u8>> {
        let world = self.world();
        let map = world.map_at(&below_a_b(), world.rev).expect("now");
        map.into_keys().collect()
    }
}

fn queue() -> Script {
    let script = Script::with_two_members();
    for key in ["/a/b/1", "/a/b/2", "/a/b/3"] {
        script.put(key, "waiting");
    }
    script
}

fn keys(keys: &[&str]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.as_bytes().to_vec()).collect()
}

/// Deletions between two streams are told by neither: the user must learn that there was a gap.
pub(super) fn user_survives_a_gap() -> Outcome {
    let script = queue();
    let mut user = User::new(&script);
    user.run();
    script.delete("/a/b/1");
    user.run();
    script.world().cut();
    script.delete("/a/b/2");
    user.advance(seconds(5));
    script.delete("/a/b/3");
    user.run();
    ensure(user.queue.is_empty(), "the user missed a deletion")
}

#[test]
fn a_gap_is_announced() {
    user_survives_a_gap().unwrap();
}

#[test]
fn after_a_long_outage_it_is_soon_open_again() {
    for _ in 0..20 {
        let script = queue();
        let mut user = User::new(&script);
        user.run();
        script.world().down = true;
        script.world().cut();
        user.advance(seconds(300));
        user.told();
        script.world().down = false;
        user.advance(seconds(3));
        assert!(matches!(user.told()[..], [Signal::Opened { .. }]));
    }
}

#[test]
fn opens_at_now_and_tells_deletions_alone_by_revision() {
    let script = queue();
    let mut user = User::new(&script);
    user.run();
    assert_eq!(user.told(), [Signal::Opened { revision: 4 }]);
    script.put("/a/b/4", "another");
    script.delete("/a/bc");
    (script.world()).write(&[
        ("/a/b/3", None),
        ("/a/b/1", None),
        ("/elsewhere", Some("x")),
    ]);
    script.delete("/a/b/2");
    user.run();
    assert_eq!(
        user.told(),
        [
            Signal::Deleted {
                revision: 6,
                keys: keys(&["/a/b/3", "/a/b/1"])
            },
            Signal::Deleted {
                revision: 7,
                keys: keys(&["/a/b/2"])
            },
        ]
    );
    let opens = script.count(|c| matches!(c, Call::Watch(r) if r.no_put && r.start_revision == 0));
    assert_eq!(opens, 1);
}

#[test]
fn fragments_of_one_revision_are_one_signal() {
    let script = queue();
    script.world().fragment = 1;
    let mut user = User::new(&script);
    user.run();
    user.told();
    script.world().trickle = Some(1);
    (script.world()).write(&[("/a/b/1", None), ("/a/b/2", None)]);
    user.run();
    assert_eq!(user.told(), []);
    script.world().trickle = None;
    user.run();
    assert_eq!(
        user.told(),
        [Signal::Deleted {
            revision: 5,
            keys: keys(&["/a/b/1", "/a/b/2"])
        }]
    );
}

#[test]
fn a_broken_stream_is_closed_then_opened_and_its_fragments_are_dropped() {
    let script = queue();
    script.world().fragment = 1;
    let mut user = User::new(&script);
    user.run();
    user.told();
    script.world().trickle = Some(1);
    (script.world()).write(&[("/a/b/1", None), ("/a/b/2", None)]);
    user.run();
    script.world().cut();
    script.world().trickle = None;
    user.advance(seconds(1));
    assert_eq!(
        user.told(),
        [Signal::Closed, Signal::Opened { revision: 5 }]
    );
    script.delete("/a/b/3");
    user.run();
    assert_eq!(
        user.told(),
        [Signal::Deleted {
            revision: 6,
            keys: keys(&["/a/b/3"])
        }]
    );
}

#[test]
fn an_expired_token_is_replaced() {
    let script = queue();
    script.world().token_expired = true;
    let mut user = User::new(&script);
    user.advance(seconds(1));
    assert_eq!(user.told(), [Signal::Opened { revision: 4 }]);
    assert_eq!(script.count(|call| *call == Call::Refresh), 1);
}

#[test]
fn quiet_is_left_alone_and_silence_is_not() {
    let script = queue();
    let mut user = User::new(&script);
    user.advance(seconds(120));
    assert_eq!(user.told(), [Signal::Opened { revision: 4 }]);
    assert!(
        script.count(|call| matches!(call, Call::Range(_))) > 0,
        "it looked"
    );
    // The store moves on and the stream answers: fine.
    script.put("/elsewhere", "x");
    user.advance(seconds(120));
    assert_eq!(user.told(), []);
    // It moves on and the stream does not answer.
    script.world().silence();
    script.put("/elsewhere", "y");
    script.delete("/a/b/1");
    user.advance(seconds(60));
    assert_eq!(
        user.told(),
        [Signal::Closed, Signal::Opened { revision: 7 }]
    );
    assert_eq!(script.world().endpoint, 1);
    assert_eq!(user.queue.len(), 2);
}

#[test]
fn a_server_that_answers_nothing_is_left() {
    let script = queue();
    let mut user = User::new(&script);
    user.run();
    script.world().silence();
    script.world().down = true;
    user.advance(seconds(40));
    assert_eq!(user.told()[1..], [Signal::Closed]);
    script.world().down = false;
    user.advance(seconds(60));
    assert_eq!(user.told(), [Signal::Opened { revision: 4 }]);
}

#[test]
fn a_stream_that_is_not_created_is_given_up() {
    let script = queue();
    script.world().stall_opens = true;
    let mut user = User::new(&script);
    user.advance(seconds(11));
    script.world().stall_opens = false;
    user.advance(seconds(1));
    assert_eq!(user.told(), [Signal::Opened { revision: 4 }]);
    assert_eq!(script.world().endpoint, 1);
}

#[test]
fn progress_from_before_created_means_that_history_went_back() {
    let script = queue();
    let mut user = User::new(&script);
    user.run();
    script.put("/a/b/4", "x");
    user.told();
    // The stream goes on, and its member's revision is lower than it was.
    let older = Member {
        lag: Some(2),
        progress: crate::watch::script::Progress::Ahead,
        ..script.world().members[0].clone()
    };
    script.world().members[0] = older;
    user.advance(seconds(11));
    assert_eq!(user.told()[0], Signal::Closed);
}
