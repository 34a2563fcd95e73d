//! Several keys at once; what was before, and the way back.

use std::collections::{BTreeMap, BTreeSet};

use coord::{
    ConfigCenter, CoordConfig, Error,
    config::{HistoryKind, Version},
};
use coord_tests::{Backend, dropped_after, eventually, on_both};
use etcd_client::{Txn, TxnOp};

use super::{Bench, conflict, value};

on_both! {
    a_history_has_every_step_and_a_rollback_is_one_more,
    a_history_is_as_long_as_it_may_be,
    the_history_of_many_keys_at_once_is_as_long_as_it_may_be,
    what_another_client_has_put_is_replaced_whatever_it_is,
    a_prefix_is_what_it_was,
    a_prefix_whose_past_is_not_known_stays_as_it_is,
    a_value_of_another_client_that_is_forgotten_is_not_taken_for_absence,
    a_large_prefix_is_rolled_back_in_chunks,
    replies_that_are_too_large_are_read_in_parts,
    without_versioning_a_write_is_one_put,
    a_transaction_is_one_revision_or_nothing,
    a_transaction_of_the_most_keys_is_one_change_of_what_is_bound,
}

async fn a_history_has_every_step_and_a_rollback_is_one_more(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let alice = center.clone().author("alice").comment("first");
    let alice = alice.metadata("ticket", "OPS-1");
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
    for (step, told) in steps.iter().zip([false, false, true, true]) {
        let ticket = step.metadata.get("ticket").map(String::as_str);
        assert_eq!(step.comment.as_deref(), told.then_some("first"));
        assert_eq!(ticket, told.then_some("OPS-1"));
    }
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

    // To be deleted, when it is.
    center.delete("k").await.unwrap();
    let nothing = center.rollback("k", deleted).await.unwrap();
    assert_eq!(center.history::<u32>("k", 100).await.unwrap().len(), 10);
    assert_eq!(center.transaction().commit().await.unwrap(), nothing);
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

/// One transaction has not room for all that it makes superfluous.
async fn the_history_of_many_keys_at_once_is_as_long_as_it_may_be(server: Backend) {
    let mut bench = Bench::with(server, |options| options.config.history_limit = 5).await;
    let center = bench.center();
    for round in 0..15 {
        let all = center.transaction();
        let all = (0..42).fold(all, |it, n| it.set(&format!("many/{n}"), &round));
        all.commit().await.unwrap();
    }
    // The last of them are removed behind the writer's back.
    eventually("the history to shrink", async || {
        bench.count("coord/history/").await == 42 * 6
    })
    .await;
    for n in [0, 41] {
        let steps = center.history::<u32>(&format!("many/{n}"), 100).await;
        let values = steps.unwrap().into_iter();
        let values: Vec<_> = values.map(|it| it.value.unwrap().unwrap()).collect();
        assert_eq!(values, [14, 13, 12, 11, 10, 9]);
    }
    bench.coordinator.close().await;
}

async fn what_another_client_has_put_is_replaced_whatever_it_is(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    // Too large to be filed as text in a request of 1.5 MiB: no byte of it is any.
    bench
        .raw
        .put("/config/k", vec![0xff; 1 << 20], None)
        .await
        .unwrap();
    let first = center.set("k", &1).await.unwrap();
    bench
        .raw
        .put("/config/k", vec![0xff; 1 << 20], None)
        .await
        .unwrap();
    center.delete("k").await.unwrap();
    let steps = center.history::<u32>("k", 9).await.unwrap();
    let kinds: Vec<_> = steps.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [HistoryKind::Deleted, HistoryKind::Set]);
    assert_eq!(steps[1].version, first);
    bench.coordinator.close().await;
}

/// As many keys as one transaction here takes, and as many as one of etcd's does.
async fn a_transaction_of_the_most_keys_is_one_change_of_what_is_bound(server: Backend) {
    #[derive(CoordConfig, Debug)]
    #[coord(prefix = "many")]
    struct Many {
        #[coord(map)]
        all: BTreeMap<String, u32>,
    }
    const ROUNDS: u32 = 10;
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let config = bench.coordinator.config::<Many>().start().await.unwrap();
    let mut changes = config.changes();
    // Whoever reads meanwhile sees all of one round.
    let reader = config.clone();
    let reader = tokio::spawn(async move {
        loop {
            let now = reader.load();
            let rounds: BTreeSet<_> = now.all.values().collect();
            assert!(rounds.len() <= 1, "{rounds:?}");
            assert!([0, 42, 128].contains(&now.all.len()), "{}", now.all.len());
            if rounds.contains(&(2 * ROUNDS)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let key = |n| format!("many/all/{n:03}");
    for round in 1..=2 * ROUNDS {
        let version = if round <= ROUNDS {
            let all = (0..42).fold(center.transaction(), |it, n| it.set(&key(n), &round));
            all.commit().await.unwrap().revision()
        } else {
            let put = |n| TxnOp::put(format!("/config/{}", key(n)), round.to_string(), None);
            let all = Txn::new().and_then((0..128).map(put).collect::<Vec<_>>());
            let reply = bench.raw.txn(all).await.unwrap();
            reply.header().unwrap().revision()
        };
        let change = changes.next().await.unwrap();
        assert_eq!(
            (change.revision, change.new.all[&"000".to_owned()]),
            (version, round)
        );
    }
    reader.await.unwrap();
    bench.coordinator.close().await;
}

/// All values below `prefix`, without it.
async fn below(center: &ConfigCenter, prefix: &str) -> Vec<(String, String)> {
    let all = center.list::<String>(prefix).await.unwrap();
    let short = |key: String| key.rsplit_once('/').unwrap().1.to_owned();
    all.into_iter()
        .map(|it| (short(it.key), it.value))
        .collect()
}

async fn a_prefix_is_what_it_was(server: Backend) {
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let (put, gone) = ("/config/shop/foreign", "/config/shop/wiped");
    bench.put(put, "f1").await;
    let all = ["deleted", "same", "set", "twice", "wiped"];
    let all = all.iter().fold(center.transaction(), |it, key| {
        it.set(&format!("shop/{key}"), &format!("{key} 1"))
    });
    all.commit().await.unwrap();
    center.set("shop/twice", "twice 2").await.unwrap();
    center.set("shop/back", "back 1").await.unwrap();
    center.delete("shop/back").await.unwrap();
    let good = center.set("shop/foreign", "f2").await.unwrap();
    let then = below(&center, "shop").await;

    // Each way to become another one, before the next write here and after it.
    center.set("shop/set", "set 2").await.unwrap();
    center.set("shop/set", "set 3").await.unwrap();
    center.delete("shop/deleted").await.unwrap();
    center.set("shop/twice", "twice 3").await.unwrap();
    bench.put("/config/shop/twice", "put").await;
    bench.put(put, "f3").await;
    center.set("shop/back", "back 2").await.unwrap();
    center.set("shop/new", "new 1").await.unwrap();
    bench.put("/config/shop/new and foreign", "n").await;
    bench.raw.delete(gone, None).await.unwrap();
    center.set("shop2/set", "stays").await.unwrap();
    let bad = below(&center, "shop").await;
    assert_ne!(bad, then);
    let same = center.version("shop/same").await.unwrap();
    let last = center.version("shop2/set").await.unwrap();
    // The store knows nothing of the past any more.
    bench.raw.compact(last.revision(), None).await.unwrap();

    let alice = center.clone().author("alice");
    let back = alice.rollback_prefix("shop", good).await.unwrap();
    assert_eq!(below(&center, "shop").await, then);
    assert_eq!(center.version("shop/same").await.unwrap(), same);
    for (key, kind) in [
        (
            "set",
            HistoryKind::RolledBack {
                to: (good.revision() - 4).into(),
            },
        ),
        ("new", HistoryKind::RolledBack { to: good }),
        (
            "wiped",
            HistoryKind::RolledBack {
                to: (good.revision() - 4).into(),
            },
        ),
    ] {
        let steps = center.history::<String>(&format!("shop/{key}"), 9).await;
        let newest = &steps.unwrap()[0];
        assert_eq!((newest.kind, newest.version), (kind, back), "{key}");
        assert_eq!(newest.author.as_deref(), Some("alice"));
    }
    assert_eq!(
        value::<String>(&center, "shop2/set").await.unwrap(),
        "stays"
    );
    // There is nothing left to do, and the way forward is one back.
    let again = alice.rollback_prefix("shop/", good).await.unwrap();
    assert_eq!(again, back);
    alice.rollback_prefix("shop", last).await.unwrap();
    bench.raw.delete(gone, None).await.unwrap();
    assert_eq!(below(&center, "shop").await, bad);
    // What is yet to come is what is there.
    let future = last.revision() + 1_000;
    alice.rollback_prefix("shop", future).await.unwrap();
    assert_eq!(below(&center, "shop").await, bad);
    bench.coordinator.close().await;
}

async fn a_prefix_whose_past_is_not_known_stays_as_it_is(server: Backend) {
    let mut bench = Bench::with(server, |options| options.config.history_limit = 2).await;
    let center = bench.center();
    bench.put("/config/shop/unknown", "1").await;
    let good = center.set("shop/often", &0).await.unwrap();
    center.set("shop/once", &0).await.unwrap();
    bench.put("/config/shop/unknown", "2").await;
    for n in 1..5 {
        center.set("shop/often", &n).await.unwrap();
    }
    let then = below(&center, "shop").await;
    for version in [good, Version::ABSENT] {
        for chunks in [false, true] {
            let error = match chunks {
                true => center.rollback_prefix_in_chunks("shop", version).await,
                false => center.rollback_prefix("shop", version).await,
            };
            let Err(Error::Invalid { faults, .. }) = error else {
                panic!("{error:?}");
            };
            if version.exists() {
                assert_eq!(faults.len(), 2, "{faults:?}");
                assert!(faults[0].contains("often") && faults[0].contains("does not reach"));
                assert!(faults[1].contains("unknown") && faults[1].contains("another client"));
            }
            assert_eq!(below(&center, "shop").await, then);
        }
    }
    bench.coordinator.close().await;
}

/// Another client's value that is no longer filed, and then a deletion: that the key was not there is
/// not known.
async fn a_value_of_another_client_that_is_forgotten_is_not_taken_for_absence(server: Backend) {
    let mut bench = Bench::with(server, |options| options.config.history_limit = 2).await;
    let center = bench.center();
    let before = center.set("other", &0).await.unwrap();
    // Too large to be filed; beyond the limit by now, twice; and one that is known to be new.
    let large = "x".repeat(1_100_000);
    bench.put("/config/shop/large", &large).await;
    bench.put("/config/shop/here", "old").await;
    let good = bench.put("/config/shop/gone", "old").await;
    center.delete("shop/large").await.unwrap();
    for key in ["shop/gone", "shop/here"] {
        center.set(key, "new").await.unwrap();
        center.delete(key).await.unwrap();
        center.set(key, "newer").await.unwrap();
    }
    center.delete("shop/gone").await.unwrap();
    center.set("shop/new", "new").await.unwrap();
    let then = below(&center, "shop").await;
    let error = center.rollback_prefix("shop", good).await.unwrap_err();
    let Error::Invalid { faults, .. } = &error else {
        panic!("{error:?}");
    };
    let keys = ["gone", "here", "large"];
    assert_eq!(faults.len(), keys.len(), "{faults:?}");
    for (key, fault) in keys.iter().zip(faults) {
        assert!(
            fault.contains(key) && fault.contains("does not reach"),
            "{fault}"
        );
    }
    assert_eq!(below(&center, "shop").await, then);

    // What began with a write here was not there before, whoever has deleted it since.
    center.set("stall/a", "1").await.unwrap();
    bench.raw.delete("/config/stall/a", None).await.unwrap();
    center.set("stall/b", "1").await.unwrap();
    center.rollback_prefix("stall", before).await.unwrap();
    assert_eq!(center.list_keys("stall").await.unwrap().len(), 0);
    bench.coordinator.close().await;
}

async fn a_large_prefix_is_rolled_back_in_chunks(server: Backend) {
    let bench = Bench::new(server).await;
    let center = bench.center();
    let fill = async |value: u32| {
        let mut version = Version::ABSENT;
        for chunk in 0..4 {
            let all = (0..25).fold(center.transaction(), |it, n| {
                it.set(&format!("shop/{chunk}{n:02}"), &value)
            });
            version = all.commit().await.unwrap();
        }
        version
    };
    let good = fill(1).await;
    let then = below(&center, "shop").await;
    fill(2).await;
    let bad = below(&center, "shop").await;
    let error = center.rollback_prefix("shop", good).await.unwrap_err();
    assert!(error.to_string().contains("at most 42"), "{error}");
    assert_eq!(below(&center, "shop").await, bad);
    let last = center.rollback_prefix_in_chunks("shop", good).await;
    assert_eq!(below(&center, "shop").await, then);
    assert_eq!(center.version("shop/324").await.unwrap(), last.unwrap());
    // Dropped at any await it is done in part; done again it is done.
    fill(3).await;
    for polls in 1.. {
        let back = center.rollback_prefix_in_chunks("shop", good);
        if dropped_after(polls, back).await.is_some() {
            break;
        }
    }
    assert_eq!(below(&center, "shop").await, then);
    bench.coordinator.close().await;
}

/// More than one reply may hold: 64 MiB.
async fn replies_that_are_too_large_are_read_in_parts(server: Backend) {
    const LARGE: usize = 66;
    let mut bench = Bench::new(server).await;
    let center = bench.center();
    let value = "x".repeat(1 << 20);
    let record = format!(r#"{{"v":1,"id":"a","value":"{value}"}}"#);
    for n in 0..LARGE {
        bench.put(&format!("/config/large/{n:02}"), &value).await;
        let filed = format!("coord/history/%2Fconfig%2Fk/at/{:020}", n + 1);
        bench.put(&filed, &record).await;
    }
    assert_eq!(center.list::<String>("large").await.unwrap().len(), LARGE);
    let steps = center.history::<String>("k", 1_000).await.unwrap();
    let versions: Vec<_> = steps.iter().map(|it| it.version.revision()).collect();
    assert!(
        versions.iter().copied().eq((1..=LARGE as i64).rev()),
        "{versions:?}"
    );
    assert_eq!(center.history::<String>("k", 65).await.unwrap().len(), 65);
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
