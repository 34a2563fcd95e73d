//! Locks as a user sees them, on a real etcd.
// clippy.toml allows it in tests, but does not see that their helpers are part of them.
#![allow(clippy::unwrap_used)]

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use coord::{Coordinator, Error, LockGuard, LostReason, Options};
use coord_tests::{Etcd, EtcdConfig, Flow, Proxy, Worker, eventually, median};
use etcd_client::{Client, GetOptions, KeyValue};

async fn start() -> Option<Etcd> {
    Etcd::start_or_skip(EtcdConfig::new()).await
}

async fn connect(etcd: &Etcd) -> Coordinator {
    connect_with_ttl(etcd, 10).await
}

async fn connect_with_ttl(etcd: &Etcd, seconds: u64) -> Coordinator {
    let mut options = Options::test();
    options.endpoints = vec![etcd.endpoint()];
    options.lock.ttl = Duration::from_secs(seconds);
    Coordinator::connect(options).await.unwrap()
}

/// What stands in the queue of `name`, the oldest first.
async fn queue(store: &mut Client, name: &str) -> Vec<KeyValue> {
    let prefix = format!("coord/lock/{name}!/");
    let mut kvs = store
        .get(prefix, Some(GetOptions::new().with_prefix()))
        .await
        .unwrap()
        .take_kvs();
    kvs.sort_by_key(KeyValue::create_revision);
    kvs
}

async fn queue_is(store: &Client, name: &str, length: usize) {
    let what = format!("{length} entries stand in the queue of {name}");
    eventually(&what, async || {
        queue(&mut store.clone(), name).await.len() == length
    })
    .await;
}

/// Futures of locks are awaited inside of others: what they hold is held by each caller.
#[tokio::test(flavor = "multi_thread")]
async fn the_futures_are_small() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let coordinator = Coordinator::connect(Options::test().endpoints([etcd.endpoint()]))
        .await
        .unwrap();
    let acquire = coordinator.lock("small").acquire();
    assert!(size_of_val(&acquire) < 4_096, "{}", size_of_val(&acquire));
    let run = coordinator.lock("small").run(async |_held| ());
    assert!(size_of_val(&run) < 6_144, "{}", size_of_val(&run));
    drop(acquire.await.unwrap());
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_held_until_it_is_released_and_its_token_grows() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
    let mut store = etcd.client().await;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_over_names_the_holder_and_leaves_the_queue() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (
        connect(&etcd).await.module("shipping"),
        connect(&etcd).await,
    );
    let store = etcd.client().await;

    let _guard = one.lock("jobs").acquire().await.unwrap();
    let mut second = tokio::spawn(two.lock("jobs").wait_forever().acquire());
    queue_is(&store, "jobs", 2).await;
    let third = one.lock("jobs").wait(Duration::from_millis(200)).acquire();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_tasks_of_one_session_take_turns() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let inside = Arc::new(AtomicBool::new(false));
    let last = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (inside, last) = (inside.clone(), last.clone());
            let lock = coordinator.lock("one").wait_forever();
            tokio::spawn(async move {
                lock.run(async |held| {
                    assert!(!inside.swap(true, Ordering::SeqCst), "two inside");
                    let token = held.fencing_token().get().unsigned_abs();
                    assert!(last.swap(token, Ordering::SeqCst) < token);
                    tokio::task::yield_now().await;
                    inside.store(false, Ordering::SeqCst);
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    queue_is(&etcd.client().await, "one", 0).await;
}

/// The create revision is the witness: sections in the order of their tokens must not overlap.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_hold_the_same_lock_at_once() {
    const EACH: usize = 250;
    let Some(etcd) = start().await else { return };
    let arguments = [&etcd.endpoint(), "sections", &EACH.to_string()];
    let mut workers = [
        Worker::spawn("lock-sections", &arguments),
        Worker::spawn("lock-sections", &arguments),
    ];
    for worker in &mut workers {
        worker.expect("ready").await;
    }
    workers.iter_mut().for_each(|worker| worker.say("go"));
    let mut sections: Vec<[u128; 3]> = Vec::new();
    let mut turns = Vec::new();
    for (number, worker) in workers.iter_mut().enumerate() {
        for _ in 0..EACH {
            let said = worker.expect("section").await;
            let numbers: Vec<_> = said.split(' ').map(|n| n.parse().unwrap()).collect();
            sections.push(numbers.try_into().unwrap());
            turns.push((sections[sections.len() - 1][0], number));
        }
        worker.expect("done").await;
    }
    sections.sort_unstable();
    for pair in sections.windows(2) {
        let ([earlier, _, end], [later, begin, _]) = (pair[0], pair[1]);
        assert!(earlier < later, "one token twice: {earlier}");
        assert!(
            end < begin,
            "{earlier} ended at {end}, {later} began at {begin}"
        );
    }
    let mut store = etcd.client().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_handed_from_session_to_session_without_a_pause() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
    let store = etcd.client().await;
    let mut guard = one.lock("baton").acquire().await.unwrap();
    let mut took = Vec::new();
    for turn in 0..40 {
        let next = if turn % 2 == 0 { &two } else { &one };
        let waiting = tokio::spawn(next.lock("baton").acquire());
        queue_is(&store, "baton", 2).await;
        let released = tokio::time::Instant::now();
        drop(guard);
        guard = waiting.await.unwrap().unwrap();
        took.push(released.elapsed());
    }
    let median = median(&took);
    assert!(median < Duration::from_millis(20), "{median:?}: {took:?}");
}

/// Polls `future` at most `polls` times, then drops it.
async fn polled<F: Future>(future: F, mut polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        if polls == 0 && polled.is_pending() {
            return Poll::Ready(None);
        }
        polled
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_that_is_dropped_at_any_await_leaves_nothing() {
    let Some(etcd) = start().await else { return };
    let store = etcd.client().await;
    // Free, with and without a session; then behind a holder.
    for (name, fresh, held) in [("a", true, false), ("b", false, false), ("c", false, true)] {
        let holder = connect(&etcd).await;
        let guard = match held {
            true => Some(holder.lock(name).acquire().await.unwrap()),
            false => None,
        };
        let mut coordinator = connect(&etcd).await;
        drop(coordinator.lock("other").acquire().await.unwrap());
        for polls in 0.. {
            if fresh {
                coordinator = connect(&etcd).await;
            }
            let acquire = coordinator
                .lock(name)
                .wait(Duration::from_millis(50))
                .acquire();
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
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_and_a_section_that_are_dropped_at_any_await_leave_nothing() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let store = etcd.client().await;
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

/// An acquire is applied, and its answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_whose_answer_is_lost_is_found_again_and_fenced_off_at_its_release() {
    let Some(etcd) = start().await else { return };
    let proxy = Proxy::start(&etcd.endpoint()).await;
    let mut options = Options::test().endpoints([proxy.endpoint()]);
    options.request_timeout = Duration::from_secs(1);
    options.lock.ttl = Duration::from_secs(30);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let mut store = etcd.client().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_and_a_release_at_the_same_moment_lose_no_hand_over() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
    let store = etcd.client().await;
    for _ in 0..60 {
        let guard = one.lock("race").acquire().await.unwrap();
        let waiting = tokio::spawn(two.lock("race").acquire());
        let last = tokio::spawn(one.lock("race").acquire());
        queue_is(&store, "race", 3).await;
        drop(guard);
        tokio::task::yield_now().await;
        waiting.abort();
        // Whether it was granted or not, the next one gets it.
        drop(waiting.await);
        drop(last.await.unwrap().unwrap());
    }
    queue_is(&store, "race", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_holder_never_runs_on_after_its_lease() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let mut worker = Worker::spawn("lock-hold", &[&etcd.endpoint(), "stopped", "2"]);
    let first: i64 = worker.expect("held").await.parse().unwrap();
    worker.expect("tick").await;
    worker.stop();
    let guard = coordinator.lock("stopped").acquire().await.unwrap();
    let taken = now();
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

fn now() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32).as_nanos()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_ends_the_body_and_the_next_acquire_has_a_new_one() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let mut store = etcd.client().await;
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
    store.lease_revoke(lease).await.unwrap();

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

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_somebody_deletes_is_lost_or_made_again() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
    let mut store = etcd.client().await;

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
    assert_ne!(held.key(), waiting.key());
    store.delete(held.key(), None).await.unwrap();
    let reason = tokio::time::timeout(Duration::from_secs(10), second.lost()).await;
    assert_eq!(reason, Ok(LostReason::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_key_in_the_queue_is_named_and_not_waited_for() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let mut store = etcd.client().await;
    store.put("coord/lock/stray!/x", "", None).await.unwrap();
    let error = coordinator.lock("stray").acquire().await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("coord/lock/stray!/x"), "{error}");
    queue_is(&store, "stray", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_lock_and_coord_exclude_each_other() {
    let Some(etcd) = start().await else { return };
    let etcd = Arc::new(etcd);
    let coordinator = connect(&etcd).await;
    let mut store = etcd.client().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("go-on");
    let command = format!("until [ -e {} ]; do sleep 0.02; done", file.display());
    let ctl = tokio::spawn({
        let etcd = etcd.clone();
        async move {
            let lock = ["lock", "coord/lock/both!", "--", "sh", "-c", &command];
            etcd.etcdctl(&lock).await
        }
    });
    queue_is(&store, "both", 1).await;
    let theirs = queue(&mut store, "both").await.remove(0);
    let busy = coordinator.lock("both").try_acquire().await;
    let Err(Error::Busy { holder, .. }) = busy else {
        panic!("{busy:?}")
    };
    assert_eq!(holder.unwrap().entry, theirs.key_str().unwrap());
    let waiting = tokio::spawn(coordinator.lock("both").acquire());
    queue_is(&store, "both", 2).await;
    assert!(!waiting.is_finished());
    std::fs::write(&file, "").unwrap();
    ctl.await.unwrap();
    let guard = waiting.await.unwrap().unwrap();

    let ctl = tokio::spawn({
        let etcd = etcd.clone();
        async move {
            etcd.etcdctl(&["lock", "coord/lock/both!", "--", "echo", "theirs"])
                .await
        }
    });
    queue_is(&store, "both", 2).await;
    assert!(!ctl.is_finished());
    assert!(guard.unlock().await.unwrap().confirmed);
    assert!(ctl.await.unwrap().contains("theirs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_survives_an_outage_shorter_than_what_remains() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect_with_ttl(&etcd, 30).await;
    let guard = coordinator.lock("outage").acquire().await.unwrap();
    let token = guard.fencing_token();
    etcd.kill();
    etcd.restart().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_lost_in_a_longer_outage_before_etcd_is_back() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect_with_ttl(&etcd, 2).await;
    let guard = coordinator.lock("outage").acquire().await.unwrap();
    let body = tokio::spawn(coordinator.lock("body").run(async |_| {
        std::future::pending::<()>().await;
    }));
    queue_is(&etcd.client().await, "body", 1).await;
    etcd.kill();
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
    etcd.restart().await;
    drop(again.await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_that_is_down_makes_a_try_fail_at_once_and_a_wait_end_in_time() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    drop(coordinator.lock("down").acquire().await.unwrap());
    etcd.kill();
    let wait = coordinator.lock("down").wait(Duration::from_millis(300));
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

#[tokio::test(flavor = "multi_thread")]
async fn names_that_contain_each_other_or_strange_characters_are_different_locks() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_second_acquire_inside_the_body_would_deadlock_and_says_so() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_the_body_gives_the_lock_back_and_refuses_the_next() {
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
    let guard = one.lock("closed").acquire().await.unwrap();
    let waiting = tokio::spawn(one.lock("closed").wait_forever().acquire());
    queue_is(&etcd.client().await, "closed", 2).await;
    one.close().await;
    assert!(!guard.is_held());
    let after = one.lock("closed").acquire().await;
    assert!(matches!(after, Err(Error::Closed { .. })), "{after:?}");
    let waited = waiting.await.unwrap();
    assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
    drop(two.lock("closed").acquire().await.unwrap());
    drop(guard);
}

#[test]
fn a_guard_is_dropped_after_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some((etcd, coordinator, guard)) = runtime.block_on(async {
        let etcd = start().await?;
        let coordinator = connect(&etcd).await;
        let guard = coordinator.lock("runtime").acquire().await.unwrap();
        Some((etcd, coordinator, guard))
    }) else {
        return;
    };
    drop(runtime);
    drop(guard);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let again = runtime.block_on(coordinator.lock("runtime").acquire());
    drop((again.unwrap(), etcd));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_the_last_coordinator_is_dropped_ends_as_closed() {
    let Some(etcd) = start().await else { return };
    let holder = connect(&etcd).await;
    let guard = holder.lock("left").acquire().await.unwrap();
    let store = etcd.client().await;
    for away in [false, false, false, false, true] {
        let coordinator = connect(&etcd).await;
        let theirs = coordinator.lock("theirs").acquire().await.unwrap();
        let lock = coordinator.lock("left").wait(Duration::from_secs(60));
        let waiting = tokio::spawn(lock.acquire());
        queue_is(&store, "left", 2).await;
        if away {
            etcd.kill();
        }
        // It was the last one.
        drop(coordinator);
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        let waited = waited.expect("the wait ends").expect("without a panic");
        assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
        let released = tokio::time::timeout(Duration::from_secs(20), theirs.unlock()).await;
        let released = released.expect("the release ends");
        assert!(
            matches!(released, Err(Error::Closed { .. } | Error::Lost { .. })),
            "{released:?}"
        );
    }
    drop(guard);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_a_wait_that_cannot_reach_etcd() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    drop(coordinator.lock("away").acquire().await.unwrap());
    etcd.kill();
    // The calls are known to fail from here on.
    assert!(coordinator.lock("away").try_acquire().await.is_err());
    let waiting = tokio::spawn(coordinator.lock("away").wait_forever().acquire());
    for _ in 0..10 {
        assert!(coordinator.lock("away").try_acquire().await.is_err());
    }
    coordinator.close().await;
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let waited = waited.expect("the wait ends").unwrap();
    assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_that_was_never_sent_leaves_nothing_to_undo() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect_with_ttl(&etcd, 60).await;
    drop(coordinator.lock("backlog").acquire().await.unwrap());
    eventually("the release is done", async || {
        coordinator.health().undo_backlog == 0
    })
    .await;
    etcd.kill();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_costs_two_calls_a_failed_try_one_and_a_hand_over_no_read() {
    const TURNS: u64 = 20;
    let Some(etcd) = start().await else { return };
    let (one, two) = (connect(&etcd).await, connect(&etcd).await);
    // The sessions.
    drop(one.lock("a").acquire().await.unwrap().unlock().await);
    drop(two.lock("a").acquire().await.unwrap().unlock().await);
    let count = async || {
        [
            etcd.calls("Txn").await,
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

/// The store is put back to an older state under a living session: its revisions went back.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_went_back_costs_the_session_and_not_the_lock() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect_with_ttl(&etcd, 60).await;
    let guard = coordinator.lock("restored").acquire().await.unwrap();
    let mut store = etcd.client().await;
    let lease = queue(&mut store, "restored").await[0].lease();
    guard.unlock().await.unwrap();
    let (data, saved) = (etcd.dir().join("data"), etcd.dir().join("saved"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status();
        assert!(copied.unwrap().success());
    };
    etcd.kill();
    copy(&data, &saved);
    etcd.restart().await;
    // The session goes on to a later incarnation, and an acquire shows that it is known.
    let key = format!("coord/session/{lease:016x}");
    let mut store = etcd.client().await;
    let put = etcd_client::PutOptions::new().with_lease(lease);
    store.put(key, "", Some(put)).await.unwrap();
    let guard = coordinator.lock("restored").acquire().await.unwrap();
    assert_eq!(queue(&mut store, "restored").await[0].lease(), lease);
    guard.unlock().await.unwrap();
    etcd.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    etcd.restart().await;
    let again = coordinator.lock("restored").wait(Duration::from_secs(20));
    again.acquire().await.unwrap().verify().await.unwrap();
}

/// The holder is cut off and lives on; etcd gives its lock to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_stops_before_the_next_one_begins() {
    let Some(etcd) = start().await else { return };
    let mut next = connect(&etcd).await;
    for (name, flow) in [("silence", Flow::Discard), ("late", Flow::Hold)] {
        let proxy = Proxy::start(&etcd.endpoint()).await;
        let mut options = Options::test().endpoints([proxy.endpoint()]);
        options.lock.ttl = Duration::from_secs(2);
        let cut_off = Coordinator::connect(options).await.unwrap();
        let polled = Arc::new(std::sync::Mutex::new((0, None)));
        let seen = polled.clone();
        let body = tokio::spawn(cut_off.lock(name).run(async move |held| {
            loop {
                *seen.lock().unwrap() = (now(), Some(held.fencing_token()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
        eventually("the body runs", async || polled.lock().unwrap().0 > 0).await;
        let waiting = tokio::spawn(async move {
            let guard = next.lock(name).acquire().await.unwrap();
            (next, guard, now())
        });
        queue_is(&etcd.client().await, name, 2).await;
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
        queue_is(&etcd.client().await, name, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_through_an_outage_shorter_than_what_remains() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect_with_ttl(&etcd, 30).await;
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
    etcd.kill();
    assert!(coordinator.ping().await.is_err());
    etcd.restart().await;
    assert!(began.elapsed() < remaining, "the outage took too long");
    back.send(()).unwrap();
    let (left, verified) = body.await.unwrap().unwrap();
    assert!(left > Duration::ZERO);
    verified.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_client_of_ours_would_write_are_waited_for_like_others() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let mut store = etcd.client().await;
    let values: [&[u8]; 4] = [
        b"",
        b"\xff\xfe",
        br#"{"v":-1,"host":{},"pid":-7,"since_ms":1e400}"#,
        &[b'['; 10_000],
    ];
    for value in values {
        let lease = store.lease_grant(60, None).await.unwrap().id();
        let key = [b"coord/lock/odd!/\xff\xfe\x00".as_slice(), b"!/"].concat();
        let put = etcd_client::PutOptions::new().with_lease(lease);
        store.put(key.clone(), value, Some(put)).await.unwrap();
        let busy = coordinator.lock("odd").try_acquire().await;
        assert!(
            matches!(
                busy,
                Err(Error::Busy {
                    holder: Some(_),
                    ..
                })
            ),
            "{busy:?}"
        );
        let late = coordinator.lock("odd").wait(Duration::from_millis(500));
        let late = late.acquire().await.unwrap_err();
        assert!(
            matches!(
                late,
                Error::Timeout {
                    holder: Some(_),
                    position: Some(1),
                    ..
                }
            ),
            "{late:?}"
        );
        let waiting = tokio::spawn(coordinator.lock("odd").acquire());
        queue_is(&store, "odd", 2).await;
        store.delete(key, None).await.unwrap();
        drop(waiting.await.unwrap().unwrap());
        queue_is(&store, "odd", 0).await;
    }
}

/// A firewall has forgotten the connections; the only address there is can be dialled anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_survives_connections_that_say_nothing_any_more() {
    let Some(etcd) = start().await else { return };
    let proxy = Proxy::start(&etcd.endpoint()).await;
    let mut options = Options::test().endpoints([proxy.endpoint()]);
    options.lock.ttl = Duration::from_secs(5);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let guard = coordinator.lock("silent").acquire().await.unwrap();
    proxy.half_open();
    let cut = tokio::time::Instant::now();
    eventually("the lease is renewed over a new connection", async || {
        assert!(guard.is_held(), "lost");
        // As late as this, only a renewal after the cut leaves as much.
        guard.remaining() + cut.elapsed() > Duration::from_secs(5)
    })
    .await;
    guard.verify().await.unwrap();
}

/// As in the simplest of executors: a task's waker is the task.
struct Carrier {
    _carried: std::sync::Mutex<Box<dyn std::any::Any + Send>>,
}

impl std::task::Wake for Carrier {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waker_that_owns_another_wait_is_dropped_with_its_own() {
    let Some(etcd) = start().await else { return };
    let coordinator = connect(&etcd).await;
    let mut store = etcd.client().await;
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
    let dropped = tokio::time::timeout(Duration::from_secs(10), dropped).await;
    dropped.expect("the drop ends").unwrap();
    queue_is(&store, "waker", 1).await;
    drop(guard);
}
