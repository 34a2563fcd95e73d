//! Locks that are acquired again by those who hold them.

use std::time::Duration;

use coord::{Coordinator, Error, LostReason};
use coord_tests::{Backend, dropped_after, eventually, on_both};
use futures_util::FutureExt as _;

use super::{connect, connect_with_ttl, lost, options, queue, queue_is};

on_both! {
    inside_its_body_a_lock_is_acquired_again_under_the_same_token,
    a_guard_that_outlives_the_body_keeps_the_lock,
    what_is_spawned_and_siblings_are_not_inside,
    the_options_can_make_all_locks_reentrant,
    what_is_inside_may_do_no_more_than_what_is_outside,
    an_inner_section_is_confirmed_by_a_look_and_has_the_outer_limit,
    a_handle_counts_and_gives_back_with_the_last_release,
    everybody_with_a_clone_of_the_handle_is_inside,
    a_handle_that_has_lost_the_lock_says_so_until_it_is_released,
    an_acquire_of_a_handle_that_is_dropped_at_any_await_is_none,
    the_limit_of_a_hold_is_kept_for_whoever_is_left_inside,
    those_who_wait_with_one_handle_wait_no_longer_than_it_says,
    a_try_with_a_handle_does_not_wait_for_another_one_who_waits_with_it,
    a_handle_shows_what_it_holds_until_it_is_given_back,
}

async fn inside_its_body_a_lock_is_acquired_again_under_the_same_token(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let lock = || one.lock("again").reentrant();
    let section = lock().run(async |held| {
        let inner = lock().acquire().await.unwrap();
        assert_eq!(inner.fencing_token(), held.fencing_token());
        let tried = lock().try_acquire().await.unwrap();
        // Another coordinator on the same cluster means the same lock.
        let other = two.lock("again").reentrant().acquire().await.unwrap();
        let deeper = lock().run(async |inner| {
            let deepest = lock().run(async |inner| inner.fencing_token());
            assert_eq!(deepest.await.unwrap(), inner.fencing_token());
            inner.fencing_token()
        });
        assert_eq!(deeper.await.unwrap(), held.fencing_token());
        assert_eq!(queue(&mut store, "again").await.len(), 1);
        drop((tried, other));
        // It releases nothing, and says so.
        assert!(!inner.unlock().await.unwrap().confirmed);
        held.verify().await.unwrap();
        // Without the word it is what it always was.
        let plain = one.lock("again").acquire().await;
        assert!(
            matches!(plain, Err(Error::WouldDeadlock { .. })),
            "{plain:?}"
        );
    });
    section.await.unwrap();
    queue_is(&server.client().await, "again", 0).await;
}

async fn a_guard_that_outlives_the_body_keeps_the_lock(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let lock = || coordinator.lock("kept").reentrant();
    let kept = lock().run(async |_| lock().acquire().await.unwrap());
    let kept = kept.await.unwrap();
    kept.verify().await.unwrap();
    let busy = lock().try_acquire().await;
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    assert!(kept.unlock().await.unwrap().confirmed, "it is the last");
    queue_is(&store, "kept", 0).await;
}

async fn what_is_spawned_and_siblings_are_not_inside(server: Backend) {
    let coordinator = connect(&server).await;
    let lock = || coordinator.lock("apart").reentrant();
    let section = lock().run(async |held| {
        let spawned = tokio::spawn(lock().try_acquire()).await.unwrap();
        assert!(matches!(spawned, Err(Error::Busy { .. })), "{spawned:?}");
        // Branches inside of it are inside.
        let inner = || lock().run(async |inner| inner.fencing_token());
        let (a, b) = tokio::join!(inner(), inner());
        assert_eq!(
            (a.unwrap(), b.unwrap()),
            (held.fencing_token(), held.fencing_token())
        );
    });
    section.await.unwrap();
    let section = || {
        lock().run(async |held| {
            tokio::task::yield_now().await;
            held.verify().await.unwrap();
            held.fencing_token()
        })
    };
    let (a, b) = tokio::join!(section(), section());
    assert_ne!(a.unwrap(), b.unwrap());
}

async fn the_options_can_make_all_locks_reentrant(server: Backend) {
    let mut options = options(server.endpoint(), 60);
    options.lock.reentrant = true;
    let coordinator = Coordinator::connect(options).await.unwrap();
    let inner = coordinator.lock("again").run(async |held| {
        let inner = coordinator.lock("again").acquire().await.unwrap();
        assert_eq!(inner.fencing_token(), held.fencing_token());
    });
    inner.await.unwrap();
}

/// Each with whether the second may be had inside of the first.
async fn what_is_inside_may_do_no_more_than_what_is_outside(server: Backend) {
    let coordinator = connect(&server).await;
    let of = |names: &[&str]| coordinator.lock_all(names.iter().copied()).reentrant();
    let a = || of(&["a"]);
    for (case, outer, inner, may) in [
        ("write, read", a(), a().read(), true),
        ("write, downgradable", a(), a().downgradable(), false),
        ("write, permits", a(), a().permits(1), false),
        ("downgradable, write", a().downgradable(), a(), true),
        ("read, read", a().read(), a().read(), true),
        ("read, write", a().read(), a(), false),
        (
            "3 permits, 2",
            a().permits(4).take(3),
            a().permits(4).take(2),
            true,
        ),
        (
            "3 permits, 4",
            a().permits(4).take(3),
            a().permits(4).take(4),
            false,
        ),
        (
            "permits, of another size",
            a().permits(4),
            a().permits(5),
            false,
        ),
        ("permits, read", a().permits(4), a().read(), false),
        ("both, one", of(&["a", "b"]), of(&["b"]), true),
        (
            "both, both turned round",
            of(&["a", "b"]),
            of(&["b", "a"]),
            true,
        ),
        ("one, both", of(&["b"]), of(&["a", "b"]), false),
    ] {
        let section = outer.run(async |held| {
            let inner = inner.acquire().await;
            match may {
                true => assert_eq!(
                    inner.unwrap().fencing_token(),
                    held.fencing_token(),
                    "{case}"
                ),
                false => assert!(
                    matches!(inner, Err(Error::WouldDeadlock { .. })),
                    "{case}: {inner:?}"
                ),
            }
        });
        section.await.unwrap();
    }
}

async fn an_inner_section_is_confirmed_by_a_look_and_has_the_outer_limit(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let lock = || coordinator.lock("inner").reentrant();
    let outer = lock().run(async |held| {
        let inner = lock().confirm().max_hold(Duration::from_millis(1));
        let inner = inner.run(async |held| {
            eventually("its limit has passed", async || {
                held.time_to_live().await.unwrap() > Duration::ZERO
            })
            .await;
            held.verify().await.unwrap();
        });
        inner.await.unwrap();
        assert!(held.remaining() > Duration::from_secs(1));
        let entry = queue(&mut store, "inner").await.remove(0);
        store.delete(entry.key(), None).await.unwrap();
        let inner = lock().confirm().run(async |_| ());
        lost(LostReason::Unconfirmed, inner.await);
    });
    lost(LostReason::Revoked, outer.await);
}

async fn a_handle_counts_and_gives_back_with_the_last_release(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let lock = one.lock("handle").into_reentrant();
    assert_eq!((lock.count(), lock.is_held()), (0, false));
    let token = lock.acquire().await.unwrap();
    assert_eq!(lock.acquire().await.unwrap(), token);
    assert_eq!(lock.try_acquire().await.unwrap(), token);
    assert_eq!((lock.count(), lock.is_held()), (3, true));
    let entries = queue(&mut store, "handle").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].create_revision(), token.get());
    // Not by another handle.
    for other in [&one, &two] {
        let busy = other.lock("handle").into_reentrant().try_acquire().await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    }
    assert_eq!(lock.release().await.unwrap(), None);
    assert_eq!(lock.release().await.unwrap(), None);
    assert_eq!((lock.count(), lock.is_held()), (1, true));
    assert!(lock.release().await.unwrap().unwrap().confirmed);
    assert_eq!((lock.count(), lock.is_held()), (0, false));
    assert!(queue(&mut store, "handle").await.is_empty());
    let once_more = lock.release().await;
    assert!(
        matches!(once_more, Err(Error::Invalid { .. })),
        "{once_more:?}"
    );
    // It can be had again, and goes with the handle.
    assert!(lock.acquire().await.unwrap() > token);
    lock.acquire().await.unwrap();
    drop(lock);
    queue_is(&store, "handle", 0).await;
}

async fn everybody_with_a_clone_of_the_handle_is_inside(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let lock = coordinator.lock("shared").into_reentrant();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await.unwrap() })
        })
        .collect();
    let mut tokens = Vec::new();
    for task in tasks {
        tokens.push(task.await.unwrap());
    }
    tokens.dedup();
    assert_eq!((tokens.len(), lock.count()), (1, 20));
    assert_eq!(queue(&mut store, "shared").await.len(), 1);
    for _ in 0..19 {
        assert_eq!(lock.release().await.unwrap(), None);
    }
    assert!(lock.release().await.unwrap().is_some());
}

async fn a_handle_that_has_lost_the_lock_says_so_until_it_is_released(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let lock = coordinator.lock("handle").into_reentrant();
    lock.acquire().await.unwrap();
    lock.acquire().await.unwrap();
    let lease = queue(&mut store, "handle").await[0].lease();
    server.expire_lease(lease).await;
    eventually("it knows", async || !lock.is_held()).await;
    lost(LostReason::Revoked, lock.acquire().await);
    assert_eq!(lock.count(), 2);
    assert_eq!(lock.release().await.unwrap(), None);
    lost(LostReason::Revoked, lock.release().await);
    lock.acquire().await.unwrap();
    assert!(lock.is_held());
}

async fn an_acquire_of_a_handle_that_is_dropped_at_any_await_is_none(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let lock = coordinator.lock("handle").into_reentrant();
    for polls in 1.. {
        let acquired = dropped_after(polls, lock.acquire()).await;
        if acquired.is_none() {
            assert_eq!(lock.count(), 0);
            queue_is(&store, "handle", 0).await;
            continue;
        }
        lock.acquire().await.unwrap();
        for polls in 1.. {
            assert_eq!(lock.count(), 2, "after {polls} polls");
            assert_eq!(
                dropped_after(polls, lock.release()).await.unwrap().unwrap(),
                None
            );
            let released = dropped_after(polls, lock.release()).await;
            assert_eq!(lock.count(), 0);
            queue_is(&store, "handle", 0).await;
            if released.is_some() {
                return;
            }
            lock.acquire().await.unwrap();
            lock.acquire().await.unwrap();
        }
    }
}

async fn the_limit_of_a_hold_is_kept_for_whoever_is_left_inside(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    // Long enough to get inside.
    let lock = coordinator.lock("limit").max_hold(Duration::from_secs(3));
    let section = lock.run(async |_| coordinator.lock("limit").reentrant().acquire().await);
    let left = section.await.unwrap().unwrap();
    let reason = tokio::time::timeout(Duration::from_secs(60), left.lost()).await;
    assert_eq!(reason, Ok(LostReason::MaxHold));
    queue_is(&store, "limit", 0).await;
    lost(LostReason::MaxHold, left.unlock().await);
}

async fn those_who_wait_with_one_handle_wait_no_longer_than_it_says(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let _held = one.lock("handle").acquire().await.unwrap();
    let lock = two.lock("handle").wait(Duration::from_secs(1));
    let lock = lock.into_reentrant();
    let all: Vec<_> = (0..60).map(|_| lock.acquire()).collect();
    // One after the other it would be a minute.
    let all = futures_util::future::join_all(all);
    let all = tokio::time::timeout(Duration::from_secs(45), all).await;
    for acquired in all.unwrap() {
        assert!(
            matches!(acquired, Err(Error::Timeout { .. })),
            "{acquired:?}"
        );
    }
}

async fn a_try_with_a_handle_does_not_wait_for_another_one_who_waits_with_it(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let held = one.lock("handle").acquire().await.unwrap();
    let lock = two.lock("handle").wait_forever().into_reentrant();
    let waits = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await }
    });
    queue_is(&server.client().await, "handle", 2).await;
    let tried = tokio::time::timeout(Duration::from_secs(60), lock.try_acquire()).await;
    assert!(matches!(tried, Ok(Err(Error::Busy { .. }))), "{tried:?}");
    held.unlock().await.unwrap();
    waits.await.unwrap().unwrap();
    // Held by now: a try is one more.
    lock.try_acquire().await.unwrap();
    assert_eq!(lock.count(), 2);
}

async fn a_handle_shows_what_it_holds_until_it_is_given_back(server: Backend) {
    let coordinator = connect_with_ttl(&server, 60).await;
    let mut store = server.client().await;
    let lock = coordinator.lock("handle").into_reentrant();
    assert!(lock.held().is_none());
    let token = lock.acquire().await.unwrap();
    let held = lock.held().unwrap();
    assert_eq!((held.key(), held.fencing_token()), ("handle", token));
    assert!(held.is_held());
    held.verify().await.unwrap();
    held.refresh().await.unwrap();
    held.set_ttl(Duration::from_secs(90)).await.unwrap();
    assert!(held.remaining() > Duration::from_secs(60));
    assert!(held.time_to_live().await.unwrap() > Duration::from_secs(60));
    let write = held.transaction().put("state", "mine");
    write.commit().await.unwrap();
    // One of two releases changes nothing for whoever looks.
    lock.clone().acquire().await.unwrap();
    lock.release().await.unwrap();
    assert!(held.is_held());

    // What is given back is nobody's to write by, and no loss.
    let (never, late) = (held.lost(), held.transaction().put("state", "late"));
    lock.release().await.unwrap();
    assert!(lock.held().is_none());
    assert!(!held.is_held());
    assert_eq!(held.remaining(), Duration::ZERO);
    let released = LostReason::Released;
    lost(released, held.verify().await);
    lost(released, held.refresh().await);
    lost(released, held.time_to_live().await);
    lost(released, held.set_ttl(Duration::from_secs(90)).await);
    lost(released, late.commit().await);
    let again = held.transaction().put("state", "late").commit();
    lost(released, again.await);
    let state = store.get("state", None).await.unwrap();
    assert_eq!(state.kvs()[0].value(), b"mine");

    // What is lost is lost, also after it was given back.
    assert!(lock.acquire().await.unwrap() > token);
    let held = lock.held().unwrap();
    let lease = queue(&mut store, "handle").await[0].lease();
    server.expire_lease(lease).await;
    assert_eq!(held.lost().await, LostReason::Revoked);
    assert!(!lock.held().unwrap().is_held());
    lost(LostReason::Revoked, lock.release().await);
    lost(LostReason::Revoked, held.verify().await);
    assert_eq!(held.lost().await, LostReason::Revoked);
    coordinator.close().await;
    assert!(never.now_or_never().is_none(), "it was given back");
}

/// The id of a cluster is made of what its members are called: of all that were started with the
/// defaults it is the same.
#[tokio::test]
async fn a_lock_of_another_cluster_with_the_same_id_is_another_lock() {
    let servers = [
        coord::embedded::Server::start().await.unwrap(),
        coord::embedded::Server::start().await.unwrap(),
    ];
    let here = servers[0].coordinator().await.unwrap();
    let there = servers[1].coordinator().await.unwrap();
    let elsewhere = servers[1].coordinator().await.unwrap();
    let held = elsewhere.lock("jobs").acquire().await.unwrap();
    let section = here.lock("jobs").run(async |_| {
        let inner = there.lock("jobs").reentrant().try_acquire().await;
        assert!(matches!(inner, Err(Error::Busy { .. })), "{inner:?}");
        held.unlock().await.unwrap();
        // Nor does it wait for itself.
        there.lock("jobs").acquire().await.unwrap()
    });
    section.await.unwrap().verify().await.unwrap();
}
