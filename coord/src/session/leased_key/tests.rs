use std::sync::Arc;

use super::*;
use crate::{
    client::{Txn, TxnReply},
    clock::Clock,
    key::{Layout, Prefix},
    session::{
        Nonces, PastDeadline,
        script::{Etcd, TTL, script, spec},
    },
    tasks::Tasks,
};

const LEASE: i64 = 0xbeef;

/// The next number.
fn number(nonces: &Nonces) -> u64 {
    let nonce = nonces.take(&[Prefix::default()]);
    nonce.numbers().map(|(_, number)| number).sum()
}

struct Rig {
    session: Session,
    undo: UndoQueue,
    nonces: Nonces,
    etcd: Etcd,
    layout: Layout,
}

impl Rig {
    fn new() -> Self {
        let (script, etcd) = script();
        let (clock, _) = Clock::manual();
        let spec = spec(PastDeadline::Dead);
        let poke = Arc::default();
        Self {
            session: Session::new(&spec, LEASE, TTL, clock.now(), clock.clone(), poke),
            undo: UndoQueue::start(script, clock, &Tasks::current()),
            nonces: Nonces::default(),
            etcd,
            layout: Layout::new("", "", "coord/", ""),
        }
    }

    fn key(&self) -> Key {
        self.layout.lock_queue("a").expect("a name").key("xbeef.1")
    }

    fn session_key(&self) -> Key {
        self.layout.lock_session(LEASE)
    }

    fn prepare(&self, fenced: bool) -> LeasedKey {
        let fence = fenced.then(|| self.session_key());
        let nonce = Some(self.nonces.take(&[Prefix::default()]));
        LeasedKey::prepare(&self.session, vec![self.key()], fence, nonce, &self.undo)
    }

    async fn sent(&mut self) -> Vec<Op> {
        let (txn, reply) = self.etcd.txn().await;
        drop(reply.send(Ok(TxnReply::default())));
        let Txn { then, .. } = txn;
        then
    }

    fn delete(&self) -> Op {
        Op::Delete {
            span: crate::client::Span::key(&self.key()),
            prev: true,
        }
    }

    fn fence(&self) -> Op {
        Op::Put {
            key: self.session_key().as_bytes().to_vec(),
            value: Vec::new(),
            lease: LEASE,
        }
    }
}

#[tokio::test]
async fn a_drop_at_every_stage_undoes_what_may_be_there() {
    type Stage = fn(&mut LeasedKey);
    let stages: [(&str, Stage, Option<bool>); 10] = [
        ("prepared", |_| {}, None),
        ("in flight", |key| key.sent(), Some(true)),
        (
            "refused",
            |key| {
                key.sent();
                key.refused();
            },
            None,
        ),
        (
            "unknown, then refused",
            |key| {
                key.sent();
                key.unknown();
                key.sent();
                key.refused();
            },
            Some(true),
        ),
        (
            "answered, then refused",
            |key| {
                key.sent();
                key.applied();
                key.sent();
                key.refused();
            },
            Some(false),
        ),
        (
            "answered",
            |key| {
                key.sent();
                key.applied();
            },
            Some(false),
        ),
        (
            "unknown",
            |key| {
                key.sent();
                key.unknown();
            },
            Some(true),
        ),
        (
            "unknown, then answered",
            |key| {
                key.sent();
                key.unknown();
                key.sent();
                key.applied();
            },
            Some(true),
        ),
        (
            "answered, then in flight again",
            |key| {
                key.sent();
                key.applied();
                key.sent();
            },
            Some(true),
        ),
        (
            "answered twice",
            |key| {
                key.sent();
                key.applied();
                key.sent();
                key.applied();
            },
            Some(false),
        ),
    ];
    for (name, stage, undo) in stages {
        for fenced in [true, false] {
            let mut rig = Rig::new();
            let mut key = rig.prepare(fenced);
            stage(&mut key);
            drop(key);
            let free = |rig: &Rig| number(&rig.nonces) == 0;
            let Some(unsure) = undo else {
                assert!(rig.etcd.is_quiet().await, "{name}");
                assert!(free(&rig), "{name}: its number is used again");
                continue;
            };
            let mut expected = vec![rig.delete()];
            if unsure && fenced {
                expected.insert(0, rig.fence());
            }
            assert_eq!(rig.sent().await, expected, "{name}, fenced: {fenced}");
            assert!(rig.etcd.is_quiet().await, "{name}: once");
            assert_eq!(free(&rig), !unsure, "{name}: its number");
        }
    }
}

#[tokio::test]
async fn the_put_carries_the_lease() {
    let rig = Rig::new();
    let puts: Vec<Op> = rig.prepare(true).puts(b"me").collect();
    let expected = Op::Put {
        key: rig.key().as_bytes().to_vec(),
        value: b"me".to_vec(),
        lease: LEASE,
    };
    assert_eq!(puts, [expected]);
}

#[tokio::test]
async fn a_release_is_done_once_and_can_be_waited_for() {
    let mut rig = Rig::new();
    let mut key = rig.prepare(true);
    key.sent();
    key.applied();
    let receipt = key.release();
    assert_eq!(rig.sent().await, [rig.delete()]);
    assert_eq!(receipt.done().await.expect("done"), [None]);
    assert!(
        rig.etcd.is_quiet().await,
        "the drop that follows does nothing"
    );

    let never_sent = rig.prepare(true).release();
    assert_eq!(never_sent.done().await.expect("done"), [None]);
    assert!(rig.etcd.is_quiet().await);
}

#[tokio::test]
async fn what_is_forgotten_is_left_alone() {
    let mut rig = Rig::new();
    let mut key = rig.prepare(true);
    key.sent();
    key.unknown();
    key.forget();
    assert!(rig.etcd.is_quiet().await);
}

/// The session that it was put with may be dead, and refuse the fence: the key is deleted all the same.
#[tokio::test]
async fn what_was_moved_is_deleted_whatever_became_of_its_fence() {
    for unsure in [false, true] {
        let mut rig = Rig::new();
        let mut key = rig.prepare(true);
        key.sent();
        if unsure {
            key.unknown();
            key.sent();
        }
        key.applied();
        key.moved();
        drop(key);
        assert_eq!(rig.sent().await, [rig.delete()], "unsure: {unsure}");
        if unsure {
            assert_eq!(rig.sent().await, [rig.fence(), rig.delete()]);
        }
        // A late copy of what moved it may come: nobody else gets its number.
        assert_eq!(number(&rig.nonces), 1);
    }
}
