//! What the store and the network do to a queue: late copies, lost events, compaction, keys that
//! somebody deletes.

use std::time::Duration;

use coord::{Coordinator, Error, LostReason, embedded::Rpc};
use coord_tests::{Backend, Flow, Proxy, backend::Kind, eventually, median, on_both};
use etcd_client::{Client, LeaseGrantOptions};

use super::{connect, connect_with_ttl, options, queue, queue_is, round_trip};

on_both! {
    a_lease_that_is_made_again_lets_no_late_acquire_in,
    a_session_key_that_somebody_deletes_costs_the_holder_and_no_waiter,
    a_wait_goes_on_through_compaction_and_broken_connections,
    other_writes_do_not_slow_a_hand_over,
    a_body_that_panics_gives_its_lock_back,
    a_blocked_runtime_keeps_its_lock,
    tokens_grow_as_long_as_the_store_goes_on,
}

/// An acquire of `name` that is on its way to the server; its caller's connection is broken.
async fn overtaken(
    proxy: &Proxy,
    coordinator: &Coordinator,
    name: &'static str,
) -> (
    coord_tests::proxy::Late,
    tokio::task::JoinHandle<coord::Result<coord::LockGuard>>,
) {
    let before = proxy.sent().arrived;
    proxy.requests(Flow::Hold);
    let acquire = tokio::spawn(coordinator.lock(name).wait_forever().acquire());
    eventually("the acquire is on its way", async || {
        // More than a renewal has.
        proxy.sent().arrived > before + 150
    })
    .await;
    // Its end is sent by itself: it is there once another request is.
    let before = proxy.sent().arrived;
    let behind = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.ping().await }
    });
    eventually("another is on its way", async || {
        proxy.sent().arrived > before + 40
    })
    .await;
    let late = proxy.detach().await;
    assert!(late.bytes() > 150, "{}", late.bytes());
    proxy.heal().await;
    // Asked again over the next connection, or not.
    let _ = behind.await.unwrap();
    (late, acquire)
}

/// etcd grants an id again that was revoked: the late copy finds its lease alive.
async fn a_lease_that_is_made_again_lets_no_late_acquire_in(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let connected = Coordinator::connect(options(proxy.endpoint(), 60)).await;
    let coordinator = connected.unwrap();
    let mut store = server.client().await;
    let guard = coordinator.lock("warm").acquire().await.unwrap();
    let lease = queue(&mut store, "warm").await[0].lease();
    guard.unlock().await.unwrap();
    let (mut late, acquire) = overtaken(&proxy, &coordinator, "late").await;
    let first = acquire.await.unwrap().unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(first.lost().await, LostReason::Revoked);
    let again = LeaseGrantOptions::new().with_id(lease);
    store.lease_grant(60, Some(again)).await.unwrap();
    let before = server.log_entries().await;
    late.deliver().await;
    eventually("the late copy is there", async || {
        server.log_entries().await > before
    })
    .await;
    assert_eq!(queue(&mut store, "late").await.len(), 0, "an orphan");
}

async fn a_session_key_that_somebody_deletes_costs_the_holder_and_no_waiter(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let delete_session = async |store: &mut Client, lease: i64| {
        let key = format!("coord/session/{lease:016x}");
        let deleted = store.delete(key, None).await.unwrap();
        assert_eq!(deleted.deleted(), 1);
    };
    let held = one.lock("jobs").acquire().await.unwrap();
    let waiting = tokio::spawn(two.lock("jobs").acquire());
    queue_is(&store, "jobs", 2).await;
    let entries = queue(&mut store, "jobs").await;
    let [holder, waiter] = [entries[0].lease(), entries[1].lease()];

    delete_session(&mut store, waiter).await;
    eventually("it queues again, on another lease", async || {
        let now = queue(&mut store.clone(), "jobs").await;
        now.len() == 2 && now[1].lease() != waiter
    })
    .await;
    assert!(held.is_held());

    delete_session(&mut store, holder).await;
    let reason = tokio::time::timeout(Duration::from_secs(60), held.lost()).await;
    assert_eq!(reason, Ok(LostReason::Revoked));
    drop(held);
    waiting.await.unwrap().unwrap().verify().await.unwrap();
}

async fn a_wait_goes_on_through_compaction_and_broken_connections(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let connected = Coordinator::connect(options(proxy.endpoint(), 60)).await;
    let (one, two) = (connect(&server).await, connected.unwrap());
    let mut store = server.client().await;
    let first = one.lock("compacted").acquire().await.unwrap();
    let waiting = tokio::spawn(two.lock("compacted").wait_forever().acquire());
    queue_is(&store, "compacted", 2).await;
    for turn in 0..10 {
        let put = store.put("other", turn.to_string(), None).await.unwrap();
        let now = put.header().unwrap().revision();
        proxy.cut().await;
        store.compact(now, None).await.unwrap();
        assert!(!waiting.is_finished());
    }
    drop(first);
    let guard = waiting.await.unwrap().unwrap();
    guard.verify().await.unwrap();
    drop(guard);
    queue_is(&store, "compacted", 0).await;
}

/// A watch that etcd serves from its loop for those that lag would hand over every 100 ms.
async fn other_writes_do_not_slow_a_hand_over(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let mut writer = store.clone();
    let writes = tokio::spawn(async move {
        loop {
            writer.put("other", "write", None).await.unwrap();
        }
    });
    let (mut took, mut usual) = (Vec::new(), Vec::new());
    let mut guard = one.lock("busy").acquire().await.unwrap();
    for turn in 0..100 {
        let next = if turn % 2 == 0 { &two } else { &one };
        let waiting = tokio::spawn(next.lock("busy").acquire());
        queue_is(&store, "busy", 2).await;
        let released = tokio::time::Instant::now();
        drop(guard);
        guard = waiting.await.unwrap().unwrap();
        took.push(released.elapsed());
        usual.push(round_trip(&store).await);
    }
    writes.abort();
    // A pause would be the same on a machine that is slow in everything.
    let limit = Duration::from_millis(50).max(10 * median(&usual));
    assert!(median(&took) < limit, "{limit:?}: {took:?}");
}

async fn a_body_that_panics_gives_its_lock_back(server: Backend) {
    let coordinator = connect(&server).await;
    let lock = coordinator.lock("panic");
    let body = tokio::spawn(lock.run(async |_| panic!("the body panics")));
    assert!(body.await.unwrap_err().is_panic());
    queue_is(&server.client().await, "panic", 0).await;
    drop(coordinator.lock("panic").try_acquire().await.unwrap());
}

/// The lease is renewed on a thread of coord's own.
async fn a_blocked_runtime_keeps_its_lock(server: Backend) {
    const TTL: u64 = 10;
    let options = options(server.endpoint(), TTL);
    let blocked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let coordinator = Coordinator::connect(options).await.unwrap();
            let token = coordinator.lock("blocked").run(async |held| {
                std::thread::sleep(Duration::from_secs(TTL + TTL / 2));
                held.verify().await.unwrap();
                held.fencing_token()
            });
            token.await.unwrap()
        })
    });
    let token = tokio::task::spawn_blocking(|| blocked.join().unwrap());
    assert!(token.await.unwrap().get() > 0);
}

/// The server tells nobody of the release.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_deletion_ends_the_wait_at_the_next_safety_read() {
    let server = coord::embedded::Server::start().await.unwrap();
    let connect = async |ttl| {
        let options = options(server.endpoint().to_owned(), ttl);
        Coordinator::connect(options).await.unwrap()
    };
    // Whoever waits looks once in a TTL.
    let (one, two) = (connect(600).await, connect(6).await);
    let connected = Client::connect([server.endpoint()], None).await;
    let mut store = connected.unwrap();
    let guard = one.lock("lost").acquire().await.unwrap();
    let entry = queue(&mut store, "lost").await.remove(0);
    let waiting = tokio::spawn(two.lock("lost").wait_forever().acquire());
    queue_is(&store, "lost", 2).await;
    server.swallow_event(entry.key());
    guard.unlock().await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    next.unwrap().unwrap().unwrap().verify().await.unwrap();
    // The watch was opened anew, and tells again.
    let waiting = tokio::spawn(one.lock("lost").wait_forever().acquire());
    queue_is(&store, "lost", 1).await;
    drop(waiting.await.unwrap().unwrap());
}

/// On a real etcd, whose metrics have the calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_locks_are_given_back_by_one_revoke() {
    let Some(server) = Backend::start_or_skip(Kind::Etcd).await else {
        return;
    };
    let etcd = server.etcd().unwrap();
    let coordinator = connect_with_ttl(&server, 60).await;
    let mut guards = Vec::new();
    for n in 0..100 {
        guards.push(
            coordinator
                .lock(format!("many/{n}"))
                .acquire()
                .await
                .unwrap(),
        );
    }
    let count = async || {
        let writes = etcd.calls("Txn").await + etcd.calls("DeleteRange").await;
        [etcd.calls("LeaseRevoke").await, writes]
    };
    let [revokes, writes] = count().await;
    coordinator.close().await;
    let mut store = server.client().await;
    let left = store
        .get(
            "coord/lock/",
            Some(etcd_client::GetOptions::new().with_prefix()),
        )
        .await
        .unwrap();
    assert_eq!(left.count(), 0);
    assert_eq!(count().await, [revokes + 1, writes]);
    for guard in guards {
        assert!(matches!(guard.unlock().await, Err(Error::Lost { .. })));
    }
}

/// What happens between the answer to an acquire and the opening of the watch is told by neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_before_the_watch_is_open_ends_the_wait() {
    let server = coord::embedded::Server::start().await.unwrap();
    let connect = async || {
        // The safety read would come in ten minutes.
        let options = options(server.endpoint().to_owned(), 600);
        Coordinator::connect(options).await.unwrap()
    };
    let (one, two) = (connect().await, connect().await);
    let connected = Client::connect([server.endpoint()], None).await;
    let store = connected.unwrap();
    // Its session key is watched already.
    drop(two.lock("warm").acquire().await.unwrap());
    let guard = one.lock("gap").acquire().await.unwrap();
    server.refuse(Rpc::Watch);
    let waiting = tokio::spawn(two.lock("gap").wait_forever().acquire());
    queue_is(&store, "gap", 2).await;
    guard.unlock().await.unwrap();
    queue_is(&store, "gap", 1).await;
    assert!(!waiting.is_finished(), "nobody has told it");
    server.accept(Rpc::Watch);
    let next = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    next.unwrap().unwrap().unwrap().verify().await.unwrap();
}

/// The answer to a release is lost; before it is repeated, the same session has the lock again.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_repeated_takes_nothing_from_the_next_holder() {
    let server = coord::embedded::Server::start().await.unwrap();
    let options = options(server.endpoint().to_owned(), 600);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let connected = Client::connect([server.endpoint()], None).await;
    let mut store = connected.unwrap();
    for _ in 0..10 {
        let first = coordinator.lock("again").acquire().await.unwrap();
        let entry = queue(&mut store, "again").await.remove(0);
        server.lose_reply(Rpc::DeleteRange);
        let released = tokio::spawn(first.unlock());
        queue_is(&store, "again", 0).await;
        let next = coordinator.lock("again").acquire().await.unwrap();
        // That it was there to the end cannot be said: its answer is lost.
        assert!(!released.await.unwrap().unwrap().confirmed);
        eventually("the release was repeated", async || {
            coordinator.health().undo_backlog == 0
        })
        .await;
        next.verify().await.unwrap();
        let now = queue(&mut store, "again").await.remove(0);
        assert_ne!(now.key(), entry.key());
        assert!(next.unlock().await.unwrap().confirmed);
    }
}

/// From holder to holder, through restarts. A store that is put back to an older state begins anew from
/// there, with another history; who holds by what it has forgotten is told before.
async fn tokens_grow_as_long_as_the_store_goes_on(server: Backend) {
    let (one, two) = (
        connect_with_ttl(&server, 600).await,
        connect_with_ttl(&server, 600).await,
    );
    let mut newest = 0;
    let turns = async |newest: &mut i64, turns: usize| {
        for turn in 0..turns {
            let coordinator = if turn % 2 == 0 { &one } else { &two };
            let lock = coordinator.lock("jobs").wait(Duration::from_secs(60));
            let guard = lock.acquire().await.unwrap();
            let token = guard.fencing_token().get();
            assert!(token > *newest, "{token} after {newest}");
            *newest = token;
        }
    };
    turns(&mut newest, 5).await;
    let saved = server.save().await;
    let mut then = newest;
    turns(&mut newest, 5).await;
    server.kill();
    server.restart().await;
    turns(&mut newest, 5).await;
    let forgotten = one.lock("forgotten").wait_forever().acquire().await;
    let forgotten = forgotten.unwrap();

    server.restore(&saved).await;
    let lost = tokio::time::timeout(Duration::from_secs(60), forgotten.lost()).await;
    assert_eq!(lost, Ok(LostReason::Revoked));
    turns(&mut then, 5).await;
}
