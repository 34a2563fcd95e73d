//! An acquire right after a release, in one transaction.
//!
//! Whether they meet is a matter of microseconds, so each test tries it often.

use std::time::Duration;

use coord::{Coordinator, Error, Secret};
use coord_tests::{
    Backend, Etcd, EtcdConfig, backend::patient, dropped_after, eventually, on_both,
};
use etcd_client::Permission;

use super::{
    connect_with_ttl,
    late::{self, Late},
    queue, queue_is,
};

on_both! {
    the_next_lock_is_taken_as_the_last_is_given_back,
    the_same_lock_again_comes_behind_whoever_waits,
    who_goes_away_leaves_nothing,
    a_late_copy_of_both_takes_nothing_from_the_next_holders,
    a_lease_that_is_gone_holds_up_no_release,
}

async fn settled(coordinator: &Coordinator) {
    eventually("nothing is to be undone", async || {
        coordinator.health().undo_backlog == 0
    })
    .await;
}

async fn the_next_lock_is_taken_as_the_last_is_given_back(server: Backend) {
    const TURNS: u64 = 200;
    let coordinator = connect_with_ttl(&server, 600).await;
    let store = server.client().await;
    let mut guard = coordinator.lock("first").acquire().await.unwrap();
    let before = server.log_entries().await;
    for n in 0..TURNS {
        let token = guard.fencing_token();
        // Every other one is of the same name.
        let lock = coordinator.lock(format!("n/{}", n / 2));
        drop(guard);
        guard = lock.acquire().await.unwrap();
        assert!(guard.fencing_token() > token);
        let here = queue(&mut store.clone(), &format!("n/{}", n / 2)).await;
        let held = here.iter().map(etcd_client::KeyValue::create_revision);
        assert_eq!(held.max(), Some(guard.fencing_token().get()));
        guard.verify().await.unwrap();
    }
    let sent = server.log_entries().await - before;
    assert!(sent < 2 * TURNS, "{sent} transactions: none went together");
    assert!(guard.unlock().await.unwrap().confirmed);
    settled(&coordinator).await;
    for n in 0..TURNS / 2 {
        queue_is(&store, &format!("n/{n}"), 0).await;
    }
}

async fn the_same_lock_again_comes_behind_whoever_waits(server: Backend) {
    let (one, two) = (
        connect_with_ttl(&server, 600).await,
        connect_with_ttl(&server, 600).await,
    );
    let store = server.client().await;
    for turn in 0..20 {
        let name = format!("turn/{turn}");
        let first = one.lock(&name).acquire().await.unwrap();
        let waiting = tokio::spawn(two.lock(&name).wait_forever().acquire());
        queue_is(&store, &name, 2).await;
        drop(first);
        let mut again = Box::pin(one.lock(&name).wait_forever().acquire());
        let second = tokio::select! {
            second = waiting => second.unwrap().unwrap(),
            _ = &mut again => panic!("it waited before"),
        };
        assert!(second.unlock().await.unwrap().confirmed);
        let third = again.await.unwrap();
        third.verify().await.unwrap();
    }
}

/// The release is done all the same.
async fn who_goes_away_leaves_nothing(server: Backend) {
    let coordinator = connect_with_ttl(&server, 600).await;
    let store = server.client().await;
    let mut drops = 0;
    for polls in 1.. {
        let last = coordinator.lock("last").acquire().await.unwrap();
        let next = coordinator.lock("next").acquire();
        drop(last);
        match dropped_after(polls, next).await {
            None => drops += 1,
            Some(next) => {
                assert!(next.unwrap().unlock().await.unwrap().confirmed);
                break;
            }
        }
        for name in ["last", "next"] {
            queue_is(&store, name, 0).await;
        }
    }
    assert!(drops > 0);
    settled(&coordinator).await;
}

async fn a_late_copy_of_both_takes_nothing_from_the_next_holders(server: Backend) {
    for _ in 0..3 {
        let mut net = Late::new(&server).await;
        let mut store = server.client().await;
        net.proxy.requests(coord_tests::Flow::Pass);
        let last = net.coordinator.lock("last").acquire().await.unwrap();
        net.proxy.requests(coord_tests::Flow::Hold);
        let before = net.proxy.sent().arrived;
        let next = net.coordinator.lock(late::name()).wait_forever();
        drop(last);
        let next = tokio::spawn(next.acquire());
        net.overtake(before).await;
        net.proxy.heal().await;
        let next = next.await.unwrap().unwrap();
        settled(&net.coordinator).await;
        // The same names once more, and numbers that could be the same.
        assert!(next.unlock().await.unwrap().confirmed);
        let last = net.coordinator.lock("last").acquire().await.unwrap();
        net.arrives(&mut store).await;
        last.verify().await.unwrap();
        assert!(queue(&mut store, &late::name()).await.is_empty());
        assert!(last.unlock().await.unwrap().confirmed);
        store.delete("marker", None).await.unwrap();
    }
}

async fn a_lease_that_is_gone_holds_up_no_release(server: Backend) {
    const LONG: Duration = Duration::from_secs(700);
    let coordinator = connect_with_ttl(&server, 600).await;
    let mut store = server.client().await;
    for _ in 0..10 {
        let gone = coordinator.lock("gone").ttl(LONG).acquire().await.unwrap();
        let last = coordinator.lock("last").acquire().await.unwrap();
        let lease = queue(&mut store, "gone").await[0].lease();
        store.lease_client().revoke(lease).await.unwrap();
        drop(last);
        let next = coordinator.lock("next").ttl(LONG).acquire().await.unwrap();
        next.verify().await.unwrap();
        queue_is(&store, "last", 0).await;
        assert!(next.unlock().await.unwrap().confirmed);
        drop(gone);
    }
}

/// The next one may not be written: the last is given back, and the one after that is granted.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_etcd_forbids_holds_up_no_release() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new().auth()).await else {
        return;
    };
    let mut root = etcd.client().await;
    root.role_add("some").await.unwrap();
    for below in ["coord/lock/mine/", "coord/session/"] {
        let some = Permission::read_write(below).with_prefix();
        root.role_grant_permission("some", some).await.unwrap();
    }
    root.user_add("ann", "hunter2", None).await.unwrap();
    root.user_grant_role("ann", "some").await.unwrap();
    let mut options = patient().endpoints([etcd.endpoint()]);
    options.user = Some("ann".into());
    options.password = Some(Secret::new("hunter2"));
    let coordinator = Coordinator::connect(options).await.unwrap();
    for n in 0..20 {
        let last = coordinator.lock(format!("mine/{n}")).acquire().await;
        drop(last.unwrap());
        let refused = coordinator.lock("theirs").acquire().await.unwrap_err();
        assert!(matches!(refused, Error::Denied { .. }), "{refused:?}");
        queue_is(&root, &format!("mine/{n}"), 0).await;
    }
    settled(&coordinator).await;
}
