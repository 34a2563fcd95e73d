use std::{
    collections::HashSet,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::poll;

use super::*;
use crate::{
    clock::ManualClock,
    session::{
        PastDeadline, Undo,
        script::{
            BELIEVED, Call, Etcd, Peer, Script, TTL, accept, lost, refused, rest, script, spec,
            unsent,
        },
    },
};

const MS: Duration = Duration::from_millis(1);

/// The Keeper on the test's own thread, between two scripted connections.
struct Rig {
    keeper: Keeper,
    clock: Clock,
    hand: ManualClock,
    etcd: Etcd,
    beats: Etcd,
    heartbeat: Arc<Script>,
}

impl Rig {
    fn new() -> Self {
        let (clock, hand) = Clock::manual();
        let (calls, etcd) = script();
        let (heartbeat, beats) = script();
        let keeper = Keeper::over(
            calls,
            heartbeat.clone(),
            clock.clone(),
            Tasks::current(),
            Tasks::current(),
        );
        Self {
            keeper,
            clock,
            hand,
            etcd,
            beats,
            heartbeat,
        }
    }

    fn start_to_open(&self, past_deadline: PastDeadline) -> Opening {
        let keeper = self.keeper.clone();
        tokio::spawn(async move { keeper.open(spec(past_deadline)).await })
    }

    async fn open(&mut self, past_deadline: PastDeadline) -> Session {
        let opening = self.start_to_open(past_deadline);
        let (_, ttl, reply) = self.etcd.grant().await;
        drop(reply.send(Ok(ttl)));
        opening.await.expect("no panic").expect("granted")
    }

    /// A session on a stream that has answered once.
    async fn beating(past_deadline: PastDeadline) -> (Self, Session, Peer) {
        let mut rig = Self::new();
        let session = rig.open(past_deadline).await;
        let mut peer = rig.beats.keep_alives().await;
        assert_eq!(peer.lease().await, session.lease());
        peer.answer(session.lease(), Some(TTL));
        rest().await;
        (rig, session, peer)
    }

    async fn advance(&self, duration: Duration) {
        rest().await;
        self.hand.advance(duration);
        rest().await;
    }
}

type Opening = tokio::task::JoinHandle<Result<Session>>;

async fn opened(opening: Opening) -> Session {
    opening.await.expect("no panic").expect("granted")
}

#[tokio::test]
async fn an_unknown_grant_is_asked_for_again_under_the_same_id_and_counts_from_the_first() {
    let mut rig = Rig::new();
    let opening = rig.start_to_open(PastDeadline::Dead);
    let first = rig.clock.now();
    let (id, ttl, reply) = rig.etcd.grant().await;
    assert_eq!(ttl, TTL);
    drop(reply);
    rig.advance(MS * 400).await;
    let (again, _, reply) = rig.etcd.grant().await;
    assert_eq!(again, id);
    rig.advance(MS * 100).await;
    drop(reply.send(Ok(TTL)));
    let session = opened(opening).await;
    assert_eq!(session.lease(), id);
    assert_eq!(session.deadline(), first + BELIEVED);
}

#[tokio::test]
async fn a_lease_that_an_unanswered_grant_made_is_ours_with_what_was_granted() {
    let mut rig = Rig::new();
    let opening = rig.start_to_open(PastDeadline::Dead);
    let first = rig.clock.now();
    let (id, _, reply) = rig.etcd.grant().await;
    drop(reply);
    rig.advance(MS * 400).await;
    let (_, _, reply) = rig.etcd.grant().await;
    drop(reply.send(Err(refused(Reason::LeaseExists))));
    let (asked, reply) = rig.etcd.granted().await;
    assert_eq!(asked, id);
    rig.advance(MS * 100).await;
    drop(reply.send(Ok(Some(TTL * 2))));
    let session = opened(opening).await;
    assert_eq!(session.lease(), id);
    assert_eq!(
        session.ttl(),
        TTL * 2,
        "what was granted, not what was asked"
    );
    assert_eq!(session.deadline(), first + BELIEVED * 2);
}

#[tokio::test]
async fn an_id_that_is_somebody_elses_is_never_adopted() {
    let mut rig = Rig::new();
    let opening = rig.start_to_open(PastDeadline::Dead);
    let (id, _, reply) = rig.etcd.grant().await;
    drop(reply.send(Err(refused(Reason::LeaseExists))));
    rig.advance(MS * 100).await;
    let (other, ttl, reply) = rig.etcd.grant().await;
    assert_ne!(other, id);
    drop(reply.send(Ok(ttl)));
    assert_eq!(opened(opening).await.lease(), other);
}

#[tokio::test]
async fn an_id_whose_time_goes_by_is_revoked_and_drawn_anew() {
    let mut rig = Rig::new();
    let opening = rig.start_to_open(PastDeadline::Dead);
    let (id, _, reply) = rig.etcd.grant().await;
    // Longer than a third of the TTL, but the answer comes before all tries are used up.
    rig.advance(MS * 4_900).await;
    drop(reply);
    rig.advance(MS * 200).await;
    let (mut revoked, mut granted) = (None, None);
    for _ in 0..2 {
        match rig.etcd.call().await {
            Call::Revoke(id, reply) => {
                revoked = Some(id);
                drop(reply.send(Ok(())));
            }
            Call::Grant(id, ttl, reply) => {
                granted = Some((id, rig.clock.now()));
                drop(reply.send(Ok(ttl)));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    let (new, sent) = granted.expect("a new grant");
    assert_eq!(revoked, Some(id));
    assert_ne!(new, id);
    let session = opened(opening).await;
    assert_eq!(session.lease(), new);
    assert_eq!(
        session.deadline(),
        sent + BELIEVED,
        "from its own first grant"
    );
}

#[tokio::test]
async fn a_refusal_is_final_and_does_not_settle_the_copies_before_it() {
    let mut rig = Rig::new();
    let opening = rig.start_to_open(PastDeadline::Dead);
    let (_, _, reply) = rig.etcd.grant().await;
    drop(reply.send(Err(refused(Reason::Denied))));
    let error = opening.await.expect("no panic").expect_err("denied");
    assert_eq!(error.code(), "denied");
    assert!(rig.etcd.is_quiet().await, "nothing was granted");

    let opening = rig.start_to_open(PastDeadline::Dead);
    let (id, _, reply) = rig.etcd.grant().await;
    drop(reply.send(Err(lost())));
    rig.advance(MS * 100).await;
    let (_, _, reply) = rig.etcd.grant().await;
    drop(reply.send(Err(refused(Reason::Denied))));
    assert!(opening.await.expect("no panic").is_err());
    assert_eq!(rig.etcd.revoke().await.0, id, "the first may be there");
}

#[tokio::test]
async fn an_overloaded_or_unreachable_server_is_asked_again_for_a_while() {
    let mut rig = Rig::new();
    let opening = rig.start_to_open(PastDeadline::Dead);
    for error in [refused(Reason::Unavailable), unsent()] {
        let (_, _, reply) = rig.etcd.grant().await;
        drop(reply.send(Err(error)));
        rig.advance(MS * 200).await;
    }
    let mut tries = 0;
    while !opening.is_finished() {
        let (_, _, reply) = rig.etcd.grant().await;
        drop(reply.send(Err(unsent())));
        rig.advance(Duration::from_secs(1)).await;
        tries += 1;
        assert!(tries < 20, "it gives up");
    }
    let error = opening.await.expect("no panic").expect_err("unreachable");
    assert_eq!(error.code(), "unavailable");
    assert!(rig.etcd.is_quiet().await, "nothing can be there");
}

#[tokio::test]
async fn no_id_is_used_twice() {
    let mut rig = Rig::new();
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let session = rig.open(PastDeadline::Dead).await;
        assert!(session.lease() > 0);
        assert!(ids.insert(session.lease()));
    }
}

/// Drops `open` after `polls` polls; true if it had already been done.
async fn drop_open_after(polls: usize, lose_answers: bool) -> bool {
    let mut rig = Rig::new();
    let granted: Arc<Mutex<HashSet<i64>>> = Arc::default();
    let dropped = Arc::new(AtomicBool::new(false));
    let server = tokio::spawn({
        let (granted, dropped) = (granted.clone(), dropped.clone());
        async move {
            let mut first = true;
            loop {
                match rig.etcd.call().await {
                    Call::Grant(id, ttl, reply) => {
                        tokio::task::yield_now().await;
                        // Applied, whether or not the answer arrives.
                        granted.lock().expect("no panic").insert(id);
                        if lose_answers && std::mem::take(&mut first) {
                            drop(reply);
                        } else {
                            let _ = reply.send(Ok(ttl));
                        }
                    }
                    Call::Revoke(id, reply) => {
                        granted.lock().expect("no panic").remove(&id);
                        let _ = reply.send(Ok(()));
                    }
                    Call::Granted(_, reply) => drop(reply.send(Ok(Some(TTL)))),
                    Call::Txn(..) | Call::KeepAlives(_) => panic!("not on this connection"),
                }
                if dropped.load(Ordering::SeqCst) && granted.lock().expect("no panic").is_empty() {
                    return;
                }
            }
        }
    });
    let mut polled = 0;
    let done = {
        let mut open = pin!(rig.keeper.open(spec(PastDeadline::Dead)));
        loop {
            if polled == polls {
                break false;
            }
            polled += 1;
            if poll!(open.as_mut()).is_ready() {
                break true;
            }
            // A backoff may be what it waits for.
            rig.hand.advance(MS * 10);
            tokio::task::yield_now().await;
        }
    };
    dropped.store(true, Ordering::SeqCst);
    for _ in 0..200 {
        rig.hand.advance(MS * 10);
        tokio::task::yield_now().await;
    }
    rest().await;
    let left = granted.lock().expect("no panic").len();
    server.abort();
    assert_eq!(left, usize::from(done), "dropped after {polls} polls");
    done
}

#[tokio::test]
async fn a_dropped_open_leaves_no_lease_unrevoked() {
    for lose_answers in [false, true] {
        let mut polls = 0;
        while !drop_open_after(polls, lose_answers).await {
            polls += 1;
            assert!(polls < 500, "it is done some time");
        }
        assert!(polls > 2);
    }
}

#[tokio::test]
async fn a_lease_is_renewed_from_the_send_and_resumed_on_a_new_stream() {
    let (mut rig, session, mut peer) = Rig::beating(PastDeadline::Dead).await;
    rig.advance(MS * 5_500).await;
    let sent = rig.clock.now();
    assert_eq!(peer.lease().await, session.lease());
    rig.advance(MS * 300).await;
    peer.answer(session.lease(), Some(TTL));
    rest().await;
    assert_eq!(session.deadline(), sent + BELIEVED);

    drop(peer);
    rest().await;
    assert_eq!(rig.heartbeat.left.load(Ordering::SeqCst), 1);
    let mut peer = rig.beats.keep_alives().await;
    let sent = rig.clock.now();
    assert_eq!(peer.lease().await, session.lease(), "the same lease first");
    peer.answer(session.lease(), Some(TTL));
    rest().await;
    assert_eq!(session.deadline(), sent + BELIEVED);
    assert!(session.is_live());
    assert!(peer.is_quiet().await);
    assert!(rig.etcd.is_quiet().await, "no new lease");
}

#[tokio::test]
async fn a_stream_that_does_not_answer_is_closed_and_another_opened() {
    let (mut rig, session, mut peer) = Rig::beating(PastDeadline::Dead).await;
    rig.advance(MS * 5_500).await;
    assert_eq!(peer.lease().await, session.lease());
    rig.advance(TTL / 6).await;
    assert!(peer.is_closed().await);
    let mut other = rig.beats.keep_alives().await;
    assert_eq!(other.lease().await, session.lease());
    assert_eq!(rig.heartbeat.left.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_that_is_refused_for_its_token_gets_a_new_one() {
    let mut rig = Rig::new();
    let session = rig.open(PastDeadline::Resume).await;
    match rig.beats.call().await {
        Call::KeepAlives(reply) => drop(reply.send(Err(refused(Reason::BadToken)))),
        other => panic!("unexpected {other:?}"),
    }
    rig.advance(MS * 100).await;
    assert_eq!(rig.heartbeat.refreshed.load(Ordering::SeqCst), 1);
    let mut peer = rig.beats.keep_alives().await;
    assert_eq!(peer.lease().await, session.lease());
}

#[tokio::test]
async fn a_lock_session_past_its_deadline_is_lost_at_once_and_revoked_after_the_margin() {
    let (mut rig, session, peer) = Rig::beating(PastDeadline::Dead).await;
    let lost = tokio::spawn(session.lost());
    let mut states = session.states();
    let left = session.deadline().since(rig.clock.now());
    rig.advance(left - MS).await;
    assert!(!lost.is_finished());
    rig.advance(MS).await;
    assert!(lost.is_finished(), "woken by the clock alone");
    assert_eq!(lost.await.expect("no panic"), LostReason::Expired);
    assert_eq!(
        *states.borrow_and_update(),
        SessionState::Lost(LostReason::Expired)
    );
    let margin = session.stopped_at().since(session.deadline());
    assert!(margin > MS * 100);
    rig.advance(margin - MS).await;
    assert!(rig.etcd.is_quiet().await, "a body may still be stopping");
    rig.advance(MS).await;
    for _ in 0..3 {
        let (id, reply) = rig.etcd.revoke().await;
        assert_eq!(id, session.lease());
        drop(reply);
        rig.advance(Duration::from_secs(1)).await;
    }
    let (_, reply) = rig.etcd.revoke().await;
    drop(reply.send(Err(refused(Reason::LeaseNotFound))));
    rig.advance(Duration::from_secs(2)).await;
    assert!(rig.etcd.is_quiet().await);
    drop(peer);
    assert!(rig.beats.is_quiet().await, "it is never renewed again");
}

#[tokio::test]
async fn a_registration_is_overdue_promptly_and_lives_again() {
    let (mut rig, session, peer) = Rig::beating(PastDeadline::Resume).await;
    let mut states = session.states();
    drop(peer);
    rig.advance(session.deadline().since(rig.clock.now())).await;
    assert!(states.has_changed().expect("it lives"));
    assert_eq!(*states.borrow_and_update(), SessionState::Overdue);
    let mut peer = loop {
        match rig.beats.waiting_call().await {
            Some(Call::KeepAlives(reply)) if !reply.is_closed() => break accept(reply),
            _ => rig.advance(MS * 100).await,
        }
    };
    assert_eq!(peer.lease().await, session.lease());
    peer.answer(session.lease(), Some(TTL));
    rest().await;
    assert_eq!(*states.borrow_and_update(), SessionState::Live);
    assert!(rig.etcd.is_quiet().await, "the same lease");
}

#[tokio::test]
async fn an_answer_without_a_ttl_is_a_lost_lease() {
    let (mut rig, session, mut peer) = Rig::beating(PastDeadline::Resume).await;
    let lost = session.lost();
    rig.advance(MS * 5_500).await;
    assert_eq!(peer.lease().await, session.lease());
    peer.answer(session.lease(), None);
    assert_eq!(lost.await, LostReason::Revoked);
    assert!(rig.keeper.health().is_empty());
    assert!(rig.etcd.is_quiet().await);
}

#[tokio::test]
async fn what_its_user_declares_lost_stops_and_is_revoked() {
    let (mut rig, session, mut peer) = Rig::beating(PastDeadline::Verify).await;
    session.mark_lost(LostReason::Revoked);
    assert_eq!(rig.etcd.revoke().await.0, session.lease());
    rig.advance(TTL).await;
    assert!(peer.is_quiet().await);
    assert!(peer.is_closed().await);
}

#[tokio::test]
async fn an_end_is_a_revoke_and_an_abandon_is_not() {
    let (mut rig, session, _peer) = Rig::beating(PastDeadline::Dead).await;
    let abandoned = rig.open(PastDeadline::Verify).await;
    let ending = tokio::spawn({
        let (keeper, session) = (rig.keeper.clone(), session.clone());
        async move { keeper.end(&session).await }
    });
    let (id, reply) = rig.etcd.revoke().await;
    assert_eq!(id, session.lease());
    assert!(!session.is_live(), "the belief ends before the lease does");
    drop(reply.send(Ok(())));
    ending.await.expect("no panic").expect("revoked");

    rig.keeper.abandon(&abandoned);
    assert!(rig.etcd.is_quiet().await);
    assert_eq!(abandoned.state(), SessionState::Lost(LostReason::Closed));
    rig.keeper.close(Duration::from_secs(1)).await;
    assert!(rig.etcd.is_quiet().await, "it is left to run out");
}

#[tokio::test]
async fn closing_revokes_all_at_once_and_runs_the_undo_queue_dry() {
    let (mut rig, first, _peer) = Rig::beating(PastDeadline::Dead).await;
    let second = rig.open(PastDeadline::Resume).await;
    let key = crate::key::Layout::new("", "", "", "").lock_session(1);
    let undone = rig
        .keeper
        .undo()
        .push(Undo::Delete { keys: vec![key] }, None);
    let closing = tokio::spawn({
        let keeper = rig.keeper.clone();
        async move { keeper.close(Duration::from_secs(1)).await }
    });
    let mut revoked = HashSet::new();
    let mut replies = Vec::new();
    for _ in 0..3 {
        match rig.etcd.call().await {
            Call::Revoke(id, reply) => {
                revoked.insert(id);
                // Not answered yet: the others do not wait for it.
                replies.push(reply);
            }
            Call::Txn(_, reply) => {
                drop(reply.send(Ok(crate::client::TxnReply::default())));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(revoked, HashSet::from([first.lease(), second.lease()]));
    for session in [&first, &second] {
        assert_eq!(session.state(), SessionState::Lost(LostReason::Closed));
    }
    assert!(undone.done().await.is_ok());
    assert!(!closing.is_finished());
    for reply in replies {
        drop(reply.send(Ok(())));
    }
    closing.await.expect("no panic");
    let late = rig.keeper.open(spec(PastDeadline::Dead)).await;
    assert_eq!(late.expect_err("closed").code(), "closed");
}

#[tokio::test]
async fn closing_takes_no_longer_than_it_may() {
    let (mut rig, session, _peer) = Rig::beating(PastDeadline::Dead).await;
    let opening = rig.start_to_open(PastDeadline::Dead);
    let (late, _, grant) = rig.etcd.grant().await;
    let closing = tokio::spawn({
        let keeper = rig.keeper.clone();
        async move { keeper.close(Duration::from_secs(1)).await }
    });
    let (id, _unanswered) = rig.etcd.revoke().await;
    assert_eq!(id, session.lease());
    rig.advance(Duration::from_secs(1)).await;
    assert!(closing.is_finished());
    // A grant that was under way comes too late.
    drop(grant.send(Ok(TTL)));
    let error = opening.await.expect("no panic").expect_err("closed");
    assert_eq!(error.code(), "closed");
    assert_eq!(rig.etcd.revoke().await.0, late);
}

#[tokio::test]
async fn health_shows_every_session() {
    let (mut rig, session, _peer) = Rig::beating(PastDeadline::Dead).await;
    rig.open(PastDeadline::Resume).await;
    rig.advance(MS * 100).await;
    let health = rig.keeper.health();
    assert_eq!(health.len(), 2);
    let shown = health
        .iter()
        .find(|shown| shown.lease == session.lease())
        .expect("the first one");
    assert_eq!(shown.purpose, "test");
    assert_eq!(shown.state, SessionState::Live);
    assert_eq!(shown.remaining, BELIEVED - MS * 100);
}

#[tokio::test]
async fn a_renewal_that_is_asked_for_is_sent_at_once_and_confirmed_by_its_own_answer() {
    let (rig, session, mut peer) = Rig::beating(PastDeadline::Dead).await;
    rig.advance(MS * 100).await;
    let renew = || rig.keeper.renew(&session);
    let mut first = pin!(renew());
    assert!(poll!(first.as_mut()).is_pending());
    assert_eq!(peer.lease().await, session.lease());
    // Asked while one is under way: its answer says nothing of the time since.
    rig.advance(MS * 100).await;
    let mut second = pin!(renew());
    assert!(poll!(second.as_mut()).is_pending());
    assert!(peer.is_quiet().await, "one at a time");
    peer.answer(session.lease(), Some(TTL));
    first.await;
    assert!(poll!(second.as_mut()).is_pending());
    assert_eq!(peer.lease().await, session.lease());
    peer.answer(session.lease(), Some(TTL));
    second.await;
    assert_eq!(session.deadline(), rig.clock.now() + BELIEVED);
    // The next one is due an interval later.
    assert!(peer.is_quiet().await);
}

#[tokio::test]
async fn a_renewal_that_is_asked_for_survives_its_stream_and_ends_with_nobody_waiting() {
    let (mut rig, session, mut peer) = Rig::beating(PastDeadline::Dead).await;
    rig.advance(MS * 100).await;
    let mut renewal = pin!(rig.keeper.renew(&session));
    assert!(poll!(renewal.as_mut()).is_pending());
    assert_eq!(peer.lease().await, session.lease());
    drop(peer);
    rig.advance(MS * 3_000).await;
    let mut peer = rig.beats.keep_alives().await;
    assert_eq!(peer.lease().await, session.lease());
    peer.answer(session.lease(), Some(TTL));
    renewal.await;
    rig.advance(MS * 100).await;
    drop(rig.keeper.renew(&session));
    session.mark_lost(LostReason::Revoked);
    let mut never = pin!(rig.keeper.renew(&session));
    rest().await;
    assert!(poll!(never.as_mut()).is_pending());
}
