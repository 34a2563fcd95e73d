//! Looking for some instances, and what is known of one.

use std::time::{Duration, SystemTime};

use coord::{Error, InstanceHealth, InstanceSpec, InstanceUpdate};
use coord_tests::{Backend, eventually, on_both};
use etcd_client::PutOptions;

use super::{SERVICE, log, records, spec};

on_both! {
    some_are_found_by_what_they_are,
    those_that_are_not_healthy_are_found_when_asked_for,
    the_younger_of_two_with_one_address_counts,
    the_last_heartbeat_is_told_by_the_lease,
    two_with_one_name_both_stand_and_a_warning_names_them,
    a_compaction_between_two_pages_is_no_error,
}

async fn some_are_found_by_what_they_are(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mut registrations = Vec::new();
    for (port, version, zone, tags) in [
        (1, "1.4.0", "a", &["blue"][..]),
        (2, "1.9", "b", &["blue", "canary"]),
        (3, "2.0.0", "a", &[]),
        (4, "2.0.0-rc.1", "b", &["blue"]),
        (5, "latest", "a", &["canary"]),
    ] {
        let spec = InstanceSpec::new(SERVICE, format!("10.0.0.5:{port}"))
            .version(version)
            .zone(zone)
            .tags(tags.iter().copied());
        registrations.push(registry.register(spec).await.unwrap());
    }
    let plain = InstanceSpec::new(SERVICE, "10.0.0.5:6");
    registrations.push(registry.register(plain).await.unwrap());

    let all = registry.discover(SERVICE);
    for (found, expected) in [
        (all.clone(), "123456"),
        (all.clone().version("1.4"), "12"),
        (all.clone().version(">=1.5, <3"), "23"),
        (all.clone().version("2.0.0-rc.1"), "34"),
        (all.clone().version("*"), "123"),
        (all.clone().zone("a"), "135"),
        (all.clone().tag("blue"), "124"),
        (all.clone().tag("blue").tag("canary"), "2"),
        (all.clone().version("1").zone("b").tag("blue"), "2"),
        (all.clone().zone("c"), ""),
    ] {
        let what = format!("{found:?}");
        let found = found.await.unwrap();
        let mut ports: Vec<_> = found
            .iter()
            .filter_map(|i| i.address.chars().last())
            .collect();
        ports.sort_unstable();
        assert_eq!(String::from_iter(ports), expected, "{what}");
    }
    let refused = all.version("new").await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    for registration in registrations {
        registration.deregister().await.unwrap();
    }
    coordinator.close().await;
}

async fn those_that_are_not_healthy_are_found_when_asked_for(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let sick = InstanceSpec::new(SERVICE, "10.0.0.5:1")
        .zone("a")
        .endpoint("http", "10.0.0.5:80");
    let sick = registry.register(sick).await.unwrap();
    let unhealthy = InstanceUpdate::new().health(InstanceHealth::Unhealthy);
    sick.update(unhealthy).await.unwrap();
    let well = registry
        .register(InstanceSpec::new(SERVICE, "10.0.0.5:2"))
        .await
        .unwrap();
    let go = r#"{"Op":0,"Addr":"10.0.0.5:3","Metadata":{"zone":"a"}}"#;
    let mut client = server.client().await;
    client
        .put("coord/svc/user-service/go", go, None)
        .await
        .unwrap();

    let all = registry.discover(SERVICE);
    for (found, expected) in [
        (all.clone(), "23"),
        (all.clone().any_health(), "123"),
        (all.clone().any_health().zone("a"), "13"),
        (all.clone().health([InstanceHealth::Unhealthy]), "1"),
        (
            all.clone()
                .health([InstanceHealth::Unhealthy, InstanceHealth::Healthy]),
            "123",
        ),
        (all.health([]), ""),
    ] {
        let what = format!("{found:?}");
        let found = found.await.unwrap();
        let mut ports: Vec<_> = found
            .iter()
            .filter_map(|i| i.address.chars().last())
            .collect();
        ports.sort_unstable();
        assert_eq!(String::from_iter(ports), expected, "{what}");
        for instance in found.iter().filter(|found| found.address.ends_with('1')) {
            assert_eq!(instance.instance, sick.instance());
            assert_eq!(instance.endpoints["http"], "10.0.0.5:80");
            assert!(instance.started_at <= instance.registered_at);
            assert!(
                instance
                    .started_at
                    .is_some_and(|at| at <= SystemTime::now())
            );
        }
    }
    sick.deregister().await.unwrap();
    well.deregister().await.unwrap();
    coordinator.close().await;
}

/// A process that crashed and was started again at the same address.
async fn the_younger_of_two_with_one_address_counts(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let crashed = registry.register(spec().version("1.0.0")).await.unwrap();
    let again = registry.register(spec().version("2.0.0")).await.unwrap();
    let all = registry.discover(SERVICE);
    assert_eq!(all.clone().await.unwrap()[0].instance, again.instance());
    // Also where only the elder would suit: nothing of it runs there any more.
    assert!(all.clone().version("1").await.unwrap().is_empty());
    let view = registry.view(SERVICE).await.unwrap();
    assert_eq!(view.load().len(), 1);
    assert_eq!(view.load()[0].instance, again.instance());
    assert_eq!(all.any_health().await.unwrap().len(), 2);
    crashed.deregister().await.unwrap();
    again.deregister().await.unwrap();
    coordinator.close().await;
}

async fn the_last_heartbeat_is_told_by_the_lease(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let started = SystemTime::now();
    let registration = registry
        .register(spec().ttl(Duration::from_secs(60)))
        .await
        .unwrap();
    let instance = registry.discover(SERVICE).await.unwrap().remove(0);
    let beat = registry.last_heartbeat(&instance).await.unwrap();
    // etcd rounds to seconds.
    assert!(beat + Duration::from_secs(2) >= started);
    assert!(beat <= SystemTime::now());
    registration.deregister().await.unwrap();
    let gone = registry.last_heartbeat(&instance).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");

    // It is not on a lease: nobody renews anything.
    let go = r#"{"Op":0,"Addr":"10.0.0.5:3"}"#;
    let mut client = server.client().await;
    client
        .put("coord/svc/user-service/go", go, None)
        .await
        .unwrap();
    let instance = registry.discover(SERVICE).await.unwrap().remove(0);
    let none = registry.last_heartbeat(&instance).await.unwrap_err();
    assert!(matches!(none, Error::NotFound { .. }), "{none:?}");
    coordinator.close().await;
}

async fn two_with_one_name_both_stand_and_a_warning_names_them(server: Backend) {
    let log = log();
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let first = InstanceSpec::new(SERVICE, "10.0.0.5:1").instance("twin");
    let first = registry.register(first).await.unwrap();
    let other = InstanceSpec::new(SERVICE, "10.0.0.5:2").instance("single");
    let other = registry.register(other).await.unwrap();
    let second = InstanceSpec::new(SERVICE, "10.0.0.5:3").instance("twin");
    let second = registry.register(second).await.unwrap();
    let named = || {
        let lines = log.lines();
        let named =
            |line: &&String| line.contains("the same name") && line.contains(first.instance());
        lines.iter().filter(named).cloned().collect::<Vec<_>>()
    };
    eventually("a warning", async || !named().is_empty()).await;
    let warnings = named();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(second.instance()) && warnings[0].contains("twin"));
    assert_eq!(registry.discover(SERVICE).await.unwrap().len(), 3);
    for registration in [first, other, second] {
        registration.deregister().await.unwrap();
    }
    coordinator.close().await;
}

async fn a_compaction_between_two_pages_is_no_error(server: Backend) {
    const RECORDS: usize = 2_500;
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    let mut client = server.client().await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    for number in 0..RECORDS {
        let go = format!(r#"{{"Op":0,"Addr":"10.0.0.5:{}"}}"#, number + 1);
        let key = format!("coord/svc/user-service/{number}");
        let put = PutOptions::new().with_lease(lease);
        client.put(key, go, Some(put)).await.unwrap();
    }
    let compacting = async {
        for _ in 0..100 {
            let put = client.put("other", "", None).await.unwrap();
            let revision = put.header().unwrap().revision();
            client.compact(revision, None).await.unwrap();
        }
    };
    let mut compacting = std::pin::pin!(compacting);
    let mut lists = 0;
    loop {
        let listing = std::pin::pin!(async { registry.discover(SERVICE).await.unwrap() });
        let both = futures_util::future::select(&mut compacting, listing).await;
        match both {
            futures_util::future::Either::Left(((), listing)) => {
                assert_eq!(listing.await.len(), RECORDS);
                break;
            }
            futures_util::future::Either::Right((found, _)) => {
                assert_eq!(found.len(), RECORDS);
                lists += 1;
            }
        }
    }
    println!("{lists} lists beside 100 compactions");
    assert!(records(&server, "svc").await.len() == RECORDS);
    coordinator.close().await;
}
