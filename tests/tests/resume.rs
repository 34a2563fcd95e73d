//! etcd goes and comes back under a live config, a held lock and a registration.

use std::time::{Duration, Instant};

use coord::{CoordConfig, Coordinator, Error, InstanceSpec, LostReason, Options};
use coord_tests::{Backend, Proxy, backend::patient, eventually, on_both};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;

#[derive(CoordConfig, Debug)]
#[coord(prefix = "app")]
struct App {
    #[coord(default = 1)]
    size: u32,
}

/// A TTL that an outage is to outlast, or not.
fn options(endpoint: String, ttl: u64) -> Options {
    let mut options = patient().endpoints([endpoint]);
    options.lock.ttl = Duration::from_secs(ttl);
    options.registry.ttl = Duration::from_secs(ttl);
    options
}

async fn put(server: &Backend, key: &str, value: &str) -> i64 {
    let reply = server.client().await.put(key, value, None).await.unwrap();
    reply.header().unwrap().revision()
}

on_both! {
    a_restart_shorter_than_the_ttl_is_not_seen,
    an_outage_longer_than_the_ttl_loses_the_lock_and_brings_the_rest_back,
    a_connection_that_is_cut_again_and_again_loses_nothing,
    a_bad_value_is_refused_and_the_old_one_stays,
}

async fn a_restart_shorter_than_the_ttl_is_not_seen(server: Backend) {
    const TTL: u64 = 30;
    let coordinator = Coordinator::connect(options(server.endpoint(), TTL))
        .await
        .unwrap();
    let config = coordinator.config::<App>().start().await.unwrap();
    let guard = coordinator.lock("held").acquire().await.unwrap();
    let registration = coordinator
        .registry()
        .register(InstanceSpec::new("svc", "127.0.0.1:4711"))
        .await
        .unwrap();
    let observer = Coordinator::connect(options(server.endpoint(), TTL))
        .await
        .unwrap();
    let mut events = observer.registry().watch("svc").unwrap();
    // The instance as it stands.
    events.next().await.unwrap();

    server.kill();
    // No call of any kind gets through.
    assert!(coordinator.ping().await.is_err());
    assert!(guard.is_held(), "an outage within the TTL loses nothing");
    assert!(guard.remaining() > Duration::ZERO);
    server.restart().await;
    let back = Instant::now();

    let revision = put(&server, "/config/app/size", "2").await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().size, 2);
    eventually("etcd says that the lock is held", async || {
        match guard.verify().await {
            Ok(()) => true,
            // Its connection has not been made again yet.
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                false
            }
        }
    })
    .await;
    assert!(guard.lost().now_or_never().is_none());
    eventually("the lease to be renewed after the restart", async || {
        // As late as this, only a renewal after the restart leaves as much.
        guard.remaining() + back.elapsed() > Duration::from_secs(TTL)
    })
    .await;
    assert!(registration.is_registered());
    assert!(
        events.next().now_or_never().is_none(),
        "the registration is the same one, without an event"
    );
    assert!(guard.unlock().await.unwrap().confirmed);
    registration.deregister().await.unwrap();
    coordinator.close().await;
}

async fn an_outage_longer_than_the_ttl_loses_the_lock_and_brings_the_rest_back(server: Backend) {
    let coordinator = Coordinator::connect(options(server.endpoint(), 2))
        .await
        .unwrap();
    let config = coordinator.config::<App>().start().await.unwrap();
    let registration = coordinator
        .registry()
        .register(InstanceSpec::new("svc", "127.0.0.1:4711"))
        .await
        .unwrap();
    let guard = coordinator.lock("held").acquire().await.unwrap();
    // The body itself says that it runs: an attempt of ours in its place could be the one that it
    // still waits for when etcd goes.
    let (runs, running) = oneshot::channel();
    let body = tokio::spawn({
        let coordinator = coordinator.clone();
        async move {
            coordinator
                .lock("body")
                .run(async |_held| {
                    runs.send(()).unwrap();
                    std::future::pending::<()>().await;
                })
                .await
        }
    });
    running.await.unwrap();

    server.kill();
    let began = Instant::now();
    assert_eq!(guard.lost().await, LostReason::Expired);
    // By its own clock, no later than the TTL: nobody had to tell it.
    assert!(began.elapsed() < Duration::from_secs(50));
    assert!(!guard.is_held());
    let lost = body.await.unwrap().unwrap_err();
    assert!(matches!(lost, Error::Lost { .. }), "{lost:?}");
    assert_eq!(config.load().size, 1, "the last value stays");
    server.restart().await;

    let revision = put(&server, "/config/app/size", "3").await;
    config.wait_for_revision(revision).await.unwrap();
    assert_eq!(config.load().size, 3);
    eventually("the registration to be back", async || {
        registration.is_registered()
            && coordinator
                .registry()
                .discover("svc")
                .await
                .is_ok_and(|found| found.len() == 1)
    })
    .await;
    // New acquires get a new session; the lost one's entry does not block them.
    let again = coordinator.lock("held").acquire().await.unwrap();
    assert!(again.fencing_token() > guard.fencing_token());
    assert!(!guard.is_held(), "a lost lock stays lost");
    coordinator.close().await;
}

async fn a_connection_that_is_cut_again_and_again_loses_nothing(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let coordinator = Coordinator::connect(options(proxy.endpoint(), 60))
        .await
        .unwrap();
    let config = coordinator.config::<App>().start().await.unwrap();
    let guard = coordinator.lock("held").acquire().await.unwrap();
    for size in 2..12 {
        let before = proxy.accepted();
        assert!(proxy.cut().await > 0);
        let revision = put(&server, "/config/app/size", &size.to_string()).await;
        config.wait_for_revision(revision).await.unwrap();
        assert_eq!(config.load().size, size);
        eventually("a new connection", async || proxy.accepted() > before).await;
    }
    guard.verify().await.unwrap();
    assert!(guard.is_held());
    assert!(guard.unlock().await.unwrap().confirmed);
    coordinator.close().await;
}

async fn a_bad_value_is_refused_and_the_old_one_stays(server: Backend) {
    let coordinator = Coordinator::connect(options(server.endpoint(), 60))
        .await
        .unwrap();
    let config = coordinator.config::<App>().start().await.unwrap();
    let mut values = config.subscribe();
    let good = put(&server, "/config/app/size", "7").await;
    config.wait_for_revision(good).await.unwrap();
    assert_eq!(values.changed().await.unwrap().size, 7);

    let bad = put(&server, "/config/app/size", "seven").await;
    eventually("the refusal", async || config.status().refusal.is_some()).await;
    let refusal = config.status().refusal.unwrap();
    assert_eq!(refusal.revision, bad);
    let text = refusal.to_string();
    assert!(text.contains("/config/app/size"), "{text}");
    assert_eq!(config.load().size, 7);
    assert!(values.changed().now_or_never().is_none());

    let good = put(&server, "/config/app/size", "8").await;
    config.wait_for_revision(good).await.unwrap();
    assert_eq!(config.load().size, 8);
    assert!(config.status().refusal.is_none());
    coordinator.close().await;
    // Closed: the value stays.
    assert_eq!(config.load().size, 8);
}
