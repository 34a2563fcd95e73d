//! Instance ids: a thousand claims at once, beside a thousand bare leases with a key; and ids of 64
//! bits.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use coord::{Coordinator, InstanceId, Options, SnowflakeLayout};
use coord_tests::{Etcd, EtcdConfig};
use etcd_client::{Client, PutOptions};
use futures_util::future::{join_all, try_join_all};

use crate::{sample::Samples, table::Table};

const CLAIMS: usize = 1_000;
const IDS: u32 = 1_024;
const ROUNDS: usize = 7;
/// So many are one sample.
const SNOWFLAKES: usize = 1_000;

pub(crate) async fn measure(table: &mut Table) {
    let etcd = Etcd::start(EtcdConfig::new()).await.expect("etcd starts");
    let mut options = Options::test().endpoints([etcd.endpoint()]);
    options.request_timeout = Duration::from_secs(60);
    let coordinator = Coordinator::connect(options).await.expect("coord connects");
    let raw = etcd.client().await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut entries = 0;
    for _ in 0..ROUNDS {
        let before = log_entries(&raw).await;
        let start = Instant::now();
        let ids = coordinator.instance_ids("bench", 0..=IDS - 1);
        let held = try_join_all((0..CLAIMS).map(|_| ids.acquire())).await;
        ours.push(start.elapsed());
        entries += log_entries(&raw).await - before;
        let held = held.expect("there are enough");
        let distinct: HashSet<u32> = held.iter().map(|id| id.get().expect("held")).collect();
        assert_eq!(distinct.len(), CLAIMS);
        join_all(held.iter().map(InstanceId::release)).await;
        let start = Instant::now();
        join_all((0..CLAIMS).map(|n| lease_and_key(raw.clone(), n))).await;
        bare.push(start.elapsed());
    }
    let claims = CLAIMS * ROUNDS;
    // The grant is an entry of the log too.
    let each = entries as f64 / claims as f64 - 1.0;
    println!("instance ids: {each:.3} transactions each, {CLAIMS} claims of {IDS} ids at once\n");
    assert!(each <= 1.1, "{each} transactions each");
    let both = (ours.into_iter().collect(), bare.into_iter().collect());
    let what = "instance id: 1,000 claims of 1,024 at once";
    table.ratio(what, both, "1,000 × bare grant, put", 1.5);

    let ids = coordinator.instance_ids("snowflakes", 0..=1_023);
    let id = ids.window(Duration::from_secs(30)).acquire().await;
    let made = snowflakes(&id.expect("an id")).await;
    let what = "instance id: 1,000 × snowflake";
    table.time(what, made, Duration::from_micros(200));
    coordinator.close().await;
}

async fn snowflakes(id: &InstanceId) -> Samples {
    let flakes = id.snowflakes(SnowflakeLayout::default()).expect("it fits");
    let mut samples = Vec::new();
    for _ in 0..2_000 {
        flakes.ready().await.expect("it is held");
        let start = Instant::now();
        for _ in 0..SNOWFLAKES {
            std::hint::black_box(flakes.next().expect("the window is open"));
        }
        samples.push(start.elapsed());
    }
    samples.into_iter().collect()
}

async fn log_entries(raw: &Client) -> u64 {
    let status = raw.clone().status().await;
    status.expect("a status").raft_applied_index()
}

async fn lease_and_key(mut raw: Client, n: usize) {
    let lease = raw.lease_grant(60, None).await.expect("a lease").id();
    let options = PutOptions::new().with_lease(lease);
    let put = raw.put(format!("bare/{n}"), "held", Some(options)).await;
    put.expect("a put");
}
