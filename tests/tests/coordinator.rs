//! The coordinator: connecting, failing to, TLS and users, failover, runtimes.

use std::time::{Duration, Instant};

use coord::{Coordinator, Error, InstanceId, InstanceSpec, Options, Pem, Registration, Secret};
use coord_tests::{
    Backend, Cluster, Etcd, EtcdConfig, Proxy, ROOT_PASSWORD, ROOT_USER, Worker, backend::patient,
    dropped_after, eventually, on_both,
};
use futures_util::future::try_join_all;

fn options(etcd: &Etcd) -> Options {
    patient().endpoints([etcd.endpoint()])
}

/// A loopback address where nothing listens: bound once, so that nobody else has it, then closed.
fn refused() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

on_both! {
    connects_pings_reports_and_closes,
    the_callers_runtime_may_go_and_another_may_come,
    calls_fail_fast_while_etcd_is_down_and_work_again_after,
    connecting_can_be_dropped_at_every_poll,
    closing_in_two_tasks_at_once_releases_everything,
    a_close_that_is_dropped_at_any_await_goes_on,
    the_global_coordinator_is_connected_once_for_all_who_wait,
}

async fn connects_pings_reports_and_closes(server: Backend) {
    let coordinator = server.coordinator().await;
    assert!(coordinator.ping().await.unwrap() > Duration::ZERO);
    let health = coordinator.health();
    assert!(health.is_good(), "{health:?}");
    assert_eq!(health.connections.len(), 3);
    assert_eq!(
        health.connections[0].endpoint.as_deref(),
        Some(server.endpoint().as_str())
    );

    let module = coordinator.module("billing");
    assert_eq!(module.module_name(), Some("billing"));
    module.ping().await.unwrap();

    coordinator.close().await;
    coordinator.close().await;
    assert!(coordinator.health().closed);
    for handle in [&coordinator, &module] {
        assert!(matches!(handle.ping().await, Err(Error::Closed { .. })));
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_an_error_within_the_connect_timeout_that_names_it() {
    let (first, second) = (refused(), refused());
    let mut options = Options::test().endpoints([first.clone(), second.clone()]);
    options.connect_timeout = Duration::from_secs(1);
    let started = Instant::now();
    let error = Coordinator::connect(options).await.unwrap_err();
    // A hang, not a slow machine.
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.is_retryable() && !error.maybe_applied());
    let text = error.to_string();
    assert!(text.contains(&first) && text.contains(&second), "{text}");
}

#[tokio::test]
async fn a_silent_endpoint_is_an_error_within_the_connect_timeout_that_names_it() {
    // Accepts connections (the kernel does) and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut options = Options::test().endpoints([endpoint.clone()]);
    options.connect_timeout = Duration::from_millis(500);
    let started = Instant::now();
    let error = Coordinator::connect(options).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(error.to_string().contains(&endpoint), "{error}");
}

#[tokio::test]
async fn wrong_options_are_one_error_with_every_fault() {
    let none = Coordinator::connect(Options::default()).await.unwrap_err();
    assert!(matches!(none, Error::NotConfigured { .. }));
    assert!(none.to_string().contains("COORD_ENDPOINTS"), "{none}");

    let mut options = Options::test().endpoints(["localhost"]);
    options.lock.ttl = Duration::ZERO;
    options.user = Some("root".into());
    let error = Coordinator::connect(options).await.unwrap_err();
    let Error::Invalid { faults, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate_from_files_and_from_text() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new().tls()).await else {
        return;
    };
    let tls = etcd.tls().unwrap();
    let mut from_files = options(&etcd);
    from_files.tls.ca = Some(Pem::Path(tls.ca_path()));
    from_files.tls.cert = Some(Pem::Path(tls.client_cert_path()));
    from_files.tls.key = Some(Pem::Path(tls.client_key_path()));
    let mut from_text = options(&etcd);
    from_text.tls.ca = Some(Pem::from(tls.ca()));
    from_text.tls.cert = Some(Pem::from(tls.client_cert()));
    from_text.tls.key = Some(Pem::from(tls.client_key()));
    for options in [from_files, from_text] {
        let coordinator = Coordinator::connect(options).await.unwrap();
        coordinator.ping().await.unwrap();
        coordinator.close().await;
    }

    // Without the authority, and without the client's certificate, there is no connection; no key
    // stands in what is said about it.
    let mut stranger = options(&etcd);
    stranger.connect_timeout = Duration::from_secs(2);
    stranger.tls.ca = Some(Pem::from(tls.ca()));
    let error = Coordinator::connect(stranger).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("BEGIN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_also_after_the_token_expired() {
    let config = EtcdConfig::new().auth().argument("--auth-token-ttl=1");
    let Some(etcd) = Etcd::start_or_skip(config).await else {
        return;
    };
    let mut right = options(&etcd);
    right.user = Some(ROOT_USER.into());
    right.password = Some(Secret::new(ROOT_PASSWORD));
    let coordinator = Coordinator::connect(right.clone()).await.unwrap();
    coordinator.ping().await.unwrap();
    // etcd's simple tokens expire after a second without use; each ping would extend its life.
    let began = Instant::now();
    eventually("the token to expire", async || {
        began.elapsed() > Duration::from_secs(3)
    })
    .await;
    coordinator.ping().await.unwrap();
    coordinator.close().await;

    let mut wrong = right;
    wrong.password = Some(Secret::new("hunter2"));
    let error = Coordinator::connect(wrong).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let error = Coordinator::connect(options(&etcd)).await;
    // Without a user the connection stands, and what needs a permission is denied.
    let denied = match error {
        Ok(coordinator) => coordinator.ping().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(denied, Error::Denied { .. }), "{denied:?}");
}

async fn the_callers_runtime_may_go_and_another_may_come(server: Backend) {
    let work = tokio::task::spawn_blocking(move || {
        let runtime = || tokio::runtime::Runtime::new().unwrap();
        let first = runtime();
        let coordinator = first.block_on(async {
            let coordinator = server.coordinator().await;
            coordinator.ping().await.unwrap();
            coordinator
        });
        drop(first);
        runtime().block_on(async { coordinator.ping().await.unwrap() });
        // A runtime with neither timers nor IO of its own.
        let bare = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        bare.block_on(async {
            coordinator.ping().await.unwrap();
            coordinator.close().await;
        });
    });
    work.await.unwrap();
}

/// The endpoint that calls go to now.
fn in_use(coordinator: &Coordinator) -> Option<String> {
    coordinator.health().connections[0].endpoint.clone()
}

/// Calls go on, one after the other, until 200 of them succeeded in a row. One may fail only if it
/// was sent while `broken` was in use; returns how many did.
async fn failures_until_calm(coordinator: &Coordinator, broken: &str) -> usize {
    let (mut failed, mut calm) = (0, 0);
    while calm < 200 {
        let sent_to = in_use(coordinator);
        match coordinator.ping().await {
            Ok(_) => calm += 1,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                assert_eq!(sent_to.as_deref(), Some(broken), "sent elsewhere: {error}");
                failed += 1;
                calm = 0;
            }
        }
    }
    failed
}

/// Whose members elect no other leader because they had to wait for their turn on a busy machine.
async fn steady() -> Option<Cluster> {
    let config = EtcdConfig::new().argument("--election-timeout=5000");
    Cluster::start_or_skip(3, config).await
}

/// A follower is used and breaks, so that no election fails calls for a reason of its own.
async fn only_the_calls_that_it_had_fail(cluster: &Cluster, breaks: impl FnOnce(&Etcd)) {
    let leader = cluster.leader().await;
    let mut members: Vec<&Etcd> = cluster.members().iter().collect();
    members.rotate_left(leader + 1);
    let broken = members[0];
    let endpoints: Vec<String> = members.iter().map(|member| member.endpoint()).collect();
    let mut options = patient().endpoints(endpoints);
    // What the call to a stopped member takes.
    options.request_timeout = Duration::from_secs(10);
    // One try: what fails is seen.
    options.retry.max_attempts = 1;
    let coordinator = Coordinator::connect(options).await.unwrap();
    coordinator.ping().await.unwrap();
    assert_eq!(in_use(&coordinator), Some(broken.endpoint()));

    breaks(broken);
    let failed = failures_until_calm(&coordinator, &broken.endpoint()).await;
    // Sent one after the other: more than one was never under way.
    assert!(failed <= 1, "{failed} calls failed");
    assert_ne!(in_use(&coordinator), Some(broken.endpoint()));
    // It stays broken, and fails no call any more.
    assert_eq!(
        failures_until_calm(&coordinator, &broken.endpoint()).await,
        0
    );
    coordinator.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_member_fails_only_the_calls_that_it_had() {
    let Some(cluster) = steady().await else {
        return;
    };
    only_the_calls_that_it_had_fail(&cluster, Etcd::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_member_fails_only_the_calls_that_it_had() {
    let Some(cluster) = steady().await else {
        return;
    };
    only_the_calls_that_it_had_fail(&cluster, Etcd::stop).await;
}

async fn calls_fail_fast_while_etcd_is_down_and_work_again_after(server: Backend) {
    let coordinator = server.coordinator().await;
    server.kill();
    let error = eventually("a call to fail", async || coordinator.ping().await.err()).await;
    assert!(error.is_retryable(), "{error:?}");
    // Once the endpoint is known to be down nothing is waited for: a hundred calls within the time
    // that one may take. With the retries that options allow each takes some backoff.
    let error = eventually("calls to fail fast", async || {
        let started = Instant::now();
        let error = coordinator.ping().await.err()?;
        (started.elapsed() < Duration::from_secs(1)).then_some(error)
    })
    .await;
    assert!(error.to_string().contains(&server.endpoint()), "{error}");
    assert!(!error.maybe_applied());
    assert!(!coordinator.health().is_good());
    server.restart().await;
    eventually("calls to work again", async || {
        coordinator.ping().await.is_ok()
    })
    .await;
    eventually("health to be good again", async || {
        coordinator.health().is_good()
    })
    .await;
    coordinator.close().await;
}

async fn connecting_can_be_dropped_at_every_poll(server: Backend) {
    for polls in 0..6 {
        let mut connecting = Box::pin(Coordinator::connect(server.options()));
        for _ in 0..polls {
            if futures_util::poll!(connecting.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(connecting);
    }
    let coordinator = server.coordinator().await;
    coordinator.ping().await.unwrap();
    coordinator.close().await;
    let mut raw = server.client().await;
    let leases = raw.leases().await.unwrap();
    assert_eq!(leases.leases().len(), 0, "a dropped connect left a lease");
}

/// They are part of every future that may have to connect, as those of all `#[locked]` functions do.
#[test]
fn futures_that_may_connect_are_small() {
    assert!(size_of_val(&Coordinator::connect(Options::test())) < 4096);
    assert!(size_of_val(&coord::global()) < 4096);
}

/// The keys of coord's own on etcd.
async fn keys(server: &Backend) -> usize {
    let all = etcd_client::GetOptions::new()
        .with_prefix()
        .with_count_only();
    let found = server.client().await.get("coord/", Some(all)).await;
    usize::try_from(found.unwrap().count()).unwrap()
}

/// Registrations and ids with leases that outlive every wait of the test.
async fn busy(server: &Backend) -> (Coordinator, Vec<Registration>, Vec<InstanceId>) {
    let coordinator = server.coordinator().await;
    let (registry, ids) = (coordinator.registry(), coordinator.instance_ids("p", 0..=9));
    let spec = |n| InstanceSpec::new("s", format!("10.0.0.5:{n}")).ttl(Duration::from_secs(300));
    let registered = (1..=8).map(|n| registry.register(spec(n)));
    let registered = try_join_all(registered).await.unwrap();
    let held = try_join_all((0..4).map(|_| ids.acquire())).await.unwrap();
    assert!(keys(server).await > 0);
    (coordinator, registered, held)
}

async fn closing_in_two_tasks_at_once_releases_everything(server: Backend) {
    let (coordinator, _registered, _held) = busy(&server).await;
    let module = coordinator.module("other");
    tokio::join!(coordinator.close(), module.close());
    assert_eq!(keys(&server).await, 0);
}

async fn a_close_that_is_dropped_at_any_await_goes_on(server: Backend) {
    for polls in 1..=4 {
        let (coordinator, registered, held) = busy(&server).await;
        if polls == 1 {
            // At once, not at the next wake-up.
            let _ = futures_util::poll!(std::pin::pin!(coordinator.close()));
        } else {
            let _ = dropped_after(polls, coordinator.close()).await;
            drop(coordinator);
        }
        eventually("nothing is left", async || keys(&server).await == 0).await;
        assert!(held.iter().all(|id| id.get().is_err()));
        drop(registered);
    }
}

/// Many tasks need the global coordinator at once: they share its connection, and its failure.
async fn the_global_coordinator_is_connected_once_for_all_who_wait(server: Backend) {
    let proxy = Proxy::start(&server.endpoint()).await;
    let environment = [("COORD_ENDPOINTS", &*proxy.endpoint())];
    let mut worker = Worker::spawn_with("global", &["100"], &environment);
    assert_eq!(worker.expect("got").await, "100 0");
    assert_eq!(proxy.accepted(), 3, "the connections of one coordinator");

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let environment = [
        ("COORD_ENDPOINTS", &*silent),
        ("COORD_CONNECT_TIMEOUT", "1s"),
    ];
    let mut worker = Worker::spawn_with("global", &["100"], &environment);
    // Not after a hundred timeouts, one after the other.
    assert_eq!(worker.expect("got").await, "0 100");
}
