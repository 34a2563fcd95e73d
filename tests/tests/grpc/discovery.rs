//! A channel follows the registry: who is registered takes calls, who left does not, and nobody is
//! connected to twice.

use std::{collections::BTreeSet, time::Duration};

use coord::{
    Coordinator, Error, InstanceHealth, InstanceSpec, InstanceUpdate, Mode, Options,
    grpc::{Channel, ChannelBuilder, Strategy},
};
use coord_tests::{
    Backend,
    backend::Kind,
    dropped_after,
    echo::{EchoClient, EchoRequest, EchoServer},
    eventually, on_both,
};
use etcd_client::{Client, DeleteOptions, PutOptions};
use futures_util::StreamExt as _;
use tonic::{Code, Status};

on_both! {
    a_channel_finds_who_is_there_and_who_comes,
    a_changed_record_keeps_the_connection,
    who_vanished_is_used_while_its_connection_lives,
    who_leaves_is_used_while_nobody_else_is_there,
    who_is_not_well_or_does_not_suit_is_not_used_although_it_answers,
    a_new_process_at_an_old_address_is_connected_to,
    a_record_that_moves_is_followed_and_what_is_in_flight_ends,
    an_emptied_registry_closes_nothing_and_a_refilled_one_connects_nobody_twice,
    changes_are_taken_while_there_are_no_calls,
    the_last_clone_ends_everything,
    a_closed_coordinator_ends_everything,
    only_what_suits_is_used,
    calls_stay_in_their_zone_while_enough_of_it_is_there,
}

const SERVICE: &str = "echo";
const BELOW: &str = "coord/svc/echo/";

fn spec(server: &EchoServer) -> InstanceSpec {
    InstanceSpec::new(SERVICE, server.address())
}

/// Every instance in turn: whoever takes calls is seen.
fn builder(coordinator: &Coordinator) -> ChannelBuilder {
    coordinator.channel(SERVICE).strategy(Strategy::RoundRobin)
}

async fn call(channel: &Channel) -> Result<String, Status> {
    let mut client = EchoClient::new(channel.clone());
    let reply = client.echo(EchoRequest::default()).await?;
    Ok(reply.into_inner().server)
}

/// Who answers this many calls.
async fn answers(channel: &Channel, calls: usize) -> Result<BTreeSet<String>, Status> {
    let mut answers = BTreeSet::new();
    for _ in 0..calls {
        answers.insert(call(channel).await?);
    }
    Ok(answers)
}

/// Waits until these, and no others, take calls.
async fn taken_by(channel: &Channel, names: &[&str]) {
    eventually(&format!("calls go to {names:?}"), async || {
        let answers = answers(channel, 2 * names.len() + 4).await;
        match &answers {
            Ok(all) if all.iter().eq(names) => Ok(()),
            _ => Err(answers),
        }
    })
    .await;
}

/// A record as others write it, that nobody rewrites; it lives with `lease`.
async fn put(client: &mut Client, key: &str, server: &EchoServer, lease: i64) {
    let record = format!(r#"{{"Op":0,"Addr":"{}"}}"#, server.address());
    let options = PutOptions::new().with_lease(lease);
    let put = client.put(format!("{BELOW}{key}"), record, Some(options));
    put.await.unwrap();
}

async fn clear(client: &mut Client) {
    let all = DeleteOptions::new().with_prefix();
    client.delete(BELOW, Some(all)).await.unwrap();
}

/// Waits until the registry names so many.
async fn listed(coordinator: &Coordinator, count: usize) {
    let mut view = coordinator.registry().view(SERVICE).await.unwrap();
    while view.load().len() != count {
        view.changed().await.unwrap();
    }
}

async fn a_channel_finds_who_is_there_and_who_comes(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let (a, b) = (EchoServer::start("a").await, EchoServer::start("b").await);
    let one = callee.registry().register(spec(&a)).await.unwrap();
    let channel = builder(&caller).await.unwrap();
    assert!(answers(&channel, 4).await.unwrap().iter().eq(["a"]));
    let _two = callee.registry().register(spec(&b)).await.unwrap();
    taken_by(&channel, &["a", "b"]).await;
    one.deregister().await.unwrap();
    taken_by(&channel, &["b"]).await;
    assert_eq!(a.connections().accepted(), 1);
    assert_eq!(b.connections().accepted(), 1);
}

async fn a_changed_record_keeps_the_connection(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let a = EchoServer::start("a").await;
    let one = callee.registry().register(spec(&a)).await.unwrap();
    let channel = builder(&caller).await.unwrap();
    taken_by(&channel, &["a"]).await;
    let mut view = caller.registry().view(SERVICE).await.unwrap();
    for weight in [1, 7, 100] {
        let update = InstanceUpdate::default().weight(weight);
        one.update(update.metadata("n", weight.to_string()))
            .await
            .unwrap();
        while view.load()[0].weight != weight {
            view.changed().await.unwrap();
        }
        taken_by(&channel, &["a"]).await;
    }
    assert_eq!(a.connections().accepted(), 1);
}

async fn who_vanished_is_used_while_its_connection_lives(backend: Backend) {
    let caller = backend.coordinator().await;
    let mut client = backend.client().await;
    let a = EchoServer::start("a").await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    put(&mut client, "-/a", &a, lease).await;
    let channel = builder(&caller).wait(Duration::ZERO).await.unwrap();
    eventually("it is connected", async || call(&channel).await).await;
    backend.expire_lease(lease).await;
    listed(&caller, 0).await;
    answers(&channel, 20).await.unwrap();
    assert_eq!(a.connections().accepted(), 1);
    // It is not dialled again, although it would accept.
    a.connections().cut();
    let error = eventually("nobody takes calls", async || {
        let error = call(&channel).await.err()?;
        error.message().contains("no endpoint").then_some(error)
    })
    .await;
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().contains("no instance has this name"),
        "{error}"
    );
    assert_eq!(a.connections().accepted(), 1);
}

async fn who_leaves_is_used_while_nobody_else_is_there(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let registry = callee.registry();
    let (a, b) = (EchoServer::start("a").await, EchoServer::start("b").await);
    let one = registry.register(spec(&a)).await.unwrap();
    let two = registry.register(spec(&b)).await.unwrap();
    let channel = builder(&caller).wait(Duration::ZERO).await.unwrap();
    taken_by(&channel, &["a", "b"]).await;
    one.deregister().await.unwrap();
    taken_by(&channel, &["b"]).await;
    two.deregister().await.unwrap();
    listed(&caller, 0).await;
    eventually("both are used, and no call fails meanwhile", async || {
        answers(&channel, 4).await.unwrap().iter().eq(["a", "b"])
    })
    .await;
    let c = EchoServer::start("c").await;
    let _three = registry.register(spec(&c)).await.unwrap();
    taken_by(&channel, &["c"]).await;
    c.kill().await;
    taken_by(&channel, &["a", "b"]).await;
    a.kill().await;
    taken_by(&channel, &["b"]).await;
    assert_eq!(
        (a.connections().accepted(), b.connections().accepted()),
        (1, 1)
    );
}

async fn who_is_not_well_or_does_not_suit_is_not_used_although_it_answers(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let a = EchoServer::start("a").await;
    let one = callee.registry().register(spec(&a)).await.unwrap();
    let channel = builder(&caller).wait(Duration::ZERO).await.unwrap();
    for health in [InstanceHealth::Unhealthy, InstanceHealth::Maintenance] {
        eventually("it is connected", async || call(&channel).await).await;
        let update = |health| one.update(InstanceUpdate::new().health(health));
        update(health).await.unwrap();
        eventually("it takes no calls", async || call(&channel).await.is_err()).await;
        for _ in 0..20 {
            call(&channel).await.unwrap_err();
        }
        update(InstanceHealth::Healthy).await.unwrap();
    }
    eventually("it is connected", async || call(&channel).await).await;
    assert_eq!(a.connections().accepted(), 1);

    let b = EchoServer::start("b").await;
    let mut client = backend.client().await;
    let mut versioned = async |version: &str| {
        let address = b.address();
        let record =
            format!(r#"{{"Op":0,"Addr":"{address}","Metadata":{{"version":"{version}"}}}}"#);
        let put = client.put(format!("{BELOW}-/b"), record, None);
        put.await.unwrap();
    };
    versioned("1.0.0").await;
    let first = builder(&caller).version("^1").wait(Duration::ZERO);
    let first = first.await.unwrap();
    eventually("it is connected", async || call(&first).await).await;
    versioned("2.0.0").await;
    eventually("it takes no calls", async || call(&first).await.is_err()).await;
    for _ in 0..20 {
        call(&first).await.unwrap_err();
    }
    assert_eq!(b.connections().open(), 2);
}

async fn a_new_process_at_an_old_address_is_connected_to(backend: Backend) {
    let caller = backend.coordinator().await;
    let mut client = backend.client().await;
    let old = EchoServer::start("old").await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    put(&mut client, "-/old", &old, lease).await;
    let channel = builder(&caller).await.unwrap();
    taken_by(&channel, &["old"]).await;
    old.kill().await;
    let new = EchoServer::start_on("new", &old.address()).await;
    put(&mut client, "-/new", &new, 0).await;
    taken_by(&channel, &["new"]).await;
    backend.expire_lease(lease).await;
    listed(&caller, 1).await;
    taken_by(&channel, &["new"]).await;
    eventually("one connection is left", async || {
        new.connections().open() == 1
    })
    .await;
}

async fn a_record_that_moves_is_followed_and_what_is_in_flight_ends(backend: Backend) {
    let caller = backend.coordinator().await;
    let mut client = backend.client().await;
    let (a, b) = (EchoServer::start("a").await, EchoServer::start("b").await);
    put(&mut client, "-/one", &a, 0).await;
    let channel = builder(&caller).await.unwrap();
    a.handler().set_latency(Duration::from_millis(1));
    let mut caller_of_a = EchoClient::new(channel.clone());
    let endless = caller_of_a.server_stream(EchoRequest::default()).await;
    let mut endless = endless.unwrap().into_inner();
    endless.next().await.unwrap().unwrap();
    put(&mut client, "-/one", &b, 0).await;
    taken_by(&channel, &["b"]).await;
    for _ in 0..10 {
        let reply = endless.next().await.unwrap().unwrap();
        assert_eq!(reply.server, "a");
    }
    drop(endless);
    // Nobody needs it any more.
    eventually("the old connection is closed", async || {
        a.connections().open() == 0
    })
    .await;
}

async fn an_emptied_registry_closes_nothing_and_a_refilled_one_connects_nobody_twice(
    backend: Backend,
) {
    let caller = backend.coordinator().await;
    let mut client = backend.client().await;
    let (a, b) = (EchoServer::start("a").await, EchoServer::start("b").await);
    put(&mut client, "-/a", &a, 0).await;
    put(&mut client, "-/b", &b, 0).await;
    let channel = builder(&caller).await.unwrap();
    taken_by(&channel, &["a", "b"]).await;
    clear(&mut client).await;
    listed(&caller, 0).await;
    assert!(answers(&channel, 20).await.unwrap().iter().eq(["a", "b"]));
    put(&mut client, "-/a", &a, 0).await;
    put(&mut client, "-/b", &b, 0).await;
    listed(&caller, 2).await;
    assert!(answers(&channel, 20).await.unwrap().iter().eq(["a", "b"]));
    assert_eq!(
        (a.connections().accepted(), b.connections().accepted()),
        (1, 1)
    );
}

async fn changes_are_taken_while_there_are_no_calls(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let mut client = backend.client().await;
    let _channel = builder(&caller).await.unwrap();
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        let server = EchoServer::start(name).await;
        let registration = callee.registry().register(spec(&server)).await.unwrap();
        eventually("it is connected to", async || {
            server.connections().open() == 1
        })
        .await;
        servers.push((server, registration));
    }
    let (moving, there) = (EchoServer::start("m").await, EchoServer::start("t").await);
    put(&mut client, "-/m", &moving, 0).await;
    eventually("it is connected to", async || {
        moving.connections().open() == 1
    })
    .await;
    put(&mut client, "-/m", &there, 0).await;
    eventually("it has moved", async || {
        (moving.connections().open(), there.connections().open()) == (0, 1)
    })
    .await;
    // Of those that break, too.
    let (server, _) = &servers[0];
    server.connections().cut();
    eventually("it is connected to again", async || {
        server.connections().accepted() == 2 && server.connections().open() == 1
    })
    .await;
}

async fn the_last_clone_ends_everything(backend: Backend) {
    let caller = backend.coordinator().await;
    let a = EchoServer::start("a").await;
    let _one = caller.registry().register(spec(&a)).await.unwrap();
    let channel = builder(&caller).await.unwrap();
    taken_by(&channel, &["a"]).await;
    let (clone, client) = (channel.clone(), EchoClient::new(channel.clone()));
    drop(channel);
    taken_by(&clone, &["a"]).await;
    drop(clone);
    assert_eq!(a.connections().open(), 1);
    drop(client);
    eventually("the connection is closed", async || {
        a.connections().open() == 0
    })
    .await;
}

async fn a_closed_coordinator_ends_everything(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let a = EchoServer::start("a").await;
    let _one = callee.registry().register(spec(&a)).await.unwrap();
    let channel = builder(&caller)
        .wait(Duration::from_secs(600))
        .await
        .unwrap();
    taken_by(&channel, &["a"]).await;
    caller.close().await;
    eventually("the connection is closed", async || {
        a.connections().open() == 0
    })
    .await;
    let error = eventually("calls fail at once", async || {
        let error = call(&channel).await.err()?;
        error.message().contains("closed").then_some(error)
    })
    .await;
    assert_eq!(error.code(), Code::Unavailable);
    let again = caller.channel(SERVICE).await.unwrap_err();
    assert!(matches!(again, Error::Closed { .. }), "{again}");
}

async fn only_what_suits_is_used(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let mut held = Vec::new();
    for (name, version, tags) in [
        ("a", "1.4.0", &["blue", "large"][..]),
        ("b", "1.6.2", &["blue"]),
        ("c", "2.0.0", &["large"]),
        ("d", "latest", &["blue", "large"]),
    ] {
        let server = EchoServer::start(name).await;
        let spec = spec(&server).version(version).tags(tags.iter().copied());
        held.push((callee.registry().register(spec).await.unwrap(), server));
    }
    listed(&caller, 4).await;
    let builder = || builder(&caller);
    for (channel, suit) in [
        (builder().version("^1.4"), &["a", "b"][..]),
        (builder().version("^1.5"), &["b"]),
        (builder().tag("blue").tag("large"), &["a", "d"]),
        (builder().tag("large").version(">=1"), &["a", "c"]),
        (builder(), &["a", "b", "c", "d"]),
    ] {
        taken_by(&channel.await.unwrap(), suit).await;
    }
    let none = builder().version("^7").wait(Duration::ZERO).await.unwrap();
    let error = call(&none).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("none of 4 instances suits the channel (version ^7)"),
        "{error}"
    );
    for (_, server) in &held[1..] {
        assert!(
            server.connections().accepted() <= 3,
            "what does not suit is not connected to"
        );
    }

    let url = caller.channel("http://users:50051");
    let bad = url.version("newest").connect_timeout(Duration::ZERO);
    match bad.await.unwrap_err() {
        Error::Invalid { faults, .. } => {
            assert_eq!(faults.len(), 3, "{faults:?}");
            assert!(faults[0].contains("not an address"), "{faults:?}");
            assert!(faults[1].contains("newest"), "{faults:?}");
        }
        other => panic!("{other}"),
    }
}

async fn calls_stay_in_their_zone_while_enough_of_it_is_there(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let mut held = Vec::new();
    let mut servers = Vec::new();
    for (name, zone, weight) in [("a1", "a", 20), ("a2", "a", 80), ("b", "b", 1000)] {
        let server = EchoServer::start(name).await;
        let spec = spec(&server).zone(zone).weight(weight);
        held.push(callee.registry().register(spec).await.unwrap());
        servers.push(server);
    }
    listed(&caller, 3).await;
    let local = builder(&caller).zone("a").await.unwrap();
    let elsewhere = builder(&caller).zone("c").await.unwrap();
    taken_by(&local, &["a1", "a2"]).await;
    taken_by(&elsewhere, &["a1", "a2", "b"]).await;
    // 80 of 100 are enough.
    servers[0].kill().await;
    taken_by(&local, &["a2"]).await;
    // 20 are not.
    servers[0] = EchoServer::start_on("a1", &servers[0].address()).await;
    taken_by(&local, &["a1", "a2"]).await;
    servers[1].kill().await;
    taken_by(&local, &["a1", "b"]).await;
    // Unless the others have left: then 20 are all that there is.
    held.remove(1).deregister().await.unwrap();
    taken_by(&local, &["a1"]).await;
}

#[tokio::test]
async fn without_etcd_the_fixed_endpoints_are_used() {
    let (a, b) = (EchoServer::start("a").await, EchoServer::start("b").await);
    let mut options = Options::test();
    options.mode = Mode::Off;
    let endpoints = vec![a.address(), b.address()];
    options.off.endpoints.insert(SERVICE.into(), endpoints);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let channel = builder(&coordinator).await.unwrap();
    taken_by(&channel, &["a", "b"]).await;
    coordinator.close().await;
}

#[tokio::test]
async fn making_a_channel_may_be_given_up_at_every_await() {
    let backend = Backend::start_or_skip(Kind::Embedded).await.unwrap();
    let caller = backend.coordinator().await;
    let a = EchoServer::start("a").await;
    let _one = caller.registry().register(spec(&a)).await.unwrap();
    let mut polls = 1;
    let channel = loop {
        match dropped_after(polls, builder(&caller).into_future()).await {
            Some(made) => break made.unwrap(),
            None => polls += 1,
        }
    };
    taken_by(&channel, &["a"]).await;
    drop(channel);
    eventually("all connections are closed", async || {
        a.connections().open() == 0
    })
    .await;
}
