//! What changes of an instance while it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use coord::{
    Coordinator, Error, InstanceEvent, InstanceHealth, InstanceSpec, InstanceUpdate, Registry,
    Secret,
};
use coord_tests::{
    Backend, Etcd, EtcdConfig, backend::patient, dropped_after, eventually, on_both,
};
use etcd_client::Permission;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::{SERVICE, next, records, short_lived, spec};

on_both! {
    an_update_is_told_and_written_once,
    what_is_not_healthy_is_not_found,
    an_instance_is_changed_by_its_service_and_name,
    one_that_is_leaving_does_not_stand_for_its_namesake,
    an_update_stands_when_the_lease_is_lost,
    an_update_while_etcd_is_silent_is_done_later,
    what_etcd_would_refuse_is_not_wanted,
    updating_may_be_dropped_at_every_await,
    a_check_sets_the_health,
    a_check_that_blocks_its_thread_is_not_called_twice,
    a_check_that_is_always_late_never_succeeds,
    without_checks_everything_is_healthy,
}

fn health(health: InstanceHealth) -> InstanceUpdate {
    InstanceUpdate::new().health(health)
}

/// The health in the life-cycle record, and whether there is a routable one.
async fn state(server: &Backend) -> (String, bool) {
    let all = records(server, "inst").await;
    let [inst] = all.as_slice() else {
        return ("none".to_owned(), !records(server, "svc").await.is_empty());
    };
    let json: Value = serde_json::from_slice(inst.value()).unwrap();
    let status = json["Coord"]["status"].as_str().unwrap().to_owned();
    (status, !records(server, "svc").await.is_empty())
}

async fn an_update_is_told_and_written_once(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let spec = spec().metadata("team", "a").metadata("shard", "1");
    let registration = registry.register(spec).await.unwrap();
    let mut events = registry.watch(SERVICE).unwrap();
    let InstanceEvent::Registered(before) = next(&mut events).await else {
        panic!("it is there");
    };
    assert_eq!(before.weight, 100);

    let update = InstanceUpdate::new()
        .weight(7)
        .metadata("shard", "2")
        .remove_metadata("team");
    registration.update(update.clone()).await.unwrap();
    let InstanceEvent::Updated { old, new } = next(&mut events).await else {
        panic!("it has changed");
    };
    assert_eq!(old, before);
    assert_eq!(new.weight, 7);
    assert_eq!(new.metadata, [("shard".to_owned(), "2".to_owned())].into());
    assert_eq!((&new.instance, new.created), (&old.instance, old.created));
    assert_eq!(new.registered_at, old.registered_at);
    assert_eq!(registry.discover(SERVICE).await.unwrap(), [(*new).clone()]);

    // What is so already is not written again.
    let written = records(&server, "inst").await[0].mod_revision();
    registration.update(update).await.unwrap();
    registration.update(InstanceUpdate::new()).await.unwrap();
    assert_eq!(records(&server, "inst").await[0].mod_revision(), written);

    for bad in [
        InstanceUpdate::new().weight(0),
        InstanceUpdate::new().metadata("version", "2"),
    ] {
        let refused = registration.update(bad).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    }
    assert_eq!(records(&server, "inst").await[0].mod_revision(), written);
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn what_is_not_healthy_is_not_found(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    let mut events = registry.watch(SERVICE).unwrap();
    let InstanceEvent::Registered(_) = next(&mut events).await else {
        panic!("it is there");
    };
    for (other, word) in [
        (InstanceHealth::Unhealthy, "unhealthy"),
        (InstanceHealth::Maintenance, "maintenance"),
        (InstanceHealth::Draining, "draining"),
        (InstanceHealth::Starting, "starting"),
        (InstanceHealth::Unknown, "unknown"),
    ] {
        registration.update(health(other)).await.unwrap();
        assert_eq!(state(&server).await, (word.to_owned(), false));
        assert!(!registration.is_registered());
        assert!(registry.discover(SERVICE).await.unwrap().is_empty());
        let found = registry.discover(SERVICE).health([other]).await.unwrap();
        assert_eq!(found[0].health, other);
        // It says so itself: that is leaving, not expiry.
        let InstanceEvent::Left(left) = next(&mut events).await else {
            panic!("it has not expired");
        };
        assert_eq!(left.health, other);

        registration
            .update(health(InstanceHealth::Healthy))
            .await
            .unwrap();
        assert_eq!(state(&server).await, ("healthy".to_owned(), true));
        assert!(registration.is_registered());
        let InstanceEvent::Registered(_) = next(&mut events).await else {
            panic!("it is there again");
        };
    }
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn an_instance_is_changed_by_its_service_and_name(server: Backend) {
    let (coordinator, other) = (server.coordinator().await, server.coordinator().await);
    let registry = coordinator.registry();
    let registration = registry.register(spec().instance("one")).await.unwrap();
    let key = registration.instance().to_owned();
    // Of a module it is the same registry.
    let module = coordinator.module("operator").registry();
    for (weight, instance) in [(1, "one"), (2, key.as_str())] {
        let update = InstanceUpdate::new().weight(weight);
        module.update(SERVICE, instance, update).await.unwrap();
        let found = registry.discover(SERVICE).await.unwrap();
        assert_eq!(found[0].weight, weight);
        assert_eq!(found[0].name.as_deref(), Some("one"));
    }
    let not_found = async |registry: &Registry, service: &str, instance: &str| {
        let update = registry.update(service, instance, InstanceUpdate::new());
        let update = update.await.unwrap_err();
        assert!(matches!(update, Error::NotFound { .. }), "{update:?}");
        let gone = registry.deregister(service, instance).await.unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");
    };
    not_found(&registry, SERVICE, "two").await;
    not_found(&registry, "other-service", &key).await;
    // Another coordinator's is not this one's to change.
    not_found(&other.registry(), SERVICE, &key).await;

    registry.deregister(SERVICE, "one").await.unwrap();
    assert!(records(&server, "inst").await.is_empty());
    assert!(!registration.is_registered());
    let late = registration.update(InstanceUpdate::new().weight(3)).await;
    assert!(matches!(late, Err(Error::NotFound { .. })), "{late:?}");
    registration.deregister().await.unwrap();
    coordinator.close().await;
    other.close().await;
}

async fn one_that_is_leaving_does_not_stand_for_its_namesake(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let older = registry.register(spec().instance("n")).await.unwrap();
    for turn in 0..5 {
        let newer = InstanceSpec::new(SERVICE, "10.0.0.6:1").instance("n");
        drop(registry.register(newer).await.unwrap());
        let weight = InstanceUpdate::new().weight(10 + turn);
        registry.update(SERVICE, "n", weight).await.unwrap();
    }
    let stays =
        |all: Vec<coord::Instance>| all.into_iter().find(|i| i.instance == older.instance());
    let found = stays(registry.discover(SERVICE).await.unwrap()).unwrap();
    assert_eq!(found.weight, 14);
    coordinator.close().await;
}

/// What may be written is a matter of etcd's users.
#[tokio::test(flavor = "multi_thread")]
async fn leaving_ends_also_where_etcd_forbids_it() {
    let config = EtcdConfig::new().auth();
    let Some(etcd) = Etcd::start_or_skip(config).await else {
        return;
    };
    let mut root = etcd.client().await;
    let all = Permission::read_write("").with_all_keys();
    root.role_add("writer").await.unwrap();
    root.role_grant_permission("writer", all).await.unwrap();
    root.user_add("ann", "hunter2", None).await.unwrap();
    root.user_grant_role("ann", "writer").await.unwrap();
    let mut options = patient().endpoints([etcd.endpoint()]);
    options.user = Some("ann".into());
    options.password = Some(Secret::new("hunter2"));
    let coordinator = Coordinator::connect(options).await.unwrap();
    let registration = coordinator.registry().register(short_lived()).await;
    let registration = registration.unwrap();
    root.user_revoke_role("ann", "writer").await.unwrap();
    let left = tokio::time::timeout(Duration::from_secs(60), registration.deregister());
    let refused = left.await.expect("it ends").unwrap_err();
    assert!(matches!(refused, Error::Denied { .. }), "{refused:?}");
    // Its lease is renewed no more.
    eventually("it runs out", async || {
        let below = Some(etcd_client::GetOptions::new().with_prefix());
        let found = root.clone().get("coord/svc/", below).await.unwrap();
        found.kvs().is_empty()
    })
    .await;
    coordinator.close().await;
}

async fn an_update_stands_when_the_lease_is_lost(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    let light = InstanceUpdate::new().weight(7);
    registration.update(light).await.unwrap();
    let before = records(&server, "svc").await;
    server.expire_lease(before[0].lease()).await;
    let again = eventually("registered again", async || {
        let found = registry.discover(SERVICE).await.unwrap();
        found.into_iter().next()
    })
    .await;
    assert_eq!(again.weight, 7);

    let maintenance = health(InstanceHealth::Maintenance);
    registration.update(maintenance).await.unwrap();
    let before = records(&server, "inst").await;
    server.expire_lease(before[0].lease()).await;
    eventually("in maintenance again", async || {
        state(&server).await == ("maintenance".to_owned(), false)
    })
    .await;
    assert!(records(&server, "svc").await.is_empty());
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

/// The wish is kept: it is done once etcd answers.
async fn an_update_while_etcd_is_silent_is_done_later(server: Backend) {
    let mut options = server.options();
    options.request_timeout = Duration::from_secs(1);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let registry = coordinator.registry();
    let spec = spec().ttl(Duration::from_secs(60));
    let registration = registry.register(spec).await.unwrap();
    server.stop();
    let update = InstanceUpdate::new().weight(7);
    let late = registration.update(update).await.unwrap_err();
    assert!(late.is_retryable(), "{late:?}");
    server.cont();
    eventually("the weight is the new one", async || {
        let found = registry.discover(SERVICE).await.unwrap_or_default();
        found.first().is_some_and(|instance| instance.weight == 7)
    })
    .await;
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

/// Else it could not be marked as leaving either, and would be found for as long as its lease lives.
async fn what_etcd_would_refuse_is_not_wanted(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    let large = InstanceUpdate::new()
        .weight(7)
        .metadata("m", "x".repeat(600_000));
    let refused = registration.update(large).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    let fits = InstanceUpdate::new().metadata("m", "x".repeat(500_000));
    registration.update(fits).await.unwrap();
    let found = registry.discover(SERVICE).await.unwrap();
    assert_eq!(
        (found[0].weight, found[0].metadata["m"].len()),
        (100, 500_000)
    );
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn updating_may_be_dropped_at_every_await(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    for polls in 1.. {
        let weight = 1 + u32::try_from(polls).unwrap();
        let update = registration.update(InstanceUpdate::new().weight(weight));
        let done = dropped_after(polls, update).await;
        // Dropped or not, it is what was wanted last.
        eventually("the weight is the new one", async || {
            let found = registry.discover(SERVICE).await.unwrap();
            found.first().is_some_and(|found| found.weight == weight)
        })
        .await;
        if done.is_some() {
            break;
        }
    }
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

const GOOD: u8 = 0;
const BAD: u8 = 1;
const PANICS: u8 = 2;
const HANGS: u8 = 3;

/// A check that does what it is told.
fn checked(mode: &Arc<AtomicU8>) -> InstanceSpec {
    let mode = mode.clone();
    spec().health_check_every(Duration::from_millis(50), move || {
        let mode = mode.clone();
        async move {
            match mode.load(Ordering::SeqCst) {
                GOOD => Ok(()),
                BAD => Err("the disk is full"),
                PANICS => panic!("a fault of the check"),
                _ => std::future::pending().await,
            }
        }
    })
}

async fn a_check_sets_the_health(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mode = Arc::new(AtomicU8::new(HANGS));
    let spec = spec().health_check_every(
        Duration::from_secs(600),
        std::future::pending::<Result<(), String>>,
    );
    let unknown = registry.register(spec).await.unwrap();
    assert_eq!(state(&server).await, ("unknown".to_owned(), false));
    unknown.deregister().await.unwrap();

    let becomes = async |word: &str, routable: bool| {
        eventually(word, async || {
            state(&server).await == (word.to_owned(), routable)
        })
        .await;
    };
    mode.store(GOOD, Ordering::SeqCst);
    let registration = registry.register(checked(&mode)).await.unwrap();
    becomes("healthy", true).await;
    for fault in [BAD, PANICS, HANGS] {
        mode.store(fault, Ordering::SeqCst);
        becomes("unhealthy", false).await;
        mode.store(GOOD, Ordering::SeqCst);
        becomes("healthy", true).await;
    }
    // What its owner says counts more, for as long as that is not `healthy`.
    let maintenance = health(InstanceHealth::Maintenance);
    registration.update(maintenance).await.unwrap();
    for mode_now in [BAD, GOOD] {
        mode.store(mode_now, Ordering::SeqCst);
        assert_eq!(state(&server).await, ("maintenance".to_owned(), false));
    }
    registration
        .update(health(InstanceHealth::Healthy))
        .await
        .unwrap();
    becomes("healthy", true).await;
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn a_check_that_blocks_its_thread_is_not_called_twice(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, calls) = (
        Arc::new(std::sync::Mutex::new(blocked)),
        Arc::new(AtomicU8::new(0)),
    );
    let counted = calls.clone();
    let spec = spec().health_check_every(Duration::from_millis(50), move || {
        counted.fetch_add(1, Ordering::SeqCst);
        // Until the sender is gone.
        let _ = blocked.lock().unwrap().recv();
        async { Ok::<(), String>(()) }
    });
    let registration = registry.register(spec).await.unwrap();
    eventually("unhealthy", async || state(&server).await.0 == "unhealthy").await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    drop(release);
    eventually("healthy", async || state(&server).await.0 == "healthy").await;
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

/// Else it would be found from each late answer until the next one is late.
async fn a_check_that_is_always_late_never_succeeds(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mut events = registry.watch(SERVICE).unwrap();
    let told = tokio::spawn(async move { events.next().await });
    let calls = Arc::new(AtomicU8::new(0));
    let counted = calls.clone();
    let interval = Duration::from_millis(50);
    let spec = spec().health_check_every(interval, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(3 * interval);
        async { Ok::<(), String>(()) }
    });
    let registration = registry.register(spec).await.unwrap();
    eventually("several", async || calls.load(Ordering::SeqCst) > 5).await;
    eventually("unhealthy", async || {
        state(&server).await == ("unhealthy".to_owned(), false)
    })
    .await;
    registration.deregister().await.unwrap();
    assert!(!told.is_finished());
    coordinator.close().await;
    assert_eq!(told.await.unwrap(), None);
}

async fn without_checks_everything_is_healthy(server: Backend) {
    let mut options = server.options();
    options.registry.health_check = false;
    let coordinator = Coordinator::connect(options).await.unwrap();
    let mode = Arc::new(AtomicU8::new(BAD));
    let registration = coordinator.registry().register(checked(&mode)).await;
    let registration = registration.unwrap();
    assert!(registration.is_registered());
    assert_eq!(state(&server).await, ("healthy".to_owned(), true));
    registration.deregister().await.unwrap();
    coordinator.close().await;
}
