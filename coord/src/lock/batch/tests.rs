use proptest::prelude::*;

use super::*;
use crate::{
    client::{Compare, CompareOp, Header, OpReply, Span},
    key::Layout,
};

fn queue(name: &str) -> Prefix {
    let layout = Layout::new("", "config/", "coord/", "coord/");
    layout.raw_lock_queue(name).expect("a good name")
}

/// One that can be told from others.
fn request(n: usize) -> Txn {
    let span = Span::Key(n.to_string().into_bytes());
    Txn {
        when: vec![Compare::create_revision(span, CompareOp::Equal, 0)],
        ..Txn::default()
    }
}

fn overlap(one: &Prefix, other: &Prefix) -> bool {
    let [one, other] = [one.as_bytes(), other.as_bytes()];
    one.starts_with(other) || other.starts_with(one)
}

proptest! {
    #[test]
    fn nothing_gathered_overlaps_and_nothing_apart_is_turned_away(
        names in prop::collection::vec("[ab](/[ab.-]{1,2}){0,3}", 1..60),
    ) {
        let mut gathered = Gathered::default();
        let mut inside: Vec<Prefix> = Vec::new();
        let mut turns = Vec::new();
        for name in &names {
            let queue = queue(name);
            let apart = !inside.iter().any(|other| overlap(&queue, other));
            prop_assert_eq!(gathered.takes(&queue), apart, "{}", name);
            if apart {
                turns.push(gathered.add(queue.clone(), request(inside.len())));
                inside.push(queue);
            }
        }
        let (requests, senders) = awaited(gathered.take());
        prop_assert_eq!(senders.len(), inside.len());
        let expected: Vec<_> = (0..inside.len()).map(request).collect();
        prop_assert_eq!(requests, expected, "in the order in which they came");
        prop_assert!(inside.iter().all(|queue| gathered.takes(queue)), "it is empty again");
    }
}

#[test]
fn what_does_not_fit_goes_next_in_its_order() {
    let mut gathered = Gathered::default();
    // Later ones come earlier in the order of names.
    let of = |n: usize| queue(&format!("n/{:03}", 999 - n));
    let turns: Vec<_> = (0..MOST + 3)
        .map(|n| gathered.add(of(n), request(n)))
        .collect();
    let (first, _) = awaited(gathered.take());
    assert_eq!(first, (0..MOST).map(request).collect::<Vec<_>>());
    assert!(gathered.takes(&of(0)) && !gathered.takes(&of(MOST)));
    let (rest, _) = awaited(gathered.take());
    assert_eq!(rest, (MOST..MOST + 3).map(request).collect::<Vec<_>>());
    assert!(gathered.is_empty() && gathered.take().is_empty());
    drop(turns);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    let mut gathered = Gathered::default();
    let of = |n: usize| queue(&format!("n/{n}"));
    let [_zero, one, _two] = [0, 1, 2].map(|n| gathered.add(of(n), request(n)));
    drop(one);
    assert!(!gathered.takes(&of(1)), "until the next one leaves");
    let (requests, _) = awaited(gathered.take());
    assert_eq!(requests, [0, 2].map(request));
    assert!(gathered.takes(&of(1)));
}

#[test]
fn few_go_by_themselves_and_nobody_before_those_who_wait() {
    let of = |n: usize| queue(&format!("n/{n}"));
    let mut lanes = Lanes::default();
    let enter = |lanes: &mut Lanes, n| lanes.enter(&of(n), || request(n));
    for n in 0..LANES {
        assert!(matches!(enter(&mut lanes, n), Entered::Lane));
    }
    let first = enter(&mut lanes, 10);
    assert!(matches!(first, Entered::Gathered { first: true, .. }));
    lanes.busy -= 1;
    let next = enter(&mut lanes, 11);
    assert!(matches!(next, Entered::Gathered { first: false, .. }));
    assert!(matches!(enter(&mut lanes, 11), Entered::Beside));
    assert_eq!(lanes.gathered.take().len(), 2);
    assert!(matches!(enter(&mut lanes, 12), Entered::Lane));
}

/// What a waker does is not known: it may drop another acquire, which frees its lane.
#[cfg(feature = "embedded")]
#[tokio::test]
async fn who_waits_is_told_of_a_close_with_nothing_locked() {
    struct Looks(Batcher, Mutex<Vec<bool>>);
    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {
            let free = self.0.0.lanes.try_lock().is_ok();
            self.1.lock().unwrap().push(free);
        }
    }
    let server = crate::embedded::Server::start().await.unwrap();
    let coordinator = server.coordinator().await.unwrap();
    let guard = coordinator.lock("a").acquire().await.unwrap();
    let engine = guard.hold().queued().unwrap().session.engine().clone();
    let batcher = Batcher::new(engine);
    let mut turn = std::pin::pin!(batcher.lanes().gathered.add(queue("b"), request(0)));
    let looks = Arc::new(Looks(batcher.clone(), Mutex::default()));
    let waker = looks.clone().into();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(turn.as_mut().poll(&mut cx).is_pending());
    drop(Carrier {
        batcher,
        left: false,
    });
    assert_eq!(*looks.1.lock().unwrap(), [true]);
    assert!(matches!(
        turn.as_mut().poll(&mut cx),
        std::task::Poll::Ready(Err(_))
    ));
}

/// What each of two is told.
fn told(answer: Result<TxnReply, CallError>) -> [Turn; 2] {
    let (turns, told): (Vec<_>, Vec<_>) = (0..2).map(|_| oneshot::channel()).unzip();
    settle(turns, answer);
    let mut told = told.into_iter().map(|mut told| told.try_recv());
    [0, 1].map(|_| told.next().expect("two").expect("it is told"))
}

#[test]
fn each_is_told_its_own_answer_under_the_common_header() {
    let own = |succeeded| {
        OpReply::Txn(TxnReply {
            succeeded,
            ..TxnReply::default()
        })
    };
    let header = Header {
        revision: 7,
        ..Header::default()
    };
    let reply = |replies| {
        Ok(TxnReply {
            header,
            succeeded: true,
            replies,
        })
    };
    let [first, second] = told(reply(vec![own(true), own(false)]));
    let of = |turn: Turn| match turn {
        Turn::Answered(Ok(reply)) => (reply.header.revision, reply.succeeded),
        _ => panic!("no answer"),
    };
    assert_eq!([of(first), of(second)], [(7, true), (7, false)]);
    // An answer that is missing is not another's.
    let [_, missing] = told(reply(vec![own(true)]));
    assert!(matches!(missing, Turn::Answered(Err(error)) if error.certainty == Certainty::Unknown));
}

#[test]
fn what_one_may_be_to_blame_for_is_tried_by_each() {
    let failed = |certainty, reason| told(Err(CallError::new(certainty, reason, "")));
    for reason in [Reason::Denied, Reason::Invalid, Reason::TooLarge] {
        let told = failed(Certainty::Refused, reason);
        assert!(matches!(told, [Turn::Alone, Turn::Alone]), "{reason:?}");
    }
    // Nobody may send again what may have been done as if it had not; and of what is nobody's fault
    // sixty-four copies at once would only make it worse.
    for (certainty, reason) in [
        (Certainty::Unknown, Reason::Denied),
        (Certainty::Unknown, Reason::Timeout),
        (Certainty::NotSent, Reason::Unavailable),
        (Certainty::Refused, Reason::LeaseNotFound),
        (Certainty::Refused, Reason::Unavailable),
        (Certainty::Refused, Reason::NoSpace),
    ] {
        for turn in failed(certainty, reason) {
            let Turn::Answered(Err(error)) = turn else {
                panic!("{certainty:?} {reason:?}");
            };
            assert_eq!((error.certainty, error.reason), (certainty, reason));
        }
    }
}
