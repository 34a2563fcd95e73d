//! Writers that race, answers that are lost, callers that give up: a write happens once, or not.

use std::{future::poll_fn, pin::pin, task::Poll};

use coord::{ConfigCenter, CoordConfig, Coordinator, Options, config::HistoryKind};
use coord_tests::{Backend, Flow, Proxy, backend::patient, dropped_after, eventually, on_both};

use super::{Bench, value};

on_both! {
    writers_that_race_lose_nothing,
    a_write_whose_answer_was_lost_is_done_once,
    a_save_a_deletion_and_a_rollback_whose_answers_were_lost_are_done_once,
    a_write_whose_trace_is_gone_is_not_done_twice,
    without_history_a_write_whose_answer_was_lost_says_so,
    a_write_that_was_dropped_at_any_await_is_done_or_not,
    of_several_keys_whose_write_was_dropped_all_are_written_or_none,
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
    let it = Lossy::new(&server, |_| {}).await;
    let (center, other) = (it.coordinator.config_center(), it.direct.config_center());
    let proxy = &it.proxy;
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
            let (done, reached) = with_a_lost_answer(proxy, poll, write, others).await;
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
        let (done, reached) = with_a_lost_answer(proxy, poll, write, async {}).await;
        version = done.unwrap();
        if !reached {
            break;
        }
    }
    assert!(lost > 4, "{lost}");
    let history = other.history::<u64>("n", 1_000).await.unwrap();
    let mut values = history.into_iter().map(|it| it.value.unwrap().unwrap());
    assert!(values.by_ref().take(100).eq((0..=expected).rev().take(100)));
    it.close().await;
}

#[derive(CoordConfig)]
#[coord(prefix = "pair", write)]
struct Pair {
    left: usize,
    right: Option<usize>,
}

/// A coordinator whose answers can be lost, and one that sees what came of it.
struct Lossy {
    proxy: Proxy,
    coordinator: Coordinator,
    direct: Coordinator,
}

impl Lossy {
    async fn new(server: &Backend, change: impl Fn(&mut Options)) -> Self {
        let proxy = Proxy::start(&server.endpoint()).await;
        let connect = async |endpoint| {
            let mut options = patient().endpoints([endpoint]);
            options.retry.max_attempts = 20;
            change(&mut options);
            Coordinator::connect(options).await.unwrap()
        };
        Self {
            coordinator: connect(proxy.endpoint()).await,
            direct: connect(server.endpoint()).await,
            proxy,
        }
    }

    async fn close(self) {
        self.coordinator.close().await;
        self.direct.close().await;
    }
}

async fn a_save_a_deletion_and_a_rollback_whose_answers_were_lost_are_done_once(server: Backend) {
    let it = Lossy::new(&server, |options| options.config.history_limit = 1_000).await;
    let (center, other) = (it.coordinator.config_center(), it.direct.config_center());
    let steps = async |key: &str| other.history::<usize>(key, 1_000).await.unwrap();
    for poll in 1.. {
        let first = other.set("k", &poll).await.unwrap();
        let before = steps("k").await.len();
        let delete = center.delete("k");
        let (deleted, reached) = with_a_lost_answer(&it.proxy, poll, delete, async {}).await;
        let history = steps("k").await;
        assert_eq!(
            (history.len(), history[0].kind),
            (before + 1, HistoryKind::Deleted)
        );
        assert_eq!(history[0].version, deleted.unwrap());

        let back = center.rollback("k", first);
        let (back, also) = with_a_lost_answer(&it.proxy, poll, back, async {}).await;
        let history = steps("k").await;
        let kind = HistoryKind::RolledBack { to: first };
        assert_eq!((history.len(), history[0].kind), (before + 2, kind));
        assert_eq!(history[0].version, back.unwrap());
        assert_eq!(value(&other, "k").await, Some(poll));

        let (left, right) = (poll, (poll % 2 == 0).then_some(poll));
        let before = [
            steps("pair/left").await.len(),
            steps("pair/right").await.len(),
        ];
        let pair = Pair { left, right };
        let builder = it.coordinator.config();
        let save = builder.save(&pair);
        let (saved, too) = with_a_lost_answer(&it.proxy, poll, save, async {}).await;
        assert_eq!(other.version("pair/left").await.unwrap(), saved.unwrap());
        assert_eq!(value(&other, "pair/left").await, Some(left));
        assert_eq!(value(&other, "pair/right").await, right);
        // At the first there is nothing to delete.
        let after = [
            steps("pair/left").await.len(),
            steps("pair/right").await.len(),
        ];
        let right = usize::from(poll > 1);
        assert_eq!(after, [before[0] + 1, before[1] + right]);
        if !reached && !also && !too {
            break;
        }
    }
    it.close().await;
}

/// The others write so often meanwhile that the history has forgotten it.
async fn a_write_whose_trace_is_gone_is_not_done_twice(server: Backend) {
    let it = Lossy::new(&server, |options| options.config.history_limit = 1).await;
    let (center, other) = (it.coordinator.config_center(), it.direct.config_center());
    let add = async |center: &ConfigCenter| {
        let added = center.update("n", |old: Option<u32>| old.unwrap_or(0) + 1);
        added.await
    };
    let (mut expected, mut untold) = (0, 0);
    // How often a write is polled is not always the same: it may take some rounds to hit every answer.
    let rounds = [0, 1].into_iter().chain([3; 20]);
    for others in rounds {
        if untold > 0 {
            break;
        }
        for poll in 1.. {
            let meanwhile = async {
                for _ in 0..others {
                    add(&other).await.unwrap();
                    expected += 1;
                }
            };
            let (done, reached) =
                with_a_lost_answer(&it.proxy, poll, add(&center), meanwhile).await;
            let now = value::<u32>(&other, "n").await.unwrap();
            match done {
                Ok(_) => expected += 1,
                Err(error) => {
                    assert!(error.maybe_applied() && others > 1, "{others}: {error}");
                    // It has been, and nobody can tell; unless one of the others was quicker.
                    let applied = now > expected;
                    untold += usize::from(applied);
                    expected += u32::from(applied);
                }
            }
            assert_eq!(now, expected, "{others} others, lost at poll {poll}");
            if !reached {
                break;
            }
        }
    }
    assert!(untold > 0);
    it.close().await;
}

async fn without_history_a_write_whose_answer_was_lost_says_so(server: Backend) {
    let it = Lossy::new(&server, |options| options.config.versioning = false).await;
    let (center, other) = (it.coordinator.config_center(), it.direct.config_center());
    let mut version = other.set("n", &0).await.unwrap();
    let mut expected = 0_u32;
    let mut untold = [0; 3];
    for how in (0..3).cycle().take(60) {
        if untold[how] > 0 {
            continue;
        }
        for poll in 1.. {
            let new = expected + 1;
            let write = async {
                match how {
                    0 => center.set("n", &new).await,
                    1 => center.compare_and_set("n", version, &new).await,
                    _ => {
                        center
                            .update("n", |old: Option<u32>| old.unwrap() + 1)
                            .await
                    }
                }
            };
            let (done, reached) = with_a_lost_answer(&it.proxy, poll, write, async {}).await;
            let now = other.get::<u32>("n").await.unwrap().unwrap();
            match done {
                Ok(done) => assert_eq!((now.value, now.version), (new, done)),
                Err(error) => {
                    assert!(error.maybe_applied(), "{error}");
                    assert!(now.value == expected || now.value == new);
                    untold[how] += 1;
                }
            }
            (expected, version) = (now.value, now.version);
            if !reached {
                break;
            }
        }
    }
    assert!(!untold.contains(&0), "{untold:?}");
    it.close().await;
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

async fn of_several_keys_whose_write_was_dropped_all_are_written_or_none(server: Backend) {
    let bench = Bench::new(server).await;
    let center = bench.center();
    let first = center
        .transaction()
        .set("pair/left", &0)
        .set("pair/right", &0);
    let first = first.commit().await.unwrap();
    for how in 0..3 {
        for n in 1.. {
            let write = async {
                match how {
                    0 => {
                        let both = center.transaction().set("pair/left", &n);
                        both.set("pair/right", &n).commit().await
                    }
                    1 => {
                        let (left, right) = (n, Some(n));
                        bench.coordinator.config().save(&Pair { left, right }).await
                    }
                    _ => center.rollback_prefix("pair", first).await,
                }
            };
            let done = dropped_after(n, write).await;
            let both = center.list::<usize>("pair").await.unwrap();
            assert_eq!(
                both[0].value, both[1].value,
                "{how} dropped after {n} polls"
            );
            assert_eq!(both[0].version, both[1].version);
            if done.is_some() {
                break;
            }
            if how == 2 {
                let other = center.transaction().set("pair/left", &n);
                other.set("pair/right", &n).commit().await.unwrap();
            }
        }
    }
    bench.coordinator.close().await;
}
