//! What locks do when etcd, the network or their own process fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coord::{Coordinator, Error, LockGuard, LostReason};
use coord_tests::{Backend, Flow, Proxy, Worker, eventually, history::monotonic, on_both};
use etcd_client::{Client, GetOptions};

use super::{connect, connect_with_ttl, options, queue, queue_is};

on_both! {
    an_acquire_whose_answer_is_lost_is_found_again_and_fenced_off_at_its_release,
    a_stopped_holder_never_runs_on_after_its_lease,
    a_revoked_lease_ends_the_body_and_the_next_acquire_has_a_new_one,
    an_entry_that_somebody_deletes_is_lost_or_made_again,
    a_holder_whom_nobody_has_waited_for_learns_that_its_entry_was_deleted,
    a_lock_survives_an_outage_shorter_than_what_remains,
    a_lock_is_lost_in_a_longer_outage_before_etcd_is_back,
    etcd_that_is_down_makes_a_try_fail_at_once_and_a_wait_end_in_time,
    closing_ends_a_wait_that_cannot_reach_etcd,
    an_acquire_that_was_never_sent_leaves_nothing_to_undo,
    a_store_that_went_back_costs_the_session_and_not_the_lock,
    what_was_given_back_before_a_restore_holds_nobody_up,
    what_a_restore_forgets_is_held_no_more,
    a_restore_that_changes_nothing_for_a_session_costs_nothing,
    a_holder_that_is_cut_off_stops_before_the_next_one_begins,
    a_body_goes_on_through_an_outage_shorter_than_what_remains,
    a_lock_survives_connections_that_say_nothing_any_more,
    an_entry_that_is_back_is_not_taken_for_a_new_one,
}

/// An acquire is applied, and its answer is lost.
async fn an_acquire_whose_answer_is_lost_is_found_again_and_fenced_off_at_its_release(
    server: Backend,
) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let mut options = options(proxy.endpoint(), 60);
    options.request_timeout = Duration::from_secs(30);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let mut store = server.client().await;
    coordinator
        .lock("warm")
        .acquire()
        .await
        .unwrap()
        .unlock()
        .await
        .unwrap();
    let session = async |store: &mut Client| {
        let all = GetOptions::new().with_prefix();
        let found = store.get("coord/session/", Some(all)).await.unwrap();
        found.kvs()[0].mod_revision()
    };
    for name in ["acquired", "tried", "cancelled"] {
        let before = session(&mut store).await;
        proxy.replies(Flow::Discard);
        let lock = coordinator.lock(name);
        let acquire = tokio::spawn(async move {
            match name {
                "tried" => lock.try_acquire().await,
                _ => lock.wait_forever().acquire().await,
            }
        });
        queue_is(&store, name, 1).await;
        let applied = queue(&mut store, name).await[0].create_revision();
        if name == "cancelled" {
            acquire.abort();
            assert!(acquire.await.unwrap_err().is_cancelled());
            proxy.heal().await;
        } else {
            proxy.heal().await;
            proxy.cut().await;
            let guard = acquire.await.unwrap().unwrap();
            assert_eq!(guard.fencing_token().get(), applied);
            assert_eq!(queue(&mut store, name).await.len(), 1);
            assert!(guard.unlock().await.unwrap().confirmed);
        }
        queue_is(&store, name, 0).await;
        // A late copy of it can never be applied: the session's incarnation is another one.
        assert!(session(&mut store).await > before, "{name} was not fenced");
        // Which the next acquire learns.
        drop(coordinator.lock(name).acquire().await.unwrap());
        queue_is(&store, name, 0).await;
    }
}

async fn a_stopped_holder_never_runs_on_after_its_lease(server: Backend) {
    let coordinator = connect(&server).await;
    let mut worker = Worker::spawn("lock-hold", &[&server.endpoint(), "stopped", "8"]);
    let first: i64 = worker.expect("held").await.parse().unwrap();
    worker.expect("tick").await;
    worker.stop();
    let guard = coordinator.lock("stopped").acquire().await.unwrap();
    let taken = monotonic();
    assert!(guard.fencing_token().get() > first);
    worker.cont();
    loop {
        let line = worker.line().await;
        match line.split_once(' ').unwrap() {
            ("tick", time) => assert!(time.parse::<u128>().unwrap() < taken, "polled on"),
            ("lost", reason) => break assert_eq!(reason, "Expired"),
            _ => panic!("{line}"),
        }
    }
    assert!(worker.ended().await.success());
    assert!(guard.unlock().await.unwrap().confirmed);
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn a_revoked_lease_ends_the_body_and_the_next_acquire_has_a_new_one(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let dropped = Arc::new(AtomicBool::new(false));
    let signal = dropped.clone();
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let body = tokio::spawn(coordinator.lock("revoked").run(async move |_| {
        let _dropped = OnDrop(signal);
        inside.send(()).unwrap();
        std::future::pending::<()>().await;
    }));
    // Of the same session: it loses its place, and queues again.
    let waiting = coordinator.lock("revoked").acquire();
    is_inside.await.unwrap();
    let waiting = tokio::spawn(waiting);
    queue_is(&store, "revoked", 2).await;
    let lease = queue(&mut store, "revoked").await[0].lease();
    server.expire_lease(lease).await;

    let lost = body.await.unwrap().unwrap_err();
    assert!(
        matches!(
            lost,
            Error::Lost {
                reason: LostReason::Revoked,
                ..
            }
        ),
        "{lost:?}"
    );
    assert!(dropped.load(Ordering::SeqCst), "the body outlived its lock");
    let guard = waiting.await.unwrap().unwrap();
    assert_ne!(queue(&mut store, "revoked").await[0].lease(), lease);
    guard.verify().await.unwrap();
}

/// Its queue has no watch.
async fn a_holder_whom_nobody_has_waited_for_learns_that_its_entry_was_deleted(server: Backend) {
    // It is looked once in a TTL.
    let coordinator = connect_with_ttl(&server, 8).await;
    let mut store = server.client().await;
    let [guard, moved, kept] =
        ["deleted", "moved", "kept"].map(|name| coordinator.lock(name).acquire());
    let (guard, moved, kept) = tokio::try_join!(guard, moved, kept).unwrap();
    moved.set_ttl(Duration::from_secs(60)).await.unwrap();
    for name in ["deleted", "moved"] {
        let entry = queue(&mut store, name).await.remove(0);
        store.delete(entry.key(), None).await.unwrap();
    }
    for guard in [&guard, &moved] {
        let told = tokio::time::timeout(Duration::from_secs(60), guard.lost()).await;
        assert_eq!(told, Ok(LostReason::Revoked));
    }
    assert!(kept.unlock().await.unwrap().confirmed);
}

async fn an_entry_that_somebody_deletes_is_lost_or_made_again(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;

    // Never contended: known when it is asked for.
    let guard = one.lock("deleted").acquire().await.unwrap();
    let entry = queue(&mut store, "deleted").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    let lost = guard.verify().await.unwrap_err();
    assert!(
        matches!(
            lost,
            Error::Lost {
                reason: LostReason::Revoked,
                ..
            }
        ),
        "{lost:?}"
    );
    assert!(!guard.is_held());
    assert!(matches!(guard.unlock().await, Err(Error::Lost { .. })));

    // Handed over on the queue's watch: known at once. A waiter queues again.
    let first = one.lock("deleted").acquire().await.unwrap();
    let second = tokio::spawn(two.lock("deleted").acquire());
    queue_is(&store, "deleted", 2).await;
    let waiting = queue(&mut store, "deleted").await.remove(1);
    store.delete(waiting.key(), None).await.unwrap();
    queue_is(&store, "deleted", 2).await;
    drop(first);
    let second: LockGuard = second.await.unwrap().unwrap();
    let held = queue(&mut store, "deleted").await.remove(0);
    assert!(held.create_revision() > waiting.create_revision());
    store.delete(held.key(), None).await.unwrap();
    let reason = tokio::time::timeout(Duration::from_secs(60), second.lost()).await;
    assert_eq!(reason, Ok(LostReason::Revoked));
}

async fn a_lock_survives_an_outage_shorter_than_what_remains(server: Backend) {
    let coordinator = connect_with_ttl(&server, 60).await;
    let guard = coordinator.lock("outage").acquire().await.unwrap();
    let token = guard.fencing_token();
    server.kill();
    server.restart().await;
    eventually("etcd says that the lock is held", async || {
        match guard.verify().await {
            Ok(()) => true,
            Err(error @ Error::Lost { .. }) => panic!("{error}"),
            Err(_) => false,
        }
    })
    .await;
    assert_eq!(guard.fencing_token(), token);
    assert!(guard.unlock().await.unwrap().confirmed);
    // And waiting, releasing and acquiring go on.
    let guard = coordinator.lock("outage").acquire().await.unwrap();
    assert!(guard.fencing_token() > token);
}

async fn a_lock_is_lost_in_a_longer_outage_before_etcd_is_back(server: Backend) {
    let coordinator = connect_with_ttl(&server, 2).await;
    let guard = coordinator.lock("outage").acquire().await.unwrap();
    let body = tokio::spawn(coordinator.lock("body").run(async |_| {
        std::future::pending::<()>().await;
    }));
    queue_is(&server.client().await, "body", 1).await;
    server.kill();
    let lost = body.await.unwrap().unwrap_err();
    assert!(
        matches!(
            lost,
            Error::Lost {
                reason: LostReason::Expired,
                ..
            }
        ),
        "{lost:?}"
    );
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert!(matches!(guard.verify().await, Err(Error::Lost { .. })));
    // What is asked for during the outage is got after it.
    let again = tokio::spawn(coordinator.lock("outage").wait_forever().acquire());
    server.restart().await;
    drop(again.await.unwrap().unwrap());
}

async fn etcd_that_is_down_makes_a_try_fail_at_once_and_a_wait_end_in_time(server: Backend) {
    let coordinator = connect(&server).await;
    drop(coordinator.lock("down").acquire().await.unwrap());
    server.kill();
    // Long enough for one try to fail.
    let wait = coordinator.lock("down").wait(Duration::from_secs(2));
    let error = wait.acquire().await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { holder: None, .. }),
        "{error:?}"
    );
    assert!(
        std::error::Error::source(&error).is_some(),
        "why: {error:?}"
    );
    let error = coordinator.lock("down").try_acquire().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

async fn closing_ends_a_wait_that_cannot_reach_etcd(server: Backend) {
    let coordinator = connect(&server).await;
    drop(coordinator.lock("away").acquire().await.unwrap());
    server.kill();
    // The calls are known to fail from here on.
    assert!(coordinator.lock("away").try_acquire().await.is_err());
    let waiting = tokio::spawn(coordinator.lock("away").wait_forever().acquire());
    for _ in 0..10 {
        assert!(coordinator.lock("away").try_acquire().await.is_err());
    }
    coordinator.close().await;
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    let waited = waited.expect("the wait ends").unwrap();
    assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
}

async fn an_acquire_that_was_never_sent_leaves_nothing_to_undo(server: Backend) {
    let coordinator = connect_with_ttl(&server, 60).await;
    drop(coordinator.lock("backlog").acquire().await.unwrap());
    eventually("the release is done", async || {
        coordinator.health().undo_backlog == 0
    })
    .await;
    server.kill();
    eventually("the calls know that etcd is away", async || {
        coordinator.ping().await.is_err()
    })
    .await;
    let before = coordinator.health().undo_backlog;
    for _ in 0..50 {
        assert!(coordinator.lock("backlog").try_acquire().await.is_err());
    }
    // The first ones may have been sent; then it is known that nothing can be.
    let grown = coordinator.health().undo_backlog - before;
    assert!(grown < 5, "{grown} undos wait");
}

/// The store is put back to an older state under a living session: its revisions went back.
async fn a_store_that_went_back_costs_the_session_and_not_the_lock(server: Backend) {
    let coordinator = connect_with_ttl(&server, 60).await;
    let guard = coordinator.lock("restored").acquire().await.unwrap();
    let mut store = server.client().await;
    let lease = queue(&mut store, "restored").await[0].lease();
    guard.unlock().await.unwrap();
    let saved = server.save().await;
    // The session goes on to a later incarnation, and an acquire shows that it is known.
    let key = format!("coord/session/{lease:016x}");
    let mut store = server.client().await;
    let put = etcd_client::PutOptions::new().with_lease(lease);
    store.put(key, "", Some(put)).await.unwrap();
    let guard = coordinator.lock("restored").acquire().await.unwrap();
    assert_eq!(queue(&mut store, "restored").await[0].lease(), lease);
    guard.unlock().await.unwrap();
    server.restore(&saved).await;
    let again = coordinator.lock("restored").acquire();
    again.await.unwrap().verify().await.unwrap();
}

/// The entry is there again, under the lease that is renewed; nobody would ever remove it.
async fn what_was_given_back_before_a_restore_holds_nobody_up(server: Backend) {
    let (one, two) = (
        connect_with_ttl(&server, 600).await,
        connect_with_ttl(&server, 600).await,
    );
    for (name, next) in [("own", &one), ("other", &two)] {
        let guard = one.lock(name).acquire().await.unwrap();
        let saved = server.save().await;
        eventually("it is released", async || guard.verify().await.is_ok()).await;
        guard.unlock().await.unwrap();
        // Others go on, so that no revision tells of it.
        let mut store = server.client().await;
        server.restore(&saved).await;
        eventually("others write on", async || {
            for _ in 0..50 {
                if store.put("others", "", None).await.is_err() {
                    return false;
                }
            }
            true
        })
        .await;
        let again = next.lock(name).wait(Duration::from_secs(60)).acquire();
        again.await.unwrap().verify().await.unwrap();
    }
}

/// The lock was got after the state that the store is put back to: somebody else can get it now.
async fn what_a_restore_forgets_is_held_no_more(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    let before = coordinator.lock("before").acquire().await.unwrap();
    let saved = server.save().await;
    let after = coordinator.lock("after").acquire().await.unwrap();
    let lost = after.lost();
    server.restore(&saved).await;
    let reason = tokio::time::timeout(Duration::from_secs(60), lost).await;
    assert_eq!(reason, Ok(LostReason::Revoked));
    // What it had is held on.
    assert!(before.is_held());
    before.verify().await.unwrap();
    assert!(before.unlock().await.unwrap().confirmed);
}

async fn a_restore_that_changes_nothing_for_a_session_costs_nothing(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    let mut guards = Vec::new();
    for n in 0..150 {
        let lock = coordinator.lock(format!("n/{n}"));
        guards.push(lock.acquire().await.unwrap());
    }
    let saved = server.save().await;
    server.restore(&saved).await;
    server.kill();
    server.restart().await;
    for guard in guards {
        eventually("it is confirmed", async || {
            assert!(guard.is_held());
            guard.verify().await.is_ok()
        })
        .await;
        assert!(guard.unlock().await.unwrap().confirmed);
    }
}

/// The holder is cut off and lives on; etcd gives its lock to the next one.
async fn a_holder_that_is_cut_off_stops_before_the_next_one_begins(server: Backend) {
    let mut next = connect(&server).await;
    for (name, flow) in [("silence", Flow::Discard), ("late", Flow::Hold)] {
        let proxy = Proxy::start(&server.endpoint()).await;
        let connected = Coordinator::connect(options(proxy.endpoint(), 2)).await;
        let cut_off = connected.unwrap();
        let polled = Arc::new(std::sync::Mutex::new((0, None)));
        let seen = polled.clone();
        let body = tokio::spawn(cut_off.lock(name).run(async move |held| {
            loop {
                *seen.lock().unwrap() = (monotonic(), Some(held.fencing_token()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
        eventually("the body runs", async || polled.lock().unwrap().0 > 0).await;
        let waiting = tokio::spawn(async move {
            let guard = next.lock(name).acquire().await.unwrap();
            (next, guard, monotonic())
        });
        let store = server.client().await;
        eventually("the next one waits, or has it already", async || {
            waiting.is_finished() || queue(&mut store.clone(), name).await.len() == 2
        })
        .await;
        proxy.flow(flow);
        let guard;
        let began;
        (next, guard, began) = waiting.await.unwrap();
        let (last, token) = *polled.lock().unwrap();
        assert!(last < began, "{name}: polled at {last}, after {began}");
        assert!(guard.fencing_token() > token.unwrap());
        let lost: Result<(), Error> = body.await.unwrap();
        let lost = lost.unwrap_err();
        assert!(
            matches!(
                lost,
                Error::Lost {
                    reason: LostReason::Expired,
                    ..
                }
            ),
            "{lost:?}"
        );
        // What was on its way arrives, and takes nothing away.
        proxy.heal().await;
        drop(
            cut_off
                .lock("again")
                .wait_forever()
                .acquire()
                .await
                .unwrap(),
        );
        guard.verify().await.unwrap();
        assert!(guard.unlock().await.unwrap().confirmed);
        queue_is(&server.client().await, name, 0).await;
    }
}

async fn a_body_goes_on_through_an_outage_shorter_than_what_remains(server: Backend) {
    let coordinator = connect_with_ttl(&server, 60).await;
    let (away, is_away) = tokio::sync::oneshot::channel();
    let (back, is_back) = tokio::sync::oneshot::channel::<()>();
    let body = tokio::spawn(coordinator.lock("body").run(async move |held| {
        away.send(held.remaining()).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(60), is_back).await;
        waited.unwrap().unwrap();
        (held.remaining(), held.verify().await)
    }));
    let remaining = is_away.await.unwrap();
    let began = tokio::time::Instant::now();
    server.kill();
    assert!(coordinator.ping().await.is_err());
    server.restart().await;
    eventually("calls work again", async || {
        coordinator.ping().await.is_ok()
    })
    .await;
    assert!(began.elapsed() < remaining, "the outage took too long");
    back.send(()).unwrap();
    let (left, verified) = body.await.unwrap().unwrap();
    assert!(left > Duration::ZERO);
    verified.unwrap();
}

/// A firewall has forgotten the connections; the only address there is can be dialled anew.
async fn a_lock_survives_connections_that_say_nothing_any_more(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    const TTL: u64 = 15;
    let connected = Coordinator::connect(options(proxy.endpoint(), TTL)).await;
    let coordinator = connected.unwrap();
    let guard = coordinator.lock("silent").acquire().await.unwrap();
    proxy.half_open();
    let cut = tokio::time::Instant::now();
    eventually("the lease is renewed over a new connection", async || {
        assert!(guard.is_held(), "lost");
        // As late as this, only a renewal after the cut leaves as much.
        guard.remaining() + cut.elapsed() > Duration::from_secs(TTL)
    })
    .await;
    guard.verify().await.unwrap();
}

/// The next acquire of the session gives its entry the same name.
async fn an_entry_that_is_back_is_not_taken_for_a_new_one(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    for _ in 0..5 {
        let guard = coordinator.lock("back").acquire().await.unwrap();
        let saved = server.save().await;
        eventually("it can be released", async || guard.verify().await.is_ok()).await;
        let token = guard.fencing_token();
        guard.unlock().await.unwrap();
        server.restore(&saved).await;
        let again = coordinator.lock("back").wait(Duration::from_secs(60));
        let again = again.acquire().await.unwrap();
        assert!(again.fencing_token() > token, "{token} is for one holder");
        drop(again.unlock().await);
    }
}
