//! A channel follows the registry: who is registered takes calls, who left does not, and nobody is
//! connected to twice.

use std::collections::BTreeMap;

use coord::{
    Coordinator, InstanceSpec, InstanceUpdate,
    grpc::{Channel, Strategy},
};
use coord_tests::{
    Backend,
    echo::{EchoClient, EchoRequest, EchoServer},
    eventually, on_both,
};

on_both! {
    a_channel_finds_who_is_there_and_who_comes,
    a_changed_record_keeps_the_connection,
}

pub(crate) const SERVICE: &str = "echo";

pub(crate) fn spec(server: &EchoServer) -> InstanceSpec {
    InstanceSpec::new(SERVICE, server.address())
}

/// Every instance in turn: whoever takes calls is seen.
pub(crate) async fn channel(coordinator: &Coordinator) -> Channel {
    let channel = coordinator.channel(SERVICE).strategy(Strategy::RoundRobin);
    channel.await.unwrap()
}

/// Who answers this many calls, by name.
pub(crate) async fn answers(channel: &Channel, calls: usize) -> BTreeMap<String, usize> {
    let mut client = EchoClient::new(channel.clone());
    let mut answers = BTreeMap::new();
    for _ in 0..calls {
        let reply = client.echo(EchoRequest::default()).await.unwrap();
        *answers.entry(reply.into_inner().server).or_default() += 1;
    }
    answers
}

/// Waits until these, and no others, take calls.
pub(crate) async fn taken_by(channel: &Channel, names: &[&str]) {
    eventually(&format!("calls go to {names:?}"), async || {
        let answers = answers(channel, 2 * names.len() + 4).await;
        if answers.keys().eq(names) {
            Ok(())
        } else {
            Err(answers)
        }
    })
    .await;
}

async fn a_channel_finds_who_is_there_and_who_comes(backend: Backend) {
    let (caller, callee) = (backend.coordinator().await, backend.coordinator().await);
    let (a, b) = (EchoServer::start("a").await, EchoServer::start("b").await);
    let one = callee.registry().register(spec(&a)).await.unwrap();
    let channel = channel(&caller).await;
    assert!(answers(&channel, 4).await.keys().eq(["a"]));
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
    let channel = channel(&caller).await;
    taken_by(&channel, &["a"]).await;
    for weight in [1, 7, 100] {
        one.update(InstanceUpdate::default().weight(weight))
            .await
            .unwrap();
        let mut view = caller.registry().view(SERVICE).await.unwrap();
        while view.load()[0].weight != weight {
            view.changed().await.unwrap();
        }
        taken_by(&channel, &["a"]).await;
    }
    assert_eq!(a.connections().accepted(), 1);
}
