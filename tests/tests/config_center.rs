//! The config center: typed values with versions and history, changes as they happen, and writes that
//! happen once whatever becomes of the connection.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

use std::{
    collections::BTreeMap,
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use coord::{
    ConfigCenter, CoordConfig, Coordinator, Error, Options,
    config::{EventKind, HistoryKind, Version},
};
use coord_tests::{Backend, Flow, Proxy, dropped_after, eventually, on_both};
use etcd_client::{Client, GetOptions};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

on_both! {
    a_value_comes_with_its_version_and_the_story_of_its_write,
    what_is_set_is_what_is_read,
    a_value_of_another_type_is_named_and_not_shown,
    a_compare_that_lost_is_a_conflict_with_the_current_version,
    a_list_ends_at_its_slash_and_has_every_page,
    a_history_has_every_step_and_a_rollback_is_one_more,
    a_history_is_as_long_as_it_may_be,
    without_versioning_a_write_is_one_put,
    a_transaction_is_one_revision_or_nothing,
    a_saved_struct_is_what_is_bound,
    saved_structs_do_not_mix,
    writers_that_race_lose_nothing,
    changes_are_told_as_they_happen,
    changes_go_on_when_etcd_comes_back,
    a_cached_value_is_as_old_as_it_may_be_and_never_older_than_an_own_write,
    a_write_whose_answer_was_lost_is_done_once,
    a_write_that_was_dropped_at_any_await_is_done_or_not,
}

/// A server, a coordinator and a raw client.
struct Bench {
    server: Backend,
    coordinator: Coordinator,
    raw: Client,
}

impl Bench {
    async fn new(server: Backend) -> Self {
        Self::with(server, |_| {}).await
    }

    async fn with(server: Backend, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = server.options();
        change(&mut options);
        let coordinator = Coordinator::connect(options).await.unwrap();
        let raw = server.client().await;
        Self {
            server,
            coordinator,
            raw,
        }
    }

    fn center(&self) -> ConfigCenter {
        self.coordinator.config_center()
    }

    /// What another client puts.
    async fn put(&mut self, key: &str, value: &str) -> i64 {
        let reply = self.raw.put(key, value, None).await.unwrap();
        reply.header().unwrap().revision()
    }

    async fn stored(&mut self, key: &str) -> Option<String> {
        let reply = self.raw.get(key, None).await.unwrap();
        let kv = reply.kvs().first()?;
        Some(kv.value_str().unwrap().to_owned())
    }

    /// How many keys there are below `prefix`.
    async fn count(&mut self, prefix: &str) -> i64 {
        let below = GetOptions::new().with_prefix().with_count_only();
        self.raw.get(prefix, Some(below)).await.unwrap().count()
    }
}

fn conflict(error: &Error) -> i64 {
    let Error::Conflict { current, .. } = error else {
        panic!("{error:?}");
    };
    *current
}

async fn value<T: DeserializeOwned>(center: &ConfigCenter, key: &str) -> Option<T> {
    let found = center.get::<T>(key).await.unwrap();
    found.map(|found| found.value)
}

async fn a_value_comes_with_its_version_and_the_story_of_its_write(server: Backend) {
    let mut bench = Bench::new(server).await;
    let begin = SystemTime::now() - Duration::from_millis(1);
    let center = bench.coordinator.module("shop").config_center();
    assert!(center.get::<u32>("shop/limit").await.unwrap().is_none());
    assert_eq!(center.version("shop/limit").await.unwrap(), Version::ABSENT);

    let first = center.set("shop/limit", &100).await.unwrap();
    assert!(first.exists());
    let found = center.get::<u32>("shop/limit").await.unwrap().unwrap();
    assert_eq!((found.value, found.version), (100, first));
    assert_eq!(found.key, "/config/shop/limit");
    let author = found.author.as_deref().unwrap();
    assert!(author.starts_with("shop@") && author.len() > 5, "{author}");
    assert_eq!((found.created, found.comment), (found.updated, None));
    assert!(found.updated.unwrap() >= begin);

    let by_alice = center
        .author("alice")
        .comment("sale")
        .metadata("ticket", "OPS-1");
    let second = by_alice.set("/config/shop/limit", &200).await.unwrap();
    assert!(second > first);
    let found = by_alice.get::<u32>("shop/limit").await.unwrap().unwrap();
    assert_eq!((found.value, found.version), (200, second));
    assert_eq!(found.author.as_deref(), Some("alice"));
    assert_eq!(found.comment.as_deref(), Some("sale"));
    assert_eq!(
        found.metadata,
        BTreeMap::from([("ticket".into(), "OPS-1".into())])
    );
    assert!(found.created.unwrap() <= found.updated.unwrap());
    assert_eq!(by_alice.version("shop/limit").await.unwrap(), second);

    // Of what another client has put the value and its version are known.
    let third = bench.put("/config/shop/limit", "300\n").await;
    let found = by_alice.get::<u32>("shop/limit").await.unwrap().unwrap();
    assert_eq!((found.value, found.version), (300, third.into()));
    assert_eq!((found.author, found.updated), (None, None));
    assert!(found.created.is_some() && found.metadata.is_empty());

    by_alice.delete("shop/limit").await.unwrap();
    assert!(by_alice.get::<u32>("shop/limit").await.unwrap().is_none());
    bench.coordinator.close().await;
    let closed = by_alice.get::<u32>("shop/limit").await.unwrap_err();
    assert!(matches!(closed, Error::Closed { .. }), "{closed}");
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    High { above: u8 },
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Limits {
    pause: Duration,
    levels: BTreeMap<String, Level>,
    hosts: Vec<IpAddr>,
    note: Option<String>,
}

async fn round_trip<T>(center: &ConfigCenter, value: T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    center.set("types/one", &value).await.unwrap();
    let read = center.get::<T>("types/one").await.unwrap().unwrap();
    assert_eq!(read.value, value);
    let past = center.history::<T>("types/one", 1).await.unwrap();
    assert_eq!(past[0].value.as_ref().unwrap().as_ref().unwrap(), &value);
}

async fn what_is_set_is_what_is_read(server: Backend) {
    let bench = Bench::new(server).await;
    let center = bench.center();
    round_trip(&center, "dark".to_owned()).await;
    round_trip(&center, "two\nlines\n".to_owned()).await;
    round_trip(&center, "\"quoted\" {} \u{1F980}".to_owned()).await;
    round_trip(&center, String::new()).await;
    round_trip(&center, 'x').await;
    round_trip(&center, true).await;
    round_trip(&center, -7_i64).await;
    round_trip(&center, u128::MAX).await;
    round_trip(&center, 1.5e300).await;
    round_trip(&center, Duration::from_millis(90_500)).await;
    round_trip(&center, Some(5_u8)).await;
    round_trip(&center, vec!["a,b".to_owned(), "c".to_owned()]).await;
    round_trip(&center, Vec::<u16>::new()).await;
    round_trip(&center, Level::Low).await;
    round_trip(&center, Level::High { above: 3 }).await;
    round_trip(&center, "::1".parse::<IpAddr>().unwrap()).await;
    let limits = Limits {
        pause: Duration::from_secs(2),
        levels: BTreeMap::from([
            ("a".into(), Level::Low),
            ("b".into(), Level::High { above: 1 }),
        ]),
        hosts: vec!["10.0.0.1".parse().unwrap()],
        note: None,
    };
    round_trip(&center, limits).await;
    bench.coordinator.close().await;
}

async fn a_value_of_another_type_is_named_and_not_shown(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let version = bench.put("/config/shop/pin", "hunter2").await;
    for error in [
        center.get::<u32>("shop/pin").await.unwrap_err(),
        center
            .update("shop/pin", |old: Option<u32>| old.unwrap_or(0))
            .await
            .unwrap_err(),
        center.list::<u32>("shop").await.unwrap_err(),
    ] {
        let told = format!("{error} {error:?}");
        assert!(matches!(error, Error::Invalid { .. }), "{told}");
        assert!(
            told.contains("/config/shop/pin") && told.contains(&version.to_string()),
            "{told}"
        );
        assert!(told.contains("u32") && !told.contains("hunter2"), "{told}");
    }
    // Nor does anything else show a value that nobody asked for.
    let found = center.get::<String>("shop/pin").await.unwrap().unwrap();
    center.set("shop/pin", "hunter3").await.unwrap();
    let history = center.history::<String>("shop/pin", 9).await.unwrap();
    let transaction = center.transaction().set("shop/pin", "hunter4");
    let shown = format!("{found:?} {history:?} {transaction:?} {center:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    for bad in ["", "a//b", "a\n", "/", "a/"] {
        let error = center.get::<u32>(bad).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{bad:?}: {error}");
        let error = center.set(bad, &1).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{bad:?}: {error}");
    }
    bench.coordinator.close().await;
}

async fn a_compare_that_lost_is_a_conflict_with_the_current_version(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let first = center.create("k", &1).await.unwrap();
    let error = center.create("k", &2).await.unwrap_err();
    assert_eq!(conflict(&error), first.revision());
    assert!(error.is_retryable() && !error.maybe_applied());
    let second = center.compare_and_set("k", first, &2).await.unwrap();
    let error = center.compare_and_set("k", first, &3).await.unwrap_err();
    assert_eq!(conflict(&error), second.revision());
    // What the error tells can be used at once.
    let third = center
        .compare_and_set("k", conflict(&error), &3)
        .await
        .unwrap();
    let foreign = bench.put("/config/k", "4").await;
    let error = center.delete_if("k", third).await.unwrap_err();
    assert_eq!(conflict(&error), foreign);
    center.delete_if("k", foreign).await.unwrap();
    assert_eq!(
        conflict(&center.delete_if("k", foreign).await.unwrap_err()),
        0
    );
    assert_eq!(
        conflict(&center.compare_and_set("k", third, &5).await.unwrap_err()),
        0
    );
    center.delete_if("k", Version::ABSENT).await.unwrap();
    // A key that lives again is not the one that died.
    let again = center.create("k", &6).await.unwrap();
    assert_eq!(center.version("k").await.unwrap(), again);
    assert_eq!(value::<u32>(&center, "k").await, Some(6));
    bench.coordinator.close().await;
}

async fn a_list_ends_at_its_slash_and_has_every_page(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center().author("alice");
    for key in ["a/x", "a/b/y", "ab/z", "/elsewhere/q"] {
        center.set(key, key).await.unwrap();
    }
    bench.put("/config/a/foreign", "7").await;
    let listed = center.list::<String>("a").await.unwrap();
    let keys: Vec<_> = listed.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["/config/a/b/y", "/config/a/foreign", "/config/a/x"]);
    let authors: Vec<_> = listed.iter().map(|it| it.author.as_deref()).collect();
    assert_eq!(authors, [Some("alice"), None, Some("alice")]);
    assert_eq!(listed[2].value, "a/x");
    assert_eq!(listed[2].version, center.version("a/x").await.unwrap());
    assert_eq!(center.list_keys("a/").await.unwrap(), keys);
    assert_eq!(center.list_keys("").await.unwrap().len(), 4);
    assert_eq!(
        center.list_keys("/elsewhere").await.unwrap(),
        ["/elsewhere/q"]
    );
    assert!(center.list_keys("nothing").await.unwrap().is_empty());
    assert!(matches!(
        center.list_keys("a//b").await,
        Err(Error::Invalid { .. })
    ));

    // More than one page, and more than one transaction's worth of authors.
    for chunk in 0..25 {
        let ops: Vec<_> = (0..100)
            .map(|n| {
                etcd_client::TxnOp::put(format!("/config/many/{:04}", chunk * 100 + n), "1", None)
            })
            .collect();
        bench
            .raw
            .txn(etcd_client::Txn::new().and_then(ops))
            .await
            .unwrap();
    }
    center.set("many/1234", &2).await.unwrap();
    let many = center.list::<u32>("many").await.unwrap();
    assert_eq!(many.len(), 2_500);
    assert!(many.is_sorted_by(|a, b| a.key < b.key));
    let own: Vec<_> = many.iter().filter(|it| it.author.is_some()).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(
        (own[0].key.as_str(), own[0].value),
        ("/config/many/1234", 2)
    );
    assert_eq!(center.list_keys("many").await.unwrap().len(), 2_500);
    bench.coordinator.close().await;
}

async fn a_history_has_every_step_and_a_rollback_is_one_more(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let alice = center.clone().author("alice").comment("first");
    let one = alice.set("k", &1).await.unwrap();
    let two = alice.set("k", &2).await.unwrap();
    let foreign = bench.put("/config/k", "3").await;
    let deleted = center.clone().author("bob").delete("k").await.unwrap();

    let steps = center.history::<u32>("k", 10).await.unwrap();
    let told: Vec<_> = steps
        .iter()
        .map(|it| {
            let value = it.value.as_ref().map(|value| *value.as_ref().unwrap());
            (it.version.revision(), it.kind, value, it.author.as_deref())
        })
        .collect();
    let (set, gone) = (HistoryKind::Set, HistoryKind::Deleted);
    assert_eq!(
        told,
        [
            (deleted.revision(), gone, None, Some("bob")),
            (foreign, set, Some(3), None),
            (two.revision(), set, Some(2), Some("alice")),
            (one.revision(), set, Some(1), Some("alice")),
        ]
    );
    assert_eq!(steps[3].comment.as_deref(), Some("first"));
    assert!(steps[1].at.is_none() && steps[2].at.is_some());
    assert_eq!(center.history::<u32>("k", 2).await.unwrap().len(), 2);
    assert!(center.history::<u32>("other", 2).await.unwrap().is_empty());
    assert!(center.history::<u32>("k", 0).await.unwrap().is_empty());

    // To a value, also to one of another client's, and to a deletion.
    let back = center.rollback("k", foreign).await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, Some(3));
    let newest = &center.history::<u32>("k", 1).await.unwrap()[0];
    assert_eq!(newest.kind, HistoryKind::RolledBack { to: foreign.into() });
    assert_eq!(newest.version, back);
    center.rollback("k", one).await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, Some(1));
    center.rollback("k", deleted).await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, None);
    center.rollback("k", back).await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, Some(3));
    assert_eq!(center.history::<u32>("k", 100).await.unwrap().len(), 8);
    let error = center.rollback("k", 1).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");

    // A step that was of another type is told as that.
    center.set("k", "word").await.unwrap();
    let steps = center.history::<u32>("k", 2).await.unwrap();
    assert!(steps[0].value.as_ref().unwrap().is_err());
    assert!(steps[1].value.as_ref().unwrap().is_ok());
    bench.coordinator.close().await;
}

async fn a_history_is_as_long_as_it_may_be(server: Backend) {
    let mut bench = Bench::with(server, |options| options.config.history_limit = 5).await;
    let center = bench.center();
    for n in 0..20 {
        center.set("k", &n).await.unwrap();
    }
    let steps = center.history::<u32>("k", 100).await.unwrap();
    let values: Vec<_> = steps
        .into_iter()
        .map(|it| it.value.unwrap().unwrap())
        .collect();
    assert_eq!(values, [19, 18, 17, 16, 15, 14]);
    // Six steps are the value, its head and five that are filed.
    assert_eq!(bench.count("coord/history/").await, 6);
    bench.coordinator.close().await;
}

async fn without_versioning_a_write_is_one_put(server: Backend) {
    let mut bench = Bench::with(server, |options| options.config.versioning = false).await;
    let center = bench.center();
    let before = bench.server.log_entries().await;
    let first = center.set("k", &1).await.unwrap();
    assert_eq!(bench.server.log_entries().await - before, 1);
    let found = center.get::<u32>("k").await.unwrap().unwrap();
    assert_eq!(
        (found.version, found.author, found.updated),
        (first, None, None)
    );
    let error = center.create("k", &2).await.unwrap_err();
    assert_eq!(conflict(&error), first.revision());
    center.compare_and_set("k", first, &2).await.unwrap();
    center
        .update("k", |old: Option<u32>| old.unwrap() + 1)
        .await
        .unwrap();
    assert_eq!(bench.stored("/config/k").await.as_deref(), Some("3"));
    center.delete("k").await.unwrap();
    center.delete("k").await.unwrap();
    assert_eq!(center.list_keys("").await.unwrap().len(), 0);
    assert_eq!(bench.count("coord/").await, 0);
    let mut transaction = center.transaction();
    for n in 0..128 {
        transaction = transaction.set(&format!("many/{n}"), &n);
    }
    transaction.commit().await.unwrap();
    assert_eq!(center.list_keys("many").await.unwrap().len(), 128);
    bench.coordinator.close().await;
}

async fn a_transaction_is_one_revision_or_nothing(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center().author("alice");
    center.set("gone", &1).await.unwrap();
    let old = center.set("b", &1).await.unwrap();
    let version = center
        .transaction()
        .set("a", &1)
        .compare_and_set("b", old, &2)
        .create("c", &3)
        .delete("gone")
        .delete("never there")
        .commit()
        .await
        .unwrap();
    for key in ["a", "b", "c"] {
        let found = center.get::<u32>(key).await.unwrap().unwrap();
        assert_eq!(
            (found.version, found.author.as_deref()),
            (version, Some("alice"))
        );
    }
    assert_eq!(center.history::<u32>("gone", 9).await.unwrap().len(), 2);
    assert!(
        center
            .history::<u32>("never there", 9)
            .await
            .unwrap()
            .is_empty()
    );

    // One that is not as expected: nothing at all.
    let again = center
        .transaction()
        .set("a", &9)
        .create("c", &9)
        .delete_if("b", old);
    let error = again.commit().await.unwrap_err();
    assert_eq!(conflict(&error), version.revision());
    assert_eq!(error.context().subject(), Some("/config/c"));
    assert_eq!(center.version("a").await.unwrap(), version);

    // Every fault at once.
    let bad = center
        .transaction()
        .set("a", &1)
        .set("x//y", &1)
        .set("/config/a", &2)
        .set("f", &f64::NAN);
    let Err(Error::Invalid { faults, .. }) = bad.commit().await else {
        panic!("committed");
    };
    assert_eq!(faults.len(), 3, "{faults:?}");

    // As many keys as fit, also while all of them have steps to file and old ones to remove.
    let before = bench.count("/config/").await;
    let all = |count: usize, value: u32| {
        (0..count).fold(center.transaction(), |it, n| {
            it.set(&format!("many/{n}"), &value)
        })
    };
    let error = all(43, 1).commit().await.unwrap_err();
    assert!(error.to_string().contains("at most 42"), "{error}");
    assert_eq!(bench.count("/config/").await, before);
    all(42, 1).commit().await.unwrap();
    all(42, 2).commit().await.unwrap();
    // Each has been put by another client since: that makes two steps to file.
    for n in 0..42 {
        bench.put(&format!("/config/many/{n}"), "3").await;
    }
    let error = all(42, 4).commit().await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(value::<u32>(&center, "many/0").await, Some(3));
    all(32, 4).commit().await.unwrap();
    let empty = center.transaction().commit().await.unwrap();
    assert_eq!(center.version("many/0").await.unwrap(), empty);
    bench.coordinator.close().await;
    let error = center
        .transaction()
        .set("a", &1)
        .commit()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
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

/// Several that save whole structs at once: each time one of them is there, never a mixture.
async fn saved_structs_do_not_mix(server: Backend) {
    #[derive(CoordConfig, Debug)]
    #[coord(prefix = "pair", write)]
    struct Pair {
        left: u32,
        right: u32,
    }
    // A mixture of the first and the last would be 0 and 1. In between one key is as it was, and is
    // not written.
    const PAIRS: [(u32, u32); 3] = [(0, 0), (1, 0), (1, 1)];
    let bench = Bench::new(server).await;
    let save = |step: usize| {
        let builder = bench.coordinator.config::<Pair>();
        async move {
            for n in 0..60 {
                let (left, right) = PAIRS[n * step % 3];
                builder.save(&Pair { left, right }).await.unwrap();
            }
        }
    };
    save(1).await;
    let config = bench.coordinator.config::<Pair>().start().await.unwrap();
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
                assert!(value.left >= value.right, "{value:?}");
            }
        }
    }
    bench.coordinator.close().await;
}

async fn writers_that_race_lose_nothing(server: Backend) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 25;
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let center = center.clone().author(format!("writer {n}"));
            tokio::spawn(async move {
                for _ in 0..EACH {
                    center
                        .update("n", |old: Option<u64>| old.unwrap_or(0) + 1)
                        .await
                        .unwrap();
                    center.set("last", &n).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(value::<u64>(&center, "n").await, Some(WRITERS * EACH));
    for (key, steps) in [("n", WRITERS * EACH), ("last", WRITERS * EACH)] {
        let history = center.history::<u64>(key, 200).await.unwrap();
        assert_eq!(history.len() as u64, steps, "{key}");
        assert!(history.is_sorted_by(|a, b| a.version > b.version));
    }
    let history = center.history::<u64>("n", 200).await.unwrap();
    let mut values = history.into_iter().map(|it| it.value.unwrap().unwrap());
    assert!(values.by_ref().eq((1..=WRITERS * EACH).rev()));
    assert_eq!(
        bench.stored("/config/n").await.unwrap(),
        (WRITERS * EACH).to_string()
    );
    bench.coordinator.close().await;
}

async fn changes_are_told_as_they_happen(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    center.set("shop/limit", &1).await.unwrap();
    center.set("shop2/limit", &1).await.unwrap();
    let mut all = center.watch_prefix::<u32>("shop").await.unwrap();
    let mut one = center.watch::<u32>("shop/limit").await.unwrap();
    let begin = SystemTime::now() - Duration::from_millis(1);

    // What was there is no event, nor is a neighbour, nor a write of the same value.
    center.set("shop2/limit", &2).await.unwrap();
    center.set("shop/limit", &1).await.unwrap();
    let second = center.set("shop/limit", &2).await.unwrap();
    for events in [&mut all, &mut one] {
        let event = events.next().await.unwrap();
        assert_eq!((event.kind, event.version), (EventKind::Updated, second));
        assert_eq!(event.key, "/config/shop/limit");
        assert_eq!(event.old.unwrap().unwrap(), 1);
        assert_eq!(event.new.unwrap().unwrap(), 2);
        assert!(event.seen >= begin && event.seen <= SystemTime::now());
    }
    let created = center.set("shop/a/b", &7).await.unwrap();
    let event = all.next().await.unwrap();
    assert_eq!((event.kind, event.version), (EventKind::Created, created));
    assert!(event.old.is_none());
    // A value that is no `T` is told, and the next one is.
    bench.put("/config/shop/limit", "many").await;
    let event = all.next().await.unwrap();
    let error = event.new.unwrap().unwrap_err();
    assert!(error.to_string().contains("/config/shop/limit"), "{error}");
    let deleted = center.delete("shop/limit").await.unwrap();
    let event = all.next().await.unwrap();
    assert_eq!((event.kind, event.version), (EventKind::Deleted, deleted));
    assert!(event.old.unwrap().is_err() && event.new.is_none());
    // One transaction, each key once.
    let both = center.transaction().set("shop/x", &1).set("shop/y", &2);
    let version = both.commit().await.unwrap();
    for key in ["/config/shop/x", "/config/shop/y"] {
        let event = all.next().await.unwrap();
        assert_eq!((event.key.as_str(), event.version), (key, version));
    }
    // `one` was not read meanwhile: the first value and the last are told.
    let event = one.next().await.unwrap();
    assert_eq!(
        (event.kind, event.old.unwrap().unwrap()),
        (EventKind::Deleted, 2)
    );

    let watches = || bench.coordinator.health().watches.len();
    assert_eq!(watches(), 2);
    drop(one);
    eventually("the watch to end", async || watches() == 1).await;
    bench.coordinator.close().await;
    assert!(all.next().await.is_none());
}

async fn changes_go_on_when_etcd_comes_back(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let mut events = center.watch::<u32>("k").await.unwrap();
    bench.server.kill();
    bench.server.restart().await;
    bench.raw = bench.server.client().await;
    bench.put("/config/k", "1").await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (event.kind, event.new.unwrap().unwrap()),
        (EventKind::Created, 1)
    );
    bench.server.kill();
    let Err(error) = center.watch::<u32>("k").await else {
        panic!("began without etcd");
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    bench.coordinator.close().await;
}

/// How many transactions it was sent, reads too; a real one alone tells.
async fn asked(bench: &Bench) -> Option<u64> {
    match bench.server.etcd() {
        Some(etcd) => Some(etcd.calls("Txn").await),
        None => None,
    }
}

async fn a_cached_value_is_as_old_as_it_may_be_and_never_older_than_an_own_write(server: Backend) {
    let ttl = Duration::from_secs(3_600);
    let mut bench = Bench::with(server, |options| options.config.cache_ttl = ttl).await;
    let center = bench.center();
    assert_eq!(value::<u32>(&center, "k").await, None);
    center.set("k", &1).await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, Some(1));
    let asked = asked(&bench).await;
    for _ in 0..100 {
        // Every center of the coordinator has the same cache.
        assert_eq!(value::<u32>(&bench.center(), "k").await, Some(1));
    }
    assert_eq!(self::asked(&bench).await, asked);
    // Another client's write is seen when the time is over, an own one at once.
    let foreign = bench.put("/config/k", "2").await;
    assert_eq!(value::<u32>(&center, "k").await, Some(1));
    assert_eq!(center.version("k").await.unwrap(), foreign.into());
    center
        .update("k", |old: Option<u32>| old.unwrap() + 1)
        .await
        .unwrap();
    assert_eq!(value::<u32>(&center, "k").await, Some(3));
    center.transaction().set("k", &4).commit().await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, Some(4));
    center.delete("k").await.unwrap();
    assert_eq!(value::<u32>(&center, "k").await, None);
    bench.coordinator.close().await;
    let error = center.get::<u32>("k").await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

/// Polls `write` to its end; before its `poll`th poll the answers of etcd begin to be held back, and
/// once one is, `meanwhile` happens and every connection breaks. `None`: it was done before that.
async fn with_a_lost_answer<T>(
    proxy: &Proxy,
    poll: usize,
    write: impl Future<Output = T>,
    meanwhile: impl Future<Output = ()>,
) -> (T, bool) {
    let mut write = pin!(write);
    let mut polls = 0;
    let held = || {
        let answers = proxy.answered();
        answers.arrived > answers.passed
    };
    let first = poll_fn(|cx| {
        polls += 1;
        if polls == poll {
            proxy.replies(Flow::Hold);
        }
        if polls > poll && held() {
            return Poll::Ready(None);
        }
        // Looks again: nobody wakes it when an answer is held.
        if polls >= poll {
            cx.waker().wake_by_ref();
        }
        write.as_mut().poll(cx).map(Some)
    });
    match first.await {
        Some(done) => {
            proxy.heal().await;
            (done, polls >= poll)
        }
        None => {
            meanwhile.await;
            proxy.cut().await;
            proxy.heal().await;
            (write.await, true)
        }
    }
}

/// The answer to any of its requests is lost, after etcd has done what it asked: the write is done
/// once, filed once, and is no conflict with itself.
async fn a_write_whose_answer_was_lost_is_done_once(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let options = |endpoint| {
        let mut options = Options::test().endpoints([endpoint]);
        options.retry.max_attempts = 20;
        options
    };
    let direct = Coordinator::connect(options(server.endpoint()))
        .await
        .unwrap();
    let other = direct.config_center();
    let coordinator = Coordinator::connect(options(proxy.endpoint()))
        .await
        .unwrap();
    let center = coordinator.config_center();
    let mut expected = 0_u64;
    let mut version = center.set("n", &expected).await.unwrap();
    let add = async |center: &ConfigCenter| {
        let added = center.update("n", |old: Option<u64>| old.unwrap() + 1);
        added.await.unwrap()
    };
    let mut lost = 0;
    for raced in [false, true] {
        for poll in 1.. {
            let others = async {
                if raced {
                    add(&other).await;
                }
            };
            let write = async { add(&center).await };
            let (done, reached) = with_a_lost_answer(&proxy, poll, write, others).await;
            assert!(done > version);
            let now = other.get::<u64>("n").await.unwrap().unwrap();
            let steps = if now.value == expected + 2 { 2 } else { 1 };
            assert!(raced || steps == 1, "done twice at poll {poll}");
            expected += steps;
            assert_eq!(now.value, expected);
            version = now.version;
            lost += u32::from(reached);
            if !reached {
                break;
            }
        }
    }
    // A compare does not lose against itself.
    for poll in 1.. {
        expected += 1;
        let write = center.compare_and_set("n", version, &expected);
        let (done, reached) = with_a_lost_answer(&proxy, poll, write, async {}).await;
        version = done.unwrap();
        if !reached {
            break;
        }
    }
    assert!(lost > 4, "{lost}");
    let history = other.history::<u64>("n", 1_000).await.unwrap();
    let mut values = history.into_iter().map(|it| it.value.unwrap().unwrap());
    assert!(values.by_ref().take(100).eq((0..=expected).rev().take(100)));
    coordinator.close().await;
    direct.close().await;
}

async fn a_write_that_was_dropped_at_any_await_is_done_or_not(server: Backend) {
    let bench = Bench::new(server).await;
    let center = bench.center();
    center.set("k", &0).await.unwrap();
    let mut done = false;
    for polls in 1.. {
        let update = center.update("k", |old: Option<u64>| old.unwrap() + 1);
        if dropped_after(polls, update).await.is_some() {
            done = true;
            break;
        }
    }
    assert!(done);
    // Each dropped one is filed if it was done; and the center goes on.
    center.set("k", &1_000).await.unwrap();
    eventually("the late ones", async || {
        let history = center.history::<u64>("k", 1_000).await.unwrap();
        let mut values: Vec<_> = history
            .into_iter()
            .map(|it| it.value.unwrap().unwrap())
            .collect();
        values.reverse();
        values.is_sorted_by(|a, b| a < b) && values.ends_with(&[1_000])
    })
    .await;
    bench.coordinator.close().await;
}
