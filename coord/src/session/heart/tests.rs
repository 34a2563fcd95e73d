use std::sync::Arc;

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    error::LostReason,
    session::{
        PastDeadline, SessionSpec,
        script::{BELIEVED, TTL, spec},
    },
};

const MS: Duration = Duration::from_millis(1);
/// More than the interval with its jitter, less than the deadline.
const DUE: Duration = Duration::from_millis(5_500);
/// A sixth of the TTL.
const PATIENCE: Duration = Duration::from_millis(2_500);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Connect(u64),
    Disconnect,
    Leave,
    Send(i64),
    Revoke(i64),
}
use Did::*;

struct Rig {
    clock: Clock,
    hand: ManualClock,
    heart: Heart,
    leases: i64,
}

impl Rig {
    fn new() -> Self {
        let (clock, hand) = Clock::manual();
        let heart = Heart::new(clock.now());
        Self {
            clock,
            hand,
            heart,
            leases: 0,
        }
    }

    fn adopt(&mut self, past_deadline: PastDeadline) -> Session {
        self.adopt_with(&spec(past_deadline))
    }

    fn adopt_with(&mut self, spec: &SessionSpec) -> Session {
        self.leases += 1;
        let now = self.clock.now();
        let (clock, keeper) = (self.clock.clone(), Arc::default());
        let session = Session::new(spec, self.leases, spec.ttl, now, clock, keeper);
        assert!(self.heart.adopt(now, session.clone()));
        session
    }

    /// One session on a stream that has answered once.
    fn beating(past_deadline: PastDeadline) -> (Self, Session) {
        let mut rig = Self::new();
        let session = rig.adopt(past_deadline);
        assert_eq!(rig.step(), [Connect(1), Send(1)]);
        rig.answer(1, 1);
        (rig, session)
    }

    fn step(&mut self) -> Vec<Did> {
        let (actions, _) = self.heart.step(self.clock.now());
        let did = actions.into_iter().filter_map(|action| match action {
            Action::Connect { generation } => Some(Connect(generation)),
            Action::Disconnect => Some(Disconnect),
            Action::LeaveEndpoint => Some(Leave),
            Action::Send { lease } => Some(Send(lease)),
            Action::Revoke { session, .. } => Some(Revoke(session.lease())),
            Action::Announce(_) => None,
        });
        did.collect()
    }

    /// Moves the clock to every instant that the heart asks for, until `duration` has passed.
    fn pass(&mut self, duration: Duration) -> Vec<Did> {
        let end = self.clock.now() + duration;
        let mut did = self.step();
        loop {
            let now = self.clock.now();
            let (_, next) = self.heart.step(now);
            let at = next.unwrap_or(end).min(end);
            self.hand.advance(at.since(now).max(MS));
            did.extend(self.step());
            if self.clock.now() >= end {
                return did;
            }
        }
    }

    fn advance(&mut self, duration: Duration) -> Vec<Did> {
        self.hand.advance(duration);
        self.step()
    }

    fn answer(&mut self, generation: u64, lease: i64) {
        self.reply(generation, lease, Some(TTL));
    }

    fn reply(&mut self, generation: u64, lease: i64, ttl: Option<Duration>) {
        let answer = KeepAlive { lease, ttl };
        self.heart.answered(self.clock.now(), generation, answer);
    }
}

#[test]
fn a_renewal_counts_from_the_instant_it_was_sent() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    assert_eq!(rig.advance(DUE), [Send(1)]);
    let sent = rig.clock.now();
    assert_eq!(rig.advance(MS * 900), []);
    rig.answer(1, 1);
    // Not from the receipt, which is 900 ms later.
    assert_eq!(session.deadline(), sent + BELIEVED);
}

#[test]
fn while_a_keep_alive_is_unanswered_no_other_is_sent() {
    let mut rig = Rig::new();
    let session = rig.adopt_with(&SessionSpec {
        renew_interval: Some(MS * 600),
        ..spec(PastDeadline::Dead)
    });
    let sent = rig.clock.now();
    assert_eq!(rig.step(), [Connect(1), Send(1)]);
    // The next one is due three times over.
    assert_eq!(rig.pass(MS * 2_000), []);
    rig.answer(1, 1);
    // From the send that it answers, not from a later one.
    assert_eq!(session.deadline(), sent + BELIEVED);
    assert_eq!(rig.step(), [Send(1)]);
}

#[test]
fn an_old_streams_answer_and_one_without_a_send_move_nothing() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    let confirmed = session.deadline();
    rig.advance(MS * 1_000);
    rig.answer(1, 1);
    assert_eq!(session.deadline(), confirmed, "nothing was sent for it");

    assert_eq!(rig.advance(DUE), [Send(1)]);
    rig.heart.broke(rig.clock.now(), 1);
    let again = rig.clock.now();
    assert_eq!(rig.step(), [Disconnect, Connect(2), Send(1)]);
    rig.advance(MS * 10);
    rig.answer(1, 1);
    assert_eq!(session.deadline(), confirmed, "it came on the old stream");
    rig.heart.broke(rig.clock.now(), 1);
    assert_eq!(rig.step(), [], "nor does its end end the new one");
    rig.answer(2, 1);
    assert_eq!(session.deadline(), again + BELIEVED);
}

#[test]
fn a_stream_that_breaks_is_reopened_at_once_with_the_same_leases() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    rig.advance(MS * 3_000);
    rig.heart.broke(rig.clock.now(), 1);
    assert!(session.is_live(), "a broken stream is not a lost lease");
    assert_eq!(rig.step(), [Disconnect, Connect(2), Send(1)]);
}

#[test]
fn a_stream_that_owes_an_answer_for_a_sixth_of_the_ttl_is_broken() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    assert_eq!(rig.advance(DUE), [Send(1)]);
    assert_eq!(rig.advance(PATIENCE - MS), []);
    assert_eq!(rig.advance(MS), [Disconnect, Leave, Connect(2), Send(1)]);
    assert!(session.is_live());
}

#[test]
fn tries_follow_one_another_with_pauses_and_do_not_become_a_storm() {
    // Streams that break at once, and streams that never answer.
    for breaks in [true, false] {
        let (mut rig, session) = Rig::beating(PastDeadline::Resume);
        let end = rig.clock.now() + TTL * 4;
        let mut tries = Vec::new();
        while rig.clock.now() < end {
            for did in rig.step() {
                if let Connect(generation) = did {
                    tries.push(rig.clock.now());
                    if breaks {
                        rig.heart.broke(rig.clock.now(), generation);
                    }
                }
            }
            let now = rig.clock.now();
            let (_, next) = rig.heart.step(now);
            let wait = next.expect("it goes on for ever").since(now);
            assert!(wait <= TTL / 2, "and without long rests");
            rig.hand.advance(wait.max(MS));
        }
        // Every try that may take 2.5 s comes after a pause of 1.25 s on average.
        assert!((10..150).contains(&tries.len()), "{} tries", tries.len());
        let rests = tries.windows(2).map(|pair| pair[1].since(pair[0]));
        let longest = rests.max().expect("more than one try");
        assert!(longest <= PATIENCE * 2 + MS * 10, "{longest:?}");
        assert_eq!(session.state(), SessionState::Overdue);
    }
}

#[test]
fn the_last_third_of_a_sessions_time_is_used_evenly() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    rig.hand.advance(BELIEVED - MS * 4_900);
    rig.heart.broke(rig.clock.now(), 1);
    let mut tries = 0;
    while session.is_live() {
        for did in rig.step() {
            if let Connect(generation) = did {
                rig.heart.broke(rig.clock.now(), generation);
                tries += 1;
            }
        }
        let Some(next) = rig.heart.step(rig.clock.now()).1 else {
            break;
        };
        rig.hand.advance(next.since(rig.clock.now()).max(MS));
    }
    // 4.9 s in twelfths of 15 s, give or take the jitter; the first comes at once.
    assert!((4..=6).contains(&tries), "{tries} tries");
}

#[test]
fn leases_come_to_beat_together() {
    let mut rig = Rig::new();
    rig.adopt(PastDeadline::Dead);
    assert_eq!(rig.step(), [Connect(1), Send(1)]);
    rig.answer(1, 1);
    rig.hand.advance(MS * 100);
    rig.adopt(PastDeadline::Resume);
    assert_eq!(rig.step(), []);
    for _ in 0..50 {
        let next = rig.heart.step(rig.clock.now()).1.expect("the next beat");
        assert_eq!(
            rig.advance(next.since(rig.clock.now()) + MS),
            [Send(1), Send(2)]
        );
        rig.answer(1, 1);
        rig.answer(1, 2);
    }
}

#[test]
fn a_dead_session_is_revoked_at_its_deadline_and_renewed_no_more() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    assert_eq!(rig.advance(DUE), [Send(1)]);
    let left = session.deadline().since(rig.clock.now());
    rig.hand.advance(left);
    // Fresh by itself, and first in the queue after a pause of the process.
    rig.answer(1, 1);
    assert_eq!(rig.step(), [Revoke(1), Disconnect]);
    assert_eq!(session.state(), SessionState::Lost(LostReason::Expired));
    assert_eq!(rig.pass(TTL * 3), []);
}

#[test]
fn the_heart_asks_to_be_woken_at_a_deadline() {
    let (mut rig, session) = Rig::beating(PastDeadline::Resume);
    rig.heart.broke(rig.clock.now(), 1);
    let mut announced = false;
    while rig.clock.now() < session.deadline() {
        let (actions, next) = rig.heart.step(rig.clock.now());
        for action in actions {
            if let Action::Connect { generation } = action {
                rig.heart.broke(rig.clock.now(), generation);
            }
        }
        let next = next.expect("a deadline at least");
        assert!(next <= session.deadline());
        rig.hand
            .advance(next.since(rig.clock.now()).max(MS / 1_000));
    }
    assert_eq!(rig.clock.now(), session.deadline());
    for action in rig.heart.step(rig.clock.now()).0 {
        announced |= matches!(action, Action::Announce(_));
    }
    assert!(announced, "who subscribed to the states hears of it now");
}

#[test]
fn an_overdue_session_is_renewed_on_until_it_lives_again() {
    let (mut rig, session) = Rig::beating(PastDeadline::Resume);
    rig.heart.broke(rig.clock.now(), 1);
    rig.hand.advance(BELIEVED * 2);
    assert_eq!(rig.step(), [Disconnect, Connect(2), Send(1)]);
    assert_eq!(session.state(), SessionState::Overdue);
    rig.answer(2, 1);
    assert_eq!(session.state(), SessionState::Live);
}

#[test]
fn an_answer_that_came_too_late_to_be_believed_is_followed_by_another_try_at_once() {
    let (mut rig, session) = Rig::beating(PastDeadline::Verify);
    assert_eq!(rig.advance(DUE), [Send(1)]);
    let left = session.deadline().since(rig.clock.now());
    rig.hand.advance(left);
    rig.answer(1, 1);
    assert_eq!(session.state(), SessionState::Overdue);
    assert_eq!(rig.step(), [Send(1)]);
    rig.answer(1, 1);
    assert_eq!(session.state(), SessionState::Unverified);
    assert_eq!(rig.step(), [], "the next is in its turn");
}

#[test]
fn a_lease_that_is_gone_is_lost_and_neither_renewed_nor_revoked() {
    for (late, reason) in [
        (Duration::ZERO, LostReason::Revoked),
        (BELIEVED, LostReason::Expired),
    ] {
        let (mut rig, session) = Rig::beating(PastDeadline::Resume);
        let other = rig.adopt(PastDeadline::Resume);
        rig.hand.advance(late);
        let _ = rig.step();
        rig.reply(rig.heart.generation, 1, None);
        assert_eq!(session.state(), SessionState::Lost(reason));
        assert!(!rig.pass(TTL).contains(&Send(1)));
        assert!(!matches!(other.state(), SessionState::Lost(_)));
    }
}

#[test]
fn what_its_user_declares_lost_is_revoked_and_renewed_no_more() {
    let (mut rig, session) = Rig::beating(PastDeadline::Verify);
    session.mark_lost(LostReason::Revoked);
    // At the very next step, although a keep-alive is due.
    assert_eq!(rig.advance(DUE), [Revoke(1), Disconnect]);
    assert_eq!(rig.pass(TTL), []);
}

#[test]
fn what_is_removed_or_closed_is_left_alone() {
    let (mut rig, session) = Rig::beating(PastDeadline::Dead);
    assert!(rig.heart.remove(session.lease()).is_some());
    session.mark_lost(LostReason::Closed);
    assert_eq!(rig.step(), [Disconnect]);
    let session = rig.adopt(PastDeadline::Dead);
    assert_eq!(rig.heart.close().len(), 1);
    session.mark_lost(LostReason::Closed);
    assert!(!rig.heart.adopt(rig.clock.now(), session));
    assert_eq!(rig.pass(TTL), []);
}

#[test]
fn a_closed_gate_leaves_out_the_renewals_of_its_lease_alone() {
    let mut rig = Rig::new();
    let (gated, other) = (
        rig.adopt(PastDeadline::Resume),
        rig.adopt(PastDeadline::Dead),
    );
    let (lever, gate) = crate::session::Gate::new();
    rig.heart.gate(gated.lease(), gate);
    assert_eq!(rig.step(), [Connect(1), Send(1), Send(2)]);
    rig.answer(1, 1);
    rig.answer(1, 2);

    lever.send_replace(false);
    for _ in 0..4 {
        assert_eq!(rig.advance(DUE), [Send(2)]);
        rig.answer(1, 2);
    }
    assert_eq!(gated.state(), SessionState::Overdue);
    assert!(other.is_live());
    // Nor when the stream is opened again.
    rig.heart.broke(rig.clock.now(), 1);
    assert_eq!(rig.step(), [Disconnect, Connect(2), Send(2)]);
    rig.answer(2, 2);

    lever.send_replace(true);
    assert_eq!(rig.advance(DUE), [Send(1), Send(2)]);
    rig.answer(2, 1);
    assert!(gated.is_live());
}
