//! What locks cost, counted.

use std::time::Duration;

use coord::Coordinator;
use coord_tests::{Backend, eventually, on_both};

use super::{connect_with_ttl, options, queue_is};

on_both! {
    a_thousand_waiters_cost_one_release_and_one_read_each,
    releases_that_come_together_go_together,
}

async fn settled(coordinator: &Coordinator) {
    eventually("nothing is to be undone", async || {
        coordinator.health().undo_backlog == 0
    })
    .await;
}

async fn a_thousand_waiters_cost_one_release_and_one_read_each(server: Backend) {
    const WAITERS: u64 = 1_000;
    // A call that is given up is sent again, and that is not what is counted here.
    let mut options = options(server.endpoint(), 600);
    options.request_timeout = Duration::from_secs(60);
    let connect = async || Coordinator::connect(options.clone()).await.unwrap();
    let coordinators = [connect().await, connect().await];
    let store = server.client().await;
    // A read-only transaction is a call, and no entry in the log.
    let calls = async || match server.etcd() {
        Some(etcd) => {
            let writes = etcd.calls("Txn").await + etcd.calls("DeleteRange").await;
            writes + etcd.calls("Range").await
        }
        None => 0,
    };
    let first = coordinators[0].lock("m").acquire().await.unwrap();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|n| {
            let lock = coordinators[usize::from(n % 2 == 0)].lock("m");
            tokio::spawn(async move {
                let guard = lock.wait_forever().acquire().await.unwrap();
                guard.fencing_token()
            })
        })
        .collect();
    eventually("all stand in the queue", async || {
        let count = etcd_client::GetOptions::new()
            .with_prefix()
            .with_count_only();
        let counted = store.clone().get("coord/lock/m!/", Some(count)).await;
        counted.unwrap().count() as u64 == WAITERS + 1
    })
    .await;
    let (log, sent) = (server.log_entries().await, calls().await);
    drop(first);
    let mut tokens = Vec::new();
    for waiter in waiters {
        tokens.push(waiter.await.unwrap());
    }
    for coordinator in &coordinators {
        settled(coordinator).await;
    }
    let releases = server.log_entries().await - log;
    let sent = calls().await - sent;
    queue_is(&store, "m", 0).await;
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len() as u64, WAITERS);
    assert_eq!(releases, WAITERS + 1, "one release of each holder");
    if server.etcd().is_some() {
        let reads = sent - releases;
        assert!(reads <= WAITERS, "{reads} reads for {WAITERS} hand-overs");
    }
}

/// While one is under way the others are gathered.
async fn releases_that_come_together_go_together(server: Backend) {
    const LOCKS: u64 = 200;
    let coordinator = connect_with_ttl(&server, 600).await;
    let mut guards = Vec::new();
    for n in 0..LOCKS {
        let lock = coordinator.lock(format!("n/{n}"));
        guards.push(lock.acquire().await.unwrap());
    }
    let before = server.log_entries().await;
    drop(guards);
    settled(&coordinator).await;
    let sent = server.log_entries().await - before;
    // As few as two full ones; a slow drop lets a few more begin.
    assert!((2..LOCKS / 4).contains(&sent), "{sent} transactions");
    let store = server.client().await;
    for n in 0..LOCKS {
        queue_is(&store, &format!("n/{n}"), 0).await;
    }
}
