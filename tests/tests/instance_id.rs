//! Instance ids as a user sees them.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::{
    collections::BTreeSet,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use coord::{Coordinator, Error, LostReason, SnowflakeLayout};
use coord_tests::{
    Backend, Flow, Proxy, Worker, backend::patient, dropped_after, eventually, on_both,
};
use futures_util::future::{join_all, try_join_all};

/// The slots of the pool `p`: number and lease.
async fn slots(server: &Backend) -> Vec<(u32, i64)> {
    let prefix = "coord/id/p/slot/";
    let options = etcd_client::GetOptions::new().with_prefix();
    let found = server
        .client()
        .await
        .get(prefix, Some(options))
        .await
        .unwrap();
    let slot = |kv: &etcd_client::KeyValue| {
        let number = kv.key_str().unwrap()[prefix.len()..].parse().unwrap();
        (number, kv.lease())
    };
    found.kvs().iter().map(slot).collect()
}

on_both! {
    two_hundred_concurrent_claims_are_all_distinct,
    a_full_pool_is_an_error_or_is_waited_for,
    a_full_pool_is_waited_for_no_longer_than_the_limit,
    the_lease_outlives_the_hold_by_the_cool_down,
    a_preferred_id_is_had_while_it_is_free,
    dense_ids_are_the_lowest_that_are_free,
    a_deleted_slot_is_a_lost_id_at_once,
    an_id_is_not_believed_past_its_deadline_and_is_again_once_verified,
    a_renewed_lease_alone_does_not_bring_an_id_back,
    a_claim_and_a_release_may_be_dropped_at_every_await,
    dropping_gives_back_and_a_panic_does_not,
    impossible_pools_are_refused_before_anything_is_written,
    a_released_id_is_closed_and_not_lost_to_somebody,
    a_paused_process_does_not_believe_in_its_id_when_it_wakes,
    a_claim_whose_answer_is_cut_off_takes_one_slot,
    a_thousand_claims_at_once_are_distinct_and_cheap,
    stamps_are_unique_across_a_release_and_a_crash,
    a_window_goes_on_without_etcd_and_then_ends,
    stamps_go_on_where_a_wrong_clock_left_off,
    a_windowed_claim_may_be_dropped_at_every_await,
    snowflakes_are_refused_where_they_could_not_be_unique,
    a_paused_process_stamps_nothing_twice,
    an_etcd_that_went_back_in_time_has_the_ids_verified,
}

async fn two_hundred_concurrent_claims_are_all_distinct(server: Backend) {
    let coordinator = Coordinator::connect(server.options());
    let coordinator = coordinator.await.unwrap();
    let ids = coordinator.instance_ids("p", 0..=255);
    let before = server.log_entries().await;
    let held = try_join_all((0..200).map(|_| ids.acquire())).await.unwrap();
    let after = server.log_entries().await;

    let numbers: BTreeSet<_> = held.iter().map(|id| id.get().unwrap()).collect();
    assert_eq!(numbers.len(), 200);
    let tokens: BTreeSet<_> = held.iter().map(coord::InstanceId::fencing_token).collect();
    assert_eq!(tokens.len(), 200);
    let stored: BTreeSet<_> = slots(&server).await.into_iter().map(|(n, _)| n).collect();
    assert_eq!(numbers, stored);
    // Each grant and each transaction is one entry of etcd's log, taken or not. 55 of 256 are free
    // at the end, so a claim that finds 16 candidates taken is rare.
    let entries = after - before;
    assert!(
        entries <= 200 * 2 + 60,
        "{entries} log entries for 200 claims"
    );

    coordinator.close().await;
    assert!(held.iter().all(|id| id.get().is_err()));
    eventually("every slot is free", async || {
        slots(&server).await.is_empty()
    })
    .await;
}

async fn a_full_pool_is_an_error_or_is_waited_for(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 3..=4);
    let first = ids.acquire().await.unwrap();
    let second = ids.acquire().await.unwrap();
    let full = ids.try_acquire().await.unwrap_err();
    assert!(matches!(full, Error::Exhausted { .. }), "{full:?}");
    assert!(
        full.to_string().contains("all 2 ids of the pool `p`"),
        "{full}"
    );

    let waiting = tokio::spawn({
        let ids = ids.clone();
        async move { ids.acquire().await }
    });
    let number = first.get().unwrap();
    first.release().await.unwrap();
    let third = waiting.await.unwrap().unwrap();
    assert_eq!(third.get().unwrap(), number);
    assert!(third.fencing_token() > first.fencing_token());
    assert!(matches!(
        first.get(),
        Err(Error::Lost {
            reason: LostReason::Closed,
            ..
        })
    ));
    // A second release does not free the successor's slot.
    first.release().await.unwrap();
    assert_eq!(slots(&server).await.len(), 2);
    assert!(third.get().is_ok() && second.get().is_ok());
    coordinator.close().await;
}

async fn a_full_pool_is_waited_for_no_longer_than_the_limit(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 3..=3);
    let held = ids.acquire().await.unwrap();
    let impatient = ids.clone().wait(Duration::from_secs(2));
    let full = impatient.acquire().await.unwrap_err();
    assert!(matches!(full, Error::Exhausted { .. }), "{full:?}");
    assert!(
        full.to_string()
            .contains("all 1 ids of the pool `p` are taken, and have been for 2s"),
        "{full}"
    );
    let waiting = ids.wait(Duration::from_secs(3_600));
    let (next, released) = tokio::join!(waiting.acquire(), held.release());
    released.unwrap();
    next.unwrap();
    coordinator.close().await;
}

/// So nobody has the number for the whole cool-down after its holder's belief has ended, at least.
async fn the_lease_outlives_the_hold_by_the_cool_down(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=9);
    let ids = ids
        .hold(Duration::from_secs(3))
        .cool_down(Duration::from_secs(600));
    let id = ids.acquire().await.unwrap();
    let lease = slots(&server).await[0].1;
    let mut client = server.client().await;
    let asked = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(asked.granted_ttl(), 603);
    // And the hold is not the TTL.
    server.stop();
    eventually("belief ends", async || id.get().err()).await;
    server.cont();
    coordinator.close().await;
}

async fn a_preferred_id_is_had_while_it_is_free(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=1_023);
    let preferring = ids.clone().prefer(700);
    let first = preferring.acquire().await.unwrap();
    assert_eq!(first.get().unwrap(), 700);
    assert_ne!(preferring.acquire().await.unwrap().get().unwrap(), 700);
    first.release().await.unwrap();
    // It goes before what the machine's name decides.
    let again = preferring.sticky().acquire().await.unwrap();
    assert_eq!(again.get().unwrap(), 700);
    // That is the same each time.
    let sticky = ids.sticky();
    let first = sticky.acquire().await.unwrap();
    let number = first.get().unwrap();
    first.release().await.unwrap();
    assert_eq!(sticky.acquire().await.unwrap().get().unwrap(), number);
    coordinator.close().await;
}

async fn dense_ids_are_the_lowest_that_are_free(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 5..=1_023).dense();
    let mut held = Vec::new();
    // More than one transaction tries.
    for number in 5..30 {
        let id = ids.acquire().await.unwrap();
        assert_eq!(id.get().unwrap(), number);
        held.push(id);
    }
    held.remove(7).release().await.unwrap();
    assert_eq!(ids.acquire().await.unwrap().get().unwrap(), 12);
    coordinator.close().await;
}

async fn a_deleted_slot_is_a_lost_id_at_once(server: Backend) {
    let coordinator = server.coordinator().await;
    let id = coordinator
        .instance_ids("p", 0..=9)
        .acquire()
        .await
        .unwrap();
    let key = format!("coord/id/p/slot/{}", id.get().unwrap());
    server.client().await.delete(key, None).await.unwrap();
    assert_eq!(id.lost().await, LostReason::Revoked);
    assert!(matches!(id.get(), Err(Error::Lost { .. })));
    // Its lease goes too: the owner key does not stay.
    eventually("nothing is left of the claim", async || {
        let options = etcd_client::GetOptions::new().with_prefix();
        let left = server
            .client()
            .await
            .get("coord/id/", Some(options))
            .await
            .unwrap();
        left.kvs().is_empty()
    })
    .await;
    coordinator.close().await;
}

/// etcd is down for longer than the hold, and comes back before the lease has run out.
async fn an_id_is_not_believed_past_its_deadline_and_is_again_once_verified(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator
        .instance_ids("p", 0..=9)
        .hold(Duration::from_secs(3));
    let id = ids.acquire().await.unwrap();
    let number = id.get().unwrap();
    server.kill();
    let unconfirmed = eventually("belief ends", async || id.get().err()).await;
    assert!(matches!(
        unconfirmed,
        Error::Lost {
            reason: LostReason::Unconfirmed,
            ..
        }
    ));
    server.restart().await;
    assert_eq!(eventually("verified", async || id.get().ok()).await, number);
    coordinator.close().await;
}

/// Cut off for longer than the hold, and meanwhile the slots are deleted: the leases are renewed before
/// the watches have told, and still the ids must not be believed again for a moment.
async fn a_renewed_lease_alone_does_not_bring_an_id_back(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let options = patient().endpoints([proxy.endpoint()]);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let ids = coordinator
        .instance_ids("p", 0..=99)
        .hold(Duration::from_secs(3));
    // Many, so that some renewals come before the watches in any case.
    let held = try_join_all((0..30).map(|_| ids.acquire())).await.unwrap();
    proxy.refuse().await;
    proxy.cut().await;
    eventually("belief ends", async || {
        held.iter().all(|id| id.get().is_err())
    })
    .await;
    let options = etcd_client::DeleteOptions::new().with_prefix();
    let mut client = server.client().await;
    client
        .delete("coord/id/p/slot/", Some(options))
        .await
        .unwrap();
    proxy.heal().await;
    let mut lost = pin!(join_all(held.iter().map(coord::InstanceId::lost)));
    while futures_util::poll!(lost.as_mut()).is_pending() {
        assert!(
            held.iter().all(|id| id.get().is_err()),
            "believed without its slot"
        );
        tokio::task::yield_now().await;
    }
    assert!(held.iter().all(|id| id.get().is_err()));
    coordinator.close().await;
}

async fn a_claim_and_a_release_may_be_dropped_at_every_await(server: Backend) {
    let coordinator = server.coordinator().await;
    // One id: it can be had again only if what was dropped has given it back.
    let ids = coordinator.instance_ids("p", 0..=0);
    let mut ended = [false; 2];
    for polls in 1.. {
        ended[0] = dropped_after(polls, ids.acquire()).await.is_some();
        let id = ids.acquire().await.unwrap();
        ended[1] = dropped_after(polls, id.release()).await.is_some();
        assert!(id.get().is_err());
        if ended == [true, true] {
            break;
        }
    }
    eventually("every slot is free", async || {
        slots(&server).await.is_empty()
    })
    .await;
    coordinator.close().await;
}

/// The last clone gone, the id is free.
async fn dropping_gives_back_and_a_panic_does_not(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=9);
    let id = ids.acquire().await.unwrap();
    let clone = id.clone();
    drop(id);
    clone.get().unwrap();
    drop(clone);
    eventually("the slot is free", async || slots(&server).await.is_empty()).await;

    let id = ids.acquire().await.unwrap();
    let panicked = tokio::spawn(async move {
        let _id = id;
        panic!("on purpose");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    // A later one, given back: by then the first would be too.
    ids.acquire().await.unwrap().release().await.unwrap();
    assert_eq!(slots(&server).await.len(), 1);
    coordinator.close().await;
}

async fn impossible_pools_are_refused_before_anything_is_written(server: Backend) {
    let coordinator = server.coordinator().await;
    let before = server.log_entries().await;
    let invalid = [
        coordinator.instance_ids("a/b", 0..=1),
        coordinator.instance_ids("", 0..=1),
        coordinator.instance_ids("p", 0..=u32::MAX),
        coordinator
            .instance_ids("p", 0..=1)
            .hold(Duration::from_millis(3_500)),
        coordinator.instance_ids("p", 0..=1).hold(Duration::ZERO),
        coordinator.instance_ids("p", 0..=1).prefer(2),
    ];
    for ids in invalid {
        let refused = ids.acquire().await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    }
    assert_eq!(server.log_entries().await, before);
    coordinator.close().await;
}

/// The claim arrives, its answer does not: what is tried again finds what the first copy took.
async fn a_claim_whose_answer_is_cut_off_takes_one_slot(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let options = patient().endpoints([proxy.endpoint()]);
    let coordinator = Coordinator::connect(options).await.unwrap();
    for _ in 0..3 {
        // Its answer is still on the way when the slot is seen.
        proxy.replies(Flow::Delay(Duration::from_secs(1)));
        let ids = coordinator.instance_ids("p", 0..=99);
        let claiming = tokio::spawn(async move { ids.acquire().await });
        let taken = eventually("a slot is taken", async || slots(&server).await.pop()).await;
        proxy.cut().await;
        proxy.replies(Flow::Pass);
        let id = claiming.await.unwrap().unwrap();
        assert_eq!(slots(&server).await, [taken]);
        assert_eq!(taken.0, id.get().unwrap());
        id.release().await.unwrap();
        eventually("it is free", async || slots(&server).await.is_empty()).await;
    }
    coordinator.close().await;
}

async fn a_thousand_claims_at_once_are_distinct_and_cheap(server: Backend) {
    let coordinator = Coordinator::connect(server.options());
    let coordinator = coordinator.await.unwrap();
    let ids = coordinator.instance_ids("p", 0..=1_023);
    let before = server.log_entries().await;
    let held = try_join_all((0..1_000).map(|_| ids.acquire()))
        .await
        .unwrap();
    let entries = server.log_entries().await - before;
    let numbers: BTreeSet<_> = held.iter().map(|id| id.get().unwrap()).collect();
    assert_eq!(numbers.len(), 1_000);
    // One entry of the log for each grant, and one for each transaction, taken or not.
    assert!(
        entries <= 1_000 + 1_100,
        "{entries} log entries for 1,000 claims"
    );
    coordinator.close().await;
}

const WINDOW: Duration = Duration::from_secs(30);

/// What the pool's only number was stamped up to.
async fn mark(server: &Backend) -> Option<u64> {
    let found = server.client().await.get("coord/id/p/hw/0", None).await;
    let found = found.unwrap();
    let kv = found.kvs().first()?;
    Some(kv.value_str().unwrap().parse().unwrap())
}

fn ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

async fn stamps_are_unique_across_a_release_and_a_crash(server: Backend) {
    let mut all = BTreeSet::new();
    let mut last = 0;
    for crash in [false, false, true, true, false] {
        let coordinator = server.coordinator().await;
        let ids = coordinator.instance_ids("p", 0..=0).window(WINDOW);
        let id = ids.acquire().await.unwrap();
        let (times, flakes) = (
            id.timestamps().unwrap(),
            id.snowflakes(SnowflakeLayout::default()).unwrap(),
        );
        let reserved = mark(&server).await.unwrap();
        for _ in 0..10 {
            assert!(all.insert(flakes.next().unwrap()));
            let at = ms(times.next().unwrap());
            assert!(last < at && at < reserved, "{last} < {at} < {reserved}");
            last = at;
        }
        assert!(all.last().is_some_and(|newest| {
            let parts = SnowflakeLayout::default().parts(*newest);
            parts.number == 0 && ms(parts.at) <= last
        }));
        if crash {
            let lease = slots(&server).await[0].1;
            server.expire_lease(lease).await;
            assert!(matches!(
                id.lost().await,
                LostReason::Revoked | LostReason::Expired
            ));
            // Nobody else stamps what is below its own mark.
            assert!(all.insert(flakes.next().unwrap()));
            last = ms(times.next().unwrap());
            // It is not lowered: that holder may be stamping still.
            assert_eq!(mark(&server).await, Some(reserved));
            last = last.max(reserved);
        } else {
            id.release().await.unwrap();
            assert_eq!(mark(&server).await, Some(last + 1));
            let closed = times.next().unwrap_err();
            assert!(matches!(
                closed,
                Error::Lost {
                    reason: LostReason::Closed,
                    ..
                }
            ));
            assert!(times.ready().await.is_err());
        }
        coordinator.close().await;
    }
}

async fn a_window_goes_on_without_etcd_and_then_ends(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=0);
    let id = ids.window(Duration::from_secs(8)).acquire().await.unwrap();
    let times = id.timestamps().unwrap();
    // It is extended for as long as etcd answers, without being asked.
    let first = mark(&server).await.unwrap();
    eventually("it is extended", async || mark(&server).await > Some(first)).await;
    server.kill();
    times.next().unwrap();
    let ended = eventually("it ends", async || times.next().err()).await;
    assert!(matches!(ended, Error::Exhausted { .. }), "{ended:?}");
    assert!(
        ended.to_string().contains("the window of id 0 has ended"),
        "{ended}"
    );
    let mut ready = pin!(times.ready());
    assert!(futures_util::poll!(ready.as_mut()).is_pending());
    server.restart().await;
    ready.await.unwrap();
    assert!(times.next().is_ok());
    coordinator.close().await;
}

/// The last holder's clock was a day ahead. Nobody can take back what it has stamped.
async fn stamps_go_on_where_a_wrong_clock_left_off(server: Backend) {
    let tomorrow = ms(SystemTime::now()) + 86_400_000;
    let mut client = server.client().await;
    let put = client
        .put("coord/id/p/hw/0", tomorrow.to_string(), None)
        .await;
    put.unwrap();
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=0).window(WINDOW);
    let id = ids.acquire().await.unwrap();
    let first = id.timestamps().unwrap().next().unwrap();
    assert_eq!(ms(first), tomorrow + 1);
    id.release().await.unwrap();
    assert_eq!(mark(&server).await, Some(tomorrow + 2));
    client.put("coord/id/p/hw/0", "soon", None).await.unwrap();
    let refused = ids.acquire().await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    assert!(refused.to_string().contains("coord/id/p/hw/0"), "{refused}");
    eventually("the slot is free", async || slots(&server).await.is_empty()).await;
    coordinator.close().await;
}

async fn a_windowed_claim_may_be_dropped_at_every_await(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=0).window(WINDOW);
    let mut last = None;
    let mut ended = [false; 3];
    for polls in 1.. {
        ended[0] = dropped_after(polls, ids.acquire()).await.is_some();
        let id = ids.acquire().await.unwrap();
        let times = id.timestamps().unwrap();
        ended[1] = dropped_after(polls, times.ready()).await.is_some();
        let at = times.next().unwrap();
        assert!(Some(at) > last);
        last = Some(at);
        ended[2] = dropped_after(polls, id.release()).await.is_some();
        assert!(times.next().is_err());
        if ended == [true; 3] {
            break;
        }
    }
    eventually("every slot is free", async || {
        slots(&server).await.is_empty()
    })
    .await;
    coordinator.close().await;
}

async fn snowflakes_are_refused_where_they_could_not_be_unique(server: Backend) {
    let coordinator = server.coordinator().await;
    let layout = SnowflakeLayout::default();
    let id = coordinator
        .instance_ids("p", 0..=9)
        .acquire()
        .await
        .unwrap();
    for refused in [
        id.timestamps().unwrap_err(),
        id.snowflakes(layout).unwrap_err(),
    ] {
        assert!(
            matches!(refused, Error::NotConfigured { .. }),
            "{refused:?}"
        );
    }
    // The number would fit, another of its pool would not.
    let ids = coordinator.instance_ids("q", 0..=1_024).window(WINDOW);
    let id = ids.prefer(1).acquire().await.unwrap();
    assert!(matches!(id.snowflakes(layout), Err(Error::Invalid { .. })));
    for (number_bits, fits) in [(0, false), (11, true), (20, true), (21, false)] {
        let layout = SnowflakeLayout {
            number_bits,
            ..layout
        };
        let made = id.snowflakes(layout).and_then(|flakes| flakes.next());
        assert_eq!(made.is_ok(), fits, "{number_bits} bits: {made:?}");
        assert!(made.is_err() || made.is_ok_and(|id| layout.parts(id).number == 1));
    }
    let future = SnowflakeLayout {
        epoch: SystemTime::now() + Duration::from_secs(3_600),
        number_bits: 11,
    };
    let early = id.snowflakes(future).unwrap().next();
    assert!(matches!(early, Err(Error::Exhausted { .. })));
    for window in [Duration::ZERO, Duration::from_secs(3_601)] {
        let ids = coordinator.instance_ids("q", 0..=9).window(window);
        assert!(matches!(ids.acquire().await, Err(Error::Invalid { .. })));
    }
    coordinator.close().await;
}

/// It makes ids without a rest and is stopped at any point; meanwhile another process has its number
/// and makes ids as well; it goes on where it was, with what it has left.
async fn a_paused_process_stamps_nothing_twice(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut worker = Worker::spawn("snowflakes", &[&server.endpoint(), "p", "3", "1"]);
    worker.expect("held").await;
    let made = |line: String| {
        line.split(' ')
            .map(|id| id.parse().unwrap())
            .collect::<Vec<u64>>()
    };
    let mut all = BTreeSet::new();
    worker.say("?");
    let first = made(worker.expect("made").await);
    assert!(!first.is_empty() && first.into_iter().all(|id| all.insert(id)));
    worker.stop();
    // The first thing that it does when it wakes.
    worker.say("?");
    let ids = coordinator.instance_ids("p", 0..=0).window(WINDOW);
    let next = ids.acquire().await.unwrap();
    let flakes = next.snowflakes(SnowflakeLayout::default()).unwrap();
    for _ in 0..1_000 {
        assert!(all.insert(flakes.next().unwrap()));
    }
    worker.cont();
    let mut woken = made(worker.expect("made").await);
    for _ in 0..10 {
        worker.say("?");
        woken.extend(made(worker.expect("made").await));
        assert!(all.insert(flakes.next().unwrap()));
    }
    for id in woken {
        assert!(all.insert(id), "{id} was made twice");
    }
    assert_eq!(worker.finish().await.code(), Some(0));
    coordinator.close().await;
}

/// A backup is put back: the slots that it does not have are lost, the others are still held.
async fn an_etcd_that_went_back_in_time_has_the_ids_verified(server: Backend) {
    let coordinator = server.coordinator().await;
    let ids = coordinator.instance_ids("p", 0..=99).window(WINDOW);
    let older = ids.acquire().await.unwrap();
    let saved = server.save().await;
    let younger = ids.acquire().await.unwrap();
    let number = younger.get().unwrap();
    server.restore(&saved).await;
    let reason = younger.lost().await;
    assert!(younger.get().is_err(), "{reason}");
    eventually("the other is verified", async || older.get().is_ok()).await;
    older.timestamps().unwrap().next().unwrap();
    let other = server.coordinator().await;
    let again = other.instance_ids("p", number..=number);
    assert_eq!(again.acquire().await.unwrap().get().unwrap(), number);
    assert_ne!(older.get().unwrap(), number);
    coordinator.close().await;
    other.close().await;
}

/// Giving an id back is no loss: nobody is alarmed by a deletion of our own.
async fn a_released_id_is_closed_and_not_lost_to_somebody(server: Backend) {
    let coordinator = server.coordinator().await;
    for _ in 0..30 {
        let id = coordinator
            .instance_ids("p", 0..=3)
            .acquire()
            .await
            .unwrap();
        id.release().await.unwrap();
        assert_eq!(id.lost().await, LostReason::Closed);
    }
    coordinator.close().await;
}

/// A process that slept past its hold and its cool-down wakes up, and its id is another's by then.
async fn a_paused_process_does_not_believe_in_its_id_when_it_wakes(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut worker = Worker::spawn("instance-id", &[&server.endpoint(), "p", "8", "1"]);
    let number: u32 = worker.expect("held").await.parse().unwrap();
    // Whatever it is asked, it answers with what `get` says at that moment.
    worker.say("?");
    assert_eq!(worker.expect("get").await, format!("Ok({number})"));
    worker.stop();
    // Asked while it sleeps: the first thing that it does when it wakes.
    worker.say("?");
    let ids = coordinator.instance_ids("p", number..=number);
    let next = ids.acquire().await.unwrap();
    assert_eq!(next.get().unwrap(), number);
    worker.cont();
    // Which of the two it says first is its scheduler's.
    let said = [worker.line().await, worker.line().await];
    assert!(
        said.iter().any(|line| line.starts_with("get Err(")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line.starts_with("lost ")),
        "{said:?}"
    );
    // Nor has it taken anything from the one that holds the id now.
    assert_eq!(worker.finish().await.code(), Some(0));
    assert!(next.get().is_ok());
    assert_eq!(slots(&server).await.len(), 1);
    coordinator.close().await;
}
