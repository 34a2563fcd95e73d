//! Live config while etcd, the network or the program's own types misbehave: no change is lost, none
//! is made up, and nobody waits for ever.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use coord::{Config, CoordConfig, Coordinator, Error, Options, config::Phase};
use coord_tests::{
    Backend, Cluster, Etcd, EtcdConfig, Proxy, ROOT_PASSWORD, ROOT_USER, backend::patient,
    eventually, eventually_within, on_both,
};
use etcd_client::Client;
use futures_util::FutureExt as _;

#[derive(CoordConfig, Debug)]
#[coord(prefix = "app")]
struct App {
    #[coord(default = 1)]
    size: u32,
    #[coord(default)]
    limits: BTreeMap<String, String>,
}

fn options(endpoints: impl IntoIterator<Item = String>) -> Options {
    let mut options = patient().endpoints(endpoints);
    // What a stopped member takes.
    options.request_timeout = Duration::from_secs(5);
    options.keep_alive_timeout = Duration::from_secs(5);
    options
}

async fn bind(options: Options) -> (Coordinator, Config<App>) {
    let coordinator = Coordinator::connect(options).await.unwrap();
    let config = coordinator.config().start().await.unwrap();
    (coordinator, config)
}

/// Repeated until it is applied: a cluster that elects a leader refuses writes.
async fn put(store: &Client, key: &str, value: impl Into<Vec<u8>>) -> i64 {
    let (key, value) = (format!("/config/app/{key}"), value.into());
    eventually_within(Duration::from_secs(60), "the put", async || {
        let mut store = store.clone();
        let put = store.put(key.clone(), value.clone(), None);
        let reply = tokio::time::timeout(Duration::from_secs(5), put).await;
        reply.ok()?.ok()?.header().map(|header| header.revision())
    })
    .await
}

/// The change at `revision` arrives, however long the machinery needs to find another way.
async fn arrives(config: &Config<App>, revision: i64, size: u32) {
    tokio::time::timeout(Duration::from_secs(90), config.wait_for_revision(revision))
        .await
        .unwrap_or_else(|_| panic!("never arrived: {:#?}", config.status()))
        .unwrap();
    assert_eq!(config.load().size, size);
}

/// The index of the member that the coordinator's watches are on.
fn watched_member(coordinator: &Coordinator, cluster: &Cluster) -> Option<usize> {
    let health = coordinator.health();
    let watches = health.connections.iter().find(|it| it.purpose == "watches");
    let endpoint = watches?.endpoint.clone()?;
    cluster.endpoints().iter().position(|it| *it == endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_member_delays_a_change_and_no_more() {
    let Some(cluster) = Cluster::start_or_skip(3, EtcdConfig::new()).await else {
        return;
    };
    let (coordinator, config) = bind(options(cluster.endpoints())).await;
    let stopped = eventually("a watch", async || watched_member(&coordinator, &cluster)).await;
    let other = cluster.member((stopped + 1) % 3);
    cluster.member(stopped).stop();
    eventually_within(Duration::from_secs(60), "a leader", async || {
        let mut client = other.client().await;
        let read = tokio::time::timeout(Duration::from_secs(2), client.get("x", None)).await;
        matches!(read, Ok(Ok(_)))
    })
    .await;
    let revision = put(&other.client().await, "size", "2").await;
    arrives(&config, revision, 2).await;
    cluster.member(stopped).cont();
    let revision = put(&other.client().await, "size", "3").await;
    arrives(&config, revision, 3).await;
    coordinator.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_loses_no_change() {
    let Some(cluster) = Cluster::start_or_skip(3, EtcdConfig::new()).await else {
        return;
    };
    let (coordinator, config) = bind(options(cluster.endpoints())).await;
    for size in 2..4 {
        let leader = cluster.leader().await;
        cluster.member(leader).kill();
        let other = cluster.member((leader + 1) % 3);
        other.ready().await;
        let revision = put(&other.client().await, "size", size.to_string()).await;
        arrives(&config, revision, size).await;
        cluster.member(leader).restart().await;
    }
    coordinator.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_replaced() {
    let config = EtcdConfig::new().auth().argument("--auth-token-ttl=1");
    let Some(etcd) = Etcd::start_or_skip(config).await else {
        return;
    };
    let store = etcd.client().await;
    let proxy = Proxy::start(&etcd.endpoint()).await;
    let mut options = options([proxy.endpoint()]);
    options.user = Some(ROOT_USER.into());
    options.password = Some(coord::Secret::new(ROOT_PASSWORD));
    let (coordinator, config) = bind(options).await;
    // A token of etcd's is gone a second after its last use.
    let began = Instant::now();
    eventually("the token to expire", async || {
        began.elapsed() > Duration::from_secs(3)
    })
    .await;
    let before = etcd.calls("Authenticate").await;
    proxy.cut().await;
    let revision = put(&store, "size", "2").await;
    arrives(&config, revision, 2).await;
    // Beside the one of the put's own client.
    let signed_in = etcd.calls("Authenticate").await - before - 1;
    // A few for each connection, and not one for each call.
    assert!((1..20).contains(&signed_in), "{signed_in}");
    coordinator.close().await;
}

on_both! {
    a_compaction_while_away_loses_no_change_and_invents_none,
    a_restored_older_store_is_followed_and_ends_waits_for_what_it_forgot,
    a_store_that_lost_its_data_takes_no_value_away,
    five_thousand_large_keys_and_a_value_of_a_mebibyte,
    a_coordinator_that_is_dropped_ends_every_wait,
    a_type_that_panics_ends_no_watch,
}

async fn a_compaction_while_away_loses_no_change_and_invents_none(server: Backend) {
    let store = server.client().await;
    let proxy = Proxy::start(&server.endpoint()).await;
    put(&store, "limits/stays", "1").await;
    put(&store, "limits/goes", "1").await;
    let (coordinator, config) = bind(options([proxy.endpoint()])).await;
    let mut changes = config.changes();
    proxy.refuse().await;
    proxy.cut().await;
    let mut client = store.clone();
    client
        .delete("/config/app/limits/goes", None)
        .await
        .unwrap();
    let mut revision = 0;
    for size in 2..30 {
        revision = put(&store, "size", size.to_string()).await;
    }
    client.compact(revision, None).await.unwrap();
    proxy.admit().await;
    arrives(&config, revision, 29).await;
    let change = changes.next().await.unwrap();
    assert_eq!(change.fields, ["limits", "size"].map(std::sync::Arc::from));
    assert_eq!(change.new.limits.len(), 1);
    assert!(changes.next().now_or_never().is_none(), "one step");
    coordinator.close().await;
}

async fn a_restored_older_store_is_followed_and_ends_waits_for_what_it_forgot(server: Backend) {
    let store = server.client().await;
    put(&store, "size", "2").await;
    let saved = server.save().await;
    let (coordinator, config) = bind(options([server.endpoint()])).await;
    let mut last = 0;
    for size in 3..40 {
        last = put(&store, "size", size.to_string()).await;
    }
    arrives(&config, last, 39).await;
    let waiting = tokio::spawn({
        let config = config.clone();
        async move { config.wait_for_revision(last + 100).await }
    });
    server.restore(&saved).await;
    eventually_within(Duration::from_secs(90), "the old value", async || {
        config.load().size == 2
    })
    .await;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Conflict { current, .. } if current < last),
        "{error}"
    );
    let revision = put(&store, "size", "77").await;
    assert!(revision < last);
    arrives(&config, revision, 77).await;
    assert!(config.status().revision < last);
    coordinator.close().await;
}

async fn a_store_that_lost_its_data_takes_no_value_away(server: Backend) {
    let store = server.client().await;
    put(&store, "size", "7").await;
    put(&store, "limits/a", "1").await;
    let (coordinator, config) = bind(options([server.endpoint()])).await;
    server.lose_data().await;
    let refusal = eventually_within(Duration::from_secs(90), "the loss to be seen", async || {
        config.status().refusal
    })
    .await;
    assert!(
        refusal
            .to_string()
            .contains("all 2 keys were deleted at once"),
        "{refusal}"
    );
    assert_eq!((config.load().size, config.load().limits.len()), (7, 1));
    // What somebody writes then counts.
    let store = server.client().await;
    let revision = put(&store, "size", "8").await;
    arrives(&config, revision, 8).await;
    assert_eq!(
        (config.load().limits.len(), config.status().refusal),
        (0, None)
    );
    coordinator.close().await;
}

async fn five_thousand_large_keys_and_a_value_of_a_mebibyte(server: Backend) {
    let store = server.client().await;
    let mut client = store.clone();
    for chunk in 0..50 {
        let ops: Vec<_> = (0..100)
            .map(|i| {
                let key = format!("/config/app/limits/{:05}", chunk * 100 + i);
                etcd_client::TxnOp::put(key, "x".repeat(2_000), None)
            })
            .collect();
        let txn = etcd_client::Txn::new().and_then(ops);
        client.txn(txn).await.unwrap();
    }
    let proxy = Proxy::start(&server.endpoint()).await;
    let (coordinator, config) = bind(options([proxy.endpoint()])).await;
    assert_eq!(config.load().limits.len(), 5_000);
    let large = "y".repeat(1024 * 1024);
    let revision = put(&store, "limits/00007", large.clone()).await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().limits["00007"], large);
    // A catch-up of more than one message can hold.
    proxy.refuse().await;
    proxy.cut().await;
    for i in 0..8 {
        put(&store, &format!("limits/0000{i}"), large.clone()).await;
    }
    let revision = put(&store, "size", "2").await;
    proxy.admit().await;
    arrives(&config, revision, 2).await;
    assert!((0..8).all(|i| config.load().limits[&format!("0000{i}")] == large));
    // A number of a mebibyte is refused in a few words.
    let revision = put(&store, "size", large.clone()).await;
    config.wait_for_revision(revision).await.unwrap();
    let told = config.status().refusal.unwrap().to_string();
    assert!(told.len() < 1_000, "{} bytes", told.len());
    coordinator.close().await;
}

async fn a_coordinator_that_is_dropped_ends_every_wait(server: Backend) {
    let (coordinator, config) = bind(options([server.endpoint()])).await;
    let mut values = config.subscribe();
    let waiting = tokio::spawn({
        let config = config.clone();
        async move { config.wait_for_revision(i64::MAX).await }
    });
    drop(coordinator);
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(matches!(
        waited.unwrap().unwrap(),
        Err(Error::Closed { .. })
    ));
    assert!(matches!(values.changed().await, Err(Error::Closed { .. })));
    assert_eq!(config.status().phase, Phase::Closed);
}

/// While it is set, [`Slow`] is not decoded further.
static BLOCKED: AtomicBool = AtomicBool::new(false);
static DECODING: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, serde::Deserialize)]
#[serde(from = "u32")]
struct Slow(u32);

impl From<u32> for Slow {
    fn from(value: u32) -> Self {
        DECODING.fetch_add(1, Ordering::SeqCst);
        while BLOCKED.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self(value)
    }
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "app")]
struct Sluggish {
    size: Slow,
}

/// A type whose own code takes its time delays its own config, and nothing else of the coordinator's.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_type_holds_up_no_other_call() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let store = etcd.client().await;
    put(&store, "size", "1").await;
    let (coordinator, other) = bind(options([etcd.endpoint()])).await;
    let config = coordinator.config::<Sluggish>().start().await.unwrap();
    let before = DECODING.load(Ordering::SeqCst);
    BLOCKED.store(true, Ordering::SeqCst);
    let revision = put(&store, "size", "2").await;
    eventually("the decoding to begin", async || {
        DECODING.load(Ordering::SeqCst) > before
    })
    .await;
    let pinged = tokio::time::timeout(Duration::from_secs(20), coordinator.ping()).await;
    let followed =
        tokio::time::timeout(Duration::from_secs(20), other.wait_for_revision(revision)).await;
    BLOCKED.store(false, Ordering::SeqCst);
    pinged.expect("the ping is not held up").unwrap();
    followed.expect("the other config is not held up").unwrap();
    assert_eq!(other.load().size, 2);
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().size.0, 2);

    // Nor does closing wait for it, or anybody who waits for the config.
    let before = DECODING.load(Ordering::SeqCst);
    BLOCKED.store(true, Ordering::SeqCst);
    let revision = put(&store, "size", "3").await;
    eventually("the decoding to begin", async || {
        DECODING.load(Ordering::SeqCst) > before
    })
    .await;
    let closed = tokio::time::timeout(Duration::from_secs(20), coordinator.close()).await;
    let waited =
        tokio::time::timeout(Duration::from_secs(20), config.wait_for_revision(revision)).await;
    BLOCKED.store(false, Ordering::SeqCst);
    closed.expect("closing is not held up");
    let waited = waited.expect("the wait is not held up");
    assert!(matches!(waited, Err(Error::Closed { .. })), "{waited:?}");
    assert_eq!(config.load().size.0, 2);
}

/// Its own code panics, waits for a future, and panics when it is dropped.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "String")]
struct Wild(String);

impl TryFrom<String> for Wild {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        assert_ne!(text, "panic", "on purpose");
        let waited = tokio::runtime::Handle::current().block_on(async { text });
        Ok(Self(waited))
    }
}

impl Drop for Wild {
    fn drop(&mut self) {
        assert_ne!(self.0, "bomb", "on purpose");
    }
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "app")]
struct Untamed {
    name: Wild,
    #[coord(default = 1)]
    size: u32,
}

async fn a_type_that_panics_ends_no_watch(server: Backend) {
    let store = server.client().await;
    put(&store, "name", "one").await;
    let (coordinator, _app) = bind(options([server.endpoint()])).await;
    let config = coordinator.config::<Untamed>().start().await.unwrap();
    let revision = put(&store, "name", "panic").await;
    config.wait_for_revision(revision).await.unwrap();
    let refusal = config.status().refusal.unwrap().to_string();
    assert!(refusal.contains("panicked"), "{refusal}");
    assert_eq!(config.load().name.0, "one");
    for name in ["bomb", "two"] {
        let revision = put(&store, "name", name).await;
        config.wait_for_revision(revision).await.unwrap();
        // Not held here: the one that is replaced next must be dropped by the watch.
        assert!(config.load_guard().name.0 == name);
    }
    let revision = put(&store, "size", "2").await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().size, 2);
    assert_eq!(config.status().phase, Phase::Watching);
    coordinator.close().await;
}
