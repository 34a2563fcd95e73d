//! Locks, beside a bare transaction and delete, and beside etcd's own lock service.

use std::time::{Duration, Instant};

use coord::{Coordinator, Options};
use coord_tests::{Etcd, EtcdConfig};
use etcd_client::{Client, Compare, CompareOp, LockOptions, PutOptions, Txn, TxnOp};
use futures_util::future::join_all;

use crate::{
    sample::{Samples, in_turns},
    table::Table,
};

const TURNS: usize = 300;
/// So many sections are one sample: a release in the background costs whoever comes next.
const SECTIONS: usize = 10;
const TASKS: usize = 64;
/// Of so many sections each.
const ROUND: usize = 20;
const ROUNDS: usize = 15;
/// Measured in turns, each time so many hand-offs of ours and of the lock service.
const OURS: usize = 600;
const THEIRS: usize = 30;

pub(crate) async fn measure(table: &mut Table) {
    let etcd = Etcd::start(EtcdConfig::new()).await.expect("etcd starts");
    let coordinator = connect(&etcd).await;
    let raw = Raw::new(etcd.client().await).await;
    alone(table, &coordinator, &raw).await;
    many(table, &coordinator, &raw).await;
    for (what, sessions, goal) in [
        ("lock: a hand-off among 2 sessions", 2, 1.0 / 30.0),
        ("lock: a hand-off among 8 sessions", 8, 1.0 / 15.0),
    ] {
        let both = hand_offs(&etcd, sessions).await;
        table.ratio(what, both, "etcd's lock service", goal);
    }
    coordinator.close().await;
}

async fn connect(etcd: &Etcd) -> Coordinator {
    let options = Options::test().endpoints([etcd.endpoint()]);
    Coordinator::connect(options).await.expect("coord connects")
}

/// What one would write without a library: put if absent, with a lease; delete.
#[derive(Clone)]
struct Raw {
    client: Client,
    lease: i64,
}

impl Raw {
    async fn new(client: Client) -> Self {
        let grant = client.lease_client().grant(3_600, None).await;
        let lease = grant.expect("a lease").id();
        Self { client, lease }
    }

    async fn section(&self, key: &str) {
        let mut kv = self.client.kv_client();
        let options = PutOptions::new().with_lease(self.lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, "held", Some(options))])
            .or_else([TxnOp::get(key, None)]);
        assert!(kv.txn(txn).await.expect("a transaction").succeeded());
        kv.delete(key, None).await.expect("a delete");
    }
}

async fn alone(table: &mut Table, coordinator: &Coordinator, raw: &Raw) {
    let name = |turn: usize, n: usize| format!("alone/{}", (turn * SECTIONS + n) % 500);
    let bare = async |turn| {
        for n in 0..SECTIONS {
            raw.section(&name(turn, n)).await;
        }
    };
    let both = in_turns(
        TURNS,
        async |turn| {
            for n in 0..SECTIONS {
                let guard = coordinator.lock(name(turn, n)).acquire().await;
                let released = guard.expect("it is free").unlock().await;
                assert!(released.expect("it is held").confirmed);
            }
        },
        bare,
    );
    let bare_pair = "10 × bare transaction, delete";
    table.ratio("lock: 10 × lock, unlock", both.await, bare_pair, 1.15);
    let both = in_turns(
        TURNS,
        async |turn| {
            for n in 0..SECTIONS {
                drop(coordinator.lock(name(turn, n)).acquire().await);
            }
        },
        bare,
    );
    let what = "lock: 10 × lock, released in the background";
    table.ratio(what, both.await, bare_pair, 0.65);
}

/// Sections per second: every task has a key of its own.
async fn many(table: &mut Table, coordinator: &Coordinator, raw: &Raw) {
    let name = |task: usize| format!("many/{task}");
    let both = in_turns(
        ROUNDS,
        async |_| {
            join_all((0..TASKS).map(|task| {
                let coordinator = coordinator.clone();
                tokio::spawn(async move {
                    for _ in 0..ROUND {
                        let guard = coordinator.lock(name(task)).acquire().await;
                        let released = guard.expect("it is free").unlock().await;
                        assert!(released.expect("it is held").confirmed);
                    }
                })
            }))
            .await;
        },
        async |_| {
            join_all((0..TASKS).map(|task| {
                let raw = raw.clone();
                tokio::spawn(async move {
                    for _ in 0..ROUND {
                        raw.section(&name(task)).await;
                    }
                })
            }))
            .await;
        },
    );
    let what = "lock: 64 tasks on 64 keys, 20 sections each";
    table.ratio(what, both.await, "bare transactions, deletes", 1.0 / 1.2);
}

/// The time of one hand-off, when all sessions want the lock all the time.
async fn hand_offs(etcd: &Etcd, sessions: usize) -> (Samples, Samples) {
    let mut coordinators = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..sessions {
        coordinators.push(connect(etcd).await);
        clients.push(Raw::new(etcd.client().await).await);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let each = OURS / sessions;
        let took = timed(coordinators.iter().cloned().map(|coordinator| async move {
            for _ in 0..each {
                drop(coordinator.lock("baton").acquire().await.expect("a turn"));
            }
        }));
        ours.push(took.await / (each * sessions) as u32);
        let each = THEIRS.div_ceil(sessions);
        let took = timed(clients.iter().cloned().map(|raw| async move {
            for _ in 0..each {
                let mut locks = raw.client.lock_client();
                let options = LockOptions::new().with_lease(raw.lease);
                let lock = locks.lock("baton", Some(options)).await.expect("a turn");
                locks.unlock(lock.key()).await.expect("it is held");
            }
        }));
        let took = took.await / (each * sessions) as u32;
        if round > 0 {
            theirs.push(took);
        } else {
            ours.clear();
        }
    }
    for coordinator in coordinators {
        coordinator.close().await;
    }
    (ours.into_iter().collect(), theirs.into_iter().collect())
}

async fn timed<F>(tasks: impl Iterator<Item = F>) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("it ends");
    }
    start.elapsed()
}
