//! Whole structs, saved.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use coord::{CoordConfig, Error};
use coord_tests::{Backend, on_both};

use super::Bench;

on_both! {
    a_saved_struct_is_what_is_bound,
    saved_structs_do_not_mix,
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
