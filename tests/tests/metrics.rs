//! What the metrics are told: alone in its process, because the recorder is the process's.

use std::time::Duration;

use coord::{embedded::Server, locked};
use coord_tests::numbers::Numbers;

#[locked("orders/{id}")]
async fn by_template(id: u64) -> coord::Result<()> {
    Ok(())
}

#[locked("orders/{id}", label = "shipping", reentrant)]
async fn by_label(id: u64) -> coord::Result<()> {
    match id {
        0 => {
            // Inside of the hold: none of its own.
            let inner = coord::global().await?.lock("orders/0").reentrant();
            inner.run(async |_| ()).await
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn the_metrics_know_labels_and_no_names_and_count_what_is_bad() {
    let told = Numbers::default();
    metrics::set_global_recorder(told.clone()).unwrap();
    let server = Server::start().await.unwrap();
    let coordinator = server.coordinator().await.unwrap();
    coord::set_global(coordinator.clone());
    by_template(1).await.unwrap();
    by_template(2).await.unwrap();
    by_label(0).await.unwrap();
    let hang = coordinator
        .lock("orders/3")
        .max_hold(Duration::from_secs(1));
    hang.run(async |_| std::future::pending::<()>().await)
        .await
        .unwrap_err();

    // Each list counts it: it is there until somebody mends it.
    let connected = etcd_client::Client::connect([server.endpoint()], None).await;
    let mut client = connected.unwrap();
    let bad = client.put("coord/svc/user-service/bad", "{", None).await;
    bad.unwrap();
    let registry = coordinator.registry();
    for _ in 0..2 {
        assert!(registry.discover("user-service").await.unwrap().is_empty());
    }

    let told = told.all();
    let locks: Vec<_> = told
        .iter()
        .filter(|(name, _)| name.starts_with("coord_lock"))
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    assert_eq!(
        locks,
        [
            "coord_lock_hold_seconds lock=orders/{id}: 2",
            "coord_lock_hold_seconds lock=shipping: 1",
            "coord_lock_hold_seconds lock=unlabelled: 1",
            "coord_lock_wait_seconds lock=orders/{id}: 2",
            "coord_lock_wait_seconds lock=shipping: 1",
            "coord_lock_wait_seconds lock=unlabelled: 1",
            "coord_locks_lost_total lock=unlabelled reason=max_hold: 1",
        ]
    );
    assert_eq!(told["coord_registry_bad_records_total"], 2);
}
