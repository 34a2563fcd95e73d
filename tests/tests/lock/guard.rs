//! What a holder can ask and do.

use std::time::{Duration, Instant};

use coord::{Error, LostReason, testing::FakeLock};
use coord_tests::{Backend, dropped_after, eventually, on_both};
use etcd_client::Client;

use super::{connect, lost, queue, queue_is};

on_both! {
    the_time_to_live_is_etcds_and_a_refresh_renews_it_now,
    a_refresh_that_is_not_answered_says_so,
    a_transaction_is_carried_out_while_the_lock_is_held,
    a_transaction_compares_and_refuses_what_it_cannot_do,
    a_transaction_of_one_who_has_lost_the_lock_writes_nothing,
    what_is_asked_or_committed_can_be_dropped_at_any_await,
    an_unlock_while_etcd_does_not_answer_ends_with_the_lease,
    a_transaction_that_comes_too_late_for_the_release_is_no_loss,
}

async fn value(store: &Client, key: &str) -> Option<String> {
    let found = store.clone().get(key, None).await.unwrap();
    let kv = found.kvs().first()?;
    Some(kv.value_str().unwrap().to_owned())
}

async fn the_time_to_live_is_etcds_and_a_refresh_renews_it_now(server: Backend) {
    let coordinator = connect(&server).await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    let (asked, before) = (Instant::now(), guard.remaining());
    let told = guard.time_to_live().await.unwrap();
    assert!(told <= Duration::from_secs(60), "{told:?}");
    assert!(
        told + asked.elapsed() + Duration::from_secs(1) >= before,
        "{told:?} {before:?}"
    );
    // Some time goes by; less than until the next renewal.
    eventually("it has become shorter", async || {
        guard.remaining() < before - Duration::from_millis(200)
    })
    .await;
    let (shorter, since) = (guard.remaining(), Instant::now());
    guard.refresh().await.unwrap();
    let passed = since.elapsed();
    assert!(guard.remaining() + passed > shorter, "its end is later now");

    let lease = queue(&mut server.client().await, "jobs").await[0].lease();
    server.expire_lease(lease).await;
    // Whoever notices first.
    let asked = guard.time_to_live().await;
    lost(LostReason::Revoked, asked);
    lost(LostReason::Revoked, guard.refresh().await);
    assert_eq!(guard.remaining(), Duration::ZERO);
}

async fn a_refresh_that_is_not_answered_says_so(server: Backend) {
    let mut options = super::options(server.endpoint(), 60);
    options.request_timeout = Duration::from_millis(300);
    let coordinator = coord::Coordinator::connect(options).await.unwrap();
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    server.stop();
    let unanswered = guard.refresh().await;
    server.cont();
    assert!(
        matches!(unanswered, Err(Error::Timeout { .. })),
        "{unanswered:?}"
    );
    assert!(guard.is_held());
    eventually("it is answered again", async || {
        guard.refresh().await.is_ok()
    })
    .await;
}

async fn a_transaction_is_carried_out_while_the_lock_is_held(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let guard = coordinator.lock("orders/42").acquire().await.unwrap();
    let first = guard.transaction().put("a", "1").put("b", "1").commit();
    let first = first.await.unwrap();
    assert!(first > guard.fencing_token().get());
    let second = guard
        .transaction()
        .compare("a", first)
        .compare("c", 0)
        .put("a", "2")
        .delete("b");
    assert!(!format!("{second:?}").contains("\"2\""), "{second:?}");
    assert!(second.commit().await.unwrap() > first);
    assert_eq!(value(&store, "a").await.as_deref(), Some("2"));
    assert_eq!(value(&store, "b").await, None);
    // A body has it too.
    let section = coordinator.lock("other").run(async |held| {
        let write = held.transaction().put("a", "3");
        write.commit().await
    });
    section.await.unwrap().unwrap();
    assert_eq!(value(&store, "a").await.as_deref(), Some("3"));
}

async fn a_transaction_compares_and_refuses_what_it_cannot_do(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    let put = guard.transaction().put("a", "1").commit().await.unwrap();
    for (revision, writes) in [(0, "a"), (put + 1, "b")] {
        let refused = guard
            .transaction()
            .compare("x", 0)
            .compare("a", revision)
            .put(writes, "2")
            .commit()
            .await;
        let Err(Error::Conflict { context, current }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((context.subject(), current), (Some("a"), put));
    }
    let twice = guard.transaction().put("a", "2").put("a", "3");
    let nameless = guard.transaction().put("a", "2").put("", "3");
    let many = |n: usize| {
        (0..n).fold(guard.transaction(), |all, n| {
            all.put(format!("many/{n}"), "1")
        })
    };
    for refused in [twice, nameless, many(129)] {
        let refused = refused.commit().await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(value(&store, "many/0").await, None);
    many(128).commit().await.unwrap();
    assert_eq!(value(&store, "many/127").await.as_deref(), Some("1"));
    assert!(guard.is_held());

    let double = FakeLock::new("jobs", 7)
        .transaction()
        .put("a", "2")
        .commit();
    let double = double.await;
    assert!(
        matches!(double, Err(Error::NotConfigured { .. })),
        "{double:?}"
    );
}

/// The holder does not know it yet: its entry is deleted, and nothing tells it.
async fn a_transaction_of_one_who_has_lost_the_lock_writes_nothing(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    let entry = queue(&mut store, "jobs").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    assert!(guard.is_held(), "nobody has told it");
    // The comparison would have failed too: what counts more is said.
    let write = guard.transaction().compare("a", 7).put("a", "1").commit();
    lost(LostReason::Revoked, write.await);
    assert!(!guard.is_held());
    assert_eq!(value(&store, "a").await, None);
    // It is given back; from then on nothing is sent.
    eventually("nothing is to be undone", async || {
        coordinator.health().undo_backlog == 0
    })
    .await;
    let sent = server.log_entries().await;
    lost(LostReason::Revoked, guard.transaction().commit().await);
    assert_eq!(server.log_entries().await, sent);
    lost(LostReason::Revoked, guard.unlock().await);
}

async fn what_is_asked_or_committed_can_be_dropped_at_any_await(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    for polls in 1.. {
        let asked = dropped_after(polls, guard.refresh()).await;
        let told = dropped_after(polls, guard.time_to_live()).await;
        let write = guard.transaction().put("a", "1").put("b", "1").commit();
        let written = dropped_after(polls, write).await;
        guard.verify().await.unwrap();
        // All or nothing, dropped or not.
        assert_eq!(value(&store, "a").await, value(&store, "b").await);
        if let (Some(asked), Some(told), Some(written)) = (asked, told, written) {
            asked.unwrap();
            told.unwrap();
            written.unwrap();
            break;
        }
    }
    assert!(guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "jobs", 0).await;
}

async fn an_unlock_while_etcd_does_not_answer_ends_with_the_lease(server: Backend) {
    let coordinator = super::connect_with_ttl(&server, 2).await;
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    server.stop();
    let unlocked = tokio::time::timeout(Duration::from_secs(60), guard.unlock()).await;
    server.cont();
    lost(LostReason::Expired, unlocked.expect("it ends"));
    let after = coordinator.lock("jobs").ttl(Duration::from_secs(60));
    let after = after.acquire().await.unwrap();
    assert!(after.unlock().await.unwrap().confirmed);
}

async fn a_transaction_that_comes_too_late_for_the_release_is_no_loss(server: Backend) {
    let coordinator = connect(&server).await;
    for _ in 0..100 {
        let guard = coordinator.lock("jobs").acquire().await.unwrap();
        let commits: Vec<_> = (0..4)
            .map(|_| tokio::spawn(guard.transaction().put("x", "y").commit()))
            .collect();
        let last = guard.transaction().put("x", "y");
        let (released, _) = tokio::join!(guard.unlock(), last.commit());
        assert!(released.unwrap().confirmed);
        for commit in commits {
            if let Err(error) = commit.await.unwrap() {
                lost(LostReason::Released, Err::<(), _>(error));
            }
        }
    }
}
