//! An instance is registered while the runtime that it serves on runs tasks.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::{sync::mpsc, time::Duration};

use coord::{Coordinator, Error, InstanceSpec, Registration};
use coord_tests::{Backend, eventually, on_both};
use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

/// Short enough to be seen running out, long enough not to where it should not.
const TTL: Duration = Duration::from_secs(6);
const WORKERS: usize = 2;

/// A program's own runtime, with an instance registered on it.
struct Program {
    /// `None` once it has ended.
    runtime: Option<Runtime>,
    /// `None` once it was taken.
    registration: Option<Registration>,
    client: Client,
}

/// Every worker of a program's runtime blocks until this is dropped.
struct Blocked {
    _release: Vec<mpsc::Sender<()>>,
}

impl Program {
    async fn start(server: &Backend, coordinator: &Coordinator, watchdog: Duration) -> Self {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.unwrap();
        let registry = coordinator.registry();
        let spec = InstanceSpec::new("shop", "10.0.0.5:50051");
        let registration = runtime
            .spawn(async move { registry.register(spec.ttl(TTL).watchdog(watchdog)).await })
            .await;
        Self {
            runtime: Some(runtime),
            registration: Some(registration.unwrap().unwrap()),
            client: server.client().await,
        }
    }

    fn registration(&self) -> &Registration {
        self.registration.as_ref().expect("it is registered")
    }

    async fn block(&self) -> Blocked {
        let mut release = Vec::new();
        for _ in 0..WORKERS {
            let (held, wait) = mpsc::channel();
            let (tell, told) = oneshot::channel();
            // Each takes a worker of its own: the others are blocked.
            self.runtime.as_ref().unwrap().spawn(async move {
                tell.send(()).unwrap();
                // An error: it is released.
                let _ = wait.recv();
            });
            told.await.unwrap();
            release.push(held);
        }
        Blocked { _release: release }
    }

    /// The routable record.
    async fn record(&self) -> Option<KeyValue> {
        let options = Some(GetOptions::new().with_prefix());
        let mut found = self
            .client
            .clone()
            .get("coord/svc/shop/", options)
            .await
            .unwrap();
        found.take_kvs().pop()
    }

    /// Returns when a lease with the registration's TTL that nobody renews has run out, `times` in
    /// turn: by the server's clock, not by this machine's load.
    async fn ttls_pass(&self, times: u32) {
        let mut client = self.client.clone();
        for _ in 0..times {
            let granted = client.lease_grant(TTL.as_secs() as i64, None).await;
            let lease = granted.unwrap().id();
            eventually("a lease runs out", async || {
                let left = client.lease_time_to_live(lease, None).await.unwrap();
                left.ttl() < 0
            })
            .await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not where others run.
            runtime.shutdown_background();
        }
    }
}

fn identity(record: Option<KeyValue>) -> (Vec<u8>, i64, i64) {
    let record = record.expect("a record");
    (record.key().to_vec(), record.mod_revision(), record.lease())
}

on_both! {
    a_runtime_that_is_blocked_for_a_while_keeps_its_registration,
    one_that_is_dead_locked_loses_it_and_gets_it_back_when_it_runs_again,
    one_that_has_ended_loses_it,
    who_deregisters_meanwhile_is_not_registered_again,
    a_dead_locked_runtime_does_not_hold_up_closing,
    a_watchdog_that_cannot_watch_is_refused,
}

async fn a_runtime_that_is_blocked_for_a_while_keeps_its_registration(server: Backend) {
    let coordinator = server.coordinator().await;
    let program = Program::start(&server, &coordinator, Duration::from_secs(60)).await;
    let before = identity(program.record().await);
    let blocked = program.block().await;
    program.ttls_pass(1).await;
    assert_eq!(identity(program.record().await), before);
    drop(blocked);
    assert!(program.registration().is_registered());
    coordinator.close().await;
}

async fn one_that_is_dead_locked_loses_it_and_gets_it_back_when_it_runs_again(server: Backend) {
    let coordinator = server.coordinator().await;
    let lock = coordinator.lock("other").acquire().await.unwrap();
    let id = coordinator.instance_ids("other", 0..=9).acquire().await;
    let id = id.unwrap();
    let program = Program::start(&server, &coordinator, Duration::from_millis(500)).await;
    let (key, _, lease) = identity(program.record().await);
    let watch = Some(WatchOptions::new().with_prefix());
    let mut seen = program.client.clone();
    let mut seen = seen.watch("coord/svc/shop/", watch).await.unwrap();

    let blocked = program.block().await;
    eventually("it expires", async || program.record().await.is_none()).await;
    eventually("it knows", async || !program.registration().is_registered()).await;
    // It stays away, and it costs nothing else.
    program.ttls_pass(1).await;
    assert!(program.record().await.is_none());
    assert!(lock.is_held());
    id.get().unwrap();

    drop(blocked);
    let back = eventually("it is registered again", async || program.record().await).await;
    assert_eq!(back.key(), key);
    assert_ne!(back.lease(), lease);
    eventually("it knows", async || program.registration().is_registered()).await;
    // It has expired: it did not leave, so nothing was marked.
    let first = loop {
        let message = seen.message().await.unwrap().unwrap();
        if let Some(event) = message.events().first() {
            break event.event_type();
        }
    };
    assert_eq!(first, EventType::Delete);
    program.ttls_pass(1).await;
    assert_eq!(program.record().await.unwrap().lease(), back.lease());
    lock.unlock().await.unwrap();
    coordinator.close().await;
}

async fn one_that_has_ended_loses_it(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut program = Program::start(&server, &coordinator, Duration::from_millis(500)).await;
    program.runtime.take().unwrap().shutdown_background();
    eventually("it expires", async || program.record().await.is_none()).await;
    program.ttls_pass(1).await;
    assert!(program.record().await.is_none());
    coordinator.close().await;
}

async fn who_deregisters_meanwhile_is_not_registered_again(server: Backend) {
    let coordinator = server.coordinator().await;
    let mut program = Program::start(&server, &coordinator, Duration::from_millis(500)).await;
    let blocked = program.block().await;
    eventually("it expires", async || program.record().await.is_none()).await;
    eventually("it knows", async || !program.registration().is_registered()).await;
    // Not held up by the runtime: its lease is gone, with all that was on it.
    let registration = program.registration.take().unwrap();
    registration.deregister().await.unwrap();
    drop(blocked);
    program.ttls_pass(1).await;
    assert!(program.record().await.is_none());
    coordinator.close().await;
}

/// What coord runs there, the watchdog's question and a health check, is not waited for.
async fn a_dead_locked_runtime_does_not_hold_up_closing(server: Backend) {
    let coordinator = server.coordinator().await;
    let program = Program::start(&server, &coordinator, Duration::from_millis(500)).await;
    let blocked = program.block().await;
    let spec = InstanceSpec::new("bar", "10.0.0.5:50051");
    let spec = spec.health_check_every(Duration::from_secs(1), async || Ok::<_, Error>(()));
    let checked = {
        let _there = program.runtime.as_ref().unwrap().enter();
        coordinator.registry().register(spec).await.unwrap()
    };
    eventually("it expires", async || program.record().await.is_none()).await;
    let closed = tokio::time::timeout(Duration::from_secs(60), coordinator.close());
    closed.await.expect("it closes");
    drop((checked, blocked));
}

async fn a_watchdog_that_cannot_watch_is_refused(server: Backend) {
    let registry = server.coordinator().await.registry();
    let spec = InstanceSpec::new("shop", "10.0.0.5:50051").watchdog(Duration::ZERO);
    let error = registry.register(spec).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
}
