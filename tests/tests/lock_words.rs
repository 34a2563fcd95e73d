//! Each word of `#[locked]`, and what words do to the shape of a function.
#![deny(warnings)]
// clippy.toml allows it in tests, but does not see that their helpers are part of them.
#![allow(clippy::unwrap_used)]

use std::{fmt::Display, rc::Rc, time::Duration};

use coord::{Coordinator, Error, LostReason, locked};
use coord_tests::{Backend, eventually, on_both};
use etcd_client::{GetOptions, KeyValue};
use tokio::sync::Barrier;

on_both! {
    several_keys_are_locked_at_once_in_any_order,
    readers_share_and_writers_do_not,
    permits_are_shared_as_many_as_there_are,
    the_lease_and_the_longest_hold_can_be_said,
    a_body_may_run_on_and_be_confirmed,
    a_release_can_be_waited_for,
    a_reentrant_function_calls_itself,
    a_busy_lock_can_be_skipped_and_an_unreachable_etcd_cannot,
    an_error_is_mapped_by_a_function,
    a_raw_key_stands_as_it_is_written,
    words_keep_the_shape_of_a_function,
}

/// What stands below `prefix`, the oldest first.
async fn below(server: &Backend, prefix: &str) -> Vec<KeyValue> {
    let options = GetOptions::new().with_prefix();
    let mut store = server.client().await;
    let mut kvs = store.get(prefix, Some(options)).await.unwrap().take_kvs();
    kvs.sort_by_key(KeyValue::create_revision);
    kvs
}

async fn entries(server: &Backend, name: &str) -> Vec<KeyValue> {
    below(server, &format!("coord/lock/{name}!/")).await
}

#[locked("accounts/{from}", "accounts/{to:02}", via = coordinator, guard = held)]
async fn transfer(coordinator: &Coordinator, from: u32, to: u32) -> coord::Result<String> {
    held.verify().await?;
    Ok(held.key().to_owned())
}

async fn several_keys_are_locked_at_once_in_any_order(server: Backend) {
    let coordinator = server.coordinator().await;
    assert_eq!(
        transfer(&coordinator, 10, 2).await.unwrap(),
        "accounts/10, accounts/02"
    );
    // The same one twice is one.
    transfer(&coordinator, 10, 10).await.unwrap();
    let both = (0..20).map(|n| {
        let coordinator = coordinator.clone();
        let (from, to) = if n % 2 == 0 { (10, 11) } else { (11, 10) };
        tokio::spawn(async move { transfer(&coordinator, from, to).await })
    });
    for task in both.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let outside = coordinator.lock("accounts/11").acquire().await.unwrap();
    assert_eq!(entries(&server, "accounts/11").await.len(), 1);
    drop(outside);
}

#[locked(read = "catalog/{tenant}", via = coordinator)]
async fn look(coordinator: &Coordinator, tenant: &str, both: &Barrier) -> coord::Result<()> {
    both.wait().await;
    Ok(())
}

#[locked(write = "catalog/{tenant}", try, via = coordinator)]
async fn change(coordinator: &Coordinator, tenant: &str) -> coord::Result<()> {
    Ok(())
}

async fn readers_share_and_writers_do_not(server: Backend) {
    let coordinator = server.coordinator().await;
    let both = Barrier::new(3);
    let look = || look(&coordinator, "t", &both);
    let write = async {
        eventually("both read", async || {
            entries(&server, "catalog/t").await.len() == 2
        })
        .await;
        let busy = change(&coordinator, "t").await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        both.wait().await;
    };
    let (one, two, ()) = tokio::join!(look(), look(), write);
    one.and(two).unwrap();
    eventually("they are gone", async || {
        change(&coordinator, "t").await.is_ok()
    })
    .await;
}

#[locked("gpu", permits = 3, take = jobs.len() as u32, via = coordinator, wait = "20s")]
async fn compute(
    coordinator: &Coordinator,
    jobs: Vec<String>,
    all: &Barrier,
) -> coord::Result<usize> {
    all.wait().await;
    Ok({ jobs }.len())
}

async fn permits_are_shared_as_many_as_there_are(server: Backend) {
    let coordinator = server.coordinator().await;
    let all = Barrier::new(3);
    let jobs = |n: usize| vec![String::from("job"); n];
    let compute = |n| compute(&coordinator, jobs(n), &all);
    let third = async {
        eventually("both compute", async || {
            entries(&server, "gpu").await.len() == 2
        })
        .await;
        let busy = coordinator.lock("gpu").permits(3).try_acquire().await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        all.wait().await;
    };
    let (two, one, ()) = tokio::join!(compute(2), compute(1), third);
    assert_eq!((two.unwrap(), one.unwrap()), (2, 1));
    let none = compute(0).await;
    assert!(matches!(none, Err(Error::Invalid { .. })), "{none:?}");
}

const TTL: Duration = Duration::from_secs(40);

#[locked("leases/{n}", ttl = TTL, via = coordinator, guard = held)]
async fn long_lived(coordinator: &Coordinator, n: u8) -> coord::Result<Duration> {
    held.time_to_live().await
}

#[locked("leases/{n}", max_hold = "200ms", ttl = "60s", via = coordinator)]
async fn hangs(coordinator: &Coordinator, n: u8) -> coord::Result<()> {
    std::future::pending().await
}

async fn the_lease_and_the_longest_hold_can_be_said(server: Backend) {
    let coordinator = server.coordinator().await;
    let lives = long_lived(&coordinator, 1).await.unwrap();
    assert!(lives > Duration::from_secs(30), "{lives:?}");
    let Err(Error::Lost { reason, .. }) = hangs(&coordinator, 1).await else {
        panic!("it does not end")
    };
    assert_eq!(reason, LostReason::MaxHold);
    long_lived(&coordinator, 1).await.unwrap();
}

#[locked("proof", on_lost = continue, confirm, via = coordinator, guard = held)]
async fn proved(
    coordinator: &Coordinator,
    server: &Backend,
    fails: bool,
) -> Result<LostReason, anyhow::Error> {
    let entry = entries(server, "proof").await.remove(0);
    server.expire_lease(entry.lease()).await;
    let lost = held.lost().await;
    // It can be had by anybody again, also by those inside.
    drop(coordinator.lock("proof").acquire().await?);
    anyhow::ensure!(!fails, "its own");
    Ok(lost)
}

#[locked("proof", on_lost = continue, via = coordinator, guard = held)]
async fn unproved(coordinator: &Coordinator, server: &Backend) -> coord::Result<LostReason> {
    let entry = entries(server, "proof").await.remove(0);
    server.expire_lease(entry.lease()).await;
    Ok(held.lost().await)
}

async fn a_body_may_run_on_and_be_confirmed(server: Backend) {
    let coordinator = server.coordinator().await;
    let ran = unproved(&coordinator, &server).await.unwrap();
    assert_eq!(ran, LostReason::Revoked);
    let error = proved(&coordinator, &server, false).await.unwrap_err();
    let Some(Error::Lost { reason, .. }) = error.downcast_ref() else {
        panic!("{error:?}")
    };
    assert_eq!(*reason, LostReason::Unconfirmed);
    // What fails has nothing to prove.
    let error = proved(&coordinator, &server, true).await.unwrap_err();
    assert_eq!(error.to_string(), "its own");
}

#[locked("wait", release = wait, on_lost = cancel, via = coordinator)]
async fn waits(coordinator: &Coordinator, fails: bool) -> coord::Result<()> {
    match fails {
        true => Err(coordinator.lock("").acquire().await.unwrap_err()),
        false => Ok(()),
    }
}

async fn a_release_can_be_waited_for(server: Backend) {
    let coordinator = server.coordinator().await;
    for fails in [false, true, false, true, false, true] {
        assert_eq!(waits(&coordinator, fails).await.is_err(), fails);
        assert!(entries(&server, "wait").await.is_empty());
    }
}

#[locked("again", reentrant, via = coordinator, guard = held)]
async fn again(coordinator: &Coordinator, times: u32) -> coord::Result<Vec<i64>> {
    let mut tokens = match times {
        0 => Vec::new(),
        times => Box::pin(again(coordinator, times - 1)).await?,
    };
    tokens.push(held.fencing_token().get());
    Ok(tokens)
}

async fn a_reentrant_function_calls_itself(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut tokens = again(&coordinator, 3).await.unwrap();
    assert_eq!(tokens.len(), 4);
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    let (a, b) = tokio::join!(again(&coordinator, 0), again(&coordinator, 0));
    assert_ne!(a.unwrap(), b.unwrap(), "siblings are not inside");
}

#[locked("cron", try, busy = skip, via = coordinator)]
async fn nightly(coordinator: &Coordinator, ran: &mut bool) -> coord::Result<()> {
    *ran = true;
    Ok(())
}

#[locked("cron", wait = "2s", busy = skip, via = coordinator)]
async fn report(coordinator: &Coordinator) -> Result<Option<impl Display>, anyhow::Error> {
    Ok(Some("report"))
}

async fn a_busy_lock_can_be_skipped_and_an_unreachable_etcd_cannot(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut ran = false;
    nightly(&coordinator, &mut ran).await.unwrap();
    assert!(std::mem::take(&mut ran));
    eventually("it is free", async || {
        report(&coordinator).await.unwrap().is_some()
    })
    .await;

    let elsewhere = server.coordinator().await;
    let held = elsewhere.lock("cron").acquire().await.unwrap();
    nightly(&coordinator, &mut ran).await.unwrap();
    assert!(!ran);
    assert!(report(&coordinator).await.unwrap().is_none());
    drop(held);

    server.kill();
    nightly(&coordinator, &mut ran).await.unwrap_err();
    assert!(report(&coordinator).await.is_err());
    assert!(!ran);
    server.restart().await;
}

/// Made from nothing.
#[derive(Debug)]
enum Mine {
    Lock(&'static str),
}

impl Mine {
    fn of(error: Error) -> Self {
        Self::Lock(error.code())
    }
}

type Of<T> = Result<T, Mine>;

#[locked("mapped", try, map_err = Mine::of, via = coordinator)]
async fn mapped(coordinator: &Coordinator) -> Of<impl Display> {
    Ok(1)
}

#[locked("mapped", try, confirm, busy = skip, map_err = |_| Mine::Lock("any"), via = coordinator)]
async fn mapped_or_skipped(coordinator: &Coordinator) -> Of<Option<u8>> {
    Ok(Some(1))
}

async fn an_error_is_mapped_by_a_function(server: Backend) {
    let coordinator = server.coordinator().await;
    let held = coordinator.lock("mapped").acquire().await.unwrap();
    let Err(Mine::Lock(code)) = mapped(&coordinator).await else {
        panic!("it is held")
    };
    assert_eq!(code, "busy");
    assert_eq!(mapped_or_skipped(&coordinator).await.unwrap(), None);
    held.unlock().await.unwrap();
    assert_eq!(mapped_or_skipped(&coordinator).await.unwrap(), Some(1));
    coordinator.close().await;
    let Err(Mine::Lock(code)) = mapped_or_skipped(&coordinator).await else {
        panic!("it is closed")
    };
    assert_eq!(code, "any");
}

#[locked("/go!/{id}", raw, via = coordinator)]
async fn with_go(coordinator: &Coordinator, id: &str, server: &Backend) -> coord::Result<usize> {
    Ok(below(server, "/go!/a%2Fb/").await.len())
}

async fn a_raw_key_stands_as_it_is_written(server: Backend) {
    let coordinator = server.coordinator().await;
    assert_eq!(with_go(&coordinator, "a/b", &server).await.unwrap(), 1);
}

struct Shop {
    coordinator: Coordinator,
    sold: u32,
}

#[async_trait::async_trait]
trait Sells {
    async fn sell(&mut self, count: u32) -> anyhow::Result<u32>;
}

#[async_trait::async_trait]
impl Sells for Shop {
    #[locked("shop/{count}", via = self.coordinator, confirm, release = wait, max_hold = "30s")]
    async fn sell(&mut self, count: u32) -> anyhow::Result<u32> {
        anyhow::ensure!(count > 0, "nothing to sell");
        let mut add = |count| self.sold += count;
        add(count);
        tokio::task::yield_now().await;
        Ok(self.sold)
    }
}

trait Counts {
    fn coordinator(&self) -> &Coordinator;

    /// A default method.
    #[locked("counts/{n}", via = self.coordinator(), reentrant, busy = skip)]
    async fn count(&self, n: u8) -> coord::Result<Option<u8>>
    where
        Self: Sync,
    {
        Ok(n.checked_add(1))
    }
}

impl Counts for Shop {
    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }
}

/// What it returns cannot be sent; the future that makes it can.
#[locked("made", via = coordinator, label = "making")]
async fn made(coordinator: &Coordinator) -> coord::Result<Rc<u8>> {
    Ok(Rc::new(1))
}

#[locked("above", via = coordinator, confirm)]
#[tracing::instrument(skip_all)]
async fn above(coordinator: &Coordinator) -> coord::Result<u8> {
    Ok(1)
}

#[tracing::instrument(skip_all)]
#[locked("below", via = coordinator, confirm)]
async fn below_another(coordinator: &Coordinator) -> coord::Result<u8> {
    Ok(1)
}

/// Gives back what it has borrowed.
#[locked("borrowed", via = coordinator, ttl = "20s")]
async fn borrowed<'a, T: AsMut<[u8]>>(
    coordinator: &Coordinator,
    bytes: &'a mut T,
) -> coord::Result<&'a mut u8> {
    Ok(&mut bytes.as_mut()[0])
}

async fn words_keep_the_shape_of_a_function(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut shop = Shop {
        coordinator: coordinator.clone(),
        sold: 0,
    };
    assert_eq!(shop.sell(2).await.unwrap(), 2);
    assert!(shop.sell(0).await.is_err());
    assert_eq!(shop.count(7).await.unwrap(), Some(8));
    assert_eq!(above(&coordinator).await.unwrap(), 1);
    assert_eq!(below_another(&coordinator).await.unwrap(), 1);
    *borrowed(&coordinator, &mut [1]).await.unwrap() += 1;
    let spawned = tokio::spawn(async move { made(&coordinator).await.map(|made| *made) });
    assert_eq!(spawned.await.unwrap().unwrap(), 1);
}
