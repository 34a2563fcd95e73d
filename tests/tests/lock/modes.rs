//! Readers, writers and permits: who is let in beside whom, and who has to wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use coord::{Coordinator, Error, LockBuilder, LockGuard};
use coord_tests::{Backend, History, Mode, eventually, on_both};
use etcd_client::{Client, PutOptions};

use super::{connect, polled, queue, queue_is};

on_both! {
    readers_share_and_a_writer_waits_for_all_of_them,
    a_reader_that_comes_after_a_waiting_writer_waits_behind_it,
    a_try_to_read_fails_only_on_those_that_are_no_readers,
    a_reader_sees_the_writer_behind_a_hundred_readers,
    permits_are_taken_until_none_are_left,
    many_permits_are_not_overtaken_for_ever_by_few,
    a_try_for_permits_gives_up_at_once_and_leaves_nothing,
    a_try_for_permits_that_is_dropped_at_any_await_leaves_nothing,
    a_try_for_permits_whose_answer_is_lost_is_found_again,
    a_semaphore_of_two_sizes_is_refused_and_both_are_named,
    modes_of_different_kinds_exclude_each_other,
    a_permit_entry_that_cannot_be_read_is_waited_for,
    no_more_than_the_permits_are_ever_inside,
    readers_and_writers_of_two_coordinators_never_meet,
    nobody_upgrades_or_takes_more_inside,
    another_ttl_has_another_lease_that_all_its_users_share,
    what_cannot_be_is_refused_before_anything_is_sent,
}

fn lock(coordinator: &Coordinator) -> LockBuilder {
    coordinator.lock("m").wait(Duration::from_secs(120))
}

fn spawn(lock: LockBuilder) -> tokio::task::JoinHandle<coord::Result<LockGuard>> {
    tokio::spawn(lock.acquire())
}

async fn readers_share_and_a_writer_waits_for_all_of_them(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let first = lock(&one).read().acquire().await.unwrap();
    let second = lock(&two).read().acquire().await.unwrap();
    assert!(second.fencing_token() > first.fencing_token());
    let mut writer = spawn(lock(&two).write());
    queue_is(&store, "m", 3).await;
    drop(first);
    queue_is(&store, "m", 2).await;
    assert!(futures_util::poll!(&mut writer).is_pending());
    drop(second);
    let writer = writer.await.unwrap().unwrap();
    assert!(writer.unlock().await.unwrap().confirmed);
    queue_is(&store, "m", 0).await;
}

async fn a_reader_that_comes_after_a_waiting_writer_waits_behind_it(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let first = lock(&one).read().acquire().await.unwrap();
    let writer = spawn(lock(&two));
    queue_is(&store, "m", 2).await;
    let late = spawn(lock(&one).read());
    queue_is(&store, "m", 3).await;
    let later = spawn(lock(&two).read());
    queue_is(&store, "m", 4).await;
    let tried = lock(&one).read().try_acquire().await;
    assert!(matches!(tried, Err(Error::Busy { .. })), "{tried:?}");
    drop(first);
    let writer = writer.await.unwrap().unwrap();
    assert!(!late.is_finished() && !later.is_finished());
    let token = writer.fencing_token();
    drop(writer);
    let (late, later) = (late.await.unwrap().unwrap(), later.await.unwrap().unwrap());
    assert!(late.fencing_token() > token);
    late.verify().await.unwrap();
    later.verify().await.unwrap();
}

async fn a_try_to_read_fails_only_on_those_that_are_no_readers(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let first = lock(&coordinator).read().try_acquire().await.unwrap();
    let second = lock(&coordinator).read().try_acquire().await.unwrap();
    let tried = lock(&coordinator).write().try_acquire().await;
    assert!(matches!(tried, Err(Error::Busy { .. })), "{tried:?}");
    drop((first, second));
    queue_is(&store, "m", 0).await;

    let writer = lock(&coordinator).try_acquire().await.unwrap();
    let tried = lock(&coordinator).read().try_acquire().await;
    let Err(Error::Busy { holder, .. }) = tried else {
        panic!("{tried:?}")
    };
    let entry = queue(&mut store, "m").await.remove(0);
    assert_eq!(holder.unwrap().entry, entry.key_str().unwrap());
    drop(writer);
    queue_is(&store, "m", 0).await;

    // Before and behind the letter of the readers: another client's, and permits.
    for key in ["694d7c1a2b3c4d5e", "s1.1.1of4"] {
        let key = format!("coord/lock/m!/{key}");
        let lease = store.lease_grant(60, None).await.unwrap().id();
        let put = PutOptions::new().with_lease(lease);
        store.put(key.clone(), "", Some(put)).await.unwrap();
        let tried = lock(&coordinator).read().try_acquire().await;
        let Err(Error::Busy { holder, .. }) = tried else {
            panic!("{tried:?}")
        };
        assert_eq!(holder.unwrap().entry, key);
        store.lease_revoke(lease).await.unwrap();
    }
    drop(lock(&coordinator).read().try_acquire().await.unwrap());
}

/// A list of the nearest ones must not be cut to readers: it would say that nobody is ahead.
async fn a_reader_sees_the_writer_behind_a_hundred_readers(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let writer = lock(&one).acquire().await.unwrap();
    let readers: Vec<_> = (0..100).map(|_| spawn(lock(&one).read())).collect();
    queue_is(&store, "m", 101).await;
    let last = spawn(lock(&two).read());
    queue_is(&store, "m", 102).await;
    assert!(!last.is_finished());
    drop(writer);
    let mut guards = vec![last.await.unwrap().unwrap()];
    for reader in readers {
        guards.push(reader.await.unwrap().unwrap());
    }
    for guard in &guards {
        assert!(guard.is_held());
    }
    drop(guards);
    queue_is(&store, "m", 0).await;
}

async fn permits_are_taken_until_none_are_left(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let first = lock(&one).permits(3).acquire().await.unwrap();
    let two_of_them = lock(&two).permits(3).take(2).acquire().await.unwrap();
    let key = queue(&mut store, "m").await.remove(1);
    assert!(key.key_str().unwrap().ends_with(".2of3"), "{key:?}");
    let mut fourth = spawn(lock(&one).permits(3));
    queue_is(&store, "m", 3).await;
    assert!(futures_util::poll!(&mut fourth).is_pending());
    // Whichever is given back.
    drop(two_of_them);
    let fourth = fourth.await.unwrap().unwrap();
    let fifth = lock(&two).permits(3).acquire().await.unwrap();
    for guard in [first, fourth, fifth] {
        assert!(guard.unlock().await.unwrap().confirmed);
    }
    queue_is(&store, "m", 0).await;
}

/// Who asks for all of them waits for all; those who come later do not pass.
async fn many_permits_are_not_overtaken_for_ever_by_few(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let first = lock(&one).permits(3).acquire().await.unwrap();
    let second = lock(&one).permits(3).acquire().await.unwrap();
    let all = spawn(lock(&two).permits(3).take(3));
    queue_is(&store, "m", 3).await;
    let late = spawn(lock(&one).permits(3));
    queue_is(&store, "m", 4).await;
    drop(first);
    queue_is(&store, "m", 3).await;
    assert!(!all.is_finished() && !late.is_finished());
    drop(second);
    let all = all.await.unwrap().unwrap();
    assert!(!late.is_finished());
    drop(all);
    drop(late.await.unwrap().unwrap());
}

async fn a_try_for_permits_gives_up_at_once_and_leaves_nothing(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let permits = |coordinator: &Coordinator| lock(coordinator).permits(2);
    let first = permits(&one).try_acquire().await.unwrap();
    let second = permits(&two).try_acquire().await.unwrap();
    let tried = permits(&two.module("billing")).try_acquire().await;
    let Err(Error::Busy { holder, .. }) = tried else {
        panic!("{tried:?}")
    };
    let holder = holder.unwrap();
    assert_eq!(holder.pid, std::process::id());
    queue_is(&store, "m", 2).await;
    drop(first);
    queue_is(&store, "m", 1).await;
    drop(permits(&one).try_acquire().await.unwrap());
    drop(second);
    queue_is(&store, "m", 0).await;
    let tried = permits(&one).take(2).try_acquire().await;
    drop(tried.unwrap());
    queue_is(&store, "m", 0).await;
}

async fn a_try_for_permits_that_is_dropped_at_any_await_leaves_nothing(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    drop(two.lock("warm").acquire().await.unwrap());
    for held in [0, 2] {
        let mut guards = Vec::new();
        for _ in 0..held {
            guards.push(lock(&one).permits(2).acquire().await.unwrap());
        }
        for polls in 0.. {
            let tried = polled(lock(&two).permits(2).try_acquire(), polls).await;
            let done = tried.inspect(|tried| assert_eq!(tried.is_ok(), held == 0, "{tried:?}"));
            let over = done.is_some();
            drop(done);
            queue_is(&store, "m", held).await;
            if over {
                break;
            }
        }
        drop(guards);
        queue_is(&store, "m", 0).await;
    }
}

/// It is put in any case, so that it is there says nothing: who is ahead is read.
async fn a_try_for_permits_whose_answer_is_lost_is_found_again(server: Backend) {
    use coord_tests::{Flow, Proxy};
    let proxy = Proxy::start(&server.endpoint()).await;
    let mut options = super::options(proxy.endpoint(), 60);
    options.request_timeout = Duration::from_secs(30);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let holder = connect(&server).await;
    let store = server.client().await;
    for (name, free) in [("free", true), ("taken", false)] {
        // Has a session, and knows its incarnation.
        drop(coordinator.lock("warm").acquire().await.unwrap());
        let permits = |coordinator: &Coordinator| coordinator.lock(name).permits(2);
        let ahead = match free {
            true => permits(&holder).acquire().await.unwrap(),
            false => permits(&holder).take(2).acquire().await.unwrap(),
        };
        proxy.replies(Flow::Discard);
        let tried = tokio::spawn(permits(&coordinator).try_acquire());
        queue_is(&store, name, 2).await;
        proxy.heal().await;
        proxy.cut().await;
        let tried = tried.await.unwrap();
        match free {
            true => assert!(tried.unwrap().unlock().await.unwrap().confirmed),
            false => assert!(matches!(tried, Err(Error::Busy { .. })), "{tried:?}"),
        }
        queue_is(&store, name, 1).await;
        drop(ahead);
        queue_is(&store, name, 0).await;
    }
}

async fn a_semaphore_of_two_sizes_is_refused_and_both_are_named(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let four = lock(&one.module("shipping"))
        .permits(4)
        .acquire()
        .await
        .unwrap();
    let entry = queue(&mut store, "m").await.remove(0);
    for tried in [false, true] {
        let eight = lock(&two).permits(8);
        let refused = match tried {
            true => eight.try_acquire().await,
            false => eight.acquire().await,
        };
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        let said = error.to_string();
        for part in ["8 permits here", "4 permits", "shipping (pid"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.contains(entry.key_str().unwrap()), "{said}");
        queue_is(&store, "m", 1).await;
    }
    assert!(four.unlock().await.unwrap().confirmed);
    // Once nobody uses the old number, there is a new one.
    drop(lock(&two).permits(8).acquire().await.unwrap());
}

async fn modes_of_different_kinds_exclude_each_other(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    type How = fn(LockBuilder) -> LockBuilder;
    let kinds: [(&str, How); 4] = [
        ("write", LockBuilder::write),
        ("downgradable", LockBuilder::downgradable),
        ("read", LockBuilder::read),
        ("permits", |lock| lock.permits(5)),
    ];
    for (ahead, first) in kinds {
        for (behind, second) in kinds {
            let guard = first(lock(&one)).acquire().await.unwrap();
            let entries = if ahead == "downgradable" { 2 } else { 1 };
            queue_is(&store, "m", entries).await;
            let tried = second(lock(&two)).try_acquire().await;
            let together = ahead == behind && matches!(ahead, "read" | "permits");
            assert_eq!(tried.is_ok(), together, "{behind} behind {ahead}");
            drop(tried);
            queue_is(&store, "m", entries).await;
            if !together {
                let waiting = spawn(second(lock(&two)));
                let both = entries + if behind == "downgradable" { 2 } else { 1 };
                queue_is(&store, "m", both).await;
                assert!(!waiting.is_finished(), "{behind} behind {ahead}");
                drop(guard);
                drop(waiting.await.unwrap().unwrap());
            } else {
                drop(guard);
            }
            queue_is(&store, "m", 0).await;
        }
    }
}

async fn a_permit_entry_that_cannot_be_read_is_waited_for(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    for odd in ["s", "s1.1", "s1.1.9of4", "s1.1.0of4", "s1.1.1of99999999999"] {
        let key = format!("coord/lock/m!/{odd}");
        let lease = store.lease_grant(60, None).await.unwrap().id();
        let put = PutOptions::new().with_lease(lease);
        store.put(key, "", Some(put)).await.unwrap();
        let waiting = spawn(lock(&coordinator).permits(4));
        queue_is(&store, "m", 2).await;
        assert!(!waiting.is_finished());
        store.lease_revoke(lease).await.unwrap();
        drop(waiting.await.unwrap().unwrap());
        queue_is(&store, "m", 0).await;
    }
}

async fn no_more_than_the_permits_are_ever_inside(server: Backend) {
    const PERMITS: u32 = 5;
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let history = History::of(&store, "coord/lock/m!/").await;
    let inside = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..60_u32)
        .map(|n| {
            let coordinator = if n % 2 == 0 { &one } else { &two };
            let take = n % 3 + 1;
            let lock = lock(coordinator).permits(PERMITS).take(take);
            let (inside, most, history) = (inside.clone(), most.clone(), history.clone());
            let mode = Mode::Permits { take, of: PERMITS };
            tokio::spawn(lock.wait_forever().run(async move |held| {
                let _inside = history.enter(mode, held.fencing_token().get());
                let now = inside.fetch_add(take, Ordering::SeqCst) + take;
                assert!(now <= PERMITS, "{now} permits are taken");
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(take, Ordering::SeqCst);
            }))
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(most.load(Ordering::SeqCst) > 1, "they were never shared");
    history.check(&store).await;
}

/// Readers count up, a writer is alone.
async fn readers_and_writers_of_two_coordinators_never_meet(server: Backend) {
    const WRITER: i64 = -1_000_000;
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let history = History::of(&store, "coord/lock/m!/").await;
    let inside = Arc::new(AtomicI64::new(0));
    let most = Arc::new(AtomicI64::new(0));
    let tasks: Vec<_> = (0..80)
        .map(|n| {
            let coordinator = if n % 2 == 0 { &one } else { &two };
            let reads = n % 5 != 0;
            let lock = match reads {
                true => lock(coordinator).read(),
                false => lock(coordinator),
            };
            let (inside, most, history) = (inside.clone(), most.clone(), history.clone());
            let mode = if reads { Mode::Read } else { Mode::Exclusive };
            tokio::spawn(lock.wait_forever().run(async move |held| {
                let _inside = history.enter(mode, held.fencing_token().get());
                let step = if reads { 1 } else { WRITER };
                let now = inside.fetch_add(step, Ordering::SeqCst) + step;
                assert!(now > 0 || now == WRITER, "a writer is not alone: {now}");
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(step, Ordering::SeqCst);
            }))
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(most.load(Ordering::SeqCst) > 1, "readers never shared");
    history.check(&store).await;
}

async fn nobody_upgrades_or_takes_more_inside(server: Backend) {
    let coordinator = connect(&server).await;
    type How = fn(LockBuilder) -> LockBuilder;
    let kinds: [How; 3] = [LockBuilder::write, LockBuilder::read, |lock| {
        lock.permits(3)
    }];
    for outer in kinds {
        for inner in kinds {
            outer(lock(&coordinator))
                .run(async |_| {
                    let more = inner(lock(&coordinator)).acquire().await;
                    assert!(matches!(more, Err(Error::WouldDeadlock { .. })), "{more:?}");
                })
                .await
                .unwrap();
        }
    }
}

async fn leases(store: &mut Client) -> usize {
    store.leases().await.unwrap().leases().len()
}

async fn another_ttl_has_another_lease_that_all_its_users_share(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let usual = coordinator.lock("usual").acquire().await.unwrap();
    let long = Duration::from_secs(600);
    let first = coordinator.lock("first").ttl(long).acquire().await.unwrap();
    let second = coordinator.lock("second").ttl(long);
    let second = second.try_acquire().await.unwrap();
    assert!(usual.remaining() < Duration::from_secs(60));
    assert!(first.remaining() > Duration::from_secs(60));
    assert_eq!(leases(&mut store).await, 2);
    let lease = async |store: &mut Client, name| queue(store, name).await[0].lease();
    assert_eq!(
        lease(&mut store, "first").await,
        lease(&mut store, "second").await
    );
    // The one is lost without the other.
    let of_usual = lease(&mut store, "usual").await;
    server.expire_lease(of_usual).await;
    eventually("its loss is known", async || !usual.is_held()).await;
    first.verify().await.unwrap();
    second.verify().await.unwrap();
    coordinator.close().await;
    eventually("nothing is left", async || leases(&mut store).await == 0).await;
}

async fn what_cannot_be_is_refused_before_anything_is_sent(server: Backend) {
    let coordinator = connect(&server).await;
    let before = server.log_entries().await;
    let lock = || coordinator.lock("m");
    let bad = [
        (lock().permits(0), "one permit at least"),
        (lock().permits(4).take(0), "0 of 4"),
        (lock().permits(4).take(5), "5 of 4"),
        (lock().take(1), "`take`"),
        (lock().max_hold(Duration::ZERO), "`max_hold`"),
        (lock().ttl(Duration::ZERO), "ttl: "),
        (lock().ttl(Duration::from_millis(1_500)), "ttl: "),
        (
            lock().ttl(Duration::from_secs(9_000_000_001)),
            "ttl: etcd takes no more than 9000000000s",
        ),
        (lock().ttl(Duration::MAX), "ttl: etcd takes no more"),
        (coordinator.lock(""), "empty"),
        (coordinator.lock("x".repeat(1_025)), "1025 bytes"),
        (coordinator.lock("a\u{7}b"), "control character"),
        (coordinator.lock("a!b"), "`!`"),
        (coordinator.lock("").raw(), "empty"),
        (coordinator.lock("x".repeat(1_025)).raw(), "1025 bytes"),
        (coordinator.lock("a\nb").raw(), "control character"),
        // Among coord's own keys.
        (coordinator.lock("coord").raw(), "raw name `coord`"),
        (coordinator.lock("coord/lock").raw(), "raw name"),
        (coordinator.lock("coord/lock/jobs").raw(), "raw name"),
        (coordinator.lock("coord/session").raw(), "raw name"),
        (coordinator.lock("coord/svc/shop/eu").raw(), "raw name"),
    ];
    for (lock, fault) in bad {
        let said = format!("{lock:?}");
        for error in [
            lock.clone().try_acquire().await.unwrap_err(),
            lock.acquire().await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Invalid { .. }), "{said}: {error:?}");
            assert!(error.to_string().contains(fault), "{fault}: {error}");
        }
    }
    // All of them at once.
    let all = coordinator.lock_all(["", "a!"]).permits(0).acquire().await;
    let Err(Error::Invalid { faults, .. }) = all else {
        panic!("{all:?}")
    };
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(server.log_entries().await, before);
}
