//! The config center: typed values with versions and history, changes as they happen, and writes that
//! happen once whatever becomes of the connection.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

// Beside this file they would each be a test binary of its own.
#[path = "config_center/events.rs"]
mod events;
#[path = "config_center/faults.rs"]
mod faults;
#[path = "config_center/save.rs"]
mod save;
#[path = "config_center/values.rs"]
mod values;
#[path = "config_center/writes.rs"]
mod writes;

use coord::{ConfigCenter, Coordinator, Error, Options};
use coord_tests::Backend;
use etcd_client::{Client, GetOptions};
use serde::de::DeserializeOwned;

/// A server, a coordinator and a raw client.
struct Bench {
    server: Backend,
    coordinator: Coordinator,
    raw: Client,
}

impl Bench {
    async fn new(server: Backend) -> Self {
        Self::with(server, |_| {}).await
    }

    async fn with(server: Backend, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = server.options();
        change(&mut options);
        let coordinator = Coordinator::connect(options).await.unwrap();
        let raw = server.client().await;
        Self {
            server,
            coordinator,
            raw,
        }
    }

    fn center(&self) -> ConfigCenter {
        self.coordinator.config_center()
    }

    /// What another client puts.
    async fn put(&mut self, key: &str, value: &str) -> i64 {
        let reply = self.raw.put(key, value, None).await.unwrap();
        reply.header().unwrap().revision()
    }

    async fn stored(&mut self, key: &str) -> Option<String> {
        let reply = self.raw.get(key, None).await.unwrap();
        let kv = reply.kvs().first()?;
        Some(kv.value_str().unwrap().to_owned())
    }

    /// How many keys there are below `prefix`.
    async fn count(&mut self, prefix: &str) -> i64 {
        let below = GetOptions::new().with_prefix().with_count_only();
        self.raw.get(prefix, Some(below)).await.unwrap().count()
    }
}

fn conflict(error: &Error) -> i64 {
    let Error::Conflict { current, .. } = error else {
        panic!("{error:?}");
    };
    *current
}

async fn value<T: DeserializeOwned>(center: &ConfigCenter, key: &str) -> Option<T> {
    let found = center.get::<T>(key).await.unwrap();
    found.map(|found| found.value)
}
