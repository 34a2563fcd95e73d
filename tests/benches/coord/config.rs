//! Config, beside what a program does by hand: a raw client, and a plain `ArcSwap`.

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use coord::{Config, ConfigCenter, CoordConfig, Coordinator, Options};
use coord_tests::{Etcd, EtcdConfig};
use etcd_client::{Client, EventType, GetOptions, Txn, TxnOp, WatchOptions, WatchStream};

use crate::{
    sample::{Samples, in_turns},
    table::Table,
};

const TURNS: usize = 2_000;
const CHANGES: usize = 500;
const BINDS: usize = 20;
const KEYS: usize = 500;
const MANY: usize = 10_000;
/// A load takes nanoseconds: so many of them are one sample.
const LOADS: usize = 10_000;

#[derive(CoordConfig)]
#[coord(prefix = "bench/app")]
struct App {
    name: String,
    #[coord(default = 0)]
    turn: usize,
}

#[derive(CoordConfig)]
#[coord(prefix = "bench/many")]
struct Many {
    #[coord(map)]
    limits: BTreeMap<String, u32>,
}

pub(crate) async fn measure(table: &mut Table) {
    loads(table).await;
    let etcd = Etcd::start(EtcdConfig::new()).await.expect("etcd starts");
    let options = Options::test().endpoints([etcd.endpoint()]);
    let coordinator = Coordinator::connect(options).await.expect("coord connects");
    let raw = etcd.client().await;
    values(table, &coordinator.config_center(), &raw).await;
    changes(table, &coordinator, &raw).await;
    many(table, &coordinator, &raw).await;
    coordinator.close().await;
}

async fn loads(table: &mut Table) {
    let app = || App {
        name: "shop".into(),
        turn: 1,
    };
    let (config, plain) = (Config::fixed(app()), ArcSwap::from_pointee(app()));
    let both = in_turns(
        TURNS,
        async |_| (0..LOADS).for_each(|_| drop(black_box(config.load()))),
        async |_| (0..LOADS).for_each(|_| drop(black_box(plain.load_full()))),
    );
    table.ratio(
        "config: 10,000 × load",
        both.await,
        "ArcSwap::load_full",
        1.2,
    );
    let both = in_turns(
        TURNS,
        async |_| (0..LOADS).for_each(|_| drop(black_box(config.load_guard()))),
        async |_| (0..LOADS).for_each(|_| drop(black_box(plain.load()))),
    );
    table.ratio(
        "config: 10,000 × load_guard",
        both.await,
        "ArcSwap::load",
        1.2,
    );
    assert_eq!(config.load().name, plain.load().name);
}

async fn values(table: &mut Table, center: &ConfigCenter, raw: &Client) {
    let value = "x".repeat(100);
    let key = |turn: usize| format!("bench/key{}", turn % KEYS);
    let raw_key = |turn: usize| format!("/raw/key{}", turn % KEYS);
    let raw_get = async |turn| {
        raw.kv_client()
            .get(raw_key(turn), None)
            .await
            .expect("a get")
    };
    let raw_put = async |turn| {
        let mut kv = raw.kv_client();
        kv.put(raw_key(turn), value.as_str(), None)
            .await
            .expect("a put")
    };
    // So that there is a history to file, and something to read.
    for turn in 0..KEYS {
        center.set(&key(turn), &value).await.expect("a set");
        raw_put(turn).await;
    }
    let both = in_turns(
        TURNS,
        async |turn| drop(center.get::<String>(&key(turn)).await.expect("a get")),
        async |turn| drop(raw_get(turn).await),
    );
    table.ratio("config: get", both.await, "raw get", 1.15);
    let both = in_turns(
        TURNS,
        async |turn| {
            center.set(&key(turn), &value).await.expect("a set");
        },
        async |turn| {
            raw_get(turn).await;
            raw_put(turn).await;
        },
    );
    table.ratio(
        "config: set with history",
        both.await,
        "raw get and put",
        1.4,
    );
}

/// From before a put until its value can be loaded, or until its event is there.
async fn changes(table: &mut Table, coordinator: &Coordinator, raw: &Client) {
    let put = async |key: &str, value: usize| {
        let mut kv = raw.kv_client();
        kv.put(key, value.to_string(), None).await.expect("a put");
    };
    let center = coordinator.config_center();
    center.set("bench/app/name", "shop").await.expect("a set");
    let config = coordinator.config::<App>().start().await.expect("it binds");
    let mut values = config.subscribe();
    let mut events = raw_watch(raw, "/raw/turn").await;
    let both = in_turns(
        CHANGES,
        async |turn| {
            put("/config/bench/app/turn", turn + 1).await;
            while config.load().turn != turn + 1 {
                values.changed().await.expect("a change");
            }
        },
        async |turn| {
            put("/raw/turn", turn + 1).await;
            next_put(&mut events).await;
        },
    );
    table.ratio(
        "config: put until it is loaded",
        both.await,
        "put until a raw watch's event",
        1.2,
    );
}

async fn raw_watch(raw: &Client, key: &str) -> WatchStream {
    // From the next revision on, as coord's own watch: one from the current is served every 100 ms.
    let now = raw.kv_client().get(key, None).await.expect("a get");
    let from = now.header().expect("a header").revision() + 1;
    let options = WatchOptions::new().with_start_revision(from);
    let mut client = raw.watch_client();
    let mut stream = client.watch(key, Some(options)).await.expect("a watch");
    stream.message().await.expect("it opens");
    stream
}

async fn next_put(events: &mut WatchStream) {
    loop {
        let message = events
            .message()
            .await
            .expect("it lives")
            .expect("a message");
        let put = |event: &etcd_client::Event| event.event_type() == EventType::Put;
        if message.events().iter().any(put) {
            return;
        }
    }
}

async fn many(table: &mut Table, coordinator: &Coordinator, raw: &Client) {
    for chunk in 0..MANY / 100 {
        let puts = (0..100).map(|n| {
            let key = format!("/config/bench/many/limits/{:05}", chunk * 100 + n);
            TxnOp::put(key, "1", None)
        });
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        raw.kv_client().txn(txn).await.expect("puts");
    }
    let bind = async || {
        coordinator
            .config::<Many>()
            .start()
            .await
            .expect("it binds")
    };
    let mut binds = Vec::new();
    let mut ranges = Vec::new();
    for _ in 0..BINDS {
        let start = Instant::now();
        let bound = bind().await;
        binds.push(start.elapsed());
        assert_eq!(bound.load().limits.len(), MANY);
        drop(bound);
        let start = Instant::now();
        assert_eq!(paged(raw, "/config/bench/many/").await.len(), MANY);
        ranges.push(start.elapsed());
    }
    let samples = |times: &[_]| times.iter().copied().collect::<Samples>();
    table.ratio(
        "config: 10,000 keys bound",
        (samples(&binds), samples(&ranges)),
        "a raw range in pages",
        1.5,
    );

    let config = bind().await;
    let mut values = config.subscribe();
    let mut changes = Vec::new();
    for turn in 0..CHANGES {
        let (key, value) = (
            format!("{:05}", turn * 7 % MANY),
            u32::try_from(turn + 2).expect("small"),
        );
        let start = Instant::now();
        let key_of = format!("/config/bench/many/limits/{key}");
        let mut kv = raw.kv_client();
        let put = kv.put(key_of, value.to_string(), None);
        put.await.expect("a put");
        while config.load().limits[&key] != value {
            values.changed().await.expect("a change");
        }
        changes.push(start.elapsed());
    }
    table.ratio(
        "config: one changed key of 10,000, from its put until it is loaded",
        (samples(&changes), samples(&binds)),
        "the first bind",
        1.0 / 8.0,
    );
}

async fn paged(raw: &Client, prefix: &str) -> BTreeMap<Vec<u8>, Arc<[u8]>> {
    let (mut from, mut revision) = (prefix.as_bytes().to_vec(), 0);
    let end = [&prefix.as_bytes()[..prefix.len() - 1], b"0"].concat();
    let mut all = BTreeMap::new();
    loop {
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(1_000)
            .with_revision(revision);
        let page = raw.kv_client().get(from.clone(), Some(options)).await;
        let page = page.expect("a page");
        revision = page.header().expect("a header").revision();
        let kvs = page.kvs();
        all.extend(kvs.iter().map(|kv| (kv.key().to_vec(), kv.value().into())));
        match kvs.last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            _ => return all,
        }
    }
}
