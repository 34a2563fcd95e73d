//! Held locks that move to the lease of another TTL.

use std::time::Duration;

use coord::{
    Coordinator, Error, LostReason,
    embedded::{Rpc, Server},
};
use coord_tests::{Backend, dropped_after, eventually, on_both};

use super::{connect, lost, queue, queue_is};

on_both! {
    a_lock_moves_to_another_lease_and_stays_the_same,
    a_lock_is_lost_with_the_lease_that_it_stands_with_and_no_other,
    those_who_wait_notice_nothing,
    several_names_and_their_read_entries_move_together,
    an_entry_that_is_gone_does_not_move,
    a_move_that_is_dropped_at_any_await_goes_on,
    a_ttl_that_no_lease_can_have_is_refused,
}

const LONG: Duration = Duration::from_secs(600);
/// That of the coordinators.
const SHORT: Duration = Duration::from_secs(60);

async fn a_lock_moves_to_another_lease_and_stays_the_same(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    let before = queue(&mut store, "jobs").await.remove(0);
    guard.set_ttl(LONG).await.unwrap();
    assert!(guard.remaining() > SHORT);
    assert!(guard.time_to_live().await.unwrap() > SHORT);
    let after = queue(&mut store, "jobs").await.remove(0);
    assert_eq!(after.key(), before.key());
    assert_eq!(after.value(), before.value());
    assert_eq!(after.create_revision(), guard.fencing_token().get());
    assert_eq!(after.create_revision(), before.create_revision());
    assert_ne!(after.lease(), before.lease());
    guard.verify().await.unwrap();
    guard.refresh().await.unwrap();
    guard.transaction().put("a", "1").commit().await.unwrap();
    // All with this TTL share the lease.
    let other = coordinator.lock("other").ttl(LONG).acquire().await.unwrap();
    let lease = queue(&mut store, "other").await[0].lease();
    assert_eq!(lease, after.lease());
    drop(other);
    // It is there already: nothing is written.
    guard.set_ttl(LONG).await.unwrap();
    assert_eq!(queue(&mut store, "jobs").await[0].version(), 2);
    // And back.
    guard.set_ttl(SHORT).await.unwrap();
    let back = queue(&mut store, "jobs").await.remove(0);
    assert_eq!(back.lease(), before.lease());
    assert!(guard.remaining() <= SHORT);
    assert!(guard.unlock().await.unwrap().confirmed);
    // A body has it too, and what it does is confirmed.
    let section = coordinator.lock("jobs").confirm().run(async |held| {
        held.set_ttl(LONG).await.unwrap();
        held.remaining()
    });
    assert!(section.await.unwrap() > SHORT);
    queue_is(&store, "jobs", 0).await;
}

async fn a_lock_is_lost_with_the_lease_that_it_stands_with_and_no_other(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    let stays = coordinator.lock("stays").acquire().await.unwrap();
    let lost_before = guard.lost();
    let first = queue(&mut store, "jobs").await[0].lease();
    guard.set_ttl(LONG).await.unwrap();
    let second = queue(&mut store, "jobs").await[0].lease();
    server.expire_lease(first).await;
    assert_eq!(stays.lost().await, LostReason::Revoked);
    assert!(guard.is_held());
    guard.verify().await.unwrap();
    assert!(guard.remaining() > SHORT);
    server.expire_lease(second).await;
    // Also for who asked before it moved.
    assert_eq!(lost_before.await, LostReason::Revoked);
    lost(LostReason::Revoked, guard.set_ttl(SHORT).await);
    queue_is(&store, "jobs", 0).await;
}

async fn those_who_wait_notice_nothing(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let guard = one.lock("jobs").acquire().await.unwrap();
    let mut next = tokio::spawn(two.lock("jobs").acquire());
    queue_is(&store, "jobs", 2).await;
    for ttl in [LONG, SHORT, LONG] {
        guard.set_ttl(ttl).await.unwrap();
        let third = one.lock("jobs").read().try_acquire().await;
        assert!(matches!(third, Err(Error::Busy { .. })), "{third:?}");
    }
    assert!(futures_util::poll!(&mut next).is_pending());
    let token = guard.fencing_token();
    drop(guard);
    let next = next.await.unwrap().unwrap();
    assert!(next.fencing_token() > token);
    // One that has waited, and is watched, moves as well.
    next.set_ttl(LONG).await.unwrap();
    next.verify().await.unwrap();
    assert!(next.unlock().await.unwrap().confirmed);
}

async fn several_names_and_their_read_entries_move_together(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let lock = coordinator.lock_all(["a", "b"]).downgradable();
    let guard = lock.acquire().await.unwrap();
    let before = queue(&mut store, "a").await[0].lease();
    guard.set_ttl(LONG).await.unwrap();
    let mut leases = Vec::new();
    for name in ["a", "b"] {
        let entries = queue(&mut store, name).await;
        assert_eq!(entries.len(), 2);
        leases.extend(entries.iter().map(etcd_client::KeyValue::lease));
    }
    leases.dedup();
    assert_eq!(leases.len(), 1);
    assert_ne!(leases[0], before);
    guard.downgrade().await.unwrap();
    guard.set_ttl(SHORT).await.unwrap();
    for name in ["a", "b"] {
        let entries = queue(&mut store, name).await;
        assert_eq!((entries.len(), entries[0].lease()), (1, before));
    }
    assert!(guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "a", 0).await;
    queue_is(&store, "b", 0).await;
}

async fn an_entry_that_is_gone_does_not_move(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    for made_again in [false, true] {
        let guard = coordinator.lock("jobs").acquire().await.unwrap();
        let entry = queue(&mut store, "jobs").await.remove(0);
        store.delete(entry.key(), None).await.unwrap();
        if made_again {
            store.put(entry.key(), entry.value(), None).await.unwrap();
        }
        lost(LostReason::Revoked, guard.set_ttl(LONG).await);
        assert!(!guard.is_held());
        drop(guard);
        queue_is(&store, "jobs", 0).await;
    }
}

async fn a_move_that_is_dropped_at_any_await_goes_on(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let mut ttls = [LONG, SHORT].into_iter().cycle();
    let mut guard = coordinator.lock("jobs").acquire().await.unwrap();
    for polls in 1.. {
        let ttl = ttls.next().unwrap();
        let before = queue(&mut store, "jobs").await[0].lease();
        let moved = dropped_after(polls, guard.set_ttl(ttl)).await;
        eventually("it has moved", async || {
            queue(&mut store.clone(), "jobs").await[0].lease() != before
        })
        .await;
        guard.verify().await.unwrap();
        // Given back while it moves.
        let ttl = ttls.next().unwrap();
        let moving = dropped_after(polls, guard.set_ttl(ttl)).await;
        drop(guard);
        queue_is(&store, "jobs", 0).await;
        guard = coordinator.lock("jobs").acquire().await.unwrap();
        if let (Some(moved), Some(moving)) = (moved, moving) {
            moved.unwrap();
            moving.unwrap();
            break;
        }
    }
    assert!(guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "jobs", 0).await;
}

async fn a_ttl_that_no_lease_can_have_is_refused(server: Backend) {
    let coordinator = connect(&server).await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    for ttl in [Duration::ZERO, Duration::from_millis(1_500), Duration::MAX] {
        let refused = guard.set_ttl(ttl).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    guard.verify().await.unwrap();
}

/// On the embedded server alone: here one call is failed, and no other.
async fn started() -> (Server, Coordinator, etcd_client::Client) {
    let server = Server::start().await.unwrap();
    let mut options = super::options(server.endpoint().to_owned(), SHORT.as_secs());
    options.request_timeout = Duration::from_secs(30);
    let coordinator = Coordinator::connect(options).await.unwrap();
    // Both leases are there.
    drop(coordinator.lock("long").ttl(LONG).acquire().await.unwrap());
    let store = etcd_client::Client::connect([server.endpoint()], None);
    let store = store.await.unwrap();
    queue_is(&store, "long", 0).await;
    (server, coordinator, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_answer_is_lost_is_done_once() {
    let (server, coordinator, mut store) = started().await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    for (turn, ttl) in (1..).zip([LONG, SHORT, LONG, SHORT]) {
        server.lose_reply(Rpc::Txn);
        guard.set_ttl(ttl).await.unwrap();
        let entry = queue(&mut store, "jobs").await.remove(0);
        assert_eq!(entry.version(), 1 + turn, "once each time");
        assert_eq!(entry.create_revision(), guard.fencing_token().get());
        assert_eq!(guard.remaining() > SHORT, ttl == LONG);
    }
    assert!(guard.unlock().await.unwrap().confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_move_is_in_doubt_both_leases_count() {
    for first in [true, false] {
        let (server, coordinator, mut store) = started().await;
        let guard = coordinator.lock("jobs").acquire().await.unwrap();
        let long = coordinator.lock("long").ttl(LONG).acquire().await.unwrap();
        guard.set_ttl(LONG).await.unwrap();
        let leases = [queue(&mut store, "long").await[0].lease(), {
            drop(coordinator.lock("short").acquire().await.unwrap());
            let short = coordinator.lock("short").acquire().await.unwrap();
            let lease = queue(&mut store, "short").await;
            drop(short);
            lease.last().unwrap().lease()
        }];
        queue_is(&store, "short", 0).await;
        server.refuse(Rpc::Txn);
        let mut moving = std::pin::pin!(guard.set_ttl(SHORT));
        eventually("it is in doubt", async || {
            assert!(futures_util::poll!(moving.as_mut()).is_pending());
            guard.remaining() <= SHORT
        })
        .await;
        assert!(guard.is_held());
        server.expire_lease(leases[usize::from(first)]);
        lost(LostReason::Revoked, moving.await);
        assert!(!guard.is_held());
        // Whichever it stands with, it is given back, though the guard is still there.
        server.accept(Rpc::Txn);
        queue_is(&store, "jobs", 0).await;
        drop(long);
        lost(LostReason::Revoked, guard.verify().await);
    }
}
