//! Servers come, go and die, etcd too, while many call: what of it a caller notices.

use std::time::{Duration, Instant};

use coord::{Coordinator, InstanceSpec, Registration, grpc::Channel};
use coord_tests::{Backend, Worker, backend::Kind, echo::EchoServer, eventually, on_both};
use etcd_client::{DeleteOptions, GetOptions, KeyValue};

use crate::load::{CALLERS, Load};

const SERVICE: &str = "echo";
const TTL: Duration = Duration::from_secs(1);

/// A server, and its record.
struct Instance {
    server: EchoServer,
    registration: Registration,
}

impl Instance {
    async fn start(coordinator: &Coordinator, name: &str) -> Self {
        let server = EchoServer::start(name).await;
        let spec = InstanceSpec::new(SERVICE, server.address()).ttl(TTL);
        let registration = coordinator.registry().register(spec).await.unwrap();
        Self {
            server,
            registration,
        }
    }
}

async fn three(coordinator: &Coordinator) -> Vec<Instance> {
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        all.push(Instance::start(coordinator, name).await);
    }
    all
}

async fn channel(coordinator: &Coordinator) -> Channel {
    coordinator.channel(SERVICE).await.unwrap()
}

on_both! {
    ten_servers_are_replaced_one_by_one_and_no_call_fails,
    etcd_is_silent_for_longer_than_the_ttl_and_no_call_fails,
    the_registry_is_emptied_and_no_call_fails,
}

/// Without a drain: who is connected hears of the end on the connection alone.
async fn ten_servers_are_replaced_one_by_one_and_no_call_fails(backend: Backend) {
    let (callee, caller) = (backend.coordinator().await, backend.coordinator().await);
    let mut all = Vec::new();
    for i in 0..10 {
        all.push(Instance::start(&callee, &format!("old-{i}")).await);
    }
    let load = Load::start(&channel(&caller).await);
    for (i, old) in all.iter_mut().enumerate() {
        let name = format!("new-{i}");
        let new = Instance::start(&callee, &name).await;
        load.reaches(&[&name]).await;
        let old = std::mem::replace(old, new);
        old.registration.deregister().await.unwrap();
        old.server.stop().await;
    }
    load.goes_on(1_000).await;
    let tally = load.end().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
    for instance in &all {
        assert!(instance.server.connections().accepted() > 0);
    }
}

async fn etcd_is_silent_for_longer_than_the_ttl_and_no_call_fails(backend: Backend) {
    let (callee, caller) = (backend.coordinator().await, backend.coordinator().await);
    let _servers = three(&callee).await;
    let names = ["a", "b", "c"];
    let load = Load::start(&channel(&caller).await);
    load.reaches(&names).await;
    let mut client = backend.client().await;
    let mut records = async || {
        let below = GetOptions::new().with_prefix();
        let mut found = client.get("coord/svc/", Some(below)).await.unwrap();
        found.take_kvs()
    };
    let before = eventually("all are registered", async || {
        let all = records().await;
        (all.len() == 3).then_some(all)
    })
    .await;
    let silent = Instant::now();
    backend.stop();
    while silent.elapsed() < 3 * TTL {
        load.reaches(&names).await;
    }
    backend.cont();
    // Now the leases have run out, or else a renewal was faster.
    let mut revoking = backend.client().await;
    for record in &before {
        let _ = revoking.lease_revoke(record.lease()).await;
    }
    let last = before.iter().map(KeyValue::create_revision).max();
    eventually("they are registered again", async || {
        let now = records().await;
        now.len() == 3
            && now
                .iter()
                .all(|record| Some(record.create_revision()) > last)
    })
    .await;
    load.reaches(&names).await;
    let tally = load.end().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
}

/// By an accident with `etcdctl`. The records have no owner who would put them back.
async fn the_registry_is_emptied_and_no_call_fails(backend: Backend) {
    let mut client = backend.client().await;
    let names = ["a", "b", "c"];
    let mut servers = Vec::new();
    for name in names {
        let server = EchoServer::start(name).await;
        let record = format!(r#"{{"Op":0,"Addr":"{}"}}"#, server.address());
        let key = format!("coord/svc/{SERVICE}/{name}");
        client.put(key, record, None).await.unwrap();
        servers.push(server);
    }
    let caller = backend.coordinator().await;
    let load = Load::start(&channel(&caller).await);
    load.reaches(&names).await;
    let all = DeleteOptions::new().with_prefix();
    client.delete("coord/svc/", Some(all)).await.unwrap();
    let mut view = caller.registry().view(SERVICE).await.unwrap();
    while !view.load().is_empty() {
        view.changed().await.unwrap();
    }
    for _ in 0..3 {
        load.reaches(&names).await;
    }
    let tally = load.end().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
}

/// Of a service in a process of its own, which is ready.
fn spawn(backend: &Backend, name: &str) -> Worker {
    let endpoint = backend.endpoint();
    let environment = [
        ("COORD_ENDPOINTS", endpoint.as_str()),
        ("COORD_DRAIN", "200ms"),
    ];
    Worker::spawn_with("service-grpc", &[name], &environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_processes_one_is_killed_and_only_what_was_in_flight_on_it_fails() {
    let Some(backend) = Backend::start_or_skip(Kind::Etcd).await else {
        return;
    };
    let workers = ["a", "b", "c"].map(|name| spawn(&backend, name));
    let caller = backend.coordinator().await;
    let load = Load::start(&channel(&caller).await);
    load.reaches(&["a", "b", "c"]).await;
    let [dead, _b, _c] = &workers;
    dead.kill();
    let before = load.tally();
    load.reaches(&["b", "c"]).await;
    load.goes_on(2_000).await;
    let tally = load.end().await;
    assert!(tally.by("a") <= before.by("a") + CALLERS as u64);
    // No caller has more than one call at a time, and none fails twice.
    assert!(tally.failed.len() <= CALLERS, "{:?}", tally.failed);
    // The connection had closed by the time that the first of them ended.
    let closed = tally.failed.iter().map(|failed| failed.ended).min();
    for failed in &tally.failed {
        assert!(Some(failed.began) <= closed, "{:?}", failed.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_are_restarted_one_by_one_and_no_call_fails() {
    let Some(backend) = Backend::start_or_skip(Kind::Etcd).await else {
        return;
    };
    let old = (0..10).map(|i| spawn(&backend, &format!("old-{i}")));
    let old: Vec<_> = old.collect();
    let caller = backend.coordinator().await;
    let load = Load::start(&channel(&caller).await);
    let mut new = Vec::new();
    for (i, worker) in old.into_iter().enumerate() {
        load.reaches(&[&format!("old-{i}")]).await;
        worker.terminate();
        // Both at the same time: they do not wait for one another.
        let name = format!("new-{i}");
        new.push(spawn(&backend, &name));
        assert_eq!(worker.ended().await.code(), Some(0));
        load.reaches(&[&name]).await;
    }
    let tally = load.end().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
}
