//! From writer to reader without letting go.

use std::time::Duration;

use coord::{Coordinator, Error};
use coord_tests::{Backend, Flow, Proxy, on_both};

use super::{connect, options, polled, queue, queue_is};

on_both! {
    readers_come_in_and_writers_go_on_waiting,
    a_downgraded_lock_is_held_by_its_read_entry,
    a_writer_that_was_deleted_before_its_downgrade_is_not_confirmed,
    only_a_downgradable_lock_is_downgraded,
    several_locks_are_downgraded_together,
    a_downgrade_that_is_dropped_at_any_await_goes_on,
    a_downgraded_acquire_whose_answer_was_lost_is_fenced_off_at_its_release,
}

async fn readers_come_in_and_writers_go_on_waiting(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let guard = one.lock("d").downgradable().acquire().await.unwrap();
    let reader = tokio::spawn(two.lock("d").read().acquire());
    queue_is(&store, "d", 3).await;
    let writer = tokio::spawn(two.lock("d").acquire());
    queue_is(&store, "d", 4).await;
    assert!(!reader.is_finished());
    let token = guard.fencing_token();

    guard.downgrade().await.unwrap();
    let reader = reader.await.unwrap().unwrap();
    assert!(!writer.is_finished());
    assert_eq!(guard.fencing_token(), token);
    guard.verify().await.unwrap();
    reader.verify().await.unwrap();
    drop(reader);
    queue_is(&store, "d", 2).await;
    assert!(!writer.is_finished());
    assert!(guard.unlock().await.unwrap().confirmed);
    let writer = writer.await.unwrap().unwrap();
    assert!(writer.fencing_token() > token);
    drop(writer);
    queue_is(&store, "d", 0).await;
}

async fn a_downgraded_lock_is_held_by_its_read_entry(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    // Contended before, so that its queue is watched: the end of the write entry is no loss.
    let first = coordinator.lock("d").acquire().await.unwrap();
    let waiting = tokio::spawn(coordinator.lock("d").downgradable().acquire());
    queue_is(&store, "d", 3).await;
    drop(first);
    let guard = waiting.await.unwrap().unwrap();
    guard.downgrade().await.unwrap();
    guard.downgrade().await.unwrap();
    let entries = queue(&mut store, "d").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].create_revision(), guard.fencing_token().get());
    assert!(guard.is_held());
    let write = guard.transaction().put("by-a-reader", "1");
    write.commit().await.unwrap();
    store.delete(entries[0].key(), None).await.unwrap();
    let write = guard.transaction().put("by-nobody", "1");
    assert!(matches!(write.commit().await, Err(Error::Lost { .. })));
    assert!(!guard.is_held());
}

/// Whoever deletes the write entry lets others in before the downgrade.
async fn a_writer_that_was_deleted_before_its_downgrade_is_not_confirmed(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock("d").downgradable().acquire().await;
    let guard = guard.unwrap();
    let entries = queue(&mut store, "d").await;
    let write = entries.iter().find(|kv| kv.key().contains(&b'x')).unwrap();
    store.delete(write.key(), None).await.unwrap();
    guard.downgrade().await.unwrap();
    assert!(!guard.unlock().await.unwrap().confirmed);
}

async fn only_a_downgradable_lock_is_downgraded(server: Backend) {
    let coordinator = connect(&server).await;
    for lock in [
        coordinator.lock("d"),
        coordinator.lock("d").read(),
        coordinator.lock("d").permits(2),
    ] {
        let guard = lock.acquire().await.unwrap();
        let refused = guard.downgrade().await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        assert!(guard.unlock().await.unwrap().confirmed);
    }
}

async fn several_locks_are_downgraded_together(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let guard = one.lock_all(["a", "b"]).downgradable().acquire().await;
    let guard = guard.unwrap();
    queue_is(&store, "a", 2).await;
    let before = server.log_entries().await;
    guard.downgrade().await.unwrap();
    assert_eq!(server.log_entries().await, before + 1);
    drop(two.lock_all(["b", "a"]).read().try_acquire().await.unwrap());
    let writer = two.lock("a").try_acquire().await;
    assert!(matches!(writer, Err(Error::Busy { .. })), "{writer:?}");
    guard.verify().await.unwrap();
    assert!(guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "a", 0).await;
    queue_is(&store, "b", 0).await;
}

async fn a_downgrade_that_is_dropped_at_any_await_goes_on(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    for polls in 1.. {
        let guard = coordinator.lock("d").downgradable().acquire().await;
        let guard = guard.unwrap();
        let done = polled(guard.downgrade(), polls).await;
        queue_is(&store, "d", 1).await;
        guard.verify().await.unwrap();
        let released = guard.unlock().await.unwrap();
        assert_eq!(released.confirmed, done.is_some());
        queue_is(&store, "d", 0).await;
        if let Some(downgraded) = done {
            downgraded.unwrap();
            break;
        }
    }
}

/// A late copy of the acquire finds the read entry; after the release it finds another incarnation.
async fn a_downgraded_acquire_whose_answer_was_lost_is_fenced_off_at_its_release(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let mut options = options(proxy.endpoint(), 60);
    options.request_timeout = Duration::from_secs(30);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let mut store = server.client().await;
    drop(coordinator.lock("warm").acquire().await.unwrap());
    let incarnation = async |store: &mut etcd_client::Client| {
        let all = etcd_client::GetOptions::new().with_prefix();
        let found = store.get("coord/session/", Some(all)).await.unwrap();
        found.kvs()[0].mod_revision()
    };
    let before = incarnation(&mut store).await;
    proxy.replies(Flow::Discard);
    let acquire = tokio::spawn(coordinator.lock("d").downgradable().acquire());
    queue_is(&store, "d", 2).await;
    proxy.heal().await;
    proxy.cut().await;
    let guard = acquire.await.unwrap().unwrap();
    guard.downgrade().await.unwrap();
    queue_is(&store, "d", 1).await;
    assert_eq!(incarnation(&mut store).await, before);
    assert!(guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "d", 0).await;
    assert!(incarnation(&mut store).await > before, "it was not fenced");
}
