//! Live config: what a struct is bound to, what it takes over, and what it refuses.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coord::{
    Config, CoordConfig, Coordinator, Error,
    config::{Phase, Refusal},
};
use coord_tests::{Backend, eventually, on_both};
use etcd_client::{Client, Txn, TxnOp};
use futures_util::FutureExt as _;

#[derive(CoordConfig, Debug, PartialEq)]
#[coord(prefix = "{env}/{service}")]
struct Shop {
    name: String,
    #[coord(default = 10)]
    limit: u16,
    #[coord(default = "5s")]
    timeout: Duration,
    level: Option<Level>,
    #[coord(default)]
    ports: Vec<u16>,
    #[coord(nested)]
    db: Option<Db>,
}

#[derive(serde::Deserialize, serde::Serialize, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    High,
}

#[derive(CoordConfig, Debug, PartialEq)]
struct Db {
    host: String,
    #[coord(secret)]
    pin: u32,
}

/// Where [`Shop`] stands for the module `shop` with `env` = `test`.
const AT: &str = "/config/test/shop";

/// A server, a coordinator's module `shop` and a raw client.
struct Bench {
    server: Backend,
    coordinator: Coordinator,
    raw: Client,
}

impl Bench {
    async fn new(server: Backend) -> Self {
        let mut options = server.options();
        // So long a start without etcd waits.
        options.connect_timeout = Duration::from_secs(10);
        options.request_timeout = Duration::from_secs(10);
        options.vars.insert("env".into(), "test".into());
        let coordinator = Coordinator::connect(options).await.unwrap();
        let raw = server.client().await;
        Self {
            server,
            coordinator,
            raw,
        }
    }

    /// One transaction, as anybody's client would make it; `None` deletes.
    async fn write(&mut self, keys: &[(&str, Option<&str>)]) -> i64 {
        let ops = keys.iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(format!("{AT}/{key}"), *value, None),
            None => TxnOp::delete(format!("{AT}/{key}"), None),
        });
        let txn = Txn::new().and_then(ops.collect::<Vec<_>>());
        let reply = self.raw.txn(txn).await.unwrap();
        reply.header().unwrap().revision()
    }

    async fn bind(&self) -> coord::Result<Config<Shop>> {
        self.coordinator.module("shop").config().start().await
    }

    async fn bound(&mut self) -> Config<Shop> {
        self.write(&[("name", Some("one"))]).await;
        self.bind().await.unwrap()
    }

    fn watches(&self) -> usize {
        self.coordinator.health().watches.len()
    }
}

/// The refusal that is told after `revision`.
async fn refusal(config: &Config<Shop>, revision: i64) -> Refusal {
    config.wait_for_revision(revision).await.unwrap();
    config.status().refusal.expect("a refusal")
}

on_both! {
    follows_every_change_and_keeps_the_last_good_value,
    a_start_lists_everything_that_is_missing,
    prefixes_come_from_the_builder_the_struct_and_the_variables,
    subscribers_are_told_of_every_value_that_stays,
    what_the_center_sets_is_what_a_struct_reads,
    survives_etcd_being_killed_and_started_again,
    a_start_without_etcd_fails_in_time,
    the_watch_lives_as_long_as_somebody_looks,
    readers_never_see_half_a_transaction,
    every_wait_can_be_dropped_at_every_poll,
    a_write_elsewhere_is_reached_as_soon_as_the_store_says_so,
    a_hundred_keys_of_one_transaction_are_one_value,
    the_status_says_how_fresh_it_is,
    a_part_is_told_of_its_own_changes_alone,
    a_prefix_that_vanishes_at_once_is_held,
    no_value_is_dropped_on_the_thread_of_the_connections,
}

/// No event tells of it. Asked only now and then, the store would say so within ten seconds.
async fn a_write_elsewhere_is_reached_as_soon_as_the_store_says_so(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let began = std::time::Instant::now();
    for _ in 0..6 {
        let written = bench.raw.put("/elsewhere", "", None).await.unwrap();
        let revision = written.header().unwrap().revision();
        config.wait_for_revision(revision).await.unwrap();
        assert!(config.status().revision >= revision);
    }
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    bench.coordinator.close().await;
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "wide")]
struct Wide {
    #[coord(map)]
    counts: std::collections::BTreeMap<u8, u32>,
}

async fn a_hundred_keys_of_one_transaction_are_one_value(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.coordinator.config::<Wide>().start().await.unwrap();
    let (mut values, mut changes) = (config.subscribe(), config.changes());
    let watching = tokio::spawn(async move {
        let mut sums = Vec::new();
        while let Ok(wide) = values.changed().await {
            let sum: u32 = wide.counts.values().sum();
            sums.push(sum);
            if sum == 300 {
                break;
            }
        }
        sums
    });
    for round in 1..=3 {
        let puts = (0..100)
            .map(|n| TxnOp::put(format!("/config/wide/counts/{n}"), round.to_string(), None));
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        let revision = bench
            .raw
            .txn(txn)
            .await
            .unwrap()
            .header()
            .unwrap()
            .revision();
        config.wait_for_revision(revision).await.unwrap();
        let change = changes.next().await.unwrap();
        assert_eq!((change.revision, change.new.counts.len()), (revision, 100));
        assert!(change.new.counts.values().all(|it| *it == round));
        assert!(changes.next().now_or_never().is_none(), "one step");
    }
    // A reader that looks at every value never finds a mixture: slow, it may skip one.
    let sums = watching.await.unwrap();
    assert!(
        sums.iter().all(|sum| sum % 100 == 0) && sums.len() <= 3,
        "{sums:?}"
    );
    bench.coordinator.close().await;
}

async fn the_status_says_how_fresh_it_is(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let status = eventually("the watch", async || {
        Some(config.status()).filter(|it| it.phase == Phase::Watching)
    })
    .await;
    let (heard, verified) = (status.heard.unwrap(), status.verified.unwrap());
    // The list that it was bound by.
    assert!(
        heard <= verified && verified < Duration::from_secs(60),
        "{status:?}"
    );
    // Both grow older while nothing comes, and a message is heard.
    eventually("the status to age", async || {
        let status = config.status();
        status.verified.unwrap() > verified && status.heard.unwrap() > heard
    })
    .await;
    let since = std::time::Instant::now();
    let revision = bench.write(&[("limit", Some("20"))]).await;
    config.wait_for_revision(revision).await.unwrap();
    assert!(config.status().heard.unwrap() < since.elapsed());
    // Without etcd nothing is heard or verified any more.
    bench.server.stop();
    let stopped = config.status();
    eventually("time to pass", async || {
        config.status().verified.unwrap() > stopped.verified.unwrap() + Duration::from_millis(100)
    })
    .await;
    assert!(config.status().heard.unwrap() >= Duration::from_millis(100));
    bench.server.cont();
    bench.coordinator.close().await;
}

async fn a_part_is_told_of_its_own_changes_alone(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let mut limits = config.project(|shop| &shop.limit).subscribe();
    assert_eq!(*limits.current(), 10);
    for name in ["two", "three"] {
        let revision = bench.write(&[("name", Some(name))]).await;
        config.wait_for_revision(revision).await.unwrap();
        assert!(
            limits.changed().now_or_never().is_none(),
            "its part is as it was"
        );
    }
    // A wait that was dropped has lost nothing, and a raw value that differs may be the same part.
    let revision = bench.write(&[("limit", Some("010"))]).await;
    config.wait_for_revision(revision).await.unwrap();
    assert!(limits.changed().now_or_never().is_none(), "the same number");
    bench.write(&[("limit", Some("20"))]).await;
    assert_eq!(*limits.changed().await.unwrap(), 20);
    assert_eq!(*limits.current(), 20);
    bench.coordinator.close().await;
    assert!(matches!(limits.changed().await, Err(Error::Closed { .. })));
}

async fn a_prefix_that_vanishes_at_once_is_held(server: Backend) {
    let mut bench = Bench::new(server).await;
    let bound = bench.coordinator.config::<Wide>().start();
    let config = bound.await.unwrap();
    let center = bench.coordinator.config_center();
    let both = center
        .transaction()
        .set("wide/counts/1", &1)
        .set("wide/counts/2", &2);
    let revision = both.commit().await.unwrap();
    config.wait_for_revision(revision).await.unwrap();
    let everything = etcd_client::DeleteOptions::new().with_prefix();
    let gone = bench
        .raw
        .delete("/config/wide/", Some(everything))
        .await
        .unwrap();
    let revision = gone.header().unwrap().revision();
    config.wait_for_revision(revision).await.unwrap();
    let refusal = config.status().refusal.unwrap();
    assert_eq!(
        (refusal.revision, refusal.faults[0].key.as_str()),
        (revision, "/config/wide/")
    );
    assert_eq!(config.load().counts.len(), 2);
    // Any other write says that it is meant.
    let revision = center.set("wide/counts/3", &3).await.unwrap();
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(
        (config.load().counts.len(), config.status().refusal),
        (1, None)
    );
    bench.coordinator.close().await;
}

/// On which threads values were dropped, by a number that each has.
static DROPPED: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());

/// Its drop may take its time, or block.
#[derive(Debug, serde::Deserialize)]
#[serde(from = "u64")]
struct Told(u64);

impl From<u64> for Told {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let thread = std::thread::current().name().unwrap_or("").to_owned();
        DROPPED.lock().unwrap().push((self.0, thread));
    }
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "told")]
#[expect(dead_code, reason = "only its drop is looked at")]
struct Tells {
    it: Told,
}

async fn no_value_is_dropped_on_the_thread_of_the_connections(server: Backend) {
    let mut bench = Bench::new(server).await;
    // Of this test alone: the other server's runs beside it.
    let base = u64::from(std::process::id()) + (&raw const bench as usize as u64) * 1_000;
    let mut put = async |number: u64| {
        let put = bench
            .raw
            .put("/config/told/it", (base + number).to_string(), None);
        put.await.unwrap().header().unwrap().revision()
    };
    let dropped = |number: u64| {
        let dropped = DROPPED.lock().unwrap();
        dropped
            .iter()
            .find(|it| it.0 == base + number)
            .map(|it| it.1.clone())
    };
    put(0).await;
    let config = bench.coordinator.config::<Tells>().start().await.unwrap();
    let revision = put(1).await;
    config.wait_for_revision(revision).await.unwrap();
    // Replaced while nobody held it.
    let thread = eventually("the replaced value's drop", async || dropped(0)).await;
    assert!(!thread.starts_with("coord"), "{thread}");
    // The last handle goes, and the watch with it.
    drop(config);
    let thread = eventually("the last value's drop", async || dropped(1)).await;
    assert!(!thread.starts_with("coord"), "{thread}");
    // A start that nobody waited for, and one that was going on when the coordinator closed.
    put(2).await;
    let config = bench.coordinator.config::<Tells>().start().await.unwrap();
    bench.coordinator.close().await;
    eventually("the watch to end", async || {
        config.status().phase == Phase::Closed
    })
    .await;
    drop(config);
    let thread = eventually("the closed value's drop", async || dropped(2)).await;
    assert!(!thread.starts_with("coord"), "{thread}");
}

/// An event that etcd lost is found by the audit, and is a change like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_event_is_found_by_the_audit() {
    let server = coord::embedded::Server::start().await.unwrap();
    let mut options = coord::Options::test().endpoints([server.endpoint()]);
    options.config.sync_interval = Duration::from_secs(1);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let center = coordinator.config_center();
    center.set("wide/counts/1", &1).await.unwrap();
    let config = coordinator.config::<Wide>().start().await.unwrap();
    let mut changes = config.changes();
    server.swallow_event("/config/wide/counts/1");
    let lost = center.set("wide/counts/1", &2).await.unwrap();
    // The store is at that revision and says so: the watch cannot know better.
    config.wait_for_revision(lost).await.unwrap();
    let change = changes.next().await.unwrap();
    assert_eq!((change.old.counts[&1], change.new.counts[&1]), (1, 2));
    assert_eq!(change.fields, ["counts".into()]);
    assert!(change.revision >= i64::from(lost));
    // What came by the audit is followed from there on.
    center.delete("wide/counts/1").await.unwrap();
    assert_eq!(changes.next().await.unwrap().new.counts.len(), 0);
    assert_eq!(config.status().refusal, None);
    coordinator.close().await;
}

async fn follows_every_change_and_keeps_the_last_good_value(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let first = config.load();
    assert_eq!((first.limit, first.timeout), (10, Duration::from_secs(5)));
    assert_eq!(config.status().prefix, format!("{AT}/"));

    // One transaction is one value.
    let revision = bench
        .write(&[
            ("limit", Some("20\n")),
            ("level", Some("high")),
            ("ports", Some("80, 443")),
            ("db/host", Some("db-0")),
            ("db/pin", Some("1234")),
        ])
        .await;
    config.wait_for_revision(revision).await.unwrap();
    let expected = Shop {
        name: "one".into(),
        limit: 20,
        timeout: Duration::from_secs(5),
        level: Some(Level::High),
        ports: vec![80, 443],
        db: Some(Db {
            host: "db-0".into(),
            pin: 1234,
        }),
    };
    assert_eq!(*config.load(), expected);
    assert_eq!(config.status().applied_revision, revision);

    // Two bad keys and a good one: nothing is taken, both are told.
    let bad = bench
        .write(&[
            ("limit", Some("70000")),
            ("db/pin", Some("hunter2")),
            ("name", Some("two")),
        ])
        .await;
    let refused = refusal(&config, bad).await;
    assert_eq!(*config.load(), expected);
    let faults: Vec<_> = refused
        .faults
        .iter()
        .map(|it| (it.field.as_str(), it.key.as_str(), it.mod_revision))
        .collect();
    let (limit, pin) = (format!("{AT}/limit"), format!("{AT}/db/pin"));
    assert_eq!(
        faults,
        [("limit", limit.as_str(), bad), ("db.pin", &pin, bad)]
    );
    let told = format!("{refused} {:?}", config.status());
    assert!(
        told.contains("70000") && !told.contains("hunter2"),
        "{told}"
    );

    // Repaired: everything that was waiting comes in one step, and the refusal is gone.
    let good = bench
        .write(&[("limit", Some("30")), ("db/pin", Some("1"))])
        .await;
    config.wait_for_revision(good).await.unwrap();
    assert_eq!(
        (config.load().limit, config.load().name.as_str()),
        (30, "two")
    );
    assert_eq!(
        (config.status().refusal, config.status().refusals),
        (None, 1)
    );

    // Deleted keys are their defaults again; a required one cannot be missing.
    let keys = ["limit", "level", "ports", "db/host", "db/pin"].map(|key| (key, None));
    let revision = bench.write(&keys).await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!((config.load().limit, &config.load().db), (10, &None));
    let revision = bench.write(&[("name", None)]).await;
    let refused = refusal(&config, revision).await;
    assert_eq!(refused.faults[0].field, "name");
    assert_eq!(config.load().name, "two");

    // Taken back: no news, and no refusal.
    let revision = bench.write(&[("name", Some("two"))]).await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.status().refusal, None);

    let revision = bench.write(&[("limti", Some("1"))]).await;
    config.wait_for_revision(revision).await.unwrap();
    let unknown = config.status().unknown;
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].did_you_mean, Some(format!("{AT}/limit")));
    bench.coordinator.close().await;
}

async fn a_start_lists_everything_that_is_missing(server: Backend) {
    let mut bench = Bench::new(server).await;
    bench
        .write(&[("limit", Some("x")), ("db/host", Some("h"))])
        .await;
    let Err(Error::Invalid { faults, context }) = bench.bind().await else {
        panic!("bound");
    };
    assert_eq!(context.subject(), Some("/config/test/shop/"));
    assert_eq!(faults.len(), 3, "{faults:?}");
    for (fault, key) in faults.iter().zip(["name", "limit", "db/pin"]) {
        assert!(fault.contains(&format!("`{AT}/{key}`")), "{fault}");
    }
    // No module: no `{service}`. Both placeholders are told.
    let builder = bench.coordinator.config::<Shop>();
    let Err(Error::Invalid { faults, .. }) = builder.var("env", "a/b").start().await else {
        panic!("bound");
    };
    assert_eq!(faults.len(), 2, "{faults:?}");
    // A failed start leaves nothing behind.
    eventually("the watches to end", async || bench.watches() == 0).await;
    bench.coordinator.close().await;
    assert!(matches!(bench.bind().await, Err(Error::Closed { .. })));
}

async fn prefixes_come_from_the_builder_the_struct_and_the_variables(server: Backend) {
    let mut bench = Bench::new(server).await;
    for at in ["/elsewhere/eu", "/config/prod/other", "/config/test/shop"] {
        bench.raw.put(format!("{at}/name"), at, None).await.unwrap();
    }
    let module = bench.coordinator.module("shop");
    let config = module.config::<Shop>().start().await.unwrap();
    assert_eq!(config.load().name, "/config/test/shop");
    let other = module.config::<Shop>();
    let other = other.var("env", "prod").var("service", "other");
    assert_eq!(
        other.start().await.unwrap().load().name,
        "/config/prod/other"
    );
    let moved = module
        .config::<Shop>()
        .prefix("/elsewhere/{zone}")
        .var("zone", "eu");
    assert_eq!(moved.start().await.unwrap().load().name, "/elsewhere/eu");
    bench.coordinator.close().await;
}

async fn subscribers_are_told_of_every_value_that_stays(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let mut values = config.subscribe();
    let mut changes = config.changes();
    assert_eq!(values.current().limit, 10);

    // An equal put and a refused one are no news: the next news is the third.
    bench.write(&[("name", Some("one"))]).await;
    bench.write(&[("limit", Some("x"))]).await;
    let revision = bench
        .write(&[
            ("limit", Some("20")),
            ("db/host", Some("h")),
            ("db/pin", Some("1")),
        ])
        .await;
    assert_eq!(values.changed().await.unwrap().limit, 20);
    assert_eq!(values.revision(), revision);
    let change = changes.next().await.unwrap();
    assert_eq!((change.old.limit, change.new.limit), (10, 20));
    assert_eq!(change.fields, ["db.host", "db.pin", "limit"].map(Arc::from));
    assert!(change.touches("db") && change.touches("db.pin") && !change.touches("name"));
    assert_eq!(change.revision, revision);

    // Who was away gets the newest value, and every field that changed since.
    for (key, value) in [("limit", "30"), ("name", "two"), ("limit", "40")] {
        let revision = bench.write(&[(key, Some(value))]).await;
        config.wait_for_revision(revision).await.unwrap();
    }
    assert_eq!(values.changed().await.unwrap().limit, 40);
    let change = changes.next().await.unwrap();
    assert_eq!((change.old.limit, change.new.limit), (20, 40));
    assert_eq!(change.fields, ["limit", "name"].map(Arc::from));

    bench.coordinator.close().await;
    assert!(matches!(values.changed().await, Err(Error::Closed { .. })));
    assert!(changes.next().await.is_none());
    assert_eq!(config.status().phase, Phase::Closed);
    assert_eq!(config.load().limit, 40);
    assert!(matches!(
        config.wait_for_revision(i64::MAX).await,
        Err(Error::Closed { .. })
    ));
}

async fn what_the_center_sets_is_what_a_struct_reads(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let center = bench.coordinator.config_center();
    center.set("test/shop/name", "two\n").await.unwrap();
    center.set("test/shop/limit", &7).await.unwrap();
    center.set("test/shop/level", &Level::Low).await.unwrap();
    center.set("test/shop/ports", &vec![1, 2]).await.unwrap();
    let revision = center
        .set(&format!("{AT}/timeout"), &Duration::from_millis(90_500))
        .await
        .unwrap();
    config.wait_for_revision(revision).await.unwrap();
    let expected = Shop {
        name: "two\n".into(),
        limit: 7,
        timeout: Duration::from_millis(90_500),
        level: Some(Level::Low),
        ports: vec![1, 2],
        db: None,
    };
    assert_eq!(*config.load(), expected);
    let stored = bench.raw.get(format!("{AT}/timeout"), None).await.unwrap();
    assert_eq!(stored.kvs()[0].value(), b"1m 30s 500ms");

    let revision = center.delete("test/shop/limit").await.unwrap();
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().limit, 10);
    for bad in ["", "a//b", "a\n", "/"] {
        let error = center.set(bad, &1).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{bad:?}: {error}");
    }
    bench.coordinator.close().await;
    let error = center.delete("a").await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

async fn survives_etcd_being_killed_and_started_again(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    bench.server.kill();
    eventually("the loss to be seen", async || {
        let status = config.status();
        status.phase == Phase::Reconnecting && status.trouble.is_some()
    })
    .await;
    assert_eq!(config.load().name, "one");
    bench.server.restart().await;
    bench.raw = bench.server.client().await;
    let revision = bench.write(&[("limit", Some("20"))]).await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().limit, 20);
    eventually("the status to be good again", async || {
        let status = config.status();
        status.phase == Phase::Watching && status.reconnects > 0 && status.trouble.is_none()
    })
    .await;
    bench.coordinator.close().await;
}

async fn a_start_without_etcd_fails_in_time(server: Backend) {
    let mut bench = Bench::new(server).await;
    bench.write(&[("name", Some("one"))]).await;
    bench.server.kill();
    let error = bench.bind().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.is_retryable() && !error.maybe_applied());
    eventually("the watch to end", async || bench.watches() == 0).await;
    bench.coordinator.close().await;
}

async fn the_watch_lives_as_long_as_somebody_looks(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let other = config.clone();
    let mut values = config.subscribe();
    let part = config.project(|shop| &shop.limit);
    drop((config, other));
    let revision = bench.write(&[("limit", Some("20"))]).await;
    assert_eq!(values.changed().await.unwrap().limit, 20);
    assert_eq!(values.revision(), revision);
    drop(values);
    assert_eq!(*part.load(), 20);
    assert_eq!(bench.watches(), 1);
    drop(part);
    eventually("the watch to end", async || bench.watches() == 0).await;
    bench.coordinator.close().await;
}

/// Four tasks that load all the time see only what one transaction wrote.
async fn readers_never_see_half_a_transaction(server: Backend) {
    let mut bench = Bench::new(server).await;
    bench
        .write(&[("name", Some("0")), ("limit", Some("0"))])
        .await;
    let config = bench.bind().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (config, done) = (config.clone(), done.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let shop = config.load();
                    assert_eq!(shop.name, shop.limit.to_string());
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut last = 0;
    for number in 1..=300 {
        let number = number.to_string();
        last = bench
            .write(&[("name", Some(&number)), ("limit", Some(&number))])
            .await;
    }
    config.wait_for_revision(last).await.unwrap();
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(config.load().limit, 300);
    bench.coordinator.close().await;
}

async fn every_wait_can_be_dropped_at_every_poll(server: Backend) {
    let mut bench = Bench::new(server).await;
    let config = bench.bound().await;
    let mut values = config.subscribe();
    let mut changes = config.changes();
    for round in 0..20_u16 {
        let mut start = Box::pin(bench.bind());
        for _ in 0..round {
            if futures_util::poll!(start.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    eventually("the dropped starts to end", async || bench.watches() == 1).await;
    let mut revision = 0;
    for value in 1..=20 {
        assert!(futures_util::poll!(Box::pin(values.changed())).is_pending());
        assert!(futures_util::poll!(Box::pin(changes.next())).is_pending());
        let waiting = Box::pin(config.wait_for_revision(i64::MAX));
        assert!(futures_util::poll!(waiting).is_pending());
        revision = bench.write(&[("limit", Some(&value.to_string()))]).await;
        config.wait_for_revision(revision).await.unwrap();
        // Nothing was lost with the dropped waits.
        assert_eq!(values.changed().await.unwrap().limit, value);
        assert_eq!(changes.next().await.unwrap().new.limit, value);
    }
    assert_eq!(config.status().applied_revision, revision);
    bench.coordinator.close().await;
}
