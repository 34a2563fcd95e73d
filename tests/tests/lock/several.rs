//! Several locks at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coord::{Error, LostReason};
use coord_tests::{Backend, History, Mode, eventually, on_both};

use super::{connect, queue, queue_is};

on_both! {
    all_are_held_with_one_token_and_released_in_one_write,
    what_is_asked_for_in_any_order_never_waits_in_a_circle,
    it_waits_for_the_last_of_them_and_keeps_its_place_in_the_others,
    a_try_takes_all_or_nothing_and_names_who_has_one_of_them,
    a_name_twice_is_one_lock,
    as_many_as_one_transaction_takes_and_not_one_more,
    every_mode_takes_as_many,
    one_that_is_deleted_by_hand_loses_all,
    a_part_that_is_deleted_while_another_is_waited_for_makes_it_queue_again,
    a_part_that_is_owned_and_deleted_is_noticed_at_once,
    an_acquire_of_several_that_is_dropped_leaves_nothing,
    one_of_them_inside_would_deadlock,
    raw_names_are_those_of_other_clients,
}

async fn all_are_held_with_one_token_and_released_in_one_write(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    drop(one.lock("warm").acquire().await.unwrap().unlock().await);
    let before = server.log_entries().await;
    let guard = one.lock_all(["a", "b/1", "c"]).acquire().await.unwrap();
    assert_eq!(server.log_entries().await, before + 1);
    assert_eq!(guard.key(), "a, b/1, c");
    for name in ["a", "b/1", "c"] {
        let entries = queue(&mut store, name).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].create_revision(), guard.fencing_token().get());
        let tried = two.lock(name).try_acquire().await;
        assert!(matches!(tried, Err(Error::Busy { .. })), "{tried:?}");
    }
    guard.verify().await.unwrap();
    let before = server.log_entries().await;
    assert!(guard.unlock().await.unwrap().confirmed);
    assert_eq!(server.log_entries().await, before + 1);
    drop(two.lock_all(["c", "b/1"]).try_acquire().await.unwrap());
}

/// Each task wants two of four, in some order: with single acquires this ends in a circle at once.
async fn what_is_asked_for_in_any_order_never_waits_in_a_circle(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let mut histories = Vec::new();
    for at in 0..4 {
        histories.push(History::of(&store, &format!("coord/lock/n/{at}!/")).await);
    }
    let inside: Arc<[AtomicBool; 4]> = Arc::default();
    let tasks: Vec<_> = (0..60_usize)
        .map(|n| {
            let coordinator = if n % 2 == 0 { &one } else { &two };
            let (a, b) = (n % 4, (n / 4 + n % 3 + 1) % 4);
            let lock = coordinator.lock_all([format!("n/{a}"), format!("n/{b}")]);
            let (inside, histories) = (inside.clone(), histories.clone());
            tokio::spawn(lock.wait_forever().run(async move |held| {
                let token = held.fencing_token().get();
                let mut stay = Vec::new();
                for at in if a == b { vec![a] } else { vec![a, b] } {
                    stay.push(histories[at].enter(Mode::Exclusive, token));
                    assert!(!inside[at].swap(true, Ordering::SeqCst), "two at {at}");
                }
                tokio::task::yield_now().await;
                for at in [a, b] {
                    inside[at].store(false, Ordering::SeqCst);
                }
            }))
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for history in histories {
        history.check(&store).await;
    }
}

async fn it_waits_for_the_last_of_them_and_keeps_its_place_in_the_others(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let (a, b) = (
        one.lock("a").acquire().await.unwrap(),
        one.lock("b").acquire().await.unwrap(),
    );
    let both = tokio::spawn(two.lock_all(["b", "free", "a"]).wait_forever().acquire());
    for name in ["a", "b"] {
        queue_is(&store, name, 2).await;
    }
    let behind = tokio::spawn(one.lock("free").wait_forever().acquire());
    queue_is(&store, "free", 2).await;
    let late = two.lock_all(["a", "b"]).wait(Duration::from_secs(2));
    let late = late.acquire().await.unwrap_err();
    let Error::Timeout {
        position, holder, ..
    } = &late
    else {
        panic!("{late}")
    };
    assert_eq!((*position, holder.is_some()), (Some(2), true), "{late}");
    drop(a);
    queue_is(&store, "a", 1).await;
    assert!(!both.is_finished() && !behind.is_finished());
    drop(b);
    let both = both.await.unwrap().unwrap();
    both.verify().await.unwrap();
    assert!(!behind.is_finished());
    let token = both.fencing_token();
    drop(both);
    assert!(behind.await.unwrap().unwrap().fencing_token() > token);
}

async fn a_try_takes_all_or_nothing_and_names_who_has_one_of_them(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let held = one.lock("b").acquire().await.unwrap();
    let tried = two.lock_all(["a", "b", "c"]).try_acquire().await;
    let Err(Error::Busy { holder, .. }) = tried else {
        panic!("{tried:?}")
    };
    let entry = queue(&mut store, "b").await.remove(0);
    assert_eq!(holder.unwrap().entry, entry.key_str().unwrap());
    for name in ["a", "c"] {
        assert!(queue(&mut store, name).await.is_empty());
    }
    drop(held);
    queue_is(&store, "b", 0).await;
    drop(two.lock_all(["a", "b", "c"]).try_acquire().await.unwrap());
}

async fn a_name_twice_is_one_lock(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock_all(["a", "b", "a"]).acquire().await;
    let guard = guard.unwrap();
    assert_eq!(queue(&mut store, "a").await.len(), 1);
    assert!(guard.unlock().await.unwrap().confirmed);
    let none: [&str; 0] = [];
    let none = coordinator.lock_all(none).acquire().await;
    assert!(matches!(none, Err(Error::Invalid { .. })), "{none:?}");
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("many/{n}"))
}

async fn as_many_as_one_transaction_takes_and_not_one_more(server: Backend) {
    let coordinator = connect(&server).await;
    let guard = coordinator.lock_all(names(42)).acquire().await.unwrap();
    assert!(guard.unlock().await.unwrap().confirmed);
    let before = server.log_entries().await;
    let more = coordinator.lock_all(names(43)).acquire().await;
    let more = more.unwrap_err();
    assert!(matches!(more, Error::Invalid { .. }), "{more:?}");
    for part in ["43 names", "42 names"] {
        assert!(more.to_string().contains(part), "{more}");
    }
    assert_eq!(server.log_entries().await, before);
}

async fn every_mode_takes_as_many(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    for tried in [true, false] {
        for how in 0..4 {
            let lock = coordinator.lock_all(names(42));
            let lock = match how {
                0 => lock.write(),
                1 => lock.read(),
                2 => lock.downgradable(),
                _ => lock.permits(100).take(7),
            };
            let guard = match tried {
                true => lock.try_acquire().await,
                false => lock.acquire().await,
            };
            let guard = guard.unwrap_or_else(|error| panic!("mode {how}, try {tried}: {error}"));
            guard.verify().await.unwrap();
            assert!(guard.unlock().await.unwrap().confirmed);
            for name in names(42) {
                queue_is(&store, &name, 0).await;
            }
        }
    }
}

async fn one_that_is_deleted_by_hand_loses_all(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock_all(["a", "b"]).acquire().await.unwrap();
    let entry = queue(&mut store, "b").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    let lost = guard.verify().await.unwrap_err();
    let Error::Lost { reason, .. } = lost else {
        panic!("{lost}")
    };
    assert_eq!(reason, LostReason::Revoked);
    drop(guard);
    queue_is(&store, "a", 0).await;

    let guard = coordinator.lock_all(["a", "b"]).acquire().await.unwrap();
    let entry = queue(&mut store, "a").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    assert!(!guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "b", 0).await;
}

async fn a_part_that_is_deleted_while_another_is_waited_for_makes_it_queue_again(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let first = one.lock_all(["a", "b"]).acquire().await.unwrap();
    let waiting = tokio::spawn(two.lock_all(["a", "b"]).wait_forever().acquire());
    queue_is(&store, "b", 2).await;
    let entry = queue(&mut store, "b").await.remove(1);
    store.delete(entry.key(), None).await.unwrap();
    eventually("it has queued again", async || {
        let now = queue(&mut store.clone(), "b").await;
        now.len() == 2 && now[1].create_revision() > entry.create_revision()
    })
    .await;
    queue_is(&store, "a", 2).await;
    drop(first);
    waiting.await.unwrap().unwrap().verify().await.unwrap();
}

/// One of them is had at once, and another is waited for: then both are watched.
async fn a_part_that_is_owned_and_deleted_is_noticed_at_once(server: Backend) {
    let (one, two) = (
        super::connect_with_ttl(&server, 600).await,
        super::connect_with_ttl(&server, 600).await,
    );
    let mut store = server.client().await;
    let first = one.lock("b").acquire().await.unwrap();
    let waiting = tokio::spawn(two.lock_all(["a", "b"]).wait_forever().acquire());
    queue_is(&store, "b", 2).await;
    // While it waits for the rest it queues again, with all of them.
    let entry = queue(&mut store, "a").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    eventually("it has queued again", async || {
        let now = queue(&mut store.clone(), "a").await;
        now.len() == 1 && now[0].create_revision() > entry.create_revision()
    })
    .await;
    queue_is(&store, "b", 2).await;
    drop(first);
    let guard = waiting.await.unwrap().unwrap();
    guard.verify().await.unwrap();
    // While it has all of them it is lost.
    let entry = queue(&mut store, "a").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    let reason = tokio::time::timeout(Duration::from_secs(30), guard.lost()).await;
    assert_eq!(reason, Ok(LostReason::Revoked));
    drop(guard);
    queue_is(&store, "b", 0).await;
}

async fn an_acquire_of_several_that_is_dropped_leaves_nothing(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    drop(two.lock("warm").acquire().await.unwrap());
    for held in [false, true] {
        let guard = match held {
            true => Some(one.lock("b").acquire().await.unwrap()),
            false => None,
        };
        let limit = Duration::from_millis(if held { 50 } else { 30_000 });
        for polls in 0.. {
            let acquire = two.lock_all(["a", "b"]).downgradable().wait(limit);
            let done = super::polled(acquire.acquire(), polls).await.is_some();
            queue_is(&store, "a", 0).await;
            queue_is(&store, "b", usize::from(held)).await;
            if done {
                break;
            }
        }
        drop(guard);
        queue_is(&store, "b", 0).await;
    }
}

async fn one_of_them_inside_would_deadlock(server: Backend) {
    let coordinator = connect(&server).await;
    coordinator
        .lock_all(["a", "b"])
        .run(async |_| {
            for lock in [coordinator.lock("b"), coordinator.lock_all(["c", "a"])] {
                let inner = lock.acquire().await;
                assert!(
                    matches!(inner, Err(Error::WouldDeadlock { .. })),
                    "{inner:?}"
                );
            }
            drop(coordinator.lock_all(["c", "d"]).acquire().await.unwrap());
        })
        .await
        .unwrap();
}

async fn raw_names_are_those_of_other_clients(server: Backend) {
    let mut options = super::options(server.endpoint(), 60);
    options.namespace = "ns/".into();
    let coordinator = coord::Coordinator::connect(options).await.unwrap();
    let mut store = server.client().await;
    let guard = coordinator.lock("/go//lock!").raw().acquire().await;
    let guard = guard.unwrap();
    let prefix = etcd_client::GetOptions::new().with_prefix();
    let found = store.get("/go//lock!/", Some(prefix)).await.unwrap();
    assert_eq!(found.kvs().len(), 1);
    assert_eq!(
        found.kvs()[0].create_revision(),
        guard.fencing_token().get()
    );
    // The same name, not raw, is another lock.
    drop(coordinator.lock("go").try_acquire().await.unwrap());
    assert!(guard.unlock().await.unwrap().confirmed);
    // As with other clients, one that stands below is in the queue of the other.
    let below = coordinator.lock("jobs/1").raw().acquire().await.unwrap();
    let tried = coordinator.lock("jobs").raw().try_acquire().await;
    assert!(matches!(tried, Err(Error::Busy { .. })), "{tried:?}");
    drop(below);
    // A lock of coord's by its whole name.
    let own = coordinator.lock("own").acquire().await.unwrap();
    let raw = || coordinator.lock("ns/coord/lock/own!").raw().try_acquire();
    let tried = raw().await;
    assert!(matches!(tried, Err(Error::Busy { .. })), "{tried:?}");
    assert!(own.unlock().await.unwrap().confirmed);
    drop(raw().await.unwrap());
    for covers in [
        "ns",
        "ns/coord",
        "ns/coord/election",
        "ns/coord/lock/own!/1",
    ] {
        let refused = coordinator.lock(covers).raw().try_acquire().await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        let refused = coordinator.election(covers).raw().leader().await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    let both = coordinator.lock_all(["jobs", "jobs/1"]).raw();
    let both = both.acquire().await;
    assert!(matches!(both, Err(Error::Invalid { .. })), "{both:?}");
}
