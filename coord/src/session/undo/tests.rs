mod rider;

use super::{ledger::Answer, *};
use crate::{
    client::{CallError, DeleteReply, Op, OpReply, Span, Txn, TxnReply},
    clock::{Instant, ManualClock},
    key::{Layout, Prefix},
    session::{
        Nonces,
        script::{Etcd, lost, refused, rest, script, unsent},
    },
};
use std::time::Duration;

fn key(name: &str) -> Key {
    Layout::new("", "", "", "")
        .lock_queue("test")
        .expect("a name")
        .key(name)
}

fn keys(names: impl IntoIterator<Item = usize>) -> Vec<Key> {
    names.into_iter().map(|n| key(&n.to_string())).collect()
}

fn delete(names: impl IntoIterator<Item = usize>) -> Undo {
    Undo::Delete { keys: keys(names) }
}

fn fence(session: i64, names: impl IntoIterator<Item = usize>) -> Undo {
    Undo::Fence {
        session_key: key(&format!("session{session}")),
        lease: session,
        keys: keys(names),
    }
}

/// A transaction in short: the leases of its puts, and the names of the keys it deletes.
fn short(txn: &Txn) -> (Vec<i64>, Vec<String>) {
    assert!(txn.when.is_empty() && txn.otherwise.is_empty());
    assert!(txn.then.len() <= 120);
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    for op in &txn.then {
        match op {
            Op::Put { lease, key, .. } => {
                assert!(deletes.is_empty(), "the fence comes first");
                assert!(key.ends_with(format!("session{lease}").as_bytes()));
                puts.push(*lease);
            }
            Op::Delete {
                span: Span::Key(key),
                prev: true,
            } => {
                let name = String::from_utf8(key.clone()).expect("our keys");
                let name = name.rsplit_once('/').expect("a prefix").1.to_owned();
                assert!(!deletes.contains(&name), "a duplicate key is refused");
                deletes.push(name);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    (puts, deletes)
}

/// An answer in which each deleted key had its name's bytes as its value.
fn applied(txn: &Txn) -> TxnReply {
    let reply = |op: &Op| match op {
        Op::Delete {
            span: Span::Key(key),
            ..
        } => OpReply::Delete(DeleteReply {
            deleted: 1,
            prev: vec![KeyValue {
                key: key.clone(),
                create_revision: 7,
                ..KeyValue::default()
            }],
        }),
        _ => OpReply::Put,
    };
    TxnReply {
        succeeded: true,
        replies: txn.then.iter().map(reply).collect(),
        ..TxnReply::default()
    }
}

fn nothing_there(txn: &Txn) -> TxnReply {
    let mut reply = applied(txn);
    for reply in &mut reply.replies {
        if let OpReply::Delete(deleted) = reply {
            *deleted = DeleteReply::default();
        }
    }
    reply
}

/// The ledger by hand.
struct Rig {
    ledger: Ledger,
    now: Instant,
}

/// The next number.
fn number(nonces: &Nonces) -> u64 {
    let nonce = nonces.take(&[Prefix::default()]);
    nonce.numbers().map(|(_, number)| number).sum()
}

type Awaited = oneshot::Receiver<Result<Found>>;

impl Rig {
    fn new() -> Self {
        let now = Clock::manual().0.now();
        Self {
            ledger: Ledger::new(now),
            now,
        }
    }

    fn push(&mut self, undo: Undo) -> Awaited {
        let (reply, answer) = oneshot::channel();
        self.ledger.push(self.now, undo, None, reply);
        answer
    }

    /// Of a key with a number in its name.
    fn push_numbered(&mut self, undo: Undo, nonces: &Nonces) {
        let (reply, _) = oneshot::channel();
        let nonce = Some(nonces.take(&[Prefix::default()]));
        self.ledger.push(self.now, undo, nonce, reply);
    }

    fn next(&mut self) -> ledger::Batch {
        // Through any pause.
        for _ in 0..100 {
            match self.ledger.next(self.now) {
                Next::Send(batch) => return batch,
                Next::Wait(until) => self.now = until.expect("something to do"),
            }
        }
        panic!("it only waits");
    }

    fn settle(&mut self, batch: &ledger::Batch, result: Result<TxnReply, CallError>) {
        let answers: Vec<Answer> = self.ledger.settle(self.now, batch, result);
        for (reply, answer) in answers {
            let _ = reply.send(answer);
        }
    }

    fn apply(&mut self) -> (Vec<i64>, Vec<String>) {
        let batch = self.next();
        let reply = applied(&batch.txn);
        self.settle(&batch, Ok(reply));
        short(&batch.txn)
    }

    fn refuse(&mut self, reason: Reason) -> (Vec<i64>, Vec<String>) {
        let batch = self.next();
        self.settle(&batch, Err(refused(reason)));
        short(&batch.txn)
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn revisions(mut awaited: Awaited) -> Vec<Option<i64>> {
    let found = awaited.try_recv().expect("answered").expect("done");
    found
        .into_iter()
        .map(|record| record.map(|record| record.create_revision))
        .collect()
}

/// Whoever wants a queue to be clear waits for what was handed in before, and not for what etcd fails to do.
#[test]
fn a_queue_is_cleared_of_what_came_before_while_nothing_goes_wrong() {
    let [here, elsewhere] = ["test", "elsewhere"].map(|name| {
        let layout = Layout::new("", "", "", "");
        layout.lock_queue(name).expect("a name")
    });
    let mut rig = Rig::new();
    let clears = |rig: &Rig, queue: &Prefix, end| {
        rig.ledger.clears(rig.now, std::slice::from_ref(queue), end)
    };
    let before = rig.ledger.end();
    rig.push(delete([1]));
    let end = rig.ledger.end();
    assert!(clears(&rig, &here, end));
    assert!(!clears(&rig, &here, before), "it came later");
    assert!(!clears(&rig, &elsewhere, end));

    let batch = rig.next();
    rig.settle(&batch, Err(lost()));
    assert!(!clears(&rig, &here, end), "etcd does not answer");
    rig.refuse(Reason::Denied);
    assert!(!clears(&rig, &here, end), "it is refused");

    let mut rig = Rig::new();
    rig.push(delete([1]));
    let end = rig.ledger.end();
    rig.apply();
    assert!(!clears(&rig, &here, end), "it is done");
}

#[test]
fn deletes_go_together_up_to_the_limit_and_each_key_once() {
    let mut rig = Rig::new();
    let receipts: Vec<_> = (0..130).map(|n| rig.push(delete([n]))).collect();
    let twice = rig.push(delete([3, 125]));
    let first = rig.apply().1;
    assert_eq!(first.len(), 120);
    assert_eq!(rig.ledger.len(), 11);
    // The last one's keys go together, so one of them a second time.
    assert_eq!(rig.apply().1.len(), 11);
    assert_eq!(rig.ledger.len(), 0);
    for receipt in receipts {
        assert_eq!(revisions(receipt), [Some(7)]);
    }
    assert_eq!(revisions(twice), [Some(7), Some(7)]);
}

#[test]
fn one_undo_of_more_keys_than_a_transaction_takes_goes_in_parts() {
    let mut rig = Rig::new();
    let plain = rig.push(delete(0..300));
    let fenced = rig.push(fence(1, 300..600));
    let mut sizes = Vec::new();
    while rig.ledger.len() > 0 {
        let (puts, deletes) = rig.apply();
        sizes.push((puts.len(), deletes.len()));
    }
    assert_eq!(sizes.iter().map(|(_, deletes)| deletes).sum::<usize>(), 600);
    assert_eq!(sizes.iter().map(|(puts, _)| puts).sum::<usize>(), 1);
    assert_eq!(revisions(plain), vec![Some(7); 300]);
    assert_eq!(revisions(fenced), vec![Some(7); 300]);
}

#[test]
fn fences_of_one_session_are_one_put_and_of_two_sessions_two_transactions() {
    let mut rig = Rig::new();
    drop(rig.push(fence(1, [1])));
    drop(rig.push(fence(2, [2])));
    drop(rig.push(delete([3])));
    drop(rig.push(fence(1, [4, 5])));
    assert_eq!(rig.apply(), (vec![1], names(&["1", "4", "5"])));
    assert_eq!(rig.apply(), (vec![2], names(&["2"])));
    assert_eq!(rig.apply(), (vec![], names(&["3"])));
    assert_eq!(rig.ledger.len(), 0);
}

#[test]
fn an_unknown_answer_is_followed_by_the_same_again() {
    let mut rig = Rig::new();
    let plain = rig.push(delete([1]));
    let fenced = rig.push(fence(9, [2]));
    for expected in [(vec![], names(&["1"])), (vec![9], names(&["2"]))] {
        for error in [lost(), unsent(), refused(Reason::BadToken)] {
            let before = rig.now;
            let batch = rig.next();
            assert_eq!(short(&batch.txn), expected);
            rig.settle(&batch, Err(error));
            assert!(matches!(
                rig.ledger.next(rig.now),
                Next::Wait(Some(_)) | Next::Send(_)
            ));
            assert!(rig.now.since(before) < Duration::from_secs(2));
        }
        // The copy with the unknown answer had deleted it.
        let batch = rig.next();
        let reply = nothing_there(&batch.txn);
        rig.settle(&batch, Ok(reply));
    }
    assert_eq!(revisions(plain), [None], "nobody can tell any more");
    assert_eq!(revisions(fenced), [None]);
    assert_eq!(rig.ledger.len(), 0);
}

#[test]
fn while_etcd_does_not_answer_a_push_does_not_hurry_the_next_try() {
    let mut rig = Rig::new();
    drop(rig.push(delete([1])));
    let mut waited = 0;
    for n in 2..200 {
        let batch = rig.next();
        rig.settle(&batch, Err(unsent()));
        drop(rig.push(delete([n])));
        waited += usize::from(matches!(rig.ledger.next(rig.now), Next::Wait(_)));
    }
    assert_eq!(waited, 198);
}

#[test]
fn a_fence_whose_lease_is_gone_is_done_and_so_are_its_keys() {
    let mut rig = Rig::new();
    let fenced = rig.push(fence(1, 0..200));
    let other = rig.push(delete([200]));
    assert_eq!(rig.refuse(Reason::LeaseNotFound).0, [1]);
    assert_eq!(revisions(fenced), vec![None; 200]);
    assert_eq!(rig.apply(), (vec![], names(&["200"])));
    assert_eq!(revisions(other), [Some(7)]);
}

#[test]
fn a_full_store_gets_the_plain_delete_at_once_and_the_fence_when_there_is_room() {
    let mut rig = Rig::new();
    let mut fenced = rig.push(fence(1, [1]));
    assert_eq!(rig.refuse(Reason::NoSpace), (vec![1], names(&["1"])));
    let before = rig.now;
    assert_eq!(rig.apply(), (vec![], names(&["1"])));
    assert_eq!(rig.now, before, "at once");
    assert!(fenced.try_recv().is_err(), "the fence is still to come");
    for _ in 0..3 {
        assert_eq!(rig.refuse(Reason::NoSpace), (vec![1], names(&["1"])));
        assert_eq!(rig.ledger.len(), 1);
        // In between others go on.
        drop(rig.push(delete([2])));
        assert_eq!(rig.apply(), (vec![], names(&["2"])));
    }
    let batch = rig.next();
    assert_eq!(short(&batch.txn), (vec![1], names(&["1"])));
    let reply = nothing_there(&batch.txn);
    rig.settle(&batch, Ok(reply));
    // What the plain delete found is not forgotten.
    assert_eq!(revisions(fenced), [Some(7)]);
    assert_eq!(rig.ledger.len(), 0);
}

#[test]
fn one_undo_that_etcd_refuses_holds_up_no_other() {
    for reason in [Reason::Denied, Reason::Invalid] {
        let mut rig = Rig::new();
        let good = rig.push(delete([1]));
        let mut bad = rig.push(delete([2]));
        let fine = rig.push(delete([3]));
        assert_eq!(rig.refuse(reason).1, names(&["1", "2", "3"]));
        assert_eq!(rig.apply().1, names(&["1"]));
        assert_eq!(rig.refuse(reason).1, names(&["2"]));
        assert_eq!(rig.apply().1, names(&["3"]));
        assert_eq!(revisions(good), [Some(7)]);
        assert_eq!(revisions(fine), [Some(7)]);
        assert!(bad.try_recv().expect("told").is_err());
        if reason == Reason::Invalid {
            assert_eq!(rig.ledger.len(), 0, "it can never be done");
        } else {
            // The right may be granted later.
            assert_eq!(rig.apply().1, names(&["2"]));
            assert_eq!(rig.ledger.len(), 0);
        }
    }
}

#[test]
fn refused_fences_are_told_apart_as_well() {
    let mut rig = Rig::new();
    drop(rig.push(fence(1, [1])));
    let mut bad = rig.push(fence(1, [2]));
    assert_eq!(rig.refuse(Reason::Denied), (vec![1], names(&["1", "2"])));
    assert_eq!(rig.apply(), (vec![1], names(&["1"])));
    assert_eq!(rig.refuse(Reason::Denied), (vec![1], names(&["2"])));
    assert!(bad.try_recv().expect("told").is_err());
    assert_eq!(rig.apply(), (vec![1], names(&["2"])));
    assert_eq!(rig.ledger.len(), 0);
}

fn queue() -> (UndoQueue, Etcd, ManualClock) {
    let (script, etcd) = script();
    let (clock, hand) = Clock::manual();
    (
        UndoQueue::start(script, clock, &Tasks::current()),
        etcd,
        hand,
    )
}

#[tokio::test]
async fn what_comes_while_one_is_under_way_goes_together_in_the_next() {
    let (queue, mut etcd, _) = queue();
    let first = queue.push(delete([0]), None);
    let (txn, reply) = etcd.txn().await;
    assert_eq!(short(&txn).1, names(&["0"]), "an idle queue sends at once");
    let rest: Vec<_> = (1..50).map(|n| queue.push(delete([n]), None)).collect();
    assert!(etcd.is_quiet().await, "one at a time");
    assert_eq!(queue.len(), 50);
    drop(reply.send(Ok(applied(&txn))));
    let (txn, reply) = etcd.txn().await;
    assert_eq!(short(&txn).1.len(), 49);
    drop(reply.send(Ok(applied(&txn))));
    assert_eq!(first.done().await.expect("done").len(), 1);
    for receipt in rest {
        let found = receipt.done().await.expect("done");
        assert_eq!(found[0].as_ref().map(|kv| kv.create_revision), Some(7));
    }
    assert_eq!(queue.len(), 0);
    assert!(etcd.is_quiet().await);
}

#[tokio::test]
async fn a_push_outside_of_any_runtime_and_while_unwinding_is_done() {
    let (queue, mut etcd, _) = queue();
    let outside = queue.clone();
    std::thread::spawn(move || drop(outside.push(delete([1]), None)))
        .join()
        .expect("it needs no runtime");
    let unwinding = queue.clone();
    let panicked = std::thread::spawn(move || {
        struct OnDrop(UndoQueue);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                drop(self.0.push(delete([2]), None));
            }
        }
        let _undoes = OnDrop(unwinding);
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    let (txn, reply) = etcd.txn().await;
    assert_eq!(short(&txn).1, names(&["1", "2"]));
    drop(reply.send(Ok(applied(&txn))));
    queue.drained().await;
}

#[tokio::test]
async fn it_runs_dry_through_failures_and_after_closing_takes_nothing() {
    let (queue, mut etcd, hand) = queue();
    drop(queue.push(delete([1]), None));
    let drained = tokio::spawn({
        let queue = queue.clone();
        async move { queue.drained().await }
    });
    for _ in 0..3 {
        drop(etcd.txn().await);
        rest().await;
        assert!(!drained.is_finished());
        hand.advance(Duration::from_secs(1));
    }
    let (txn, reply) = etcd.txn().await;
    drop(reply.send(Ok(applied(&txn))));
    drained.await.expect("no panic");

    let left = queue.push(delete([2]), None);
    let (_, _unanswered) = etcd.txn().await;
    queue.close();
    let late = queue.push(delete([3]), None);
    for receipt in [left, late] {
        assert_eq!(receipt.done().await.expect_err("closed").code(), "closed");
    }
    assert_eq!(queue.len(), 0);
    assert!(etcd.is_quiet().await);
}

#[test]
fn a_number_is_free_again_once_no_copy_of_the_delete_can_come() {
    let mut rig = Rig::new();
    let nonces = Nonces::default();
    rig.push_numbered(delete([0]), &nonces);
    // Never left, then refused: neither was a copy that could come late.
    let batch = rig.next();
    rig.settle(&batch, Err(unsent()));
    rig.refuse(Reason::Denied);
    rig.apply();
    assert_eq!(rig.ledger.len(), 0);
    assert_eq!(number(&nonces), 0);
}

#[test]
fn a_number_is_never_used_again_if_a_copy_may_come_late() {
    let mut rig = Rig::new();
    let nonces = Nonces::default();
    // Zero: its delete is repeated. One: only a late copy of its put made the fence necessary.
    rig.push_numbered(delete([0]), &nonces);
    let batch = rig.next();
    rig.settle(&batch, Err(lost()));
    rig.apply();
    rig.push_numbered(fence(1, [1]), &nonces);
    rig.apply();
    assert_eq!(rig.ledger.len(), 0);
    assert_eq!(number(&nonces), 2);
}
