//! Changes, as they happen.

use std::time::{Duration, SystemTime};

use coord::{Error, Options, config::EventKind};
use coord_tests::{Backend, eventually, on_both};

use super::Bench;

on_both! {
    changes_are_told_as_they_happen,
    changes_go_on_when_etcd_comes_back,
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
    // So long a watch that cannot begin is waited for.
    let short = |options: &mut Options| {
        options.connect_timeout = Duration::from_secs(5);
        options.request_timeout = Duration::from_secs(5);
    };
    let mut bench = Bench::with(server, short).await;
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
