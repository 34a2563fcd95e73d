//! Single values: typed, with versions; lists; the cache.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use coord::{ConfigCenter, Error, config::Version};
use coord_tests::{Backend, eventually, on_both};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Bench, conflict, value};

on_both! {
    a_value_comes_with_its_version_and_the_story_of_its_write,
    what_is_set_is_what_is_read,
    a_value_of_another_type_is_named_and_not_shown,
    a_compare_that_lost_is_a_conflict_with_the_current_version,
    a_list_ends_at_its_slash_and_has_every_page,
    a_cached_value_is_as_old_as_it_may_be_and_never_older_than_an_own_write,
    a_cached_value_is_read_anew_when_its_time_is_over,
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

async fn a_cached_value_is_read_anew_when_its_time_is_over(server: Backend) {
    let ttl = Duration::from_millis(200);
    let mut bench = Bench::with(server, |options| options.config.cache_ttl = ttl).await;
    let center = bench.center();
    // Also that there is none.
    assert_eq!(value::<u32>(&center, "k").await, None);
    for n in 0..3 {
        bench.put("/config/k", &n.to_string()).await;
        let seen = async || value::<u32>(&center, "k").await == Some(n);
        eventually("the value to be read anew", seen).await;
    }
    bench.coordinator.close().await;
}
