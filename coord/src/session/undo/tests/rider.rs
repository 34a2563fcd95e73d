//! What goes along with the deletes.

use super::*;
use crate::client::{Certainty, Compare, CompareOp, Header};

/// Somebody's transaction.
fn acquire(key: &str) -> Txn {
    let span = Span::Key(key.as_bytes().to_vec());
    Txn {
        when: vec![Compare::create_revision(span, CompareOp::Equal, 0)],
        then: vec![Op::Put {
            key: key.as_bytes().to_vec(),
            value: Vec::new(),
            lease: 7,
        }],
        ..Txn::default()
    }
}

/// As etcd answers: the nested one has no header.
fn answered(txn: &Txn) -> TxnReply {
    let mut reply = applied(txn);
    reply.header = Header {
        revision: 70,
        ..Header::default()
    };
    for (op, reply) in txn.then.iter().zip(&mut reply.replies) {
        if matches!(op, Op::Txn(_)) {
            *reply = OpReply::Txn(TxnReply {
                succeeded: true,
                replies: vec![OpReply::Put],
                ..TxnReply::default()
            });
        }
    }
    reply
}

/// The deletes of a transaction, and the rider.
fn split(txn: &Txn) -> (Vec<String>, Option<&Txn>) {
    let mut plain = txn.clone();
    let rider = match txn.then.last() {
        Some(Op::Txn(rider)) => {
            plain.then.pop();
            Some(rider)
        }
        _ => None,
    };
    (short(&plain).1, rider)
}

async fn answer(told: oneshot::Receiver<Turn>) -> Result<TxnReply, CallError> {
    match told.await.expect("it is told") {
        Turn::Answered(answer) => answer,
        Turn::Alone => panic!("it was sent"),
    }
}

#[tokio::test]
async fn it_comes_after_the_deletes_and_is_answered_by_itself() {
    let (queue, mut etcd, _) = queue();
    assert!(queue.along(|| acquire("a")).is_none(), "nothing to go with");
    let released = [1, 2].map(|n| queue.push(delete([n]), None));
    let told = queue.along(|| acquire("a")).expect("it goes along");
    assert!(queue.along(|| acquire("b")).is_none(), "one at a time");
    let (txn, reply) = etcd.txn().await;
    assert_eq!(split(&txn), (names(&["1", "2"]), Some(&acquire("a"))));
    drop(queue.push(delete([3]), None));
    assert!(queue.along(|| acquire("b")).is_none(), "one is under way");
    drop(reply.send(Ok(answered(&txn))));
    let own = answer(told).await.expect("an answer");
    assert!(own.succeeded);
    assert_eq!((own.header.revision, own.replies.len()), (70, 1));
    for released in released {
        let found = released.done().await.expect("done");
        assert_eq!(found[0].as_ref().map(|kv| kv.create_revision), Some(7));
    }
    let (txn, reply) = etcd.txn().await;
    assert_eq!(split(&txn), (names(&["3"]), None));
    drop(reply.send(Ok(applied(&txn))));
    queue.drained().await;
    assert!(etcd.is_quiet().await);
}

#[tokio::test]
async fn whoever_has_gone_by_then_is_not_sent() {
    let (queue, mut etcd, _) = queue();
    drop(queue.push(delete([1]), None));
    drop(queue.along(|| acquire("a")));
    let (txn, reply) = etcd.txn().await;
    assert_eq!(split(&txn), (names(&["1"]), None));
    drop(reply.send(Ok(applied(&txn))));
    queue.drained().await;
}

#[tokio::test]
async fn what_is_refused_for_it_is_done_without() {
    for (reason, alone) in [
        (Reason::Denied, true),
        (Reason::Invalid, true),
        (Reason::LeaseNotFound, false),
        (Reason::NoSpace, false),
    ] {
        let (queue, mut etcd, _) = queue();
        let released = queue.push(delete([1]), None);
        let told = queue.along(|| acquire("a")).expect("it goes along");
        let (_, reply) = etcd.txn().await;
        drop(reply.send(Err(refused(reason))));
        match told.await.expect("it is told") {
            Turn::Alone => assert!(alone, "{reason:?}"),
            Turn::Answered(answer) => {
                assert!(!alone, "{reason:?}");
                assert_eq!(answer.expect_err("refused").reason, reason);
            }
        }
        // At once, and with nobody else.
        assert!(queue.along(|| acquire("b")).is_none());
        let (txn, reply) = etcd.txn().await;
        assert_eq!(split(&txn), (names(&["1"]), None));
        drop(reply.send(Ok(applied(&txn))));
        assert!(released.done().await.expect("done")[0].is_some());
        // Then with somebody again.
        drop(queue.push(delete([2]), None));
        assert!(queue.along(|| acquire("c")).is_some());
    }
}

#[tokio::test]
async fn an_unknown_answer_is_both_ones() {
    let (queue, mut etcd, hand) = queue();
    let nonces = Nonces::default();
    let nonce = nonces.take(&[Prefix::default()]);
    drop(queue.push(delete([1]), Some(nonce)));
    let told = queue.along(|| acquire("a")).expect("it goes along");
    let (_, reply) = etcd.txn().await;
    drop(reply.send(Err(lost())));
    let error = answer(told).await.expect_err("nobody knows");
    assert_eq!(error.certainty, Certainty::Unknown);
    rest().await;
    assert!(queue.along(|| acquire("b")).is_none(), "etcd is left alone");
    hand.advance(Duration::from_secs(1));
    let (txn, reply) = etcd.txn().await;
    assert_eq!(split(&txn), (names(&["1"]), None));
    drop(reply.send(Ok(nothing_there(&txn))));
    queue.drained().await;
    // A late copy may delete the key.
    assert_eq!(number(&nonces), 1);
}

#[tokio::test]
async fn the_end_of_the_queue_tells_it() {
    let (queue, _etcd, _) = queue();
    drop(queue.push(delete([1]), None));
    let told = queue.along(|| acquire("a")).expect("it goes along");
    queue.close();
    assert!(told.await.is_err());
}

#[test]
fn it_goes_with_nothing_that_is_more_than_a_delete() {
    let mut rig = Rig::new();
    drop(rig.push(fence(1, [1])));
    let along = |rig: &mut Rig| rig.ledger.along(rig.now, || acquire("a"));
    assert!(along(&mut rig).is_none(), "a fence");
    rig.apply();
    drop(rig.push(delete([2])));
    rig.refuse(Reason::Denied);
    let Next::Wait(Some(until)) = rig.ledger.next(rig.now) else {
        panic!("it is asked for now and then");
    };
    rig.now = until;
    assert!(along(&mut rig).is_none(), "one that was refused");
}

/// Something between here and etcd may answer what goes together with nothing that can be understood,
/// however often.
#[test]
fn what_has_failed_with_it_goes_again_without() {
    for error in [lost(), refused(Reason::BadToken), refused(Reason::Denied)] {
        let mut rig = Rig::new();
        drop(rig.push(delete([1])));
        let along = |rig: &mut Rig| rig.ledger.along(rig.now, || acquire("a"));
        let told = along(&mut rig);
        assert!(told.is_some());
        let batch = rig.next();
        assert!(batch.rider.is_some());
        rig.settle(&batch, Err(error));
        // After any pause.
        rig.now = rig.now + Duration::from_secs(60);
        assert!(along(&mut rig).is_none());
        assert_eq!(rig.apply().1, names(&["1"]));
        drop(rig.push(delete([2])));
        assert!(along(&mut rig).is_some());
    }
}

/// An older fence is due by the time that the next transaction is made.
#[test]
fn what_it_was_to_go_with_may_have_to_wait() {
    let mut rig = Rig::new();
    drop(rig.push(fence(1, [1])));
    rig.refuse(Reason::Denied);
    drop(rig.push(delete([2])));
    let told = rig.ledger.along(rig.now, || acquire("a"));
    assert!(told.is_some());
    rig.now = rig.now + Duration::from_secs(60);
    let batch = rig.next();
    assert_eq!(short(&batch.txn).0, [1]);
    assert!(batch.rider.is_none());
    assert_eq!(batch.left.expect("it is told so").txn, acquire("a"));
}

/// etcd takes 128 operations, those of what is nested among them.
#[test]
fn it_leaves_room_for_what_is_nested() {
    let mut rig = Rig::new();
    let released: Vec<_> = (0..130).map(|n| rig.push(delete([n]))).collect();
    let large = || Txn {
        then: (0..40).map(|_| Op::Txn(acquire("a"))).collect(),
        ..Txn::default()
    };
    let told = rig.ledger.along(rig.now, large).expect("it goes along");
    let batch = rig.next();
    let (deletes, rider) = split(&batch.txn);
    assert_eq!((deletes.len(), rider), (79, Some(&large())));
    rig.settle(&batch, Ok(applied(&batch.txn)));
    assert_eq!(rig.apply().1.len(), 51);
    assert_eq!(rig.ledger.len(), 0);
    drop((released, told));
}
