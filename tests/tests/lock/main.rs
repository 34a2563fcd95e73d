//! Locks as a user sees them.
// clippy.toml allows it in tests, but does not see that their helpers are part of them.
#![allow(clippy::unwrap_used)]

mod batch;
mod behaviour;
mod chaos;
mod cluster;
mod counts;
mod downgrade;
mod election;
mod faults;
mod fenced;
mod gate;
mod guard;
mod inspect;
mod interoperation;
mod late;
mod modes;
mod moving;
mod reentry;
mod riding;
mod several;
mod store;

use std::{
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use coord::{Coordinator, Error, LostReason, Options};
use coord_tests::{Backend, backend::patient, eventually};
use etcd_client::{Client, GetOptions, KeyValue};

async fn connect(server: &Backend) -> Coordinator {
    Coordinator::connect(server.options()).await.unwrap()
}

async fn connect_with_ttl(server: &Backend, seconds: u64) -> Coordinator {
    Coordinator::connect(options(server.endpoint(), seconds))
        .await
        .unwrap()
}

fn options(endpoint: String, ttl: u64) -> Options {
    let mut options = patient().endpoints([endpoint]);
    options.lock.ttl = Duration::from_secs(ttl);
    options
}

/// What stands in the queue of `name`, the oldest first.
async fn queue(store: &mut Client, name: &str) -> Vec<KeyValue> {
    let prefix = format!("coord/lock/{name}!/");
    let mut kvs = store
        .get(prefix, Some(GetOptions::new().with_prefix()))
        .await
        .unwrap()
        .take_kvs();
    kvs.sort_by_key(KeyValue::create_revision);
    kvs
}

/// How long a call takes, here and now.
async fn round_trip(store: &Client) -> Duration {
    let began = Instant::now();
    store.kv_client().put("round-trip", "", None).await.unwrap();
    began.elapsed()
}

async fn queue_is(store: &Client, name: &str, length: usize) {
    let what = format!("{length} entries stand in the queue of {name}");
    eventually(&what, async || {
        queue(&mut store.clone(), name).await.len() == length
    })
    .await;
}

#[track_caller]
fn lost(reason: LostReason, outcome: coord::Result<impl std::fmt::Debug>) {
    let Err(Error::Lost { reason: found, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(found, reason);
}

/// Polls `future` at most `polls` times, then drops it.
async fn polled<F: Future>(future: F, mut polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        if polls == 0 && polled.is_pending() {
            return Poll::Ready(None);
        }
        polled
    })
    .await
}
