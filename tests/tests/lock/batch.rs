//! Acquires that come at once, in one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use coord::{Coordinator, Error, LockBuilder, LockGuard, Secret};
use coord_tests::{Backend, Etcd, EtcdConfig, Flow, Proxy, backend::patient, eventually, on_both};
use etcd_client::{Client, Permission};
use futures_util::{FutureExt as _, future::join_all};

use super::{
    connect, connect_with_ttl,
    late::{self, Late},
    options, queue, queue_is,
};

on_both! {
    acquires_that_come_together_go_together,
    no_two_of_one_queue_go_together,
    tries_go_together,
    who_goes_away_leaves_nothing_and_holds_up_nobody,
    a_late_batch_puts_nothing_after_its_releases,
    a_late_batch_of_cancelled_ones_puts_nothing,
    a_close_ends_those_that_wait_for_a_batch,
    a_thousand_come_in_turn,
    an_answer_that_nobody_asks_for_holds_up_nobody,
    an_answer_that_does_not_come_holds_up_nobody,
}

type Acquire = Pin<Box<dyn Future<Output = coord::Result<LockGuard>> + Send>>;

/// Asks for the lock, and not for the answer.
fn begun(acquire: impl Future<Output = coord::Result<LockGuard>> + Send + 'static) -> Acquire {
    let mut acquire: Acquire = Box::pin(acquire);
    assert!(
        acquire.as_mut().now_or_never().is_none(),
        "it is not asked yet"
    );
    acquire
}

/// As many as are under way at a time. Whatever is begun while these are not asked for their answers
/// is gathered, for a moment.
async fn occupied(coordinator: &Coordinator) -> Vec<Acquire> {
    // The session is there by then.
    drop(coordinator.lock("first").acquire().await.unwrap());
    let locks = (0..4).map(|n| begun(coordinator.lock(format!("busy/{n}")).acquire()));
    locks.collect()
}

async fn granted(acquires: Vec<Acquire>) -> Vec<LockGuard> {
    let granted = join_all(acquires).await;
    granted.into_iter().map(Result::unwrap).collect()
}

fn tokens(guards: &[LockGuard]) -> Vec<i64> {
    let tokens = guards.iter().map(|guard| guard.fencing_token().get());
    tokens.collect()
}

async fn acquires_that_come_together_go_together(server: Backend) {
    const LOCKS: usize = 100;
    let coordinator = connect_with_ttl(&server, 600).await;
    let busy = occupied(&coordinator).await;
    let lock = |n| coordinator.lock(format!("n/{n}"));
    let before = server.log_entries().await;
    let acquires: Vec<_> = (0..LOCKS).map(|n| begun(lock(n).acquire())).collect();
    let busy = granted(busy).await;
    let guards = granted(acquires).await;
    let revisions: BTreeSet<i64> = tokens(&guards).into_iter().collect();
    // How many depends on how long it took to begin them.
    assert!(
        (2..LOCKS / 2).contains(&revisions.len()),
        "a full one, and the rest: {revisions:?}"
    );
    let log = server.log_entries().await - before;
    // Those that are busy, and what is given back, may be carried out before or after.
    let transactions = revisions.len() as u64;
    assert!(
        (transactions..=transactions + 5).contains(&log),
        "{log} entries for {transactions} transactions"
    );
    let store = server.client().await;
    for (n, guard) in guards.into_iter().enumerate() {
        guard.verify().await.unwrap();
        let entry = queue(&mut store.clone(), &format!("n/{n}")).await;
        assert_eq!(entry.len(), 1);
        assert_eq!(entry[0].create_revision(), guard.fencing_token().get());
        assert!(guard.unlock().await.unwrap().confirmed);
    }
    drop(busy);
    coordinator.close().await;
}

async fn no_two_of_one_queue_go_together(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    let busy = occupied(&coordinator).await;
    let lock = |name: &str| -> LockBuilder { coordinator.lock(name) };
    // The queue of the one is below that of the other: Go's layout has no end of a name.
    let locks = [
        lock("a"),
        lock("b"),
        lock("a"),
        lock("raw/x").raw(),
        lock("raw").raw(),
        lock("raw/x/y").raw(),
        lock("b").read(),
        lock("a"),
    ];
    let acquires: Vec<_> = locks
        .into_iter()
        .map(|lock| begun(lock.acquire()))
        .collect();
    drop(granted(busy).await);
    let mut tokens: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    // Whoever is first is granted, and lets the next one in.
    let entries = join_all(acquires.into_iter().map(async |acquire| {
        let guard = acquire.await.unwrap();
        let entry = (guard.fencing_token().get(), guard.key().to_owned());
        assert!(guard.unlock().await.unwrap().confirmed);
        entry
    }));
    for (token, name) in entries.await {
        tokens.entry(token).or_default().push(name);
    }
    for names in tokens.values() {
        for (n, one) in names.iter().enumerate() {
            for other in &names[n + 1..] {
                let apart = !one.starts_with(other) && !other.starts_with(one);
                assert!(apart, "{one} and {other} in one transaction");
            }
        }
    }
    coordinator.close().await;
}

async fn tries_go_together(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    let other = connect_with_ttl(&server, 600).await;
    let taken = other.lock("n/1").acquire().await.unwrap();
    let busy = occupied(&coordinator).await;
    let tries = (0..4).map(|n| begun(coordinator.lock(format!("n/{n}")).try_acquire()));
    let tries: Vec<_> = tries.collect();
    drop(granted(busy).await);
    let tries = join_all(tries).await;
    assert!(
        matches!(tries[1], Err(Error::Busy { .. })),
        "{:?}",
        tries[1]
    );
    let guards: Vec<_> = tries.into_iter().filter_map(Result::ok).collect();
    assert_eq!(guards.len(), 3);
    drop((guards, taken));
}

async fn who_goes_away_leaves_nothing_and_holds_up_nobody(server: Backend) {
    const LOCKS: usize = 20;
    let coordinator = connect_with_ttl(&server, 600).await;
    let store = server.client().await;
    // Before the batch is made, and while it is under way.
    for early in [true, false] {
        let mut busy = occupied(&coordinator).await;
        let lock = |n| coordinator.lock(format!("n/{n}"));
        let acquires: Vec<_> = (0..LOCKS).map(|n| begun(lock(n).acquire())).collect();
        if !early {
            // Nobody waits for these either: the batch goes at once.
            busy.clear();
        }
        let mut stay = Vec::new();
        for (n, acquire) in acquires.into_iter().enumerate() {
            match n % 2 {
                0 => drop(acquire),
                _ => stay.push(acquire),
            }
        }
        drop(busy);
        let guards = granted(stay).await;
        assert_eq!(guards.len(), LOCKS / 2);
        for n in (0..LOCKS).step_by(2) {
            queue_is(&store, &format!("n/{n}"), 0).await;
        }
        for guard in guards {
            assert!(guard.unlock().await.unwrap().confirmed);
        }
        for n in 0..4 {
            queue_is(&store, &format!("busy/{n}"), 0).await;
        }
    }
    coordinator.close().await;
}

/// Two acquires that are on their way in one transaction, and what they came behind.
async fn held_up(net: &Late, store: &Client) -> (u64, Vec<LockGuard>, [Acquire; 2]) {
    net.proxy.requests(Flow::Pass);
    let busy = occupied(&net.coordinator).await;
    for n in 0..4 {
        queue_is(store, &format!("busy/{n}"), 1).await;
    }
    eventually("nothing else is under way", async || {
        net.coordinator.health().undo_backlog == 0
    })
    .await;
    net.proxy.requests(Flow::Hold);
    let names = [late::name(), format!("{}/other", late::name())];
    // They are on their way as soon as they are begun, or a moment later.
    let before = net.proxy.sent().arrived;
    let acquires = names.map(|name| begun(net.coordinator.lock(name).wait_forever().acquire()));
    (before, granted(busy).await, acquires)
}

async fn a_late_batch_puts_nothing_after_its_releases(server: Backend) {
    let mut net = Late::new(&server).await;
    let mut store = server.client().await;
    let (before, _busy, acquires) = held_up(&net, &store).await;
    let acquires = tokio::spawn(granted(acquires.into()));
    net.overtake(before).await;
    net.proxy.heal().await;
    for guard in acquires.await.unwrap() {
        assert!(guard.unlock().await.unwrap().confirmed);
    }
    net.arrives(&mut store).await;
    queue_is_empty(&mut store).await;
}

async fn a_late_batch_of_cancelled_ones_puts_nothing(server: Backend) {
    let mut net = Late::new(&server).await;
    let mut store = server.client().await;
    let (before, _busy, acquires) = held_up(&net, &store).await;
    let acquires = tokio::spawn(granted(acquires.into()));
    net.overtake(before).await;
    acquires.abort();
    assert!(acquires.await.unwrap_err().is_cancelled());
    net.proxy.heal().await;
    eventually("they are fenced off", async || {
        net.coordinator.health().undo_backlog == 0
    })
    .await;
    net.arrives(&mut store).await;
    queue_is_empty(&mut store).await;
}

async fn queue_is_empty(store: &mut Client) {
    for name in [late::name(), format!("{}/other", late::name())] {
        assert!(queue(store, &name).await.is_empty());
    }
}

async fn a_close_ends_those_that_wait_for_a_batch(server: Backend) {
    let coordinator = connect(&server).await;
    let busy = occupied(&coordinator).await;
    let lock = |n| coordinator.lock(format!("n/{n}"));
    let acquires: Vec<_> = (0..10).map(|n| begun(lock(n).acquire())).collect();
    coordinator.close().await;
    let closed = join_all(acquires);
    let closed = tokio::time::timeout(Duration::from_secs(60), closed).await;
    for outcome in closed.expect("they end") {
        assert!(matches!(outcome, Err(Error::Closed { .. })), "{outcome:?}");
    }
    drop(busy);
}

async fn a_thousand_come_in_turn(server: Backend) {
    const LOCKS: usize = 1_000;
    let coordinator = connect_with_ttl(&server, 600).await;
    let lock = |n| coordinator.lock(format!("n/{n}")).wait_forever();
    let tasks = (0..LOCKS).map(|n| tokio::spawn(lock(n).acquire()));
    let guards = join_all(tasks.collect::<Vec<_>>()).await;
    let guards: Vec<_> = guards
        .into_iter()
        .map(|guard| guard.unwrap().unwrap())
        .collect();
    assert!(guards.iter().all(|guard| guard.is_held()));
    let revisions: BTreeSet<i64> = tokens(&guards).into_iter().collect();
    assert!(revisions.len() < LOCKS, "some went together");
    drop(guards);
    coordinator.close().await;
}

/// A future that is kept and not polled, as in a branch of a `select!` beside it, or for ever.
async fn an_answer_that_nobody_asks_for_holds_up_nobody(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    let busy = occupied(&coordinator).await;
    let other = coordinator.lock("other").wait_forever().acquire();
    let other = tokio::time::timeout(Duration::from_secs(60), other).await;
    assert!(other.expect("it is granted").unwrap().is_held());
    drop(busy);
    coordinator.close().await;
}

/// A distant etcd costs each its own round trip, not that of those before it as well.
async fn an_answer_that_does_not_come_holds_up_nobody(server: Backend) {
    const LOCKS: usize = 20;
    let proxy = Proxy::start(&server.endpoint()).await;
    let coordinator = Coordinator::connect(options(proxy.endpoint(), 600)).await;
    let coordinator = coordinator.unwrap();
    drop(coordinator.lock("first").acquire().await.unwrap());
    proxy.replies(Flow::Hold);
    let lock = |n| coordinator.lock(format!("n/{n}")).wait_forever();
    let acquires = (0..LOCKS).map(|n| tokio::spawn(lock(n).acquire()));
    let acquires: Vec<_> = acquires.collect();
    let store = server.client().await;
    for n in 0..LOCKS {
        queue_is(&store, &format!("n/{n}"), 1).await;
    }
    proxy.heal().await;
    for acquire in acquires {
        assert!(acquire.await.unwrap().unwrap().is_held());
    }
    coordinator.close().await;
}

/// Who may write some of the keys only gets those locks, whatever else is asked for with them.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_etcd_forbids_does_not_spoil_the_others() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new().auth()).await else {
        return;
    };
    let mut root = etcd.client().await;
    root.role_add("some").await.unwrap();
    for below in [
        "coord/lock/mine/",
        "coord/lock/busy/",
        "coord/lock/first!/",
        "coord/session/",
    ] {
        let some = Permission::read_write(below).with_prefix();
        root.role_grant_permission("some", some).await.unwrap();
    }
    root.user_add("ann", "hunter2", None).await.unwrap();
    root.user_grant_role("ann", "some").await.unwrap();
    let mut options = patient().endpoints([etcd.endpoint()]);
    options.user = Some("ann".into());
    options.password = Some(Secret::new("hunter2"));
    let coordinator = Coordinator::connect(options).await.unwrap();
    let busy = occupied(&coordinator).await;
    let names = ["mine/0", "theirs", "mine/1", "mine/2"];
    let acquires = names.map(|name| begun(coordinator.lock(name).acquire()));
    drop(granted(busy).await);
    for (name, outcome) in names.iter().zip(join_all(acquires).await) {
        match *name {
            "theirs" => {
                let refused = outcome.unwrap_err();
                assert!(matches!(refused, Error::Denied { .. }), "{refused:?}");
            }
            _ => assert!(outcome.unwrap().unlock().await.unwrap().confirmed),
        }
    }
    coordinator.close().await;
}
