//! Several keys at once; what was before, and the way back.

use coord::{Error, config::HistoryKind};
use coord_tests::{Backend, eventually, on_both};

use super::{Bench, conflict, value};

on_both! {
    a_history_has_every_step_and_a_rollback_is_one_more,
    a_history_is_as_long_as_it_may_be,
    the_history_of_many_keys_at_once_is_as_long_as_it_may_be,
    what_another_client_has_put_is_replaced_whatever_it_is,
    without_versioning_a_write_is_one_put,
    a_transaction_is_one_revision_or_nothing,
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
