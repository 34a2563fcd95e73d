use std::{pin::pin, sync::atomic::AtomicUsize, task::Waker};

use futures_util::poll;

use super::*;
use crate::{
    clock::ManualClock,
    session::script::{BELIEVED, TTL, spec},
};

const MS: Duration = Duration::from_millis(1);

fn session(past_deadline: PastDeadline) -> (Session, Clock, ManualClock) {
    let (clock, hand) = Clock::manual();
    let session = Session::new(
        &spec(past_deadline),
        7,
        TTL,
        clock.now(),
        clock.clone(),
        Arc::default(),
    );
    (session, clock, hand)
}

#[test]
fn state_and_deadline_survive_the_word() {
    use LostReason::*;
    use SessionState::*;
    let states = [
        Live,
        Overdue,
        Unverified,
        Lost(Expired),
        Lost(Revoked),
        Lost(Unconfirmed),
        Lost(MaxHold),
        Lost(LostReason::Closed),
    ];
    // A hundred years of uptime.
    let deadline = Instant::from_micros(100 * 365 * 24 * 3_600 * 1_000_000);
    for state in states {
        assert_eq!(decode(encode(state, deadline)), (state, deadline));
    }
}

#[test]
fn a_paused_process_knows_at_the_next_look() {
    for (policy, after) in [
        (PastDeadline::Dead, SessionState::Lost(LostReason::Expired)),
        (PastDeadline::Resume, SessionState::Overdue),
        (PastDeadline::Verify, SessionState::Overdue),
    ] {
        let (session, _, hand) = session(policy);
        hand.advance(BELIEVED - MS);
        assert_eq!(session.state(), SessionState::Live);
        assert_eq!(session.remaining(), MS);
        // No message, no Keeper: only the clock.
        hand.advance(MS);
        assert_eq!(session.state(), after, "{policy:?}");
        assert_eq!(session.remaining(), Duration::ZERO);
        assert!(!session.is_live());
    }
}

#[test]
fn a_dead_session_is_not_brought_back_by_a_late_answer() {
    let (session, clock, hand) = session(PastDeadline::Dead);
    let sent = clock.now() + BELIEVED - MS;
    hand.advance(BELIEVED);
    // The answer is fresh by itself, but the deadline has passed, and nobody has looked yet.
    session.renewed(sent, TTL);
    assert_eq!(session.state(), SessionState::Lost(LostReason::Expired));
}

#[test]
fn what_somebody_has_seen_to_lapse_has_lapsed_for_all() {
    let (session, clock, hand) = session(PastDeadline::Verify);
    let sent = clock.now() + MS;
    hand.advance(BELIEVED);
    assert_eq!(session.state(), SessionState::Overdue);
    // Sent before the deadline passed, answered after: it says nothing of the time since.
    session.renewed(sent, TTL);
    assert_eq!(session.state(), SessionState::Overdue);
}

#[test]
fn a_renewal_counts_from_its_send_and_never_moves_the_deadline_back() {
    let (session, clock, hand) = session(PastDeadline::Dead);
    let sent = clock.now() + MS * 2_000;
    hand.advance(MS * 3_000);
    session.renewed(sent, TTL);
    assert_eq!(session.deadline(), sent + BELIEVED);
    session.renewed(clock.now() - MS * 2_500, TTL);
    assert_eq!(session.deadline(), sent + BELIEVED);
}

#[test]
fn a_resumed_session_lives_as_soon_as_a_fresh_renewal_is_confirmed() {
    let (session, clock, hand) = session(PastDeadline::Resume);
    let mut states = session.states();
    hand.advance(BELIEVED * 3);
    session.lapse();
    session.announce();
    assert_eq!(*states.borrow_and_update(), SessionState::Overdue);
    let stale = session.renewed(clock.now() - BELIEVED, TTL);
    assert_eq!(stale, SessionState::Overdue, "that was too long ago");
    session.renewed(clock.now() - MS, TTL);
    session.announce();
    assert_eq!(session.state(), SessionState::Live);
    assert_eq!(*states.borrow_and_update(), SessionState::Live);
    assert_eq!(session.remaining(), BELIEVED - MS);
}

#[test]
fn a_suspended_session_is_believed_only_after_a_verification_that_followed_the_renewal() {
    let (session, clock, hand) = session(PastDeadline::Verify);
    assert_eq!(session.unverified(), None);
    hand.advance(BELIEVED * 2);
    let sent = clock.now();
    hand.advance(MS);
    session.renewed(sent, TTL);
    assert_eq!(session.state(), SessionState::Unverified);
    assert_eq!(session.remaining(), Duration::ZERO, "not believed yet");
    let first = session.unverified().expect("a renewal to verify after");

    // The read takes longer than that renewal is good for, and another one follows.
    hand.advance(BELIEVED);
    assert_eq!(session.state(), SessionState::Overdue);
    assert!(!session.verified(first));
    session.renewed(clock.now(), TTL);
    assert_eq!(session.state(), SessionState::Unverified);
    assert!(
        !session.verified(first),
        "that read was sent before this renewal"
    );
    assert_eq!(session.state(), SessionState::Unverified);

    // Keep-alives that follow in time push the deadline, and the renewal stays the same one.
    let second = session.unverified().expect("a renewal to verify after");
    hand.advance(BELIEVED - MS);
    session.renewed(clock.now(), TTL);
    hand.advance(MS * 2);
    assert_eq!(session.unverified(), Some(second));
    assert!(session.verified(second));
    assert_eq!(session.state(), SessionState::Live);
    assert_eq!(session.remaining(), BELIEVED - MS * 2);
}

#[test]
fn the_first_reason_stays() {
    let (session, clock, hand) = session(PastDeadline::Resume);
    session.mark_lost(LostReason::Revoked);
    session.mark_lost(LostReason::Closed);
    session.gone();
    session.renewed(clock.now(), TTL);
    hand.advance(BELIEVED * 2);
    assert_eq!(session.state(), SessionState::Lost(LostReason::Revoked));
}

#[test]
fn a_lease_that_is_gone_was_revoked_before_its_deadline_and_expired_after() {
    for (after, reason) in [
        (Duration::ZERO, LostReason::Revoked),
        (BELIEVED, LostReason::Expired),
    ] {
        let (session, _, hand) = session(PastDeadline::Resume);
        hand.advance(after);
        session.gone();
        assert_eq!(session.state(), SessionState::Lost(reason));
    }
}

#[tokio::test]
async fn everybody_who_waits_for_the_loss_is_woken_and_nobody_else() {
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (session, _, _) = session(PastDeadline::Dead);
    let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
    let mut waits: Vec<Lost> = counts
        .iter()
        .map(|count| {
            let mut lost = session.lost();
            let waker = Waker::from(count.clone());
            // Twice: one slot each.
            for _ in 0..2 {
                lost.register(&Context::from_waker(&waker));
            }
            lost
        })
        .collect();
    assert_eq!(session.0.changing().waiters.len(), 3);
    drop(waits.remove(1));
    assert_eq!(session.0.changing().waiters.len(), 2);
    let other = session.clone();
    let watching = tokio::spawn(async move { other.lost().await });
    let mut late = pin!(session.lost());
    assert!(poll!(late.as_mut()).is_pending());
    session.mark_lost(LostReason::Revoked);
    let woken: Vec<usize> = counts.iter().map(|c| c.0.load(Ordering::SeqCst)).collect();
    assert_eq!(woken, [1, 0, 1]);
    assert_eq!(late.await, LostReason::Revoked);
    assert_eq!(watching.await.expect("no panic"), LostReason::Revoked);
    assert_eq!(session.lost().await, LostReason::Revoked, "also afterwards");
}

#[test]
fn a_wait_for_the_loss_can_go_anywhere() {
    fn anywhere<T: Send + Sync + 'static>(_: T) {}
    anywhere(session(PastDeadline::Dead).0.lost());
}
