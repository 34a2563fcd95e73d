//! Whole structs, saved.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use coord::{CoordConfig, Coordinator, Error, config::WriteConfig};
use coord_tests::{Backend, on_both};

use super::Bench;

on_both! {
    a_saved_struct_is_what_is_bound,
    saved_structs_do_not_mix,
    wide_structs_do_not_mix_either,
    a_saved_struct_and_a_prefix_that_is_rolled_back_do_not_mix,
    a_save_leaves_what_its_fields_do_not_read,
    without_history_a_save_takes_as_many_keys_as_etcd_does,
    a_key_beside_the_struct_that_is_written_all_the_time_holds_no_save_up,
}

#[derive(CoordConfig, Debug, PartialEq, Clone)]
#[coord(prefix = "{service}", write)]
struct Shop {
    name: String,
    timeout: Duration,
    motto: Option<String>,
    #[coord(alias = "harbours")]
    ports: Vec<u16>,
    #[coord(nested)]
    db: Option<Db>,
    #[coord(map)]
    limits: BTreeMap<String, u32>,
}

#[derive(CoordConfig, Debug, PartialEq, Clone)]
#[coord(write)]
struct Db {
    host: String,
    #[coord(secret)]
    pin: String,
}

async fn a_saved_struct_is_what_is_bound(server: Backend) {
    let mut bench = Bench::new(server).await;
    let module = bench.coordinator.module("shop");
    let center = module.config_center().author("alice");
    let save = async |shop: &Shop| {
        let builder = module.config::<Shop>().center(center.clone());
        builder.save(shop).await
    };
    let mut shop = Shop {
        name: "one".into(),
        timeout: Duration::from_millis(1_500),
        motto: Some("open\nlate\n".into()),
        ports: vec![80, 443],
        db: Some(Db {
            host: "db-0".into(),
            pin: "1234".into(),
        }),
        limits: BTreeMap::from([("a/b".into(), 1), ("c".into(), 2)]),
    };
    bench.put("/config/shop/stranger", "stays").await;
    bench.put("/config/shop/harbours", "1").await;
    bench.put("/config/shop/ports/0", "1").await;
    let first = save(&shop).await.unwrap();
    let config = module.config::<Shop>().start().await.unwrap();
    assert_eq!(*config.load(), shop);
    let host = center.get::<String>("shop/db/host").await.unwrap().unwrap();
    assert_eq!(
        (host.version, host.author.as_deref()),
        (first, Some("alice"))
    );

    // What differs is one revision, and what is the same is not written again.
    shop.name = "two".into();
    shop.motto = None;
    shop.db = None;
    shop.limits.remove("a/b");
    let second = save(&shop).await.unwrap();
    config.wait_for_revision(second).await.unwrap();
    assert_eq!(*config.load(), shop);
    assert_eq!(center.version("shop/timeout").await.unwrap(), first);
    assert_eq!(
        center
            .history::<String>("shop/db/pin", 9)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        bench.stored("/config/shop/stranger").await.as_deref(),
        Some("stays")
    );
    // Older programs may still read it.
    assert!(bench.stored("/config/shop/harbours").await.is_some());
    let again = save(&shop).await.unwrap();
    assert!(again >= second);
    assert_eq!(center.version("shop/name").await.unwrap(), second);

    // Too many keys: nothing at all.
    shop.limits = (0..50).map(|n| (n.to_string(), n)).collect();
    let error = save(&shop).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(center.list_keys("shop/limits").await.unwrap().len(), 1);
    bench.coordinator.close().await;
}

/// Structs of which a mixture can be told.
trait Unmixed: WriteConfig + Send + Sync + 'static {
    fn nth(n: usize) -> Self;
    fn is_one(&self) -> bool;
}

/// The one in between shares a key with each of the others, which is then not written.
#[derive(CoordConfig, Debug, PartialEq)]
#[coord(prefix = "pair", write)]
struct Pair {
    left: u32,
    right: u32,
}

impl Unmixed for Pair {
    fn nth(n: usize) -> Self {
        let (left, right) = [(0, 0), (1, 0), (1, 1)][n % 3];
        Self { left, right }
    }

    fn is_one(&self) -> bool {
        (0..3).any(|n| *self == Self::nth(n))
    }
}

/// What the one deletes, the other leaves as it is.
#[derive(CoordConfig, Debug, PartialEq)]
#[coord(prefix = "option", write)]
struct Optional {
    left: Option<u32>,
    right: u32,
}

impl Unmixed for Optional {
    fn nth(n: usize) -> Self {
        let (left, right) = [(None, 0), (Some(1), 0), (Some(1), 1)][n % 3];
        Self { left, right }
    }

    fn is_one(&self) -> bool {
        (0..3).any(|n| *self == Self::nth(n))
    }
}

/// The same with more keys than one transaction compares, and the one that may be missing as their
/// last.
#[derive(CoordConfig, Debug, PartialEq)]
#[coord(prefix = "wide", write)]
struct Wide {
    #[coord(key = "z")]
    left: Option<u32>,
    #[coord(map)]
    same: BTreeMap<String, u32>,
    right: u32,
}

const WIDTH: u32 = 150;

impl Unmixed for Wide {
    fn nth(n: usize) -> Self {
        let Optional { left, right } = Optional::nth(n);
        let same = (0..WIDTH).map(|n| (format!("{n:03}"), n)).collect();
        Self { left, same, right }
    }

    fn is_one(&self) -> bool {
        let Self { left, right, .. } = *self;
        Optional { left, right }.is_one()
    }
}

/// Several that save whole structs at once: each time one of them is there, never a mixture.
async fn do_not_mix<T: Unmixed + std::fmt::Debug>(coordinator: &Coordinator, rounds: usize) {
    let save = |step: usize| {
        let builder = coordinator.config::<T>();
        async move {
            for n in 0..rounds {
                builder.save(&T::nth(n * step)).await.unwrap();
            }
        }
    };
    save(1).await;
    let config = coordinator.config::<T>().start().await.unwrap();
    let mut values = config.subscribe();
    let writers = [1, 2, 1].map(|step| tokio::spawn(save(step)));
    let done = async {
        for writer in writers {
            writer.await.unwrap();
        }
    };
    let mut done = pin!(done);
    loop {
        tokio::select! {
            () = &mut done => break,
            value = values.changed() => {
                let value = value.unwrap();
                assert!(value.is_one(), "{value:?}");
            }
        }
    }
}

async fn saved_structs_do_not_mix(server: Backend) {
    let coordinator = server.coordinator().await;
    do_not_mix::<Pair>(&coordinator, 60).await;
    do_not_mix::<Optional>(&coordinator, 150).await;
    coordinator.close().await;
}

async fn wide_structs_do_not_mix_either(server: Backend) {
    let coordinator = server.coordinator().await;
    let same: Vec<_> = Wide::nth(0).same.into_iter().collect();
    for chunk in same.chunks(40) {
        let all = coordinator.config_center().transaction();
        let all = chunk.iter().fold(all, |it, (key, value)| {
            it.set(&format!("wide/same/{key}"), value)
        });
        all.commit().await.unwrap();
    }
    do_not_mix::<Wide>(&coordinator, 60).await;
    coordinator.close().await;
    // Nothing is filed: a deletion leaves no trace.
    let mut options = server.options();
    options.config.versioning = false;
    let coordinator = Coordinator::connect(options).await.unwrap();
    do_not_mix::<Wide>(&coordinator, 60).await;
    coordinator.close().await;
}

async fn a_saved_struct_and_a_prefix_that_is_rolled_back_do_not_mix(server: Backend) {
    const ROUNDS: usize = 100;
    let mut options = server.options();
    // The first steps are rolled back to until the end.
    options.config.history_limit = 1_000;
    let coordinator = Coordinator::connect(options).await.unwrap();
    let center = coordinator.config_center();
    let save = async |n| coordinator.config().save(&Optional::nth(n)).await.unwrap();
    let mut was = Vec::new();
    for n in 0..3 {
        was.push(save(n).await);
    }
    let config = coordinator.config::<Optional>().start().await.unwrap();
    let mut values = config.subscribe();
    let writing = async {
        let saves = async |step: usize| {
            for n in 0..ROUNDS {
                save(n * step).await;
            }
        };
        let ways_back = async |step: usize| {
            for n in 0..ROUNDS {
                let was = was[n * step % 3];
                center.rollback_prefix("option", was).await.unwrap();
            }
        };
        tokio::join!(saves(1), saves(2), ways_back(1), ways_back(2));
    };
    let mut writing = pin!(writing);
    loop {
        tokio::select! {
            () = &mut writing => break,
            value = values.changed() => {
                let value = value.unwrap();
                assert!(value.is_one(), "{value:?}");
            }
        }
    }
    coordinator.close().await;
}

/// Keys that no field reads, whatever they are called.
async fn a_save_leaves_what_its_fields_do_not_read(server: Backend) {
    #[derive(CoordConfig, Debug, PartialEq)]
    #[coord(prefix = "stray", write)]
    struct Stray {
        #[coord(map)]
        limits: BTreeMap<String, u32>,
        size: u32,
        ports: Vec<u16>,
        note: Option<String>,
    }
    let mut bench = Bench::new(server).await;
    let long = format!("limits/{}", "x".repeat(2_000));
    // Those that a field reads, and that are no key of ours.
    let (odd, read) = (
        ["limits/", "limits//a", "/limits", "limits/a/b/"],
        ["limits/a\u{1}", &long],
    );
    // Below a value that has no parts; below a list; below a field that is not there.
    let (below, parts) = ("size/unit", ["ports/0", "note/0"]);
    for key in odd.iter().chain(&read).chain(&parts).chain([&below]) {
        bench.put(&format!("/config/stray/{key}"), "7").await;
    }
    let value = Stray {
        limits: BTreeMap::from([("a".into(), 1)]),
        size: 2,
        ports: vec![80],
        note: None,
    };
    bench.coordinator.config().save(&value).await.unwrap();
    let config = bench.coordinator.config::<Stray>().start().await.unwrap();
    assert_eq!(*config.load(), value);
    for key in odd.iter().chain([&below]) {
        let left = bench.stored(&format!("/config/stray/{key}")).await;
        assert_eq!(left.as_deref(), Some("7"), "{key}");
    }
    for key in read.iter().chain(&parts) {
        let left = bench.stored(&format!("/config/stray/{key}")).await;
        assert_eq!(left, None, "{key}");
    }
    bench.coordinator.close().await;
}

async fn without_history_a_save_takes_as_many_keys_as_etcd_does(server: Backend) {
    #[derive(CoordConfig)]
    #[coord(prefix = "many", write)]
    struct Many {
        #[coord(map)]
        all: BTreeMap<u32, u32>,
    }
    let bench = Bench::with(server, |options| options.config.versioning = false).await;
    let save = async |count, value| {
        let all = (0..count).map(|n| (n, value)).collect();
        bench.coordinator.config().save(&Many { all }).await
    };
    let stored = async || bench.center().list_keys("many").await.unwrap().len();
    let error = save(129, 1).await.unwrap_err();
    assert!(error.to_string().contains("at most 128"), "{error}");
    assert_eq!(stored().await, 0);
    save(128, 1).await.unwrap();
    save(128, 2).await.unwrap();
    save(0, 0).await.unwrap();
    assert_eq!(stored().await, 0);
    bench.coordinator.close().await;
}

async fn a_key_beside_the_struct_that_is_written_all_the_time_holds_no_save_up(server: Backend) {
    let bench = Bench::new(server).await;
    let mut raw = bench.raw.clone();
    let busy = tokio::spawn(async move {
        loop {
            raw.put("/config/pair/beside", "7", None).await.unwrap();
        }
    });
    for n in 0..6 {
        let saved = bench.coordinator.config().save(&Pair::nth(n)).await;
        saved.unwrap_or_else(|error| panic!("{n}: {error}"));
    }
    busy.abort();
    bench.coordinator.close().await;
}
