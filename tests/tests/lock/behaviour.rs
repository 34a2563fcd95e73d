//! What locks do while nothing fails.

use std::{collections::HashSet, sync::Arc, time::Duration};

use coord::{Coordinator, Error, LockGuard, LostReason};
use coord_tests::{
    Backend, Flow, History, Mode, Proxy, Worker, backend::Kind, eventually, history::monotonic,
    median, on_both,
};

use etcd_client::{Client, GetOptions, LeaseTimeToLiveOptions};

use super::{connect, options, polled, queue, queue_is, round_trip};

on_both! {
    the_futures_are_small,
    a_lock_is_held_until_it_is_released_and_its_token_grows,
    a_wait_that_is_over_names_the_holder_and_leaves_the_queue,
    a_wait_that_is_over_does_not_name_itself,
    a_wait_ends_though_etcd_does_not_answer,
    a_wait_of_nothing_is_a_try,
    the_key_of_a_lock_is_used_again,
    a_hundred_tasks_of_one_session_take_turns,
    two_processes_never_hold_the_same_lock_at_once,
    a_lock_is_handed_from_session_to_session_without_a_pause,
    an_acquire_that_is_dropped_at_any_await_leaves_nothing,
    a_release_and_a_section_that_are_dropped_at_any_await_leave_nothing,
    a_cancelled_wait_and_a_release_at_the_same_moment_lose_no_hand_over,
    names_that_contain_each_other_or_strange_characters_are_different_locks,
    a_second_acquire_inside_the_body_would_deadlock_and_says_so,
    closing_ends_the_body_gives_the_lock_back_and_refuses_the_next,
    closing_leaves_a_body_the_time_to_stop,
    a_body_that_ends_after_the_close_is_told,
    what_was_given_back_here_is_not_in_the_way_of_a_try,
    a_guard_is_dropped_after_its_runtime,
    a_guard_is_dropped_where_there_is_no_runtime,
    a_runtime_that_is_shut_down_gives_back_what_its_tasks_hold,
    what_is_under_way_when_the_last_coordinator_is_dropped_ends_as_closed,
    a_waker_that_owns_another_wait_is_dropped_with_its_own,
}

/// Futures of locks are awaited inside of others: what they hold is held by each caller.
async fn the_futures_are_small(server: Backend) {
    let coordinator = connect(&server).await;
    let guard = coordinator.lock("small").acquire().await.unwrap();
    let election = coordinator.election("small");
    let leader = election.campaign("me").await.unwrap();
    let lock = || coordinator.lock("other");
    let sizes = [
        ("acquire", size_of_val(&lock().acquire())),
        ("try_acquire", size_of_val(&lock().try_acquire())),
        ("run", size_of_val(&lock().run(async |_held| ()))),
        ("verify", size_of_val(&guard.verify())),
        ("refresh", size_of_val(&guard.refresh())),
        ("time_to_live", size_of_val(&guard.time_to_live())),
        (
            "set_ttl",
            size_of_val(&guard.set_ttl(Duration::from_secs(5))),
        ),
        ("commit", size_of_val(&guard.transaction().commit())),
        ("campaign", size_of_val(&election.campaign("me"))),
        ("lead", size_of_val(&election.lead("me", async |_term| ()))),
        ("leader", size_of_val(&election.leader())),
        ("candidates", size_of_val(&election.candidates())),
        ("proclaim", size_of_val(&leader.proclaim("me"))),
        ("inspect", size_of_val(&coordinator.inspect_locks(""))),
    ];
    let last = [
        ("resign", size_of_val(&leader.resign())),
        ("unlock", size_of_val(&guard.unlock())),
    ];
    let large = |(_, size): &&(&str, usize)| *size > 2_048;
    let large: Vec<_> = sizes.iter().chain(&last).filter(large).collect();
    assert!(large.is_empty(), "{large:?}");
}

async fn a_lock_is_held_until_it_is_released_and_its_token_grows(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;

    let guard = one.lock("orders/42").acquire().await.unwrap();
    assert_eq!(guard.key(), "orders/42");
    assert!(guard.is_held());
    assert!(guard.remaining() > Duration::from_secs(5));
    guard.verify().await.unwrap();
    let first = guard.fencing_token();
    let entries = queue(&mut store, "orders/42").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].create_revision(), first.get());

    let busy = two.module("billing").lock("orders/42").try_acquire().await;
    let Err(Error::Busy { holder, .. }) = busy else {
        panic!("{busy:?}")
    };
    let holder = holder.unwrap();
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(holder.entry, entries[0].key_str().unwrap());
    assert_eq!(queue(&mut store, "orders/42").await.len(), 1);

    assert!(guard.unlock().await.unwrap().confirmed);
    assert!(queue(&mut store, "orders/42").await.is_empty());
    let guard = two.lock("orders/42").try_acquire().await.unwrap();
    assert!(guard.fencing_token() > first);
    drop(guard);
    queue_is(&store, "orders/42", 0).await;
}

/// etcd keeps deleted keys in its index, and walks over them in every range: new ones for each turn
/// would make a busy lock slower and slower.
async fn the_key_of_a_lock_is_used_again(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let mut keys = HashSet::new();
    for _ in 0..20 {
        let guard = coordinator.lock("again").acquire().await.unwrap();
        keys.insert(queue(&mut store, "again").await[0].key().to_vec());
        coordinator.lock("again").try_acquire().await.unwrap_err();
        guard.unlock().await.unwrap();
    }
    assert_eq!(keys.len(), 1);
}

async fn a_wait_that_is_over_names_the_holder_and_leaves_the_queue(server: Backend) {
    let (one, two) = (
        connect(&server).await.module("shipping"),
        connect(&server).await,
    );
    let store = server.client().await;

    let _guard = one.lock("jobs").acquire().await.unwrap();
    let mut second = tokio::spawn(two.lock("jobs").wait_forever().acquire());
    queue_is(&store, "jobs", 2).await;
    // Long enough for it to learn its place.
    let third = one.lock("jobs").wait(Duration::from_secs(2)).acquire();
    let error = third.await.unwrap_err();
    let Error::Timeout {
        holder, position, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*position, Some(2));
    assert_eq!(
        holder.as_ref().unwrap().service.as_deref(),
        Some("shipping")
    );
    assert!(error.to_string().contains("shipping (pid "), "{error}");
    queue_is(&store, "jobs", 2).await;
    assert!(futures_util::poll!(&mut second).is_pending());
}

/// Nobody else is there; the answer to its put does not come in time.
async fn a_wait_that_is_over_does_not_name_itself(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let connected = Coordinator::connect(options(proxy.endpoint(), 60)).await;
    let coordinator = connected.unwrap();
    let store = server.client().await;
    drop(coordinator.lock("warm").acquire().await.unwrap());
    for turn in 0..3 {
        eventually("nothing else is to be given back", async || {
            coordinator.health().undo_backlog == 0
        })
        .await;
        proxy.replies(Flow::Hold);
        let before = server.log_entries().await;
        let lock = coordinator.lock("jobs").wait(Duration::from_secs(1));
        let waiting = tokio::spawn(lock.acquire());
        eventually("it was put, and is given up", async || {
            server.log_entries().await >= before + 2
        })
        .await;
        queue_is(&store, "jobs", 0).await;
        proxy.heal().await;
        let late = waiting.await.unwrap().unwrap_err();
        assert!(
            matches!(late, Error::Timeout { holder: None, .. }),
            "{turn}: {late:?}"
        );
    }
}

/// Neither the acquire, nor who is asked for when it is over.
async fn a_wait_ends_though_etcd_does_not_answer(server: Backend) {
    let mut options = options(server.endpoint(), 600);
    options.request_timeout = Duration::from_secs(300);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let held = coordinator.lock("jobs").acquire().await.unwrap();
    let limit = Duration::from_millis(100);
    let lock = || coordinator.lock("jobs").wait(limit);
    let behind = tokio::spawn(coordinator.lock("jobs").wait_forever().acquire());
    queue_is(&server.client().await, "jobs", 2).await;
    server.stop();
    let late = tokio::time::timeout(Duration::from_secs(60), lock().acquire()).await;
    server.cont();
    let late = late.expect("it ends").unwrap_err();
    assert!(
        matches!(late, Error::Timeout { limit: told, .. } if told == limit),
        "{late:?}"
    );
    held.unlock().await.unwrap();
    drop(behind.await.unwrap().unwrap());
}

async fn a_hundred_tasks_of_one_session_take_turns(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let history = History::of(&store, "coord/lock/one!/").await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let history = history.clone();
            let lock = coordinator.lock("one").wait_forever();
            tokio::spawn(lock.run(async move |held| {
                let _inside = history.enter(Mode::Exclusive, held.fencing_token().get());
                tokio::task::yield_now().await;
            }))
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    history.check(&store).await;
    assert_eq!(history.len(), 100);
}

/// They count on etcd, in two steps each: an overlap would lose one.
async fn two_processes_never_hold_the_same_lock_at_once(server: Backend) {
    const EACH: usize = 250;
    let mut store = server.client().await;
    let history = History::of(&store, "coord/lock/sections!/").await;
    let arguments = [&server.endpoint(), "sections", &EACH.to_string()];
    let mut workers = [
        Worker::spawn("lock-sections", &arguments),
        Worker::spawn("lock-sections", &arguments),
    ];
    for worker in &mut workers {
        worker.expect("ready").await;
    }
    workers.iter_mut().for_each(|worker| worker.say("go"));
    let mut turns = Vec::new();
    for (number, worker) in workers.iter_mut().enumerate() {
        for _ in 0..EACH {
            let said = worker.expect("section").await;
            let (token, times) = said.split_once(' ').unwrap();
            let (entered, left) = times.split_once(' ').unwrap();
            let token = token.parse().unwrap();
            let (entered, left) = (entered.parse().unwrap(), left.parse().unwrap());
            history.add(Mode::Exclusive, token, entered, left);
            turns.push((token, number));
        }
        worker.expect("done").await;
    }
    history.check(&store).await;
    let counter = store.get("counter", None).await.unwrap();
    assert_eq!(
        counter.kvs()[0].value_str().unwrap(),
        (2 * EACH).to_string()
    );
    turns.sort_unstable();
    let changes = turns
        .windows(2)
        .filter(|pair| pair[0].1 != pair[1].1)
        .count();
    assert!(
        changes > EACH / 10,
        "only {changes} hand-overs: no contention"
    );
}

async fn a_lock_is_handed_from_session_to_session_without_a_pause(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let mut guard = one.lock("baton").acquire().await.unwrap();
    let (mut took, mut usual) = (Vec::new(), Vec::new());
    for turn in 0..40 {
        let next = if turn % 2 == 0 { &two } else { &one };
        let waiting = tokio::spawn(next.lock("baton").acquire());
        queue_is(&store, "baton", 2).await;
        let released = tokio::time::Instant::now();
        drop(guard);
        guard = waiting.await.unwrap().unwrap();
        took.push(released.elapsed());
        usual.push(round_trip(&store).await);
    }
    // A pause would be the same on a machine that is slow in everything.
    let limit = Duration::from_millis(20).max(10 * median(&usual));
    assert!(median(&took) < limit, "{limit:?}: {took:?}");
}

async fn an_acquire_that_is_dropped_at_any_await_leaves_nothing(server: Backend) {
    let store = server.client().await;
    // Free, with and without a session; then behind a holder.
    for (name, fresh, held) in [("a", true, false), ("b", false, false), ("c", false, true)] {
        let holder = connect(&server).await;
        let guard = match held {
            true => Some(holder.lock(name).acquire().await.unwrap()),
            false => None,
        };
        let mut coordinator = connect(&server).await;
        drop(coordinator.lock("other").acquire().await.unwrap());
        // Behind a holder it is polled until the limit is over; else it is not to matter.
        let limit = Duration::from_millis(if held { 50 } else { 30_000 });
        for polls in 0.. {
            if fresh {
                coordinator = connect(&server).await;
            }
            let acquire = coordinator.lock(name).wait(limit).acquire();
            let done = match polled(acquire, polls).await {
                None => false,
                // The guard is dropped here, if there is one.
                Some(Ok(_)) if !held => true,
                Some(Err(Error::Timeout { .. })) if held => true,
                Some(other) => panic!("{name} after {polls} polls: {other:?}"),
            };
            queue_is(&store, name, usize::from(held)).await;
            if done {
                break;
            }
        }
        drop(guard);
        let after = coordinator.lock(name).acquire().await;
        after.unwrap().verify().await.unwrap();
        leases_have_their_session_keys_alone(&store).await;
    }
}

async fn leases_have_their_session_keys_alone(store: &Client) {
    eventually("no lease has another key", async || {
        let all = Some(GetOptions::new().with_prefix());
        let found = store.kv_client().get("coord/session/", all).await.unwrap();
        assert!(!found.kvs().is_empty());
        for session in found.kvs() {
            let keys = Some(LeaseTimeToLiveOptions::new().with_keys());
            let mut leases = store.lease_client();
            let lease = leases.time_to_live(session.lease(), keys).await.unwrap();
            // One that has ended meanwhile has none.
            if lease.keys().iter().any(|key| key != session.key()) {
                return false;
            }
        }
        true
    })
    .await;
}

async fn a_release_and_a_section_that_are_dropped_at_any_await_leave_nothing(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    for polls in 0.. {
        let guard = coordinator.lock("release").acquire().await.unwrap();
        let done = polled(guard.unlock(), polls).await;
        queue_is(&store, "release", 0).await;
        if let Some(released) = done {
            assert!(released.unwrap().confirmed);
            break;
        }
    }
    for polls in 0.. {
        let run = coordinator.lock("run").run(async |held| {
            tokio::task::yield_now().await;
            held.verify().await
        });
        let done = polled(run, polls).await;
        queue_is(&store, "run", 0).await;
        if let Some(ran) = done {
            ran.unwrap().unwrap();
            break;
        }
    }
}

async fn a_cancelled_wait_and_a_release_at_the_same_moment_lose_no_hand_over(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let history = History::of(&store, "coord/lock/race!/").await;
    let enter = |guard: &LockGuard| history.enter(Mode::Exclusive, guard.fencing_token().get());
    for _ in 0..200 {
        let guard = one.lock("race").acquire().await.unwrap();
        let inside = enter(&guard);
        let waiting = tokio::spawn(two.lock("race").acquire());
        let last = tokio::spawn(one.lock("race").acquire());
        queue_is(&store, "race", 3).await;
        drop(inside);
        drop(guard);
        tokio::task::yield_now().await;
        waiting.abort();
        // Whether it was granted or not, the next one gets it.
        drop(waiting.await);
        let last = last.await.unwrap().unwrap();
        drop(enter(&last));
    }
    history.check(&store).await;
}

async fn names_that_contain_each_other_or_strange_characters_are_different_locks(server: Backend) {
    let coordinator = connect(&server).await;
    let names = [
        "orders",
        "orders/42",
        "orders/42/lines",
        "größe/ключ/💡",
        "50%",
        "a b",
        "-",
    ];
    let mut guards = Vec::new();
    for name in names {
        guards.push(coordinator.lock(name).try_acquire().await.unwrap());
    }
    for name in names {
        let again = coordinator.lock(name).try_acquire().await;
        assert!(
            matches!(again, Err(Error::Busy { .. })),
            "{name}: {again:?}"
        );
    }
    for name in ["", "a!", "a!/b", "a//b", "a/", "a\nb", &"x".repeat(1025)] {
        let refused = coordinator.lock(name).acquire().await;
        assert!(
            matches!(refused, Err(Error::Invalid { .. })),
            "{name:?}: {refused:?}"
        );
    }
}

async fn a_second_acquire_inside_the_body_would_deadlock_and_says_so(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    one.lock("outer")
        .run(async |_| {
            // By the same and by another coordinator on the same cluster; by try and by wait.
            for coordinator in [&one, &two] {
                let inner = coordinator.lock("outer").acquire().await;
                assert!(
                    matches!(inner, Err(Error::WouldDeadlock { .. })),
                    "{inner:?}"
                );
                let inner = coordinator.lock("outer").try_acquire().await;
                assert!(
                    matches!(inner, Err(Error::WouldDeadlock { .. })),
                    "{inner:?}"
                );
            }
            // Another lock is another lock, and what is spawned is not inside.
            drop(one.lock("inner").acquire().await.unwrap());
            let spawned = tokio::spawn(one.lock("outer").try_acquire()).await.unwrap();
            assert!(matches!(spawned, Err(Error::Busy { .. })), "{spawned:?}");
        })
        .await
        .unwrap();
    // Siblings wait for each other.
    let section = || one.lock("outer").run(async |held| held.fencing_token());
    let (a, b) = tokio::join!(section(), section());
    assert_ne!(a.unwrap(), b.unwrap());
}

async fn closing_ends_the_body_gives_the_lock_back_and_refuses_the_next(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let guard = one.lock("closed").acquire().await.unwrap();
    let waiting = tokio::spawn(one.lock("closed").wait_forever().acquire());
    queue_is(&server.client().await, "closed", 2).await;
    one.close().await;
    assert!(!guard.is_held());
    let after = one.lock("closed").acquire().await;
    assert!(matches!(after, Err(Error::Closed { .. })), "{after:?}");
    let waited = waiting.await.unwrap();
    assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
    drop(two.lock("closed").acquire().await.unwrap());
    drop(guard);
}

/// A body that is in the middle of a step cannot be stopped there.
async fn closing_leaves_a_body_the_time_to_stop(server: Backend) {
    let (one, two) = (
        super::connect_with_ttl(&server, 200).await,
        super::connect_with_ttl(&server, 200).await,
    );
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let (stopped, has_stopped) = tokio::sync::oneshot::channel();
    let body = tokio::spawn(one.lock("closed").run(async move |_| {
        inside.send(()).unwrap();
        tokio::task::block_in_place(|| {
            goes_on.recv().unwrap();
            // Less than a twentieth of the TTL.
            std::thread::sleep(Duration::from_millis(300));
        });
        stopped.send(monotonic()).unwrap();
        std::future::pending::<()>().await;
    }));
    is_inside.await.unwrap();
    let next = tokio::spawn(async move {
        let guard = two.lock("closed").acquire().await.unwrap();
        (two, guard, monotonic())
    });
    queue_is(&server.client().await, "closed", 2).await;
    go_on.send(()).unwrap();
    one.close().await;
    let (_two, guard, began) = next.await.unwrap();
    super::lost(LostReason::Closed, body.await.unwrap());
    let stopped = has_stopped.await.unwrap();
    assert!(stopped < began, "stopped at {stopped}, after {began}");
    assert!(guard.unlock().await.unwrap().confirmed);
}

async fn a_guard_is_dropped_after_its_runtime(server: Backend) {
    let work = tokio::task::spawn_blocking(move || {
        let runtime = || tokio::runtime::Runtime::new().unwrap();
        let first = runtime();
        let (coordinator, guard) = first.block_on(async {
            let coordinator = connect(&server).await;
            let guard = coordinator.lock("runtime").acquire().await.unwrap();
            (coordinator, guard)
        });
        drop(first);
        drop(guard);
        let again = runtime().block_on(coordinator.lock("runtime").acquire());
        drop(again.unwrap());
    });
    work.await.unwrap();
}

async fn a_guard_is_dropped_where_there_is_no_runtime(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let guard = one.lock("thread").acquire().await.unwrap();
    let waiting = tokio::spawn(two.lock("thread").acquire());
    queue_is(&server.client().await, "thread", 2).await;
    let dropped = std::thread::spawn(move || {
        assert!(tokio::runtime::Handle::try_current().is_err());
        drop(guard);
    });
    waiting.await.unwrap().unwrap().verify().await.unwrap();
    dropped.join().unwrap();
}

/// With a guard, a body, a wait and a release in the middle.
async fn a_runtime_that_is_shut_down_gives_back_what_its_tasks_hold(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let runtime = tokio::task::spawn_blocking(|| tokio::runtime::Runtime::new().unwrap());
    let runtime = runtime.await.unwrap();
    let guard = coordinator.lock("guard").acquire();
    runtime.spawn(async move {
        let _guard = guard.await.unwrap();
        std::future::pending::<()>().await;
    });
    let body = coordinator.lock("body");
    runtime.spawn(body.run(async |_| std::future::pending::<()>().await));
    for name in ["guard", "body"] {
        queue_is(&store, name, 1).await;
        runtime.spawn(coordinator.lock(name).wait_forever().acquire());
        queue_is(&store, name, 2).await;
    }
    let released = coordinator.lock("released").acquire().await.unwrap();
    runtime.spawn(released.unlock());
    runtime.shutdown_background();
    for name in ["guard", "body", "released"] {
        queue_is(&store, name, 0).await;
    }
}

async fn what_is_under_way_when_the_last_coordinator_is_dropped_ends_as_closed(server: Backend) {
    let holder = connect(&server).await;
    let guard = holder.lock("left").acquire().await.unwrap();
    let store = server.client().await;
    for away in [false, false, false, false, true] {
        let coordinator = connect(&server).await;
        let theirs = coordinator.lock("theirs").acquire().await.unwrap();
        let lock = coordinator.lock("left").wait(Duration::from_secs(60));
        let waiting = tokio::spawn(lock.acquire());
        queue_is(&store, "left", 2).await;
        if away {
            server.kill();
        }
        // It was the last one.
        drop(coordinator);
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        let waited = waited.expect("the wait ends").expect("without a panic");
        assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
        let released = tokio::time::timeout(Duration::from_secs(60), theirs.unlock()).await;
        let released = released.expect("the release ends");
        assert!(
            matches!(released, Err(Error::Closed { .. } | Error::Lost { .. })),
            "{released:?}"
        );
    }
    drop(guard);
}

/// On a real etcd, whose metrics have the calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_costs_two_calls_a_failed_try_one_and_a_hand_over_no_read() {
    const TURNS: u64 = 20;
    let Some(server) = Backend::start_or_skip(Kind::Etcd).await else {
        return;
    };
    // A call that is given up is sent again, and what is looked at now and then is looked at with each
    // TTL: neither is what is counted here.
    let (one, two) = (
        super::connect_with_ttl(&server, 600).await,
        super::connect_with_ttl(&server, 600).await,
    );
    let etcd = server.etcd().unwrap();
    // The sessions.
    drop(one.lock("a").acquire().await.unwrap().unlock().await);
    drop(two.lock("a").acquire().await.unwrap().unlock().await);
    let count = async || {
        [
            etcd.calls("Txn").await + etcd.calls("DeleteRange").await,
            etcd.calls("Range").await + etcd.calls("Put").await,
            etcd.calls("Watch").await,
        ]
    };
    eventually("the session keys are watched", async || {
        count().await[2] >= 2
    })
    .await;
    let settled = async |coordinator: &Coordinator| {
        eventually("nothing is to be undone", async || {
            coordinator.health().undo_backlog == 0
        })
        .await;
    };

    let before = count().await;
    for _ in 0..TURNS {
        drop(one.lock("free").acquire().await.unwrap());
        settled(&one).await;
    }
    let [txns, others, watches] = before;
    assert_eq!(count().await, [txns + 2 * TURNS, others, watches], "free");

    let guard = one.lock("busy").acquire().await.unwrap();
    let before = count().await;
    for _ in 0..TURNS {
        two.lock("busy").try_acquire().await.unwrap_err();
        settled(&two).await;
    }
    let [txns, others, watches] = before;
    assert_eq!(count().await, [txns + TURNS, others, watches], "try");
    drop(guard);

    let mut guard = one.lock("baton").acquire().await.unwrap();
    let mut before = count().await;
    for turn in 0..TURNS + 2 {
        if turn == 2 {
            // Each of them watches the queue.
            before = count().await;
        }
        let (next, last) = if turn % 2 == 0 {
            (&two, &one)
        } else {
            (&one, &two)
        };
        let sent = etcd.calls("Txn").await;
        let waiting = tokio::spawn(next.lock("baton").acquire());
        eventually("it stands in the queue", async || {
            etcd.calls("Txn").await > sent
        })
        .await;
        drop(guard);
        guard = waiting.await.unwrap().unwrap();
        settled(last).await;
    }
    let [txns, others, watches] = before;
    assert_eq!(count().await, [txns + 2 * TURNS, others, watches], "baton");
}

/// As in the simplest of executors: a task's waker is the task.
struct Carrier {
    _carried: std::sync::Mutex<Box<dyn std::any::Any + Send>>,
}

impl std::task::Wake for Carrier {
    fn wake(self: Arc<Self>) {}
}

async fn a_waker_that_owns_another_wait_is_dropped_with_its_own(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock("waker").acquire().await.unwrap();
    let acquire = || Box::pin(coordinator.lock("waker").wait_forever().acquire());
    let (mut outer, mut inner) = (acquire(), acquire());
    eventually("both stand in the queue", async || {
        assert!(futures_util::poll!(outer.as_mut()).is_pending());
        assert!(futures_util::poll!(inner.as_mut()).is_pending());
        queue(&mut store, "waker").await.len() == 3
    })
    .await;
    // And both learn it: the answers come while others are asked for.
    for _ in 0..10 {
        queue(&mut store, "waker").await;
        assert!(futures_util::poll!(outer.as_mut()).is_pending());
        assert!(futures_util::poll!(inner.as_mut()).is_pending());
    }
    let carried: Box<dyn std::any::Any + Send> = Box::new(inner);
    let waker = std::task::Waker::from(Arc::new(Carrier {
        _carried: carried.into(),
    }));
    let polled = outer
        .as_mut()
        .poll(&mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    let (done, dropped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        drop(outer);
        done.send(()).unwrap();
    });
    let dropped = tokio::time::timeout(Duration::from_secs(60), dropped).await;
    dropped.expect("the drop ends").unwrap();
    queue_is(&store, "waker", 1).await;
    drop(guard);
}

async fn a_wait_of_nothing_is_a_try(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let lock = |coordinator: &Coordinator| coordinator.lock("jobs").wait(Duration::ZERO);
    let held = lock(&one).acquire().await.unwrap();
    let busy = lock(&two).acquire().await;
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    held.unlock().await.unwrap();
    drop(lock(&two).acquire().await.unwrap());
}

/// A body that took longer over its step than a close waits for it: somebody else may have come.
async fn a_body_that_ends_after_the_close_is_told(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let body = tokio::spawn(one.lock("closed").run(async move |_| {
        inside.send(()).unwrap();
        tokio::task::block_in_place(|| goes_on.recv().unwrap());
    }));
    is_inside.await.unwrap();
    one.close().await;
    let guard = two.lock("closed").acquire().await.unwrap();
    go_on.send(()).unwrap();
    super::lost(LostReason::Closed, body.await.unwrap());
    assert!(guard.unlock().await.unwrap().confirmed);
}

/// A release goes on in the background; whoever has made it does not find it in the way.
async fn what_was_given_back_here_is_not_in_the_way_of_a_try(server: Backend) {
    let coordinator = connect(&server).await;
    let lock = || coordinator.lock("jobs");
    let handle = lock().into_reentrant();
    let election = coordinator.election("jobs");
    for turn in 0..20 {
        drop(lock().acquire().await.unwrap());
        lock().trying().run(async |_| ()).await.unwrap();
        drop(lock().read().try_acquire().await.unwrap());
        drop(lock().downgradable().try_acquire().await.unwrap());
        drop(lock().permits(2).take(2).try_acquire().await.unwrap());
        drop(lock().permits(3).try_acquire().await.unwrap());
        let guard = lock().ttl(Duration::from_secs(20)).try_acquire().await;
        guard
            .as_ref()
            .unwrap()
            .set_ttl(Duration::from_secs(40))
            .await
            .unwrap();
        drop(guard);
        handle.try_acquire().await.unwrap();
        let _ = futures_util::poll!(std::pin::pin!(handle.release()));
        let both = coordinator.lock_all(["jobs", "others"]);
        drop(both.clone().try_acquire().await.unwrap());
        drop(coordinator.lock("others").try_acquire().await.unwrap());
        drop(election.try_campaign(format!("{turn}")).await.unwrap());
    }
    let _held = lock().acquire().await.unwrap();
    let busy = lock().try_acquire().await;
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
}
