//! Writers that race, answers that are lost, callers that give up: a write happens once, or not.

use std::{future::poll_fn, pin::pin, task::Poll};

use coord::{ConfigCenter, Coordinator, Options};
use coord_tests::{Backend, Flow, Proxy, dropped_after, eventually, on_both};

use super::{Bench, value};

on_both! {
    writers_that_race_lose_nothing,
    a_write_whose_answer_was_lost_is_done_once,
    a_write_that_was_dropped_at_any_await_is_done_or_not,
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
