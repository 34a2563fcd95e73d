//! The registry at the size of a large fleet: how long it takes to learn of it all and of one change,
//! and 10,000 registrations from one process.

use std::time::{Duration, Instant};

use coord::{Coordinator, InstanceSpec, Options};
use coord_tests::{Etcd, EtcdConfig};
use etcd_client::{Client, Txn, TxnOp};
use futures_util::future::try_join_all;

use crate::{sample::Samples, table::Table};

const MANY: usize = 10_000;
const LISTS: usize = 15;
const CHANGES: usize = 300;
/// Of a record: as much as an instance with a few endpoints and tags says of itself.
const BYTES: usize = 400;

pub(crate) async fn measure(table: &mut Table) {
    let etcd = Etcd::start(EtcdConfig::new()).await.expect("etcd starts");
    let options = Options::test().endpoints([etcd.endpoint()]);
    let coordinator = Coordinator::connect(options).await;
    let coordinator = coordinator.expect("a coordinator connects");
    changes(table, &coordinator, &etcd.client().await).await;
    register(table, &coordinator).await;
    coordinator.close().await;
}

fn key(number: usize) -> String {
    format!("coord/svc/fleet/-/{number:05}")
}

/// What a registration writes, filled up to [`BYTES`].
fn record(number: usize, weight: u32) -> String {
    let with = |note: &str| {
        format!(
            r#"{{"Op":0,"Addr":"10.0.{}.{}:50051","Metadata":{{"note":"{note}","version":"1.4.0","weight":{weight},"zone":"a"}},"Coord":{{"v":1,"status":"healthy","uuid":"00000000-0000-4000-8000-0000000{number:05}","name":"fleet","host":"node7","pid":41,"started":1793214000123,"registered":1793214000456}}}}"#,
            number / 250,
            number % 250,
        )
    };
    let missing = BYTES.saturating_sub(with("").len());
    with(&"x".repeat(missing))
}

async fn changes(table: &mut Table, coordinator: &Coordinator, raw: &Client) {
    for chunk in 0..MANY / 100 {
        let puts = (0..100).map(|n| {
            let number = chunk * 100 + n;
            TxnOp::put(key(number), record(number, 100), None)
        });
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        raw.kv_client().txn(txn).await.expect("puts");
    }
    let registry = coordinator.registry();
    let mut lists = Vec::new();
    for _ in 0..LISTS {
        let start = Instant::now();
        let found = registry.discover("fleet").await.expect("a list");
        lists.push(start.elapsed());
        assert_eq!(found.len(), MANY);
    }
    let mut view = registry.view("fleet").await.expect("a view");
    let mut times = Vec::new();
    for turn in 0..CHANGES {
        let (number, weight) = (turn * 7 % MANY, u32::try_from(turn + 1).expect("small"));
        let start = Instant::now();
        let mut kv = raw.kv_client();
        let put = kv.put(key(number), record(number, weight), None);
        put.await.expect("a put");
        while view.load()[number].weight != weight {
            view.changed().await.expect("a change");
        }
        times.push(start.elapsed());
    }
    let samples = |times: &[_]| times.iter().copied().collect::<Samples>();
    table.ratio(
        "registry: one change of 10,000 instances, from its put until it is in the view",
        (samples(&times), samples(&lists)),
        "the list of them all",
        1.0 / 100.0,
    );
}

/// Every one of them is confirmed, and none is lost while they are renewed.
async fn register(table: &mut Table, coordinator: &Coordinator) {
    const TTL: Duration = Duration::from_secs(10);
    let registry = coordinator.registry();
    let start = Instant::now();
    let all = (0..MANY).map(|number| {
        let address = format!("10.0.{}.{}:50051", number / 250, number % 250);
        registry.register(InstanceSpec::new("crowd", address).ttl(TTL))
    });
    let registrations = try_join_all(all).await.expect("all are registered");
    table.time(
        "registry: 10,000 registrations of one process",
        [start.elapsed()].into_iter().collect(),
        Duration::from_secs(60),
    );
    let before = registry.discover("crowd").await.expect("a list");
    assert_eq!(before.len(), MANY);
    // Long enough that whoever is not renewed is gone.
    tokio::time::sleep(TTL * 2).await;
    let after = registry.discover("crowd").await.expect("a list");
    assert!(before == after, "renewed, and not made again");
    let start = Instant::now();
    let leaving = registrations
        .into_iter()
        .map(coord::Registration::deregister);
    try_join_all(leaving).await.expect("all leave");
    table.time(
        "registry: 10,000 deregistrations of one process",
        [start.elapsed()].into_iter().collect(),
        Duration::from_secs(60),
    );
}
