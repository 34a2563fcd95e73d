//! An annotated main in a process of its own, seen from outside.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::time::Duration;

use coord_tests::{Backend, Worker, backend::Kind, eventually, on_both};
use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpListener;

/// A service that is ready.
struct Running {
    server: Backend,
    client: Client,
    worker: Worker,
    address: String,
    id: u32,
}

impl Running {
    /// On a real etcd.
    async fn start(how: &str) -> Option<Self> {
        Self::start_with(how, &[]).await
    }

    async fn start_with(how: &str, environment: &[(&str, &str)]) -> Option<Self> {
        let server = Backend::start_or_skip(Kind::Etcd).await?;
        Some(Self::on(server, how, environment).await)
    }

    async fn on(server: Backend, how: &str, environment: &[(&str, &str)]) -> Self {
        let worker = spawn(&server, "service", how, environment);
        Self::until_ready(server, worker, how != "unready").await
    }

    async fn until_ready(server: Backend, worker: Worker, ready: bool) -> Self {
        let client = server.client().await;
        let mut running = Self {
            server,
            client,
            worker,
            address: String::new(),
            id: 0,
        };
        running.address = running.worker.expect("listens").await;
        let id = running.worker.expect("id").await;
        running.id = id.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(running.worker.expect("config").await, "hello");
        if ready {
            running.worker.expect("ready").await;
            let registered = async || running.keys("svc").await.into_iter().next();
            eventually("it is registered", registered).await;
        }
        running
    }

    /// What stands below a prefix of the registry.
    async fn keys(&self, kind: &str) -> Vec<KeyValue> {
        let prefix = match kind {
            "slot" => "coord/id/user-service/slot/".to_owned(),
            kind => format!("coord/{kind}/user-service/"),
        };
        let options = Some(GetOptions::new().with_prefix());
        let mut found = self.client.clone().get(prefix, options).await.unwrap();
        found.take_kvs()
    }

    async fn revision(&self) -> i64 {
        let status = self.client.clone().get("x", None).await.unwrap();
        status.header().unwrap().revision()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.worker.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn code(&self) -> Option<i32> {
        self.worker.ended().await.code()
    }

    /// What happened to the routable record and the id's slot after `revision`, in order: `mark`,
    /// `svc gone`, `slot gone`.
    async fn history(&self, revision: i64) -> Vec<&'static str> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(revision + 1);
        let mut stream = self
            .client
            .clone()
            .watch("coord/", Some(options))
            .await
            .unwrap();
        // The last thing that is seen: whatever came before has been seen by then.
        self.client
            .clone()
            .put("coord/end", "", None)
            .await
            .unwrap();
        let mut seen = Vec::new();
        loop {
            let message = stream.message().await.unwrap().unwrap();
            for event in message.events() {
                let kv = event.kv().unwrap();
                let key = kv.key_str().unwrap();
                match event.event_type() {
                    EventType::Put if key == "coord/end" => return seen,
                    EventType::Put if key.starts_with("coord/svc/") => {
                        seen.extend((status(kv) == "draining").then_some("mark"));
                    }
                    EventType::Delete if key.starts_with("coord/svc/") => seen.push("svc gone"),
                    EventType::Delete if key.contains("/slot/") => seen.push("slot gone"),
                    _ => {}
                }
            }
        }
    }
}

fn spawn(server: &Backend, command: &str, how: &str, environment: &[(&str, &str)]) -> Worker {
    let endpoint = server.endpoint();
    let mut all = vec![("COORD_ENDPOINTS", endpoint.as_str())];
    all.extend(environment);
    Worker::spawn_with(command, &[how], &all)
}

fn status(record: &KeyValue) -> String {
    let json: Value = serde_json::from_slice(record.value()).unwrap();
    json["Coord"]["status"].as_str().unwrap().to_owned()
}

/// Of a `main` that does not stop by itself.
const SOON: [(&str, &str); 1] = [("COORD_SHUTDOWN_TIMEOUT", "2s")];

const LEFT: [&str; 3] = ["mark", "svc gone", "slot gone"];

on_both! {
    it_is_registered_with_its_address_version_and_id,
    sigterm_deregisters_drains_and_gives_the_id_back_last,
    the_same_by_hand_does_the_same,
    a_panic_deregisters_and_leaves_the_id_to_expire,
    a_second_signal_ends_it_at_once_and_leaves_the_id_to_expire,
    signals_that_come_together_are_one,
    what_is_not_ready_is_known_and_not_routable,
    a_killed_service_expires,
    etcd_that_comes_late_is_waited_for_and_one_that_never_comes_is_an_error,
    it_stops_without_etcd_too,
    a_main_that_closes_its_coordinator_still_stops,
}

async fn it_is_registered_with_its_address_version_and_id(server: Backend) {
    let running = Running::on(server, "serve", &[]).await;
    let record = running.keys("svc").await.remove(0);
    let json: Value = serde_json::from_slice(record.value()).unwrap();
    assert_eq!(json["Addr"], running.address.as_str());
    assert_eq!(json["Metadata"]["version"], "1.2.3");
    assert_eq!(json["Coord"]["id"], running.id);
    assert_eq!(json["Coord"]["name"], "user-service");
    let slots = running.keys("slot").await;
    assert_eq!(json["Coord"]["epoch"], slots[0].create_revision());
    running.worker.kill();
}

async fn sigterm_deregisters_drains_and_gives_the_id_back_last(server: Backend) {
    let mut running = Running::on(server, "serve", &[("COORD_DRAIN", "8s")]).await;
    let before = running.revision().await;
    running.signal(Signal::TERM);
    let gone = async || running.keys("svc").await.is_empty();
    eventually("no record", gone).await;
    // Not told yet: it still serves those who have not heard of it.
    assert_eq!(running.worker.try_line(), None);
    assert_eq!(status(&running.keys("inst").await[0]), "draining");
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, LEFT);
    assert!(running.keys("inst").await.is_empty());
}

async fn the_same_by_hand_does_the_same(server: Backend) {
    let worker = spawn(&server, "service-by-hand", "", &[]);
    let mut running = Running::until_ready(server, worker, true).await;
    let before = running.revision().await;
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, LEFT);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_skips_the_drain() {
    // Longer than any wait of the test.
    let Some(mut running) = Running::start_with("serve", &[("COORD_DRAIN", "1h")]).await else {
        return;
    };
    let before = running.revision().await;
    running.signal(Signal::INT);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, LEFT);
}

#[tokio::test(flavor = "multi_thread")]
async fn returning_deregisters_and_its_exit_code_is_the_process_s() {
    let Some(mut running) = Running::start("return").await else {
        return;
    };
    let before = running.revision().await;
    running.worker.say("now");
    assert_eq!(running.code().await, Some(7));
    assert_eq!(running.history(before).await, LEFT);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_printed_after_deregistering() {
    let Some(mut running) = Running::start("fail").await else {
        return;
    };
    let before = running.revision().await;
    running.worker.say("now");
    assert_eq!(running.code().await, Some(1));
    assert!(running.worker.errors().contains("it failed"));
    assert_eq!(running.history(before).await, LEFT);
}

/// What the panic left half done may still be using the id.
async fn a_panic_deregisters_and_leaves_the_id_to_expire(server: Backend) {
    let mut running = Running::on(server, "panic", &[]).await;
    let before = running.revision().await;
    running.worker.say("now");
    assert_eq!(running.code().await, Some(101));
    assert!(running.worker.errors().contains("as told"));
    assert_eq!(running.history(before).await, LEFT[..2]);
    assert_eq!(running.keys("slot").await.len(), 1);
}

async fn a_second_signal_ends_it_at_once_and_leaves_the_id_to_expire(server: Backend) {
    let running = Running::on(server, "serve", &[("COORD_DRAIN", "1h")]).await;
    let before = running.revision().await;
    running.signal(Signal::TERM);
    let gone = async || running.keys("svc").await.is_empty();
    eventually("it has begun to stop", gone).await;
    let ended = running.worker.ended_by(Signal::INT).await;
    assert_eq!(ended.code(), Some(130));
    assert_eq!(running.history(before).await, LEFT[..2]);
    let slots = running.keys("slot").await;
    assert_eq!(slots.len(), 1);
    // Its lease is left alone too: it runs out by itself.
    let lease = running
        .client
        .clone()
        .lease_time_to_live(slots[0].lease(), None)
        .await;
    assert!(lease.unwrap().ttl() > 0);
}

/// As `timeout` sends them: to the process, and to its group.
async fn signals_that_come_together_are_one(server: Backend) {
    let mut running = Running::on(server, "serve", &[("COORD_DRAIN", "300ms")]).await;
    let before = running.revision().await;
    running.worker.stop();
    // Of one kind they would be one for the system already.
    for signal in [Signal::TERM, Signal::INT] {
        running.signal(signal);
    }
    running.worker.cont();
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, LEFT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_that_does_not_stop_is_dropped() {
    let Some(mut running) = Running::start_with("linger", &SOON).await else {
        return;
    };
    let before = running.revision().await;
    running.signal(Signal::INT);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(1));
    assert_eq!(running.history(before).await, LEFT[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_that_blocks_its_thread_is_ended_too() {
    let Some(mut running) = Running::start_with("block", &SOON).await else {
        return;
    };
    let before = running.revision().await;
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(143));
    assert_eq!(running.history(before).await, LEFT[..2]);
}

/// `main` has ended, and one of its tasks has not.
#[tokio::test(flavor = "multi_thread")]
async fn the_id_is_not_given_back_while_a_task_may_use_it() {
    let Some(mut running) = Running::start_with("leave-task", &SOON).await else {
        return;
    };
    let before = running.revision().await;
    running.signal(Signal::INT);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, LEFT[..2]);
}

async fn what_is_not_ready_is_known_and_not_routable(server: Backend) {
    let mut running = Running::on(server, "unready", &[]).await;
    let starting = async || {
        let records = running.keys("inst").await;
        records
            .first()
            .is_some_and(|record| status(record) == "starting")
    };
    eventually("it is known as starting", starting).await;
    assert!(running.keys("svc").await.is_empty());
    let before = running.revision().await;
    // Nobody routes to it, so there is nothing to drain.
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, ["slot gone"]);
}

/// Killed without a word: the record runs out, and so does the id, each with its lease.
async fn a_killed_service_expires(server: Backend) {
    let running = Running::on(server, "serve", &[("COORD_TTL", "2s")]).await;
    let before = running.revision().await;
    running.worker.kill();
    let gone = async || running.keys("svc").await.is_empty();
    eventually("the record has run out", gone).await;
    assert_eq!(running.history(before).await, ["svc gone"]);
}

async fn etcd_that_comes_late_is_waited_for_and_one_that_never_comes_is_an_error(server: Backend) {
    server.kill();
    let mut late = spawn(&server, "service", "serve", &[]);
    let never = spawn(
        &server,
        "service",
        "serve",
        &[("COORD_ETCD_DOWN", "0s"), ("COORD_CONNECT_TIMEOUT", "1s")],
    );
    assert_eq!(never.ended().await.code(), Some(1));
    let errors = never.errors();
    assert!(
        errors.contains(server.endpoint().trim_start_matches("http://")),
        "{errors}"
    );
    // Long before it gives up, and once.
    let warned = async || late.errors().contains("etcd does not answer");
    eventually("it says so", warned).await;
    server.restart().await;
    late.expect("listens").await;
    let errors = late.errors();
    let mut warnings = errors.lines().filter(|it| it.contains(" WARN "));
    let warning = warnings.next().expect("it was seen");
    assert!(warning.contains("does not answer") && warning.contains(&server.endpoint()));
    assert_eq!(warnings.next(), None);
    assert!(errors.contains("etcd answers"), "{errors}");

    // When it goes away, too: each connection says so once, and when it is back.
    server.kill();
    let said = async |what: &str| {
        let lines = async || late.errors().matches(what).count() >= 3;
        eventually(what, lines).await;
    };
    said("trying on").await;
    server.restart().await;
    said("connected to etcd again").await;
    late.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_all_told_at_once() {
    let worker = Worker::spawn_with(
        "service",
        &["serve"],
        &[
            ("COORD_LISTEN", "here"),
            ("COORD_DRAIN", "soon"),
            ("COORD_SERVICE_NAME", "a/b"),
            ("COORD_LOCK_TTL", "long"),
        ],
    );
    assert_eq!(worker.ended().await.code(), Some(1));
    let errors = worker.errors();
    for fault in ["here", "soon", "a/b", "long"] {
        assert!(errors.contains(fault), "{errors}");
    }
}

/// etcd is gone when the service stops: it does not wait for it.
async fn it_stops_without_etcd_too(server: Backend) {
    let mut running = Running::on(server, "serve", &[("COORD_DRAIN", "0s")]).await;
    running.server.kill();
    let started = std::time::Instant::now();
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(50));
}

/// A process that lives on after a service: nothing of it is left, and the next one is told of its
/// own signals alone.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_can_be_run_again_in_the_same_process() {
    let Some(server) = Backend::start_or_skip(Kind::Etcd).await else {
        return;
    };
    let worker = spawn(
        &server,
        "service-by-hand",
        "twice",
        &[("COORD_DRAIN", "0s")],
    );
    let mut running = Running::until_ready(server, worker, true).await;
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    running.worker.expect("again").await;
    let Running { server, worker, .. } = running;
    let mut running = Running::until_ready(server, worker, true).await;
    let before = running.revision().await;
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
    assert_eq!(running.history(before).await, LEFT);
}

/// Not killed by the signal itself: to the first process of a container that does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_also_while_it_waits_for_etcd() {
    // Accepts connections (the kernel does) and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let environment = [("COORD_ENDPOINTS", endpoint.as_str())];
    let worker = Worker::spawn_with("service", &["serve"], &environment);
    let connection = silent.accept().await;
    worker.terminate();
    assert_eq!(worker.ended().await.code(), Some(0));
    drop(connection);
}

async fn a_main_that_closes_its_coordinator_still_stops(server: Backend) {
    // Not registered any more, so there is nothing to drain.
    let mut running = Running::on(server, "close", &[("COORD_DRAIN", "1h")]).await;
    running.worker.say("now");
    running.worker.expect("closed").await;
    for kind in ["svc", "inst", "slot"] {
        assert!(running.keys(kind).await.is_empty(), "{kind}");
    }
    running.signal(Signal::TERM);
    running.worker.expect("told").await;
    assert_eq!(running.code().await, Some(0));
}
