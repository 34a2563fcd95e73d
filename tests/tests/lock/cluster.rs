//! Locks on three members, of which one dies, or of which the holder is cut off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use coord::{Coordinator, Error, LostReason};
use coord_tests::{
    Cluster, EtcdConfig, Flow, History, Mode, Proxy, backend::patient, eventually,
    eventually_within,
};
use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, SortOrder, SortTarget, Txn, TxnOp,
    WatchOptions,
};

async fn cluster() -> Option<Cluster> {
    Cluster::start_or_skip(3, EtcdConfig::new()).await
}

async fn connect(endpoints: Vec<String>, ttl: u64) -> Coordinator {
    let mut options = patient().endpoints(endpoints);
    options.lock.ttl = Duration::from_secs(ttl);
    Coordinator::connect(options).await.unwrap()
}

async fn proxies(cluster: &Cluster) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for endpoint in cluster.endpoints() {
        proxies.push(Proxy::start(&endpoint).await);
    }
    proxies
}

fn endpoints(proxies: &[Proxy]) -> Vec<String> {
    proxies.iter().map(Proxy::endpoint).collect()
}

/// A write that the store refuses to whoever does not hold the lock; its revision. `None`: while the
/// leader is away it may fail.
async fn write(store: &mut Client, token: i64) -> Option<i64> {
    let first = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Create, SortOrder::Ascend)
        .with_limit(1);
    let first = store.get("coord/lock/jobs!/", Some(first)).await.ok()?;
    let entry = first.kvs()[0].key();
    let txn = Txn::new()
        .when([Compare::create_revision(entry, CompareOp::Equal, token)])
        .and_then([TxnOp::put("fenced", token.to_string(), None)]);
    let reply = store.txn(txn).await.ok()?;
    assert!(reply.succeeded(), "the holder {token} was refused");
    Some(reply.header()?.revision())
}

/// The leader dies again and again while three sessions contend.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_no_exclusion_no_order_and_no_waiter() {
    const KILLS: usize = 3;
    let Some(cluster) = cluster().await else {
        return;
    };
    let store = Client::connect(cluster.endpoints(), None).await.unwrap();
    let history = History::of(&store, "coord/lock/jobs!/").await;
    let ended = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        // An election takes a second or two; the lease outlives it.
        let coordinator = connect(cluster.endpoints(), 60).await;
        for _ in 0..2 {
            let (coordinator, history) = (coordinator.clone(), history.clone());
            let (ended, turns, mut store) = (ended.clone(), turns.clone(), store.clone());
            tasks.push(tokio::spawn(async move {
                while !ended.load(Ordering::SeqCst) {
                    let lock = coordinator.lock("jobs").wait_forever();
                    lock.run(async |held| {
                        let token = held.fencing_token().get();
                        let mut inside = history.enter(Mode::Exclusive, token);
                        let write = write(&mut store, token);
                        let write = tokio::time::timeout(Duration::from_secs(1), write);
                        if let Ok(Some(revision)) = write.await {
                            inside.wrote(revision);
                        }
                        turns.fetch_add(1, Ordering::SeqCst);
                    })
                    .await
                    .unwrap();
                }
            }));
        }
    }
    let more_turns = async |what: &str| {
        let before = turns.load(Ordering::SeqCst);
        eventually_within(Duration::from_secs(120), what, async || {
            turns.load(Ordering::SeqCst) > before + 20
        })
        .await;
    };
    for _ in 0..KILLS {
        more_turns("the lock goes round").await;
        let leader = cluster.member(cluster.leader().await);
        leader.kill();
        more_turns("the lock goes round without its leader").await;
        leader.restart().await;
    }
    ended.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    history.check(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_from_all_members_knows_it_before_they_do() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let proxies = proxies(&cluster).await;
    let coordinator = connect(endpoints(&proxies), 4).await;
    let guard = Arc::new(coordinator.lock("cut").acquire().await.unwrap());
    let store = cluster.member(0).client().await;
    let options = WatchOptions::new().with_prefix();
    let mut watching = store.watch_client();
    let mut watch = watching
        .watch("coord/lock/cut!/", Some(options))
        .await
        .unwrap();
    // Told by the clock alone, and not by a task that may have to wait for its turn.
    let witness = guard.clone();
    let deleted = tokio::spawn(async move {
        loop {
            let message = watch.message().await.unwrap().unwrap();
            let deleted = |event: &etcd_client::Event| event.event_type() == EventType::Delete;
            if message.events().iter().any(deleted) {
                return witness.is_held();
            }
        }
    });
    proxies.iter().for_each(|proxy| proxy.flow(Flow::Discard));
    assert!(!deleted.await.unwrap(), "believed in after its deletion");
    assert_eq!(guard.lost().await, LostReason::Expired);
}

/// Every connection, that of the heartbeat too, breaks each second.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_survives_connections_that_break_each_second() {
    const TTL: u64 = 10;
    // One each second: longer than the lease would live.
    const CUTS: u64 = TTL + 4;
    let Some(cluster) = cluster().await else {
        return;
    };
    let proxies = proxies(&cluster).await;
    let coordinator = connect(endpoints(&proxies), TTL).await;
    let guard = coordinator.lock("broken").acquire().await.unwrap();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for cut in 0..CUTS {
        second.tick().await;
        assert!(guard.is_held(), "lost before cut {cut}");
        for proxy in &proxies {
            proxy.cut().await;
        }
    }
    eventually("etcd says that it is held", async || {
        match guard.verify().await {
            Err(error @ Error::Lost { .. }) => panic!("{error}"),
            verified => verified.is_ok(),
        }
    })
    .await;
    assert!(guard.unlock().await.unwrap().confirmed);
}

/// While answers take nearly the lease's time the holder stops before the next one begins. (Here the
/// silent connection is given up first; that a renewal counts from its send is for the heartbeat's own
/// tests to show.)
#[tokio::test(flavor = "multi_thread")]
async fn renewals_that_are_answered_late_do_not_keep_a_lock() {
    const TTL: u64 = 4;
    let Some(cluster) = cluster().await else {
        return;
    };
    let proxies = proxies(&cluster).await;
    let late = connect(endpoints(&proxies), TTL).await;
    let next = connect(cluster.endpoints(), 60).await;
    let store = cluster.member(0).client().await;
    let history = History::of(&store, "coord/lock/late!/").await;
    let seen = history.clone();
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let body = tokio::spawn(late.lock("late").run(async move |held| {
        let _inside = seen.enter(Mode::Exclusive, held.fencing_token().get());
        inside.send(()).unwrap();
        std::future::pending::<()>().await;
    }));
    is_inside.await.unwrap();
    let almost = Duration::from_secs(TTL) - Duration::from_millis(100);
    proxies
        .iter()
        .for_each(|proxy| proxy.replies(Flow::Delay(almost)));
    let guard = next.lock("late").acquire().await.unwrap();
    let inside = history.enter(Mode::Exclusive, guard.fencing_token().get());
    let lost = body.await.unwrap().unwrap_err();
    assert!(matches!(lost, Error::Lost { .. }), "{lost:?}");
    drop(inside);
    assert!(guard.unlock().await.unwrap().confirmed);
    history.check(&store).await;
}
