//! What each word of `#[coord::service]` does: in a process of its own, and by hand on a test's server.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::{
    fs,
    io::Write,
    process::ExitCode,
    sync::{Mutex, Once},
    thread,
    time::{Duration, Instant},
};

use coord::{
    Context, Coordinator, Error, FromContext, Instance, InstanceHealth, InstanceUpdate,
    OnExhausted, OnIdLost, Ready, Service,
    embedded::{Rpc, Server},
};
use coord_tests::{Backend, Worker, eventually, on_both};
use etcd_client::{GetOptions, KeyValue};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

on_both! {
    every_word_is_obeyed,
    the_environment_wins,
    a_main_that_is_not_async_is_served_and_stopped,
    one_that_does_not_return_is_ended_and_one_that_panics_leaves_its_id,
}

async fn keys(server: &Backend, prefix: &str) -> Vec<KeyValue> {
    let options = Some(GetOptions::new().with_prefix());
    let found = server.client().await.get(prefix, options).await;
    found.unwrap().take_kvs()
}

/// The first record below a prefix, once there is one.
async fn record(server: &Backend, prefix: &str) -> (String, Value, i64) {
    let found = async || keys(server, prefix).await.into_iter().next();
    let kv = eventually("a record", found).await;
    let json = serde_json::from_slice(kv.value()).unwrap();
    (kv.key_str().unwrap().to_owned(), json, kv.lease())
}

async fn granted(server: &Backend, lease: i64) -> i64 {
    let answer = server.client().await.lease_time_to_live(lease, None).await;
    answer.unwrap().granted_ttl()
}

fn spawn(server: &Backend, command: &str, how: &str, environment: &[(&str, &str)]) -> Worker {
    let endpoint = server.endpoint();
    let mut all = vec![("COORD_ENDPOINTS", endpoint.as_str())];
    all.extend(environment);
    Worker::spawn_with(command, &[how], &all)
}

async fn every_word_is_obeyed(server: Backend) {
    let mut client = server.client().await;
    let place = "/words/config/at/eu-1a/text";
    client.put(place, "in the east", None).await.unwrap();
    let mut worker = spawn(&server, "service-words", "", &[("WORDS_ZONE", "eu-1a")]);
    // `dense`, in a pool that nobody else uses.
    assert_eq!(worker.expect("id").await, "0");
    assert_eq!(worker.expect("thread").await, "words");
    assert_eq!(worker.expect("config").await, "in the east");
    let slot = keys(&server, "words/coord/id/words-pool/slot/").await;
    // `hold` and `cool_down`.
    assert_eq!(granted(&server, slot[0].lease()).await, 11);

    // `ready = listening`: not before the last one is taken.
    worker.say("first");
    assert_eq!(worker.expect("taken").await, "grpc");
    let (_, starting, _) = record(&server, "words/coord/inst/words-service/").await;
    assert_eq!(starting["Coord"]["status"], "starting");
    assert!(keys(&server, "words/coord/svc/").await.is_empty());
    worker.say("second");
    assert_eq!(worker.expect("taken").await, "http");
    let (key, json, lease) = record(&server, "words/coord/svc/").await;
    let zone = "words/coord/svc/words-service/eu-1a/";
    assert!(key.starts_with(zone), "{key}");
    let metadata = json!({
        "version": "1.2.3", "zone": "eu-1a", "weight": 5, "team": "payments", "build-id": "7",
    });
    assert_eq!(json["Metadata"], metadata);
    let address = json["Addr"].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let endpoints = &json["Coord"]["endpoints"];
    assert_eq!(endpoints["grpc"], address);
    let http = endpoints["http"].as_str().unwrap();
    assert!(http.starts_with("http.internal:"), "{http}");
    assert_eq!(json["Coord"]["tags"], json!(["blue", "green"]));
    assert_eq!(json["Coord"]["id"], 0);
    assert_eq!(granted(&server, lease).await, 4);

    worker.terminate();
    worker.expect("told").await;
    assert_eq!(worker.ended().await.code(), Some(0));
    // Before `main`, by a subscriber that `before` has set: who has won.
    let log = worker.errors();
    for won in ["weight = 5 (the program)", "etcd_down = 5s (the program)"] {
        assert!(log.contains(won), "{won} in {log}");
    }
}

async fn the_environment_wins(server: Backend) {
    let environment = [
        ("COORD_NAMESPACE", "env/"),
        ("COORD_SERVICE_NAME", "env-service"),
        ("COORD_ZONE", "us"),
        ("COORD_WEIGHT", "7"),
        ("COORD_TAGS", "red"),
        ("COORD_METADATA", "team=id"),
        ("COORD_ADVERTISE", "grpc=10.1.2.3:99"),
        ("COORD_TTL", "3s"),
        ("COORD_READY", "immediate"),
        ("COORD_INSTANCE_ID_POOL", "env-pool"),
    ];
    let mut worker = spawn(&server, "service-words", "", &environment);
    worker.expect("id").await;
    worker.expect("thread").await;
    assert_eq!(worker.expect("config").await, "nowhere");
    let (_, json, lease) = record(&server, "env/coord/svc/env-service/us/").await;
    let metadata = json!({
        "version": "1.2.3", "zone": "us", "weight": 7, "team": "id", "build-id": "7",
    });
    assert_eq!(json["Metadata"], metadata);
    assert_eq!(json["Addr"], "10.1.2.3:99");
    assert_eq!(json["Coord"]["tags"], json!(["red"]));
    assert_eq!(granted(&server, lease).await, 3);
    let slots = keys(&server, "env/coord/id/env-pool/slot/").await;
    assert_eq!(slots.len(), 1);
    let log = worker.errors();
    assert!(log.contains("zone = \"us\" (COORD_ZONE)"), "{log}");
    worker.kill();
}

async fn a_main_that_is_not_async_is_served_and_stopped(server: Backend) {
    let mut worker = spawn(&server, "service-sync", "serve", &[]);
    let address = worker.expect("listens").await;
    worker.expect("ready").await;
    let (_, json, _) = record(&server, "coord/svc/sync-service/").await;
    assert_eq!(json["Addr"], address.as_str());
    worker.terminate();
    worker.expect("told").await;
    assert_eq!(worker.ended().await.code(), Some(3));
    for left in ["coord/svc/", "coord/inst/", "coord/id/sync-service/slot/"] {
        assert!(keys(&server, left).await.is_empty(), "{left}");
    }
}

async fn one_that_does_not_return_is_ended_and_one_that_panics_leaves_its_id(server: Backend) {
    // To print where it panicked takes its time, too.
    for (how, limit, code) in [("deaf", "1s", 143), ("panic", "30s", 101)] {
        let limit = [("COORD_SHUTDOWN_TIMEOUT", limit)];
        let mut worker = spawn(&server, "service-sync", how, &limit);
        worker.expect("listens").await;
        worker.expect("ready").await;
        worker.terminate();
        worker.expect("told").await;
        assert_eq!(worker.ended().await.code(), Some(code), "{how}");
        assert!(keys(&server, "coord/inst/").await.is_empty(), "{how}");
    }
    // Something may still be using them.
    let left = keys(&server, "coord/id/sync-service/slot/").await;
    assert_eq!(left.len(), 2);
}

/// A service that a test runs.
struct Running {
    context: Context,
    ended: JoinHandle<ExitCode>,
    /// When `main` was told to stop.
    told: oneshot::Receiver<Instant>,
}

/// Runs it until its `main` runs, which waits to be told.
async fn run<S: 'static>(service: Service<S>) -> Running {
    let (started, context) = oneshot::channel();
    let (is_told, told) = oneshot::channel();
    let ended = tokio::task::spawn_blocking(|| {
        service.run(async move |context: Context| {
            let _ = started.send(context.clone());
            context.shutdown().await;
            let _ = is_told.send(Instant::now());
        })
    });
    Running {
        context: context.await.expect("it starts"),
        ended,
        told,
    }
}

impl Running {
    async fn stop(self) -> ExitCode {
        self.context.stop();
        self.ended.await.unwrap()
    }
}

async fn found(coordinator: &Coordinator, service: &str) -> Vec<Instance> {
    coordinator.registry().discover(service).await.unwrap()
}

async fn until_found(coordinator: &Coordinator, service: &str) -> Instance {
    let one = async || found(coordinator, service).await.pop();
    eventually("others find it", one).await
}

fn local(name: &str) -> Service {
    Service::new(name)
        .listen("127.0.0.1:0")
        .drain(Duration::ZERO)
}

#[coord::test]
async fn immediate_is_ready_when_main_begins(coordinator: Coordinator) {
    let running = run(local("now").ready(Ready::Immediate)).await;
    until_found(&coordinator, "now").await;
    assert_eq!(running.stop().await, ExitCode::SUCCESS);
    assert!(found(&coordinator, "now").await.is_empty());
}

#[coord::test]
async fn listening_is_ready_when_the_last_listener_is_taken(coordinator: Coordinator) {
    let service = Service::new("two")
        .listen_named("grpc", "127.0.0.1:0")
        .listen_named("http", "127.0.0.1:0")
        .drain(Duration::ZERO)
        .ready(Ready::Listening);
    let running = run(service).await;
    let listeners = running.context.listeners().clone();
    let only = running.context.listener().unwrap_err();
    assert!(only.to_string().contains("\"grpc\", \"http\""), "{only}");
    let unknown = listeners.take("admin").unwrap_err();
    assert!(matches!(unknown, Error::NotFound { .. }), "{unknown}");
    let http = listeners.take("http").unwrap();
    let again = listeners.take("http").unwrap_err();
    assert!(matches!(again, Error::Invalid { .. }), "{again}");
    let known = async || {
        let all = coordinator.registry().discover("two").any_health().await;
        all.unwrap().pop()
    };
    let starting = eventually("it is known", known).await;
    assert_eq!(starting.health, InstanceHealth::Starting);
    let grpc = listeners.take("grpc").unwrap();
    let instance = until_found(&coordinator, "two").await;
    let (grpc, http) = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
    assert_eq!(instance.address, grpc.to_string());
    assert_eq!(instance.endpoints["grpc"], grpc.to_string());
    assert_eq!(instance.endpoints["http"], http.to_string());
    running.stop().await;
}

/// Where it cannot be used it stays what it is, and nobody is told that it is served.
#[coord::test]
async fn a_listener_is_not_taken_where_there_is_no_runtime(coordinator: Coordinator) {
    let running = run(local("thread").ready(Ready::Listening)).await;
    let context = running.context.clone();
    let elsewhere = thread::spawn(move || context.listener().map(drop));
    let refused = elsewhere.join().expect("no panic").unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    assert!(found(&coordinator, "thread").await.is_empty());
    let _listener = running.context.listener().unwrap();
    until_found(&coordinator, "thread").await;
    running.stop().await;
}

#[coord::test]
async fn a_service_can_stop_itself_and_drains_as_it_is_told_to(coordinator: Coordinator) {
    let drain = Duration::from_millis(300);
    // Requests are heard of by `serve_tonic` alone: without it there is no silence.
    let service = local("own").drain(drain).quiet(Duration::ZERO);
    let running = run(service.ready(Ready::Immediate)).await;
    until_found(&coordinator, "own").await;
    let asked = Instant::now();
    running.context.stop();
    let told = running.told.await.unwrap();
    assert!(told.duration_since(asked) >= drain);
    assert_eq!(running.ended.await.unwrap(), ExitCode::SUCCESS);
}

/// Others may still use what they have heard before; and there is nothing to wait for longer.
#[coord::test]
async fn the_drain_is_kept_while_a_lost_registration_is_made_again(
    coordinator: Coordinator,
    server: &Server,
) {
    let drain = Duration::from_millis(300);
    let running = run(local("lost").drain(drain).ready(Ready::Immediate)).await;
    until_found(&coordinator, "lost").await;
    server.refuse(Rpc::LeaseGrant);
    let heartbeats = running.context.coordinator().health().sessions;
    let lease = heartbeats.iter().find(|it| it.purpose == "registration");
    server.expire_lease(lease.expect("it has one").lease);
    let registration = running.context.registration().unwrap();
    eventually("it knows", async || !registration.is_registered()).await;
    let asked = Instant::now();
    running.context.stop();
    let told = running.told.await.unwrap();
    assert!(told.duration_since(asked) >= drain);
    assert_eq!(running.ended.await.unwrap(), ExitCode::SUCCESS);
    server.accept(Rpc::LeaseGrant);
    assert!(found(&coordinator, "lost").await.is_empty());
}

/// Deletes all slots, as an operator may.
async fn take_ids_away(server: &Server) {
    let mut client = etcd_client::Client::connect([server.endpoint()], None).await;
    let client = client.as_mut().unwrap();
    let options = etcd_client::DeleteOptions::new().with_prefix();
    client.delete("coord/id/", Some(options)).await.unwrap();
}

#[coord::test]
async fn a_lost_id_stops_the_service_which_then_has_failed(server: &Server) {
    let running = run(local("exits").instance_id(7)).await;
    take_ids_away(server).await;
    assert_eq!(running.ended.await.unwrap(), ExitCode::FAILURE);
}

/// Tells that it is being made, and is never made.
struct Endless;

static BEING_MADE: Mutex<Option<oneshot::Sender<()>>> = Mutex::new(None);

impl<S> FromContext<S> for Endless {
    type Error = Error;

    async fn from_context(_: &Context) -> Result<Self, Error> {
        BEING_MADE.lock().unwrap().take().map(|told| told.send(()));
        std::future::pending().await
    }
}

#[coord::service(name = "begins", listen = "127.0.0.1:0", instance_id(max = 7))]
async fn never_begins(_: Endless) {}

#[coord::test]
async fn an_id_that_is_lost_before_main_begins_is_a_failure_too(server: &Server) {
    let (told, made) = oneshot::channel();
    *BEING_MADE.lock().unwrap() = Some(told);
    let ended = tokio::task::spawn_blocking(never_begins);
    made.await.unwrap();
    take_ids_away(server).await;
    assert_eq!(ended.await.unwrap(), ExitCode::FAILURE);
}

#[coord::test]
async fn a_service_can_go_on_without_its_id(server: &Server) {
    let service = local("degrades").instance_id(7);
    let running = run(service.id_on_lost(OnIdLost::Degrade)).await;
    let id = running.context.instance_id().unwrap();
    take_ids_away(server).await;
    id.lost().await;
    assert!(id.get().is_err());
    assert_eq!(running.stop().await, ExitCode::SUCCESS);
}

#[coord::test]
async fn a_full_pool_is_waited_for_or_is_a_failure(coordinator: Coordinator) {
    let only = coordinator.instance_ids("small", 0..=0);
    let taken = only.acquire().await.unwrap();
    let full = local("full").instance_id(0).id_pool("small");
    let fails = full.id_on_exhausted(OnExhausted::Fail);
    let code = tokio::task::spawn_blocking(|| fails.run(async |_| ()));
    assert_eq!(code.await.unwrap(), ExitCode::FAILURE);

    let waits = tokio::spawn(run(local("waits").instance_id(0).id_pool("small")));
    tokio::task::yield_now().await;
    taken.release().await.unwrap();
    let running = waits.await.unwrap();
    let id = running.context.instance_id().unwrap();
    assert_eq!(id.get().unwrap(), 0);
    running.stop().await;
    // Given back, at once.
    only.try_acquire().await.unwrap();
}

#[coord::test]
async fn its_health_and_its_weight_can_be_set(coordinator: Coordinator) {
    let service = local("changes").weight(3).zone("a").tags(["blue"]);
    let running = run(service.metadata("team", "id").ready(Ready::Immediate)).await;
    let instance = until_found(&coordinator, "changes").await;
    assert_eq!((instance.weight, instance.zone.as_deref()), (3, Some("a")));
    assert!(instance.tags.contains("blue"));
    assert_eq!(instance.metadata["team"], "id");
    let registration = running.context.registration().unwrap();
    let update = InstanceUpdate::new().weight(9);
    registration.update(update).await.unwrap();
    assert_eq!(found(&coordinator, "changes").await[0].weight, 9);
    let update = InstanceUpdate::new().health(InstanceHealth::Maintenance);
    registration.update(update).await.unwrap();
    assert!(found(&coordinator, "changes").await.is_empty());
    let update = InstanceUpdate::new().health(InstanceHealth::Healthy);
    registration.update(update).await.unwrap();
    assert_eq!(found(&coordinator, "changes").await.len(), 1);
    running.stop().await;
}

#[coord::test]
async fn the_runtime_can_be_built_by_hand(coordinator: Coordinator) {
    #[coord::locked("taken", try)]
    async fn try_taken() -> coord::Result<()> {
        Ok(())
    }

    fn builder() -> tokio::runtime::Builder {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("by-hand");
        builder
    }

    let _taken = coordinator.lock("taken").acquire().await.unwrap();
    let service = local("built").runtime_builder(builder);
    let ran = tokio::task::spawn_blocking(|| {
        service.run(async |_: Context| {
            let spawned = tokio::spawn(async {
                let name = thread::current().name().map(ToOwned::to_owned);
                (name, try_taken().await)
            });
            let (name, busy) = spawned.await.unwrap();
            assert_eq!(name.as_deref(), Some("by-hand"));
            // By the service's coordinator, also there.
            assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        })
    });
    assert_eq!(ran.await.unwrap(), ExitCode::SUCCESS);
}

#[coord::test]
async fn a_main_that_is_not_async_by_hand(coordinator: Coordinator) {
    let (started, context) = oneshot::channel();
    let service = local("blocks").ready(Ready::Immediate);
    let ended = tokio::task::spawn_blocking(|| {
        service.run_blocking(move |context: Context| {
            let shutdown = context.shutdown();
            started.send(context).unwrap();
            tokio::runtime::Handle::current().block_on(shutdown);
            ExitCode::from(7)
        })
    });
    let context = context.await.unwrap();
    until_found(&coordinator, "blocks").await;
    context.stop();
    assert_eq!(ended.await.unwrap(), ExitCode::from(7));
}

/// Nobody would drive its tasks.
#[coord::test]
async fn a_main_that_is_not_async_needs_a_runtime_with_threads() {
    let service = local("stuck").current_thread();
    let ran = tokio::task::spawn_blocking(|| service.run_blocking(|_: Context| ()));
    assert_eq!(ran.await.unwrap(), ExitCode::FAILURE);
}

/// What this process logs.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() {
    struct Log;
    impl Write for Log {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            LOG.lock().unwrap().write(line)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    static SET: Once = Once::new();
    SET.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        subscriber.with_writer(|| Log).init();
    });
}

/// The warnings that name a service.
fn warnings(service: &str) -> Vec<String> {
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let named = log.lines().filter(|line| line.contains(service));
    let warnings = named.filter(|line| line.contains(" WARN "));
    warnings.map(ToOwned::to_owned).collect()
}

#[coord::test]
async fn without_an_address_it_is_not_published_and_one_warning_says_so(coordinator: Coordinator) {
    let running = run(Service::new("nowhere").before(log)).await;
    running.context.ready();
    running.context.ready();
    let [warning] = &warnings("nowhere")[..] else {
        panic!("one: {:?}", warnings("nowhere"));
    };
    assert!(warning.contains("set `listen`"), "{warning}");
    let error = running.context.registration().unwrap_err();
    assert!(matches!(error, Error::NotConfigured { .. }), "{error}");
    let all = coordinator.registry().discover("nowhere").any_health();
    assert!(all.await.unwrap().is_empty());
    // There is nobody to drain it of.
    assert_eq!(running.stop().await, ExitCode::SUCCESS);
}

/// The signals of a process that runs tests are the test runner's: Ctrl-C ends it, before, while and
/// after a service runs in it.
#[cfg(target_os = "linux")]
#[coord::test]
async fn in_a_test_no_signal_is_caught() {
    let caught = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        [2, 15].map(|signal: u32| mask >> (signal - 1) & 1 == 1)
    };
    let running = run(local("quiet")).await;
    assert_eq!(caught(), [false, false]);
    running.stop().await;
    assert_eq!(caught(), [false, false]);
}
