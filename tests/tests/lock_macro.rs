//! `#[locked]` on every kind of function that it takes.
#![deny(warnings)]
// clippy.toml allows it in tests, but does not see that their helpers are part of them.
#![allow(clippy::unwrap_used)]

use std::{
    fmt::Display,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coord::{Coordinator, Error, LostReason, locked};
use coord_tests::{Backend, eventually, on_both};
use tokio::sync::oneshot;

/// The keys below `prefix`.
async fn keys(server: &Backend, prefix: &str) -> Vec<String> {
    let options = etcd_client::GetOptions::new().with_prefix();
    let found = server
        .client()
        .await
        .get(prefix, Some(options))
        .await
        .unwrap();
    let keys = found.kvs().iter();
    keys.map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

struct Order {
    id: u64,
}

struct Shop {
    name: String,
    coordinator: Coordinator,
    shipped: Vec<u64>,
}

#[derive(Debug)]
enum ShopError {
    Lock(Error),
    SoldOut,
}

impl From<Error> for ShopError {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

const WAIT: Duration = Duration::from_secs(20);

impl Shop {
    #[locked("shops/{self.name}/orders/{order.id:04}", via = self.coordinator, guard = held)]
    async fn ship(&mut self, order: &Order) -> Result<&mut u64, ShopError> {
        assert_eq!(held.key(), "shops/caf%C3%A9%2Fbar/orders/0007");
        self.shipped.push(order.id);
        match self.shipped.last_mut() {
            Some(last) => Ok(last),
            None => Err(ShopError::SoldOut),
        }
    }

    #[locked("shops/{self.name}", via = &self.coordinator, wait = WAIT)]
    async fn close(self) -> anyhow::Result<String> {
        Ok(self.name)
    }

    #[locked("shops/{self.name}", via = self.coordinator, try)]
    async fn shared(self: Arc<Self>) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        if self.shipped.len() > 100 {
            return Err(Box::new(std::fmt::Error));
        }
        "1".parse::<u8>()?;
        Ok(self.shipped.len())
    }
}

on_both! {
    methods_take_their_key_from_self_and_arguments,
    generic_functions_keep_their_signature,
    boxed_unsendable_recursive_and_trait_functions_work,
    a_nested_call_for_the_same_key_would_deadlock_and_siblings_wait,
    arguments_are_dropped_with_the_body,
    a_lost_lock_drops_the_body_and_the_call_says_so,
    arguments_stay_within_their_segment_and_impossible_keys_are_refused,
    it_stands_above_the_attribute_that_builds_a_runtime,
}

async fn methods_take_their_key_from_self_and_arguments(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut shop = Shop {
        name: "café/bar".into(),
        coordinator,
        shipped: Vec::new(),
    };
    *shop.ship(&Order { id: 7 }).await.unwrap() += 1;
    assert_eq!(shop.shipped, [8]);
    let shop = Arc::new(shop);
    assert_eq!(shop.clone().shared().await.unwrap(), 1);
    let shop = Arc::try_unwrap(shop).ok().unwrap();
    assert_eq!(shop.close().await.unwrap(), "café/bar");
    // The coordinator went with the shop: everything is released.
    eventually("nothing is left", async || {
        keys(&server, "coord/lock/").await.is_empty()
    })
    .await;
}

/// Generic, with a pattern, a mutable argument, `impl Trait` on both sides and an early return.
#[locked("generic/{N}/{name}/{first}", via = coordinator, wait = forever)]
async fn generic<'a, T: Display + Sync, const N: usize>(
    coordinator: &Coordinator,
    name: &'a T,
    (first, _second): (u8, u8),
    mut count: usize,
    extra: impl Display + Send,
) -> coord::Result<impl Display> {
    count += N;
    if count == 0 {
        return Ok(String::new());
    }
    Ok(format!("{name}{first}{count}{extra}"))
}

async fn generic_functions_keep_their_signature(server: Backend) {
    let coordinator = server.coordinator().await;
    let spawned = tokio::spawn(async move {
        let shown = generic::<_, 3>(&coordinator, &"n", (1, 2), 4, '!').await;
        shown.unwrap().to_string()
    });
    assert_eq!(spawned.await.unwrap(), "n17!");
}

/// By hand, as `async_trait` writes it.
#[locked("boxed/{id}", via = coordinator)]
fn boxed<'a>(
    coordinator: &'a Coordinator,
    id: &'a str,
) -> Pin<Box<dyn Future<Output = Result<String, ShopError>> + Send + 'a>> {
    Box::pin(async move {
        if id == "none" {
            return Err(ShopError::SoldOut);
        }
        Ok(id.to_owned())
    })
}

/// Not `Send`.
#[locked("rc", via = coordinator)]
async fn with_rc(coordinator: &Coordinator, count: Rc<u8>) -> coord::Result<u8> {
    tokio::task::yield_now().await;
    Ok(*count)
}

/// Calls itself, under another key.
#[locked("count/{n}", via = coordinator)]
async fn recursive(coordinator: &Coordinator, n: u32) -> coord::Result<u32> {
    match n {
        0 => Ok(0),
        n => Ok(1 + Box::pin(recursive(coordinator, n - 1)).await?),
    }
}

trait Ships {
    async fn ship(&self, id: u64) -> coord::Result<u64>;
}

impl Ships for Coordinator {
    #[locked("trait/{id}", via = self)]
    async fn ship(&self, id: u64) -> coord::Result<u64> {
        Ok(id)
    }
}

async fn boxed_unsendable_recursive_and_trait_functions_work(server: Backend) {
    let coordinator = server.coordinator().await;
    assert_eq!(boxed(&coordinator, "x").await.unwrap(), "x");
    assert!(matches!(
        boxed(&coordinator, "none").await,
        Err(ShopError::SoldOut)
    ));
    assert_eq!(with_rc(&coordinator, Rc::new(5)).await.unwrap(), 5);
    assert_eq!(recursive(&coordinator, 3).await.unwrap(), 3);
    assert_eq!(coordinator.ship(9).await.unwrap(), 9);
}

#[locked("count/{n}", via = coordinator)]
async fn same_key_again(coordinator: &Coordinator, n: u32) -> coord::Result<u32> {
    Box::pin(same_key_again(coordinator, n)).await
}

async fn a_nested_call_for_the_same_key_would_deadlock_and_siblings_wait(server: Backend) {
    let coordinator = server.coordinator().await;
    let nested = same_key_again(&coordinator, 1).await;
    assert!(
        matches!(nested, Err(Error::WouldDeadlock { .. })),
        "{nested:?}"
    );
    let siblings = tokio::join!(recursive(&coordinator, 2), recursive(&coordinator, 2));
    assert_eq!((siblings.0.unwrap(), siblings.1.unwrap()), (2, 2));
}

/// Says when it is dropped, and whether the lock was still held.
struct Witness<'a>(&'a Mutex<Vec<&'static str>>, &'static str);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

#[locked("order", via = coordinator, guard = held)]
async fn drops<'a>(
    coordinator: &Coordinator,
    log: &'a Mutex<Vec<&'static str>>,
    mentioned: Witness<'a>,
    _unused: Witness<'a>,
) -> coord::Result<()> {
    let _last = Witness(log, "local");
    log.lock().unwrap().push(mentioned.1);
    assert!(held.is_held());
    Ok(())
}

async fn arguments_are_dropped_with_the_body(server: Backend) {
    let coordinator = server.coordinator().await;
    let log = Mutex::default();
    let (one, two) = (Witness(&log, "mentioned"), Witness(&log, "unused"));
    drops(&coordinator, &log, one, two).await.unwrap();
    let mut order = log.lock().unwrap().clone();
    assert_eq!(order[..2], ["mentioned", "local"]);
    order.sort_unstable();
    assert_eq!(order, ["local", "mentioned", "mentioned", "unused"]);
}

#[locked("lost", via = coordinator)]
async fn endless(
    coordinator: &Coordinator,
    dropped: OnDrop,
    begun: oneshot::Sender<()>,
) -> Result<(), ShopError> {
    let _ = (&dropped, begun.send(()));
    std::future::pending().await
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn a_lost_lock_drops_the_body_and_the_call_says_so(server: Backend) {
    let coordinator = server.coordinator().await;
    let dropped = Arc::new(AtomicBool::new(false));
    let (begun, has_begun) = oneshot::channel();
    let body = tokio::spawn({
        let dropped = OnDrop(dropped.clone());
        async move { endless(&coordinator, dropped, begun).await }
    });
    // Not as soon as the entry is there: a lease that is lost before the grant is known costs nothing
    // but another turn in the queue.
    has_begun.await.unwrap();
    let options = Some(etcd_client::GetOptions::new().with_prefix());
    let mut store = server.client().await;
    let found = store.get("coord/lock/lost!/", options).await.unwrap();
    server.expire_lease(found.kvs()[0].lease()).await;
    let result = body.await.unwrap();
    let Err(ShopError::Lock(Error::Lost { reason, .. })) = result else {
        panic!("{result:?}")
    };
    assert_eq!(reason, LostReason::Revoked);
    assert!(dropped.load(Ordering::SeqCst));
}

#[locked("{key}", via = coordinator)]
async fn any_key(coordinator: &Coordinator, key: &str) -> coord::Result<()> {
    let _ = coordinator;
    Ok(())
}

#[locked("keys/{key}", via = coordinator, guard = held)]
async fn name_of(coordinator: &Coordinator, key: &str) -> coord::Result<String> {
    Ok(held.key().to_owned())
}

async fn arguments_stay_within_their_segment_and_impossible_keys_are_refused(server: Backend) {
    let coordinator = server.coordinator().await;
    for (key, name) in [
        ("a/b", "keys/a%2Fb"),
        ("a!", "keys/a%21"),
        ("50%", "keys/50%25"),
        ("..", "keys/.."),
        ("ß", "keys/%C3%9F"),
        ("a b", "keys/a b"),
    ] {
        assert_eq!(name_of(&coordinator, key).await.unwrap(), name);
    }
    for key in ["", &"x".repeat(1025)] {
        let refused = any_key(&coordinator, key).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
}

/// The runtime is built below the lock's attribute, which has wrapped the body by then.
#[locked("above", via = coordinator)]
#[tokio::main(flavor = "current_thread")]
async fn on_a_runtime_of_its_own(coordinator: &Coordinator) -> coord::Result<u8> {
    Ok(1)
}

async fn it_stands_above_the_attribute_that_builds_a_runtime(server: Backend) {
    let coordinator = server.coordinator().await;
    let call = tokio::task::spawn_blocking(move || on_a_runtime_of_its_own(&coordinator));
    assert_eq!(call.await.unwrap().unwrap(), 1);
}
