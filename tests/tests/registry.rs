//! Registration and discovery as a user sees them.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use coord::{
    Coordinator, Error, Instance, InstanceEvent, InstanceEvents, InstanceHealth, InstanceSpec,
    Registry,
};
use coord_tests::{Backend, dropped_after, eventually, on_both};
use etcd_client::{GetOptions, KeyValue, PutOptions};
use futures_util::StreamExt as _;
use serde_json::Value;

#[path = "registry/discover.rs"]
mod discover;
#[path = "registry/update.rs"]
mod update;
#[path = "registry/view.rs"]
mod view;

const SERVICE: &str = "user-service";

/// Everything that this program logs, from the first call on.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let lines = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || lines.clone());
        subscriber.init();
        log
    })
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl std::io::Write for Log {
    /// One line each.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        self.0.lock().unwrap().push(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn spec() -> InstanceSpec {
    InstanceSpec::new(SERVICE, "10.0.0.5:50051").version("1.4.0")
}

/// One whose TTL is to pass. It is renewed within it once etcd is back.
fn short_lived() -> InstanceSpec {
    spec().ttl(Duration::from_secs(8))
}

/// What stands below `coord/<kind>/user-service/`, as a client of another kind sees it.
async fn records(server: &Backend, kind: &str) -> Vec<KeyValue> {
    let prefix = format!("coord/{kind}/user-service/");
    let options = Some(GetOptions::new().with_prefix());
    let mut found = server.client().await.get(prefix, options).await.unwrap();
    found.take_kvs()
}

/// What shows that nothing has happened to them.
fn identity(records: &[KeyValue]) -> Vec<(i64, i64)> {
    let of = |kv: &KeyValue| (kv.mod_revision(), kv.lease());
    records.iter().map(of).collect()
}

async fn addresses(registry: &Registry) -> Vec<String> {
    let found = registry.discover("user-service").await.unwrap();
    found.into_iter().map(|instance| instance.address).collect()
}

async fn next(events: &mut InstanceEvents) -> InstanceEvent {
    let next = tokio::time::timeout(Duration::from_secs(120), events.next());
    next.await.expect("an event").expect("no end")
}

on_both! {
    an_instance_is_found_until_it_has_deregistered,
    dropping_the_handle_deregisters_and_closing_the_coordinator_too,
    an_outage_shorter_than_the_ttl_changes_nothing,
    an_outage_longer_than_the_ttl_is_resumed,
    a_lost_lease_is_replaced,
    records_that_something_else_deletes_or_overwrites_come_back,
    a_crash_is_told_from_leaving_and_records_of_others_are_understood,
    what_cannot_be_registered_is_refused_before_anything_is_written,
    a_registration_that_is_not_confirmed_in_time_is_taken_back,
    registering_and_deregistering_may_be_dropped_at_every_await,
    an_etcd_that_lost_its_data_gets_the_registration_again,
}

/// As it is told of when it leaves.
fn drained(instance: &Instance) -> Arc<Instance> {
    let mut instance = instance.clone();
    instance.health = InstanceHealth::Draining;
    Arc::new(instance)
}

async fn an_instance_is_found_until_it_has_deregistered(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.module("billing").registry();
    assert!(addresses(&registry).await.is_empty());
    let mut events = registry.watch("user-service").unwrap();

    let registration = registry.register(spec()).await.unwrap();
    assert!(registration.is_registered());
    let found = registry.discover("user-service").await.unwrap();
    let [instance] = found.as_slice() else {
        panic!("one instance: {found:?}");
    };
    assert_eq!(instance.address, "10.0.0.5:50051");
    assert_eq!(instance.version.as_deref(), Some("1.4.0"));
    assert_eq!(instance.instance, registration.instance());
    assert_eq!(instance.health, InstanceHealth::Healthy);
    assert_eq!(
        next(&mut events).await,
        InstanceEvent::Registered(Arc::new(instance.clone()))
    );

    // A superset of Go's record, both records in one revision under one lease.
    let (svc, inst) = (
        records(&server, "svc").await,
        records(&server, "inst").await,
    );
    let json: Value = serde_json::from_slice(svc[0].value()).unwrap();
    assert_eq!(json["Addr"], "10.0.0.5:50051");
    assert_eq!(json["Coord"]["module"], "billing");
    assert_eq!(svc[0].mod_revision(), inst[0].mod_revision());
    assert_eq!(svc[0].lease(), inst[0].lease());
    assert!(svc[0].key_str().unwrap().ends_with(registration.instance()));

    registration.deregister().await.unwrap();
    assert!(records(&server, "svc").await.is_empty());
    assert!(records(&server, "inst").await.is_empty());
    // The mark came first, so nobody takes it for a crash.
    assert_eq!(
        next(&mut events).await,
        InstanceEvent::Left(drained(instance))
    );
    coordinator.close().await;
    assert_eq!(events.next().await, None);
}

async fn dropping_the_handle_deregisters_and_closing_the_coordinator_too(server: Backend) {
    let (coordinator, watching) = (server.coordinator().await, server.coordinator().await);
    let mut events = watching.registry().watch("user-service").unwrap();
    let registration = coordinator.registry().register(spec()).await.unwrap();
    let InstanceEvent::Registered(instance) = next(&mut events).await else {
        panic!("it is new");
    };
    drop(registration);
    assert_eq!(
        next(&mut events).await,
        InstanceEvent::Left(drained(&instance))
    );

    let registration = coordinator.registry().register(spec()).await.unwrap();
    let InstanceEvent::Registered(instance) = next(&mut events).await else {
        panic!("it is new");
    };
    coordinator.close().await;
    assert!(records(&server, "svc").await.is_empty());
    assert_eq!(
        next(&mut events).await,
        InstanceEvent::Left(drained(&instance))
    );
    assert!(!registration.is_registered());
    // It has left already.
    registration.deregister().await.unwrap();
    let refused = coordinator.registry().register(spec()).await;
    assert!(matches!(refused, Err(Error::Closed { .. })));
    watching.close().await;
}

/// Killed and restarted within the TTL: the same lease is resumed, and nobody notices.
async fn an_outage_shorter_than_the_ttl_changes_nothing(server: Backend) {
    let coordinator = server.coordinator().await;
    let registration = coordinator.registry().register(spec()).await.unwrap();
    let before = records(&server, "svc").await;
    server.kill();
    server.restart().await;
    eventually("renewed", async || {
        coordinator.ping().await.is_ok() && coordinator.health().is_good()
    })
    .await;
    assert!(registration.is_registered());
    assert_eq!(identity(&records(&server, "svc").await), identity(&before));
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

/// Down for longer than the TTL: a restarted etcd gives every lease its whole TTL again, so the same
/// lease is resumed even then.
async fn an_outage_longer_than_the_ttl_is_resumed(server: Backend) {
    let coordinator = server.coordinator().await;
    let registration = coordinator.registry().register(short_lived()).await;
    let registration = registration.unwrap();
    let before = records(&server, "svc").await;
    server.kill();
    eventually("the TTL has passed", async || {
        let health = coordinator.health();
        health.sessions.iter().all(|session| !session.live)
    })
    .await;
    server.restart().await;
    eventually("renewed", async || coordinator.health().is_good()).await;
    assert_eq!(identity(&records(&server, "svc").await), identity(&before));
    assert!(registration.is_registered());
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

/// The lease is gone for good: a new one, the same instance.
async fn a_lost_lease_is_replaced(server: Backend) {
    let coordinator = server.coordinator().await;
    let registration = coordinator.registry().register(spec()).await.unwrap();
    let before = records(&server, "svc").await;
    server.expire_lease(before[0].lease()).await;
    let after = eventually("registered again", async || {
        records(&server, "svc").await.into_iter().next()
    })
    .await;
    assert_eq!(after.key(), before[0].key());
    assert_ne!(after.lease(), before[0].lease());
    eventually("says so", async || registration.is_registered()).await;
    registration.deregister().await.unwrap();
    assert!(records(&server, "inst").await.is_empty());
    coordinator.close().await;
}

async fn records_that_something_else_deletes_or_overwrites_come_back(server: Backend) {
    let coordinator = server.coordinator().await;
    let registration = coordinator.registry().register(spec()).await.unwrap();
    let mut client = server.client().await;
    for kind in ["svc", "inst"] {
        let before = records(&server, kind).await.remove(0);
        for overwrite in [false, true] {
            if overwrite {
                client.put(before.key(), "nonsense", None).await.unwrap();
            } else {
                client.delete(before.key(), None).await.unwrap();
            }
            eventually("both records agree again", async || {
                let (svc, inst) = (
                    records(&server, "svc").await,
                    records(&server, "inst").await,
                );
                match (svc.as_slice(), inst.as_slice()) {
                    ([svc], [inst]) => {
                        svc.mod_revision() == inst.mod_revision()
                            && svc.mod_revision() > before.mod_revision()
                            && svc.lease() == before.lease()
                            && inst.lease() == before.lease()
                    }
                    _ => false,
                }
            })
            .await;
        }
    }
    eventually("it says so", async || registration.is_registered()).await;
    registration.deregister().await.unwrap();
    assert!(records(&server, "svc").await.is_empty());
    coordinator.close().await;
}

async fn a_crash_is_told_from_leaving_and_records_of_others_are_understood(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mut client = server.client().await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let put = Some(PutOptions::new().with_lease(lease));
    let prefix = "coord/svc/user-service/";
    let go = r#"{"Op":0,"Addr":"1.2.3.4:5","Metadata":null}"#;
    client.put(format!("{prefix}go"), go, put).await.unwrap();
    client.put(format!("{prefix}bad"), "{", None).await.unwrap();
    // Another service whose name begins alike.
    client
        .put("coord/svc/user-service-2/-/u", go, None)
        .await
        .unwrap();

    assert_eq!(addresses(&registry).await, ["1.2.3.4:5"]);
    let mut events = registry.watch("user-service").unwrap();
    let InstanceEvent::Registered(instance) = next(&mut events).await else {
        panic!("it is there");
    };
    // A second record of the same address: the younger counts.
    client
        .put(format!("{prefix}b/young"), go, None)
        .await
        .unwrap();
    let found = registry.discover("user-service").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].zone.as_deref(), Some("b"));
    assert!(matches!(next(&mut events).await, InstanceEvent::Registered(i) if *i == found[0]));

    server.expire_lease(lease).await;
    assert_eq!(next(&mut events).await, InstanceEvent::Expired(instance));
    coordinator.close().await;
}

async fn what_cannot_be_registered_is_refused_before_anything_is_written(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let before = server.log_entries().await;
    let invalid = [
        InstanceSpec::new("a/b", "h:1"),
        InstanceSpec::new("", "h:1"),
        InstanceSpec::new("a\n", "h:1"),
        InstanceSpec::new("a", "h"),
        InstanceSpec::new("a", "0.0.0.0:1"),
        InstanceSpec::new("a", "[::]:1"),
        InstanceSpec::new("a", "h:1").ttl(Duration::ZERO),
        InstanceSpec::new("a", "h:1").ttl(Duration::from_millis(1_500)),
        InstanceSpec::new("a", "h:1").metadata("m", "x".repeat(600_000)),
    ];
    for spec in invalid {
        let refused = registry.register(spec).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    }
    assert!(matches!(
        registry.discover("a/b").await,
        Err(Error::Invalid { .. })
    ));
    let none = registry.discover("a").version("bad").await.unwrap_err();
    assert!(
        none.to_string().contains(": \"bad\" is no version"),
        "{none}"
    );
    assert!(matches!(registry.watch(""), Err(Error::Invalid { .. })));
    assert_eq!(server.log_entries().await, before);
    coordinator.close().await;
}

/// etcd does not answer: an error within the request timeout, and nothing is left behind.
async fn a_registration_that_is_not_confirmed_in_time_is_taken_back(server: Backend) {
    let mut options = server.options();
    options.request_timeout = Duration::from_secs(1);
    let coordinator = Coordinator::connect(options).await.unwrap();
    server.stop();
    let failed = coordinator.registry().register(spec()).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed:?}");
    server.cont();
    eventually("a registration works again", async || {
        let registration = coordinator.registry().register(spec()).await?;
        registration.deregister().await
    })
    .await;
    eventually("nothing is left", async || {
        let health = coordinator.health();
        health.sessions.is_empty()
            && records(&server, "svc").await.is_empty()
            && records(&server, "inst").await.is_empty()
    })
    .await;
    coordinator.close().await;
}

async fn registering_and_deregistering_may_be_dropped_at_every_await(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mut ended = [false; 2];
    for polls in 1.. {
        ended[0] = dropped_after(polls, registry.register(spec()))
            .await
            .is_some();
        let registration = registry.register(spec()).await.unwrap();
        let left = dropped_after(polls, registration.deregister()).await;
        ended[1] = left.is_some();
        if ended == [true, true] {
            break;
        }
    }
    eventually("nothing is left", async || {
        records(&server, "svc").await.is_empty()
            && records(&server, "inst").await.is_empty()
            && coordinator.health().sessions.is_empty()
    })
    .await;
    coordinator.close().await;
}

/// Everything is gone, leases and history too, and revisions begin anew.
async fn an_etcd_that_lost_its_data_gets_the_registration_again(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    // A history that the new one does not reach.
    let mut client = server.client().await;
    for _ in 0..50 {
        client.put("other", "", None).await.unwrap();
    }
    let registration = registry.register(spec()).await.unwrap();
    let mut events = registry.watch("user-service").unwrap();
    let InstanceEvent::Registered(before) = next(&mut events).await else {
        panic!("it is registered");
    };
    server.lose_data().await;
    eventually("registered again", async || {
        registration.is_registered() && records(&server, "svc").await.len() == 1
    })
    .await;
    let found = registry.discover("user-service").await.unwrap();
    assert_eq!(found[0].instance, before.instance);
    assert!(found[0].created < before.created, "another history");
    // And it still leaves when it is told to.
    registration.deregister().await.unwrap();
    for kind in ["svc", "inst"] {
        assert!(records(&server, kind).await.is_empty());
    }
    coordinator.close().await;
}

/// Records were deleted and no watch told of it; then the lease was overdue for a while. That it lives
/// again says nothing of them.
#[tokio::test]
async fn a_renewed_lease_does_not_prove_that_the_records_are_there() {
    let server = coord::embedded::Server::start().await.unwrap();
    let coordinator = server.coordinator().await.unwrap();
    let registration = coordinator.registry().register(short_lived()).await;
    let registration = registration.unwrap();
    let connected = etcd_client::Client::connect([server.endpoint()], None).await;
    let mut client = connected.unwrap();
    // Nothing happens in the watches before they are open.
    eventually("the own records are watched", async || {
        let health = coordinator.health();
        let own = health
            .watches
            .iter()
            .filter(|watch| watch.name.starts_with("registration"));
        own.filter(|watch| watch.current).count() == 2
    })
    .await;
    let all = async |client: &mut etcd_client::Client| {
        let options = Some(GetOptions::new().with_prefix());
        client.get("coord/", options).await.unwrap().take_kvs()
    };
    let before = all(&mut client).await;
    assert_eq!(before.len(), 2);
    for record in &before {
        server.swallow_event(record.key());
        client.delete(record.key(), None).await.unwrap();
    }
    assert!(all(&mut client).await.is_empty());
    server.freeze();
    server.stall();
    eventually("overdue", async || {
        coordinator
            .health()
            .sessions
            .iter()
            .all(|session| !session.live)
    })
    .await;
    server.resume();
    server.thaw();
    eventually("both are there again", async || {
        all(&mut client).await.len() == 2
    })
    .await;
    assert_eq!(all(&mut client).await[0].lease(), before[0].lease());
    registration.deregister().await.unwrap();
    coordinator.close().await;
}
