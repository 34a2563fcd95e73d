//! Who holds and who waits, as an operator sees it.

use std::time::Duration;

use coord::{Error, LockEntry, LockMode, LockStatus};
use coord_tests::{Backend, etcd::installed, on_both};
use etcd_client::{Txn, TxnOp};

use super::{connect, queue, queue_is};

on_both! {
    holders_and_waiters_are_told_in_order_and_by_name,
    a_path_means_a_lock_and_those_below_it,
    other_clients_are_told_as_such,
    more_locks_than_a_page_holds_are_all_told,
}

fn tokens(entries: &[LockEntry]) -> Vec<i64> {
    let tokens = entries.iter().map(|entry| entry.fencing_token.get());
    tokens.collect()
}

fn names(locks: &[LockStatus]) -> Vec<&str> {
    locks.iter().map(|lock| lock.name.as_str()).collect()
}

async fn holders_and_waiters_are_told_in_order_and_by_name(server: Backend) {
    let coordinator = connect(&server).await.module("shipping");
    let other = connect(&server).await;
    let mut store = server.client().await;
    assert_eq!(other.inspect_locks("").await.unwrap(), []);

    let lock = || coordinator.lock("orders/42");
    let held = [
        lock().read().acquire().await.unwrap(),
        lock().read().acquire().await.unwrap(),
    ];
    let mut waiting = Vec::new();
    for (number, next) in [lock(), lock().read(), lock().permits(3).take(2)]
        .into_iter()
        .enumerate()
    {
        waiting.push(tokio::spawn(next.acquire()));
        queue_is(&store, "orders/42", number + 3).await;
    }
    let mut locks = other.inspect_locks("orders/42").await.unwrap();
    let status = locks.remove(0);
    assert_eq!(locks, []);
    assert_eq!(status.name, "orders/42");
    let queue = queue(&mut store, "orders/42").await;
    let expected: Vec<_> = queue.iter().map(|kv| kv.create_revision()).collect();
    assert_eq!(tokens(&status.holders), expected[..2]);
    assert_eq!(tokens(&status.waiters), expected[2..]);
    let own = held[0].fencing_token();
    assert_eq!(status.holders[0].fencing_token, own);
    let modes: Vec<_> = status.waiters.iter().map(|entry| entry.mode).collect();
    assert_eq!(
        modes,
        [
            LockMode::Write,
            LockMode::Read,
            LockMode::Permits { take: 2, of: 3 }
        ]
    );
    for (entry, kv) in status.holders.iter().chain(&status.waiters).zip(&queue) {
        assert_eq!(entry.owner.service.as_deref(), Some("shipping"));
        assert_eq!(entry.owner.pid, std::process::id());
        assert!(!entry.owner.host.is_empty());
        assert!(entry.owner.since_ms > 1_600_000_000_000);
        assert_eq!(entry.owner.entry, kv.key_str().unwrap());
        assert_eq!(entry.lease, kv.lease());
        assert!(!entry.foreign);
    }
    drop(held);
    drop(waiting.remove(0).await.unwrap().unwrap());
    for waiting in waiting {
        drop(waiting.await.unwrap().unwrap());
    }
    queue_is(&store, "orders/42", 0).await;
    assert_eq!(other.inspect_locks("orders/42").await.unwrap(), []);
}

async fn a_path_means_a_lock_and_those_below_it(server: Backend) {
    let coordinator = connect(&server).await;
    let mut guards = Vec::new();
    for name in ["orders", "orders/42", "orders/42/a b", "orders2", "other"] {
        guards.push(coordinator.lock(name).acquire().await.unwrap());
    }
    guards.push(
        coordinator
            .lock("orders/d")
            .downgradable()
            .acquire()
            .await
            .unwrap(),
    );
    let elsewhere = coordinator.election("orders").campaign("x").await.unwrap();
    let inspect = async |path| coordinator.inspect_locks(path).await.unwrap();
    let found = inspect("orders").await;
    assert_eq!(
        names(&found),
        ["orders", "orders/42", "orders/42/a b", "orders/d"]
    );
    // One holder, although it has two entries.
    assert_eq!(found[3].holders.len(), 1);
    assert_eq!(found[3].holders[0].mode, LockMode::Write);
    assert_eq!(found[3].waiters, []);
    assert_eq!(inspect("orders/").await, found);
    assert_eq!(
        names(&inspect("orders/42").await),
        ["orders/42", "orders/42/a b"]
    );
    assert_eq!(inspect("").await.len(), 6);
    assert_eq!(inspect("none").await, []);
    for bad in ["a//b", "a!", "\n"] {
        let refused = coordinator.inspect_locks(bad).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    }
    drop((guards, elsewhere));
    coordinator.close().await;
    let closed = coordinator.inspect_locks("").await.unwrap_err();
    assert!(matches!(closed, Error::Closed { .. }), "{closed:?}");
}

async fn other_clients_are_told_as_such(server: Backend) {
    if installed().is_none() {
        return;
    }
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let mut ctl = server.etcdctl_running(&["lock", "coord/lock/both!"]);
    let key = ctl.line().await;
    let limit = Duration::from_secs(60);
    let waiting = tokio::spawn(coordinator.lock("both").wait(limit).acquire());
    queue_is(&store, "both", 2).await;
    // It says what ours say, and is not believed.
    let says = r#"{"v":1,"host":"liar","pid":7,"since_ms":1}"#;
    let lease = queue(&mut store, "both").await[0].lease();
    let with = etcd_client::PutOptions::new().with_lease(lease);
    store.put(key.as_str(), says, Some(with)).await.unwrap();
    store
        .put("coord/lock/both!/0stray", "", None)
        .await
        .unwrap();
    // Junk that stands in no queue.
    store.put("coord/lock/junk", "", None).await.unwrap();
    let status = coordinator.inspect_locks("").await.unwrap().remove(0);
    let [theirs] = &status.holders[..] else {
        panic!("{status:?}")
    };
    assert!(theirs.foreign);
    assert_eq!((&theirs.owner.entry, &*theirs.owner.host), (&key, ""));
    assert_eq!(theirs.lease, lease);
    assert!(!status.waiters[0].foreign);
    assert_eq!(
        (status.waiters[1].foreign, status.waiters[1].lease),
        (true, 0)
    );
    ctl.terminate();
    drop(waiting.await.unwrap().unwrap());
}

async fn more_locks_than_a_page_holds_are_all_told(server: Backend) {
    const LOCKS: usize = 2_300;
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let lease = store.lease_grant(60, None).await.unwrap().id();
    let keys: Vec<_> = (0..LOCKS).collect();
    for keys in keys.chunks(100) {
        let with = etcd_client::PutOptions::new().with_lease(lease);
        let puts = keys.iter().map(|number| {
            let key = format!("coord/lock/many/{number:04}!/x{lease:016x}.1");
            TxnOp::put(key, "", Some(with.clone()))
        });
        let puts = Txn::new().and_then(puts.collect::<Vec<_>>());
        assert!(store.txn(puts).await.unwrap().succeeded());
    }
    let all = coordinator.inspect_locks("many").await.unwrap();
    assert_eq!(all.len(), LOCKS);
    for (number, lock) in all.iter().enumerate() {
        assert_eq!(lock.name, format!("many/{number:04}"));
        assert_eq!((lock.holders.len(), lock.waiters.len()), (1, 0));
    }
}
