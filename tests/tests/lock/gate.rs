//! What holds for a section: how long it may take, what its loss means, how it ends.

use std::{
    os::unix::process::ExitStatusExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coord::{LostReason, OnLost, Release};
use coord_tests::{Backend, Worker, dropped_after, eventually, on_both};

use super::{connect, lost, queue, queue_is};

on_both! {
    a_body_that_takes_longer_than_it_may_is_dropped_and_the_lock_is_given_back,
    a_guard_that_is_held_longer_than_it_may_is_lost_and_given_back,
    a_body_that_blocks_longer_than_it_may_loses_the_lock_meanwhile,
    a_body_may_run_on_without_the_lock,
    a_lost_lock_may_abort_the_process_though_it_never_awaits,
    a_close_aborts_no_process,
    a_section_is_confirmed_by_its_own_entry_alone,
    a_section_may_wait_for_its_release,
    a_section_with_all_words_is_dropped_at_any_await,
}

/// Long enough for a body to begin.
const LIMIT: Duration = Duration::from_secs(2);

/// True once it is dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn a_body_that_takes_longer_than_it_may_is_dropped_and_the_lock_is_given_back(
    server: Backend,
) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let dropped = Arc::new(AtomicBool::new(false));
    let witness = OnDrop(dropped.clone());
    let section = one.lock("hang").max_hold(LIMIT).run(async move |held| {
        assert!(held.remaining() <= LIMIT);
        let _witness = witness;
        std::future::pending::<()>().await;
    });
    lost(LostReason::MaxHold, section.await);
    assert!(dropped.load(Ordering::SeqCst));
    let next = two.lock("hang").acquire().await.unwrap();
    assert!(next.unlock().await.unwrap().confirmed);
    // One that is quicker is not touched.
    let quick = one.lock("hang").max_hold(Duration::from_secs(600));
    assert_eq!(quick.run(async |_| 7).await.unwrap(), 7);
}

async fn a_guard_that_is_held_longer_than_it_may_is_lost_and_given_back(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let guard = one.lock("hang").max_hold(LIMIT).acquire().await.unwrap();
    let next = tokio::spawn(two.lock("hang").wait_forever().acquire());
    assert_eq!(guard.lost().await, LostReason::MaxHold);
    assert!(!guard.is_held());
    assert_eq!(guard.remaining(), Duration::ZERO);
    let next = next.await.unwrap().unwrap();
    assert!(next.fencing_token() > guard.fencing_token());
    lost(LostReason::MaxHold, guard.verify().await);
    lost(LostReason::MaxHold, guard.refresh().await);
    let write = guard.transaction().put("a", "1").commit();
    lost(LostReason::MaxHold, write.await);
    lost(LostReason::MaxHold, guard.unlock().await);
    next.verify().await.unwrap();
}

async fn a_body_that_blocks_longer_than_it_may_loses_the_lock_meanwhile(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let [began, taken] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let section = one.lock("hang").max_hold(LIMIT).run({
        let (began, taken) = (began.clone(), taken.clone());
        async move |held| {
            began.store(true, Ordering::SeqCst);
            while !taken.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!held.is_held());
        }
    });
    let section = tokio::spawn(section);
    eventually("it began", async || began.load(Ordering::SeqCst)).await;
    let next = two.lock("hang").acquire().await.unwrap();
    taken.store(true, Ordering::SeqCst);
    lost(LostReason::MaxHold, section.await.unwrap());
    next.verify().await.unwrap();
}

async fn a_body_may_run_on_without_the_lock(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    for confirm in [false, true] {
        let mut lock = coordinator.lock("lost").on_lost(OnLost::Continue);
        if confirm {
            lock = lock.confirm();
        }
        let section = lock.run(async |held| {
            let entries = queue(&mut store, "lost").await;
            server.expire_lease(entries[0].lease()).await;
            let reason = held.lost().await;
            tokio::task::yield_now().await;
            assert!(!held.is_held());
            reason
        });
        match confirm {
            false => assert_eq!(section.await.unwrap(), LostReason::Revoked),
            true => lost(LostReason::Unconfirmed, section.await),
        }
    }
}

async fn a_lost_lock_may_abort_the_process_though_it_never_awaits(server: Backend) {
    const SIGABRT: i32 = 6;
    let mut worker = Worker::spawn("lock-abort", &[&server.endpoint(), "abort", "10"]);
    worker.expect("held").await;
    let mut store = server.client().await;
    let lease = queue(&mut store, "abort").await[0].lease();
    server.expire_lease(lease).await;
    assert_eq!(worker.ended().await.signal(), Some(SIGABRT));
}

async fn a_close_aborts_no_process(server: Backend) {
    let coordinator = connect(&server).await;
    let lock = || coordinator.lock("closed").on_lost(OnLost::Abort);
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let section = tokio::spawn(lock().run(async |_| {
        inside.send(()).unwrap();
        std::future::pending::<()>().await;
    }));
    is_inside.await.unwrap();
    let by_hand = coordinator.lock("by hand").on_lost(OnLost::Abort);
    let guard = by_hand.acquire().await.unwrap();
    coordinator.close().await;
    lost(LostReason::Closed, section.await.unwrap());
    assert_eq!(guard.lost().await, LostReason::Closed);
}

async fn a_section_is_confirmed_by_its_own_entry_alone(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let lock = || coordinator.lock("proof").confirm();
    assert_eq!(lock().run(async |_| 7).await.unwrap(), 7);
    // It waits for its release.
    assert!(queue(&mut store, "proof").await.is_empty());
    for made_again in [false, true] {
        let section = lock().run(async |held| {
            let mut store = server.client().await;
            let entry = queue(&mut store, "proof").await.remove(0);
            store.delete(entry.key(), None).await.unwrap();
            if made_again {
                store.put(entry.key(), "", None).await.unwrap();
            }
            assert!(held.is_held(), "nobody has told it");
        });
        lost(LostReason::Unconfirmed, section.await);
    }
    queue_is(&store, "proof", 0).await;
}

async fn a_section_may_wait_for_its_release(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    for _ in 0..20 {
        let lock = coordinator.lock("wait").release(Release::Wait);
        lock.run(async |_| ()).await.unwrap();
        assert!(queue(&mut store, "wait").await.is_empty());
    }
}

async fn a_section_with_all_words_is_dropped_at_any_await(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    for polls in 1.. {
        let section = coordinator
            .lock("all")
            .max_hold(Duration::from_secs(600))
            .on_lost(OnLost::Continue)
            .release(Release::Wait)
            .confirm()
            .run(async |held| held.verify().await);
        let done = dropped_after(polls, section).await;
        queue_is(&store, "all", 0).await;
        if let Some(done) = done {
            done.unwrap().unwrap();
            return;
        }
    }
}
