//! Without etcd: `COORD_MODE=off`.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::{
    io,
    sync::{Arc, Mutex as SyncMutex, OnceLock},
};

use coord::{Config, CoordConfig, Coordinator, Error, InstanceEvent, InstanceSpec, Mode, Options};
use coord_tests::{Worker, backend::patient, dropped_after, eventually};
use futures_util::StreamExt as _;
use tokio::sync::{Mutex, MutexGuard};

/// One test at a time: the process has one store, and each is to find it fresh.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn off() -> Options {
    let mut options = patient();
    options.mode = Mode::Off;
    options
}

async fn coordinator(options: Options) -> Coordinator {
    Coordinator::connect(options).await.unwrap()
}

#[derive(CoordConfig)]
#[coord(prefix = "shop")]
struct Shop {
    #[coord(default = 100)]
    limit: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_has_its_defaults_and_what_the_process_writes() {
    let _alone = alone().await;
    // Whatever the endpoints are, nobody asks them.
    let coordinator = coordinator(off().endpoints(["http://127.0.0.1:1"])).await;
    let config: Config<Shop> = coordinator.config().start().await.unwrap();
    assert_eq!(config.load().limit, 100);
    let center = coordinator.config_center();
    let version = center.set("shop/limit", &7).await.unwrap();
    config.wait_for_revision(version.revision()).await.unwrap();
    assert_eq!(config.load().limit, 7);
    center.set("shop/limit", &8).await.unwrap();
    assert_eq!(
        center.history::<u32>("shop/limit", 10).await.unwrap().len(),
        2
    );
    coordinator.ping().await.unwrap();
    assert!(coordinator.health().is_good());
    coordinator.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_exclusive_in_the_process() {
    let _alone = alone().await;
    let (one, two) = (coordinator(off()).await, coordinator(off()).await);
    let held = one.lock("jobs").acquire().await.unwrap();
    let error = two.lock("jobs").try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { two.lock("jobs").acquire().await }
    });
    let waits = async || two.inspect_locks("jobs").await.unwrap()[0].waiters.len() == 1;
    eventually("it waits", waits).await;
    let token = held.fencing_token();
    held.unlock().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().fencing_token() > token);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_id_is_the_one_that_is_given_or_the_lowest() {
    let _alone = alone().await;
    let lowest = coordinator(off()).await;
    let pool = |coordinator: &Coordinator, name| coordinator.instance_ids(name, 3..=9);
    let three = pool(&lowest, "shop").acquire().await.unwrap();
    assert_eq!(three.get().unwrap(), 3);
    // A second one of the same process is another one.
    let other = pool(&lowest, "shop").acquire().await.unwrap();
    assert_ne!(other.get().unwrap(), 3);

    let mut options = off();
    options.off.instance_id = Some(7);
    let given = coordinator(options).await;
    let seven = pool(&given, "mail").sticky().acquire().await.unwrap();
    assert_eq!(seven.get().unwrap(), 7);
    let error = given.instance_ids("small", 0..=5).acquire().await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    lowest.close().await;
    given.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_are_where_the_options_say() {
    let _alone = alone().await;
    let mut options = off();
    let addresses = ["10.0.0.5:50051", "[::1]:50051"].map(str::to_owned);
    options
        .off
        .endpoints
        .insert("mail".into(), addresses.to_vec());
    // A second coordinator of the process writes the same.
    let (coordinator, again) = (
        coordinator(options.clone()).await,
        coordinator(options).await,
    );
    let registry = coordinator.registry();
    let found = async |service: &str| {
        let found = registry.discover(service).await.unwrap();
        found.into_iter().map(|it| it.address).collect::<Vec<_>>()
    };
    assert_eq!(found("mail").await, addresses);
    assert!(found("shop").await.is_empty());

    let mut events = again.registry().watch("shop").unwrap();
    let spec = InstanceSpec::new("shop", "127.0.0.1:80");
    let registration = registry.register(spec).await.unwrap();
    let event = events.next().await.unwrap();
    assert!(matches!(event, InstanceEvent::Registered(_)), "{event:?}");
    assert_eq!(found("shop").await, ["127.0.0.1:80"]);
    registration.deregister().await.unwrap();
    coordinator.close().await;
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_is_refused() {
    let _alone = alone().await;
    let mut options = off();
    let endpoints = &mut options.off.endpoints;
    endpoints.insert("mail".into(), vec!["nowhere".into()]);
    let error = Coordinator::connect(options).await.unwrap_err();
    let named = error.to_string().contains("nowhere");
    assert!(named && matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_goes_with_the_last_coordinator() {
    let _alone = alone().await;
    let (one, two) = (coordinator(off()).await, coordinator(off()).await);
    one.config_center().set("shop/limit", &7).await.unwrap();
    one.close().await;
    let center = two.config_center();
    assert_eq!(
        center
            .get::<u32>("shop/limit")
            .await
            .unwrap()
            .unwrap()
            .value,
        7
    );
    two.close().await;
    // What another test has dropped may still be closing.
    eventually("it is gone", async || {
        let three = coordinator(off()).await;
        let found = three.config_center().get::<u32>("shop/limit").await;
        three.close().await;
        found.unwrap().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_may_be_dropped_at_every_await() {
    let _alone = alone().await;
    for polls in 0.. {
        let connecting = Box::pin(Coordinator::connect(off()));
        if let Some(connected) = dropped_after(polls, connecting).await {
            connected.unwrap().close().await;
            assert!(polls > 0);
            return;
        }
    }
}

/// What is logged in this process, by any of its tests.
fn logged() -> Arc<SyncMutex<Vec<u8>>> {
    struct Into(Arc<SyncMutex<Vec<u8>>>);

    impl io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static LOG: OnceLock<Arc<SyncMutex<Vec<u8>>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Arc::new(SyncMutex::new(Vec::new()));
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || Into(writer.clone()))
            .init();
        log
    });
    log.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_loudly_what_it_is() {
    let _alone = alone().await;
    let log = logged();
    let said = || {
        let said = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        let loud = |line: &&str| line.contains(" WARN coord::coordinator");
        let lines = said.lines().filter(loud);
        let lines = lines.filter(|line| line.contains("NOTHING IS COORDINATED"));
        lines.count()
    };
    // What another test has dropped may still be closing, with the store.
    let one = eventually("a fresh store", async || {
        let one = coordinator(off()).await;
        if said() == 1 {
            return Some(one);
        }
        one.close().await;
        None
    })
    .await;
    let two = coordinator(off()).await;
    assert_eq!(said(), 1);
    one.close().await;
    two.close().await;
}

/// With the environment alone, as a program is started by hand.
fn spawn(command: &str, how: &str, environment: &[(&str, &str)]) -> Worker {
    let mut all = vec![("COORD_MODE", "off"), ("COORD_ENDPOINTS", "")];
    all.extend(environment);
    Worker::spawn_with(command, &[how], &all)
}

#[tokio::test]
async fn a_service_runs_with_the_id_of_the_environment() {
    let environment = [("COORD_INSTANCE_ID", "5"), ("COORD_DRAIN", "0s")];
    for command in ["service", "service-by-hand"] {
        let mut worker = spawn(command, "serve", &environment);
        worker.expect("listens").await;
        assert!(worker.expect("id").await.starts_with("5 "));
        assert_eq!(worker.expect("config").await, "hello");
        worker.expect("ready").await;
        worker.terminate();
        worker.expect("told").await;
        assert_eq!(worker.ended().await.code(), Some(0), "{command}");
    }
}

#[tokio::test]
async fn an_unknown_mode_is_an_error() {
    let worker = spawn("service", "serve", &[("COORD_MODE", "offf")]);
    assert_eq!(worker.ended().await.code(), Some(1));
    let errors = worker.errors();
    assert!(errors.contains("did you mean `off`?"), "{errors}");
}

#[tokio::test]
async fn the_global_coordinator_is_there() {
    let mut worker = spawn("global", "50", &[]);
    assert_eq!(worker.expect("got").await, "50 0");
    assert!(worker.finish().await.success());
}
