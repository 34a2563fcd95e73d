//! Services in processes of their own, and what happens to machines and to etcd.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test fail as the test does"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use coord::{Coordinator, InstanceEvent, InstanceEvents};
use coord_tests::{Backend, Cluster, EtcdConfig, Worker, backend::patient, eventually, on_both};
use etcd_client::{Client, DeleteOptions, GetOptions, KeyValue};
use futures_util::StreamExt as _;

/// Of the services: short enough to be seen running out, long enough not to
/// where it should not.
const TTL: i64 = 10;

/// Of each routable record its revision and its lease, which show whether anything has happened to it.
type Records = BTreeMap<Vec<u8>, (i64, i64)>;

/// A service, and the id that it says it has.
struct Member {
    worker: Worker,
    id: u32,
}

impl Member {
    async fn start(endpoints: &str, environment: &[(&str, &str)]) -> Self {
        let mut all = vec![("COORD_ENDPOINTS", endpoints)];
        all.extend(environment);
        let mut worker = Worker::spawn_with("service-member", &[], &all);
        let id = worker.expect("ready").await.parse().unwrap();
        Self { worker, id }
    }

    /// What it believes of its id now.
    async fn id(&mut self) -> Option<u32> {
        self.worker.say("id");
        self.worker.expect("id").await.parse().ok()
    }

    async fn told(&mut self, line: &str, answer: &str) {
        self.worker.say(line);
        self.worker.expect(answer).await;
    }
}

/// The store, as a client of another kind sees it.
#[derive(Clone)]
struct Store(Client);

impl Store {
    /// A cluster that elects a leader answers after that.
    async fn below(&self, prefix: &str) -> Vec<KeyValue> {
        let found = eventually("etcd answers", async || {
            let options = Some(GetOptions::new().with_prefix());
            self.0.clone().get(prefix, options).await
        });
        found.await.take_kvs()
    }

    async fn records(&self) -> Records {
        let records = self.below("coord/svc/user-service/").await;
        let each = records
            .iter()
            .map(|kv| (kv.key().to_vec(), (kv.mod_revision(), kv.lease())));
        each.collect()
    }

    async fn eventually(&self, count: usize) -> Records {
        eventually("so many are registered", async || {
            let records = self.records().await;
            (records.len() == count).then_some(records)
        })
        .await
    }

    /// Returns when a lease as long as the services' that nobody renews has run out.
    async fn a_ttl_passes(&self) {
        let granted = eventually("a lease", async || {
            self.0.clone().lease_grant(TTL, None).await
        });
        let lease = granted.await.id();
        eventually("a lease runs out", async || {
            let left = self.0.clone().lease_time_to_live(lease, None).await;
            left.is_ok_and(|left| left.ttl() < 0)
        })
        .await;
    }
}

fn leases(records: &Records) -> BTreeMap<&[u8], i64> {
    let each = records.iter().map(|(key, (_, lease))| (&**key, *lease));
    each.collect()
}

async fn next(events: &mut InstanceEvents) -> InstanceEvent {
    let next = tokio::time::timeout(Duration::from_secs(120), events.next());
    next.await.expect("an event").expect("no end")
}

on_both! {
    a_paused_service_is_replaced_and_does_not_believe_in_its_id_when_it_wakes,
    a_restart_of_etcd_is_no_news_of_services,
    services_of_an_etcd_that_lost_its_data_are_all_back,
    an_emptied_registry_is_filled_again,
    a_killed_service_has_expired_and_a_stopped_one_has_left,
    a_service_whose_runtime_is_dead_locked_expires_and_comes_back,
}

async fn a_paused_service_is_replaced_and_does_not_believe_in_its_id_when_it_wakes(
    server: Backend,
) {
    let (store, endpoint) = (Store(server.client().await), server.endpoint());
    let one_id = [("COORD_INSTANCE_ID_MAX", "0")];
    let mut paused = Member::start(&endpoint, &one_id).await;
    let before = store.eventually(1).await;
    paused.worker.stop();
    eventually("it expires", async || store.records().await.is_empty()).await;
    // It waits until the only id there is is free again.
    let mut successor = Member::start(&endpoint, &one_id).await;
    assert_eq!((paused.id, successor.id), (0, 0));
    store.eventually(1).await;

    // The first that it does.
    paused.worker.say("id");
    paused.worker.cont();
    assert_eq!(paused.worker.expect("id").await, "lost");
    assert_eq!(successor.id().await, Some(0));
    // It serves on, and is found again: under the key that it had, with another lease.
    let after = store.eventually(2).await;
    let (key, (_, lease)) = before.into_iter().next().unwrap();
    assert_ne!(after[&key].1, lease);
    store.a_ttl_passes().await;
    assert_eq!(store.records().await, after);
    assert_eq!((paused.id().await, successor.id().await), (None, Some(0)));
}

async fn a_restart_of_etcd_is_no_news_of_services(server: Backend) {
    let (store, endpoint) = (Store(server.client().await), server.endpoint());
    let mut members = [
        Member::start(&endpoint, &[]).await,
        Member::start(&endpoint, &[]).await,
    ];
    let before = store.eventually(2).await;
    let coordinator = server.coordinator().await;
    let mut events = coordinator.registry().watch("user-service").unwrap();
    for _ in 0..2 {
        next(&mut events).await;
    }
    // Whose lease is as long as the services' own.
    let registry = coordinator.registry();
    let spec = coord::InstanceSpec::new("other", "10.0.0.5:1");
    let spec = spec.ttl(Duration::from_secs(TTL as u64));
    let other = registry.register(spec).await.unwrap();
    for longer_than_the_ttl in [false, true] {
        server.kill();
        if longer_than_the_ttl {
            eventually("the TTL has passed", async || {
                let health = coordinator.health();
                health.sessions.iter().all(|session| !session.live)
            })
            .await;
        }
        server.restart().await;
        eventually("renewed", async || coordinator.health().is_good()).await;
        // The raw client's connection broke with the server: its next call could fail.
        let store = Store(server.client().await);
        // Whoever did not renew its lease would be gone.
        store.a_ttl_passes().await;
        assert_eq!(store.records().await, before);
    }
    // An id is not believed while etcd is away, and is the same again.
    for member in &mut members {
        let id = member.id;
        let again = async || member.id().await == Some(id);
        eventually("it has its id", again).await;
    }
    // The next news are what happens next.
    members[0].worker.kill();
    let event = next(&mut events).await;
    assert!(matches!(event, InstanceEvent::Expired(_)), "{event:?}");
    other.deregister().await.unwrap();
    coordinator.close().await;
}

async fn services_of_an_etcd_that_lost_its_data_are_all_back(server: Backend) {
    let (store, endpoint) = (Store(server.client().await), server.endpoint());
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(Member::start(&endpoint, &[]).await);
    }
    let before = store.eventually(3).await;
    server.lose_data().await;
    let store = Store(server.client().await);
    let after = eventually("all are back", async || {
        let records = store.records().await;
        let same = records.keys().eq(before.keys());
        same.then_some(records)
    })
    .await;
    for (key, (_, lease)) in &before {
        assert_ne!(after[key].1, *lease, "that lease is gone for ever");
    }
    // The ids were given to nobody yet, and could be: nobody believes in them any more.
    for member in &mut members {
        let lost = async || member.id().await.is_none();
        eventually("its id is lost", lost).await;
    }
    store.a_ttl_passes().await;
    assert_eq!(leases(&store.records().await), leases(&after));
}

/// Somebody deletes every record by hand: the services are there, and say so again.
async fn an_emptied_registry_is_filled_again(server: Backend) {
    let (store, endpoint) = (Store(server.client().await), server.endpoint());
    let coordinator = server.coordinator().await;
    let members = [
        Member::start(&endpoint, &[]).await,
        Member::start(&endpoint, &[]).await,
    ];
    let before = store.eventually(2).await;
    let view = coordinator.registry().view("user-service").await.unwrap();
    let mut events = coordinator.registry().watch("user-service").unwrap();
    for _ in 0..2 {
        next(&mut events).await;
    }
    for prefix in ["coord/svc/", "coord/inst/"] {
        let all = Some(DeleteOptions::new().with_prefix());
        store.0.clone().delete(prefix, all).await.unwrap();
    }
    let mut back = BTreeSet::new();
    while back.len() < 2 {
        match next(&mut events).await {
            InstanceEvent::Expired(_) => {}
            // Or one that is back before anybody has looked.
            InstanceEvent::Registered(new) | InstanceEvent::Updated { new, .. } => {
                back.insert(new.instance.clone());
            }
            other => panic!("nobody has left: {other:?}"),
        }
    }
    let after = store.eventually(2).await;
    // The same leases: nothing but the records was gone.
    assert_eq!(leases(&after), leases(&before));
    eventually("the view has both", async || view.load().len() == 2).await;
    drop(members);
    coordinator.close().await;
}

async fn a_killed_service_has_expired_and_a_stopped_one_has_left(server: Backend) {
    let endpoint = server.endpoint();
    let coordinator = server.coordinator().await;
    let mut events = coordinator.registry().watch("user-service").unwrap();
    for killed in [true, false] {
        let member = Member::start(&endpoint, &[]).await;
        let InstanceEvent::Registered(instance) = next(&mut events).await else {
            panic!("it is new");
        };
        assert_eq!(instance.id, Some(member.id));
        if killed {
            member.worker.kill();
        } else {
            member.worker.terminate();
        }
        match next(&mut events).await {
            InstanceEvent::Expired(gone) if killed => assert_eq!(gone.instance, instance.instance),
            InstanceEvent::Left(gone) if !killed => assert_eq!(gone.instance, instance.instance),
            other => panic!("killed: {killed}, and {other:?}"),
        }
    }
    coordinator.close().await;
}

async fn a_service_whose_runtime_is_dead_locked_expires_and_comes_back(server: Backend) {
    let (store, endpoint) = (Store(server.client().await), server.endpoint());
    let mut watched = Member::start(&endpoint, &[("COORD_WATCHDOG", "500ms")]).await;
    let watched_alone = store.eventually(1).await;
    let mut busy = Member::start(&endpoint, &[("COORD_WATCHDOG", "10m")]).await;
    let both = store.eventually(2).await;
    let mut off = Member::start(&endpoint, &[("COORD_WATCHDOG", "off")]).await;
    let all = store.eventually(3).await;
    for member in [&mut watched, &mut busy, &mut off] {
        member.told("block", "blocked").await;
    }
    store.eventually(2).await;
    store.a_ttl_passes().await;
    // Blocked for longer than a TTL, and less than the runtime of one of them may be.
    let mut left = all.clone();
    left.remove(watched_alone.keys().next().unwrap());
    assert_eq!(store.records().await, left);
    assert!(both.keys().all(|key| all.contains_key(key)));
    // Its id has nothing to do with it.
    assert_eq!(watched.id().await, Some(watched.id));

    watched.told("release", "released").await;
    let back = store.eventually(3).await;
    assert!(back.keys().eq(all.keys()));
    for member in [&mut busy, &mut off] {
        member.told("release", "released").await;
    }
    for member in [&watched, &busy, &off] {
        member.worker.terminate();
        assert!(member.worker.ended().await.success());
    }
    assert!(store.records().await.is_empty());
}

/// The leader of three dies, again and again, under short leases: nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_no_registration_and_no_id() {
    const KILLS: usize = 3;
    let Some(cluster) = Cluster::start_or_skip(3, EtcdConfig::new()).await else {
        return;
    };
    let endpoints = cluster.endpoints();
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(Member::start(&endpoints.join(","), &[]).await);
    }
    let coordinator = Coordinator::connect(patient().endpoints(endpoints)).await;
    let coordinator = coordinator.unwrap();
    let mut events = coordinator.registry().watch("user-service").unwrap();
    for _ in 0..3 {
        next(&mut events).await;
    }
    let mut before = None;
    for _ in 0..KILLS {
        let leader = cluster.leader().await;
        let other = cluster.member((leader + 1) % 3);
        let store = Store(other.client().await);
        let records = store.eventually(3).await;
        assert_eq!(*before.get_or_insert(records.clone()), records);
        cluster.member(leader).kill();
        eventually("another leads", async || cluster.leader().await != leader).await;
        // By the new leader's clock.
        store.a_ttl_passes().await;
        assert_eq!(store.records().await, records);
        cluster.member(leader).restart().await;
    }
    for member in &mut members {
        let id = member.id;
        let again = async || member.id().await == Some(id);
        eventually("it has its id", again).await;
    }
    members[0].worker.terminate();
    let event = next(&mut events).await;
    assert!(matches!(event, InstanceEvent::Left(_)), "{event:?}");
    coordinator.close().await;
}
