//! A service as a value that is always at hand.

use std::time::Duration;

use coord::{Coordinator, Error, InstanceEvent, InstanceSpec, InstanceUpdate, ServiceView};
use coord_tests::{Backend, dropped_after, eventually, on_both};

use super::{SERVICE, next, records, short_lived, spec};

on_both! {
    a_view_follows_its_service,
    all_who_look_share_one_watch,
    a_view_stays_while_etcd_is_gone_and_says_how_old_it_is,
    a_view_needs_etcd_once,
    waiting_for_a_change_may_be_dropped_at_every_await,
    a_restart_of_etcd_is_no_news,
    many_registrations_of_one_coordinator_come_back,
}

fn addresses(view: &ServiceView) -> Vec<String> {
    view.load()
        .iter()
        .map(|instance| instance.address.clone())
        .collect()
}

/// The names of the watches of a service.
fn watches(coordinator: &Coordinator) -> usize {
    named(coordinator, "instances of")
}

/// Those of the coordinator's own records.
fn own_watches(coordinator: &Coordinator) -> usize {
    named(coordinator, "registrations below")
}

fn named(coordinator: &Coordinator, what: &str) -> usize {
    let health = coordinator.health();
    let watches = health.watches.iter();
    watches.filter(|watch| watch.name.starts_with(what)).count()
}

async fn a_view_follows_its_service(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mut view = registry.view(SERVICE).await.unwrap();
    assert_eq!(view.service(), SERVICE);
    assert!(view.load().is_empty() && view.load().revision() > 0);
    let registration = registry.register(spec()).await.unwrap();
    let set = view.changed().await.unwrap();
    assert_eq!(set[0].instance, registration.instance());
    assert_eq!(set, view.load());
    // What has been taken is not changed behind its owner's back.
    registration
        .update(InstanceUpdate::new().weight(3))
        .await
        .unwrap();
    let newer = view.changed().await.unwrap();
    assert_eq!((set[0].weight, newer[0].weight), (100, 3));
    assert!(newer.revision() > set.revision());
    registration.deregister().await.unwrap();
    eventually("it has left", async || view.load().is_empty()).await;

    coordinator.close().await;
    let mut seen = 0;
    let closed = loop {
        match view.changed().await {
            Ok(_) => seen += 1,
            Err(closed) => break closed,
        }
    };
    assert!(
        seen <= 1 && matches!(closed, Error::Closed { .. }),
        "{closed:?}"
    );
    assert!(matches!(
        registry.view(SERVICE).await,
        Err(Error::Closed { .. })
    ));
}

async fn all_who_look_share_one_watch(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    let view = registry.view(SERVICE).await.unwrap();
    let copy = coordinator
        .module("other")
        .registry()
        .view(SERVICE)
        .await
        .unwrap();
    let mut events = registry.watch(SERVICE).unwrap();
    // Who comes later is told of those that are there.
    let InstanceEvent::Registered(told) = next(&mut events).await else {
        panic!("it is there");
    };
    assert_eq!(*told, *view.load()[0]);
    assert_eq!(watches(&coordinator), 1);
    let other = registry.view("other-service").await.unwrap();
    assert_eq!(watches(&coordinator), 2);
    // As long as one looks.
    drop((view, events, other));
    registration
        .update(InstanceUpdate::new().weight(3))
        .await
        .unwrap();
    eventually("one watch goes on", async || {
        copy.load()[0].weight == 3 && watches(&coordinator) == 1
    })
    .await;
    drop(copy);
    eventually("nobody looks", async || watches(&coordinator) == 0).await;
    let again = registry.view(SERVICE).await.unwrap();
    assert_eq!(addresses(&again), ["10.0.0.5:50051"]);
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn a_view_stays_while_etcd_is_gone_and_says_how_old_it_is(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    let mut view = registry.view(SERVICE).await.unwrap();
    let before = view.load();
    server.kill();
    let gone = Duration::from_secs(3);
    eventually("the view grows old", async || view.age() > gone).await;
    assert_eq!(view.load(), before);
    assert!(!before.is_empty());
    server.restart().await;
    eventually("it is young again", async || view.age() < gone).await;
    registration
        .update(InstanceUpdate::new().weight(3))
        .await
        .unwrap();
    assert_eq!(view.changed().await.unwrap()[0].weight, 3);
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn a_view_needs_etcd_once(server: Backend) {
    let mut options = server.options();
    options.request_timeout = Duration::from_secs(1);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let registry = coordinator.registry();
    server.stop();
    let failed = registry.view(SERVICE).await.unwrap_err();
    assert!(matches!(failed, Error::Unavailable { .. }), "{failed:?}");
    server.cont();
    eventually("etcd has been read", async || registry.view(SERVICE).await).await;
    coordinator.close().await;
}

async fn waiting_for_a_change_may_be_dropped_at_every_await(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let registration = registry.register(spec()).await.unwrap();
    let mut looked = false;
    for polls in 1.. {
        if !looked {
            looked = dropped_after(polls, registry.view(SERVICE)).await.is_some();
        }
        let mut view = registry.view(SERVICE).await.unwrap();
        let weight = 1 + u32::try_from(polls).unwrap();
        let update = InstanceUpdate::new().weight(weight);
        let (waited, updated) = futures_util::join!(
            dropped_after(polls, view.changed()),
            registration.update(update)
        );
        updated.unwrap();
        // Who gave up is told by the next one.
        let seen = match &waited {
            Some(set) => set.as_ref().unwrap().clone(),
            None => view.changed().await.unwrap(),
        };
        assert_eq!(seen[0].weight, weight);
        if looked && waited.is_some() {
            break;
        }
    }
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

/// Shorter than the TTL or longer: leases outlive it, and no watch tells of anything.
async fn a_restart_of_etcd_is_no_news(server: Backend) {
    for longer_than_the_ttl in [false, true] {
        let coordinator = server.coordinator().await;
        let registry = coordinator.registry();
        let spec = if longer_than_the_ttl {
            short_lived()
        } else {
            spec()
        };
        let registration = registry.register(spec).await.unwrap();
        let view = registry.view(SERVICE).await.unwrap();
        let before = view.load();
        let mut events = registry.watch(SERVICE).unwrap();
        assert!(matches!(
            next(&mut events).await,
            InstanceEvent::Registered(_)
        ));
        server.kill();
        if longer_than_the_ttl {
            eventually("the TTL has passed", async || {
                let health = coordinator.health();
                health.sessions.iter().all(|session| !session.live)
            })
            .await;
        }
        server.restart().await;
        eventually("renewed", async || {
            coordinator.ping().await.is_ok() && coordinator.health().is_good()
        })
        .await;
        assert_eq!(view.load(), before);
        // The next that is told is what comes after.
        registration
            .update(InstanceUpdate::new().weight(3))
            .await
            .unwrap();
        let InstanceEvent::Updated { old, .. } = next(&mut events).await else {
            panic!("nothing else has happened");
        };
        assert_eq!(old, before[0]);
        registration.deregister().await.unwrap();
        coordinator.close().await;
    }
}

/// From one process: all are there, all come back when etcd has lost everything, and all leave.
async fn many_registrations_of_one_coordinator_come_back(server: Backend) {
    const MANY: usize = 300;
    let (coordinator, watching) = (server.coordinator().await, server.coordinator().await);
    let (registry, watcher) = (coordinator.registry(), watching.registry());
    let view = watcher.view(SERVICE).await.unwrap();
    let all = (0..MANY).map(|number| {
        let spec = InstanceSpec::new(SERVICE, format!("10.0.0.5:{}", number + 1));
        registry.register(spec)
    });
    let registrations = futures_util::future::try_join_all(all).await.unwrap();
    eventually("all are seen", async || view.load().len() == MANY).await;
    // However many they are: one for each kind of record.
    assert_eq!(own_watches(&coordinator), 2);
    server.lose_data().await;
    eventually("all are back", async || {
        records(&server, "svc").await.len() == MANY
            && registrations.iter().all(coord::Registration::is_registered)
    })
    .await;
    eventually("all are seen again", async || view.load().len() == MANY).await;
    let leaving = registrations
        .into_iter()
        .map(coord::Registration::deregister);
    futures_util::future::try_join_all(leaving).await.unwrap();
    assert!(records(&server, "inst").await.is_empty());
    assert!(coordinator.health().sessions.is_empty());
    eventually("nothing is watched for nobody", async || {
        own_watches(&coordinator) == 0
    })
    .await;
    coordinator.close().await;
    watching.close().await;
}
