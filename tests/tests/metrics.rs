//! What the metrics are told: alone in its process, because the recorder is the process's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use coord::{embedded::Server, locked};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// How often each metric was told something, by its name and labels.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<BTreeMap<String, u64>>>);

#[derive(Debug)]
struct One(Told, String);

impl One {
    fn tell(&self, count: u64) {
        let mut told = self.0.0.lock().unwrap();
        *told.entry(self.1.clone()).or_default() += count;
    }
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        self.tell(value);
    }
    fn absolute(&self, _: u64) {}
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        assert!((0.0..60.0).contains(&value), "{value} seconds");
        self.tell(1);
    }
}

impl Told {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key
            .labels()
            .map(|label| format!(" {}={}", label.key(), label.value()));
        let name = key.name().to_owned() + &labels.collect::<String>();
        Arc::new(One(self.clone(), name))
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

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
    let told = Told::default();
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

    let told = told.0.lock().unwrap().clone();
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
