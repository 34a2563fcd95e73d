//! Channels: what a pick costs, what a call costs beside tonic's own channel, and what calls notice of
//! servers that are slow, die or are replaced.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use coord::{
    Coordinator, InstanceSpec, Options, Registration,
    embedded::Server,
    grpc::{Channel, Strategy},
};
use coord_tests::{
    Crowd, Worker,
    crowd::by_server,
    echo::{EchoClient, EchoRequest, EchoServer},
    eventually,
};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tonic::{body::Body, client::GrpcService, codegen};

use crate::{
    sample::{Samples, in_turns},
    table::Table,
};

const CALLERS: usize = 64;
const ENDPOINTS: usize = 100;
/// A pick takes nanoseconds: so many of them are one sample.
const PICKS: u32 = 1_000;
const SAMPLES: usize = 2_000;
const TURNS: usize = 250;
/// In a turn, of each caller.
const CALLS: usize = 20;
/// Of each of these a p99 is taken.
const ROUNDS: usize = 7;
/// Long enough that a p99 is one of the server and not of a moment in which this machine was busy.
const ROUND: usize = 10_000;
const INSTANCES: usize = 10;
/// The service that the worker processes serve.
const SERVICE: &str = "echo";

pub(crate) async fn measure(table: &mut Table) {
    picks(table).await;
    calls(table).await;
    slow(table).await;
    killed(table).await;
    rolling(table).await;
}

/// A registry, and what is registered there.
struct World {
    etcd: Server,
    coordinator: Coordinator,
    registrations: Vec<Registration>,
}

impl World {
    async fn of(servers: &[EchoServer]) -> Self {
        let etcd = Server::start().await.expect("the embedded server starts");
        let options = Options::test().endpoints([etcd.endpoint()]);
        let coordinator = Coordinator::connect(options).await.expect("coord connects");
        let registry = coordinator.registry();
        let register =
            |server: &EchoServer| registry.register(InstanceSpec::new(SERVICE, server.address()));
        let registered = join_all(servers.iter().map(register)).await;
        let registrations = registered
            .into_iter()
            .map(|one| one.expect("it is written"));
        Self {
            registrations: registrations.collect(),
            etcd,
            coordinator,
        }
    }

    /// Connected to all of the servers, which have no other connection.
    async fn channel(&self, strategy: Strategy, servers: &[EchoServer]) -> Channel {
        let gone = async || servers.iter().all(|one| one.connections().open() == 0);
        eventually("the channel before is gone", gone).await;
        let channel = self.coordinator.channel(SERVICE).strategy(strategy);
        let channel = channel.await.expect("a channel");
        let there = async || servers.iter().all(|one| one.connections().open() == 1);
        eventually("all are connected", there).await;
        channel
    }

    async fn close(self) {
        for registration in self.registrations {
            registration.deregister().await.expect("it leaves");
        }
        self.coordinator.close().await;
    }
}

async fn servers(count: usize) -> Vec<EchoServer> {
    let start = |number: usize| async move { EchoServer::start(&number.to_string()).await };
    join_all((0..count).map(start)).await
}

/// What a call does before it has an endpoint and a connection, the set and the time included.
async fn picks(table: &mut Table) {
    let servers = servers(ENDPOINTS).await;
    let world = World::of(&servers).await;
    for (strategy, what) in [
        (Strategy::P2c, "grpc: 1,000 × pick among 100, P2C"),
        (
            Strategy::RoundRobin,
            "grpc: 1,000 × pick among 100, round robin",
        ),
        (Strategy::Random, "grpc: 1,000 × pick among 100, random"),
        (Strategy::Weighted, "grpc: 1,000 × pick among 100, weighted"),
        (
            Strategy::LeastConnections,
            "grpc: 1,000 × pick among 100, least connections",
        ),
    ] {
        let channel = world.channel(strategy, &servers).await;
        // Until each has a latency.
        let crowd = Crowd::gather(&EchoClient::new(channel.clone()), CALLERS);
        crowd.made(50 * ENDPOINTS).await;
        assert_eq!(by_server(&crowd.leave().await).len(), ENDPOINTS);
        let sample = |_| {
            let start = Instant::now();
            (0..PICKS).for_each(|_| assert!(black_box(channel.picks())));
            start.elapsed()
        };
        let samples = (0..SAMPLES).map(sample).collect();
        table.time(what, samples, Duration::from_nanos(200) * PICKS);
    }
    world.close().await;
}

/// One connection to one server, by both.
async fn calls(table: &mut Table) {
    let servers = servers(1).await;
    let world = World::of(&servers).await;
    let ours = EchoClient::new(world.channel(Strategy::P2c, &servers).await);
    let plain = EchoClient::connect(servers[0].uri()).await;
    let plain = plain.expect("tonic connects");
    let both = in_turns(
        TURNS,
        async |_| turn(&ours).await,
        async |_| turn(&plain).await,
    );
    let what = "grpc: 64 callers, 20 unary calls each";
    table.ratio(what, both.await, "tonic::transport::Channel", 1.0 / 0.95);
    let one = async |client: &mut EchoClient<_>| {
        let answer = client.echo(EchoRequest::default()).await;
        answer.expect("an answer");
    };
    let (mut alone, mut other) = (ours.clone(), plain.clone());
    let both = in_turns(
        2_000,
        async |_| one(&mut alone).await,
        async |_| {
            let answer = other.echo(EchoRequest::default()).await;
            answer.expect("an answer");
        },
    );
    let what = "grpc: one unary call";
    table.ratio(what, both.await, "tonic::transport::Channel", 1.1);
    world.close().await;
}

async fn turn<T>(client: &EchoClient<T>)
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<codegen::StdError>,
    T::ResponseBody: codegen::Body<Data = codegen::Bytes> + Send + 'static,
    <T::ResponseBody as codegen::Body>::Error: Into<codegen::StdError> + Send,
{
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = client.clone();
        callers.spawn(async move {
            for _ in 0..CALLS {
                let answer = client.echo(EchoRequest::default()).await;
                answer.expect("an answer");
            }
        });
    }
    callers.join_all().await;
}

/// The default against each in turn, with one of three servers fifty times as slow.
async fn slow(table: &mut Table) {
    let servers = servers(3).await;
    let world = World::of(&servers).await;
    for (server, latency) in servers.iter().zip([50, 1, 1]) {
        server.handler().set_latency(Duration::from_millis(latency));
    }
    let mut both = Vec::new();
    for strategy in [Strategy::P2c, Strategy::RoundRobin] {
        let channel = world.channel(strategy, &servers).await;
        let mut p99s = Vec::new();
        for _ in 0..ROUNDS {
            let crowd = Crowd::gather(&EchoClient::new(channel.clone()), CALLERS);
            crowd.made(ROUND).await;
            let made = crowd.leave().await;
            assert!(made.iter().all(|call| call.result.is_ok()));
            p99s.push(
                made.iter()
                    .map(coord_tests::crowd::Made::took)
                    .collect::<Samples>()
                    .p99(),
            );
        }
        both.push(p99s.into_iter().collect());
    }
    let [ours, turns] = <[Samples; 2]>::try_from(both).expect("there are two");
    let what = "grpc: p99 of 10,000 calls, one server of three slow, P2C";
    table.ratio(what, (ours, turns), "round robin", 0.5);
    world.close().await;
}

/// A process that serves, and is registered.
async fn process(etcd: &Server, number: usize) -> Worker {
    let endpoint = etcd.endpoint();
    let environment = [("COORD_ENDPOINTS", endpoint)];
    let mut worker = Worker::spawn_with("service-grpc", &[&number.to_string()], &environment);
    worker.say("ready");
    worker
}

async fn registered(world: &World, count: usize) {
    let what = format!("{count} are registered");
    eventually(&what, async || {
        let found = world.coordinator.registry().discover(SERVICE).await;
        found.is_ok_and(|found| found.len() == count)
    })
    .await;
}

/// One of three processes dies by SIGKILL.
async fn killed(table: &mut Table) {
    let world = World::of(&[]).await;
    let workers = join_all((0..3).map(|number| process(&world.etcd, number))).await;
    registered(&world, 3).await;
    let channel = world.coordinator.channel(SERVICE).await.expect("a channel");
    let crowd = Crowd::gather(&EchoClient::new(channel), CALLERS);
    crowd.made(20_000).await;
    let before = Instant::now();
    workers[0].kill();
    let dead = Instant::now();
    crowd.made(20_000).await;
    let made = crowd.leave().await;
    let by = by_server(&made);
    assert_eq!(by.len(), 3, "{by:?}");
    let failed = |from: Option<Instant>, to: Option<Instant>| {
        let begun = |call: &&coord_tests::crowd::Made| {
            from.is_none_or(|from| call.begun >= from) && to.is_none_or(|to| call.begun < to)
        };
        let calls = made.iter().filter(begun);
        let (failed, all) = calls.fold((0, 0), |(failed, all), call| {
            (failed + usize::from(call.result.is_err()), all + 1)
        });
        (failed, all)
    };
    let (seen, of) = failed(None, Some(before));
    table.count(
        "grpc: one of three killed: failed calls of those begun before",
        seen,
        of,
        CALLERS,
    );
    let (seen, of) = failed(Some(before), Some(dead));
    table.count(
        "grpc: failed calls of those begun while it died",
        seen,
        of,
        CALLERS,
    );
    let (seen, of) = failed(Some(dead), None);
    table.count(
        "grpc: failed calls of those begun once it was dead",
        seen,
        of,
        0,
    );
    world.close().await;
}

/// Ten processes are replaced, one after the other, as a deployment does it.
async fn rolling(table: &mut Table) {
    let world = World::of(&[]).await;
    let old = join_all((0..INSTANCES).map(|number| process(&world.etcd, number))).await;
    registered(&world, INSTANCES).await;
    let channel = world.coordinator.channel(SERVICE).await.expect("a channel");
    let crowd = Crowd::gather(&EchoClient::new(channel), CALLERS);
    crowd.made(1_000).await;
    let mut new = Vec::new();
    for (number, worker) in old.into_iter().enumerate() {
        new.push(process(&world.etcd, INSTANCES + number).await);
        registered(&world, INSTANCES + 1).await;
        worker.terminate();
        assert!(worker.ended().await.success());
        registered(&world, INSTANCES).await;
    }
    crowd.made(1_000).await;
    let made = crowd.leave().await;
    assert!(by_server(&made).len() > INSTANCES);
    let failed = made.iter().filter(|call| call.result.is_err()).count();
    let what = "grpc: failed calls while ten servers are replaced";
    table.count(what, failed, made.len(), 0);
    world.close().await;
}
