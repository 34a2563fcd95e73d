//! What the metrics are told of a channel. A recorder is a thread's here: all that a channel does is done
//! on the thread of its test.

use std::time::Duration;

use coord_tests::{
    echo::{EchoRequest, EchoServer},
    eventually,
    numbers::Numbers,
};
use tonic::Code;

use crate::{
    scripted::{Act, REFUSED_STREAM, Scripted},
    world::World,
};

/// What is told of one service. The gauges are those of the whole process: each test has its own.
struct Told(Numbers, &'static str);

impl Told {
    fn of(&self, what: &str, labels: &str) -> i64 {
        self.0
            .of(&format!("coord_grpc_{what} service={}{labels}", self.1))
    }

    fn ended(&self, outcome: &str) -> i64 {
        self.of("calls_total", &format!(" outcome={outcome}"))
    }

    fn endpoints(&self) -> [i64; 5] {
        ["ready", "connecting", "backing_off", "ejected", "draining"]
            .map(|state| self.of("endpoints", &format!(" state={state}")))
    }
}

#[tokio::test]
async fn a_recorder_is_told_of_calls_by_how_they_end_also_one_that_comes_late() {
    let server = EchoServer::start("a").await;
    let mut world = World::named("late", [server.address()], |channel| channel).await;
    world.call().await.unwrap();

    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let told = Told(numbers.clone(), "late");
    world.call().await.unwrap();
    server.handler().set_status(Code::NotFound, "no such user");
    world.call().await.unwrap_err();
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        server.handler().set_status(code, "not now");
        world.call().await.unwrap_err();
    }
    let hang = EchoRequest {
        delay_ms: u32::MAX,
        ..EchoRequest::default()
    };
    let mut client = world.client.clone();
    let dropped = tokio::spawn(async move { client.echo(hang).await });
    eventually("it is in flight", async || {
        server.handler().in_flight() == 1
    })
    .await;
    dropped.abort();
    eventually("it is dropped", async || told.ended("dropped") == 1).await;
    let outcomes = ["answered", "failed", "overloaded", "dropped", "unserved"];
    let outcomes = outcomes.map(|outcome| told.ended(outcome));
    assert_eq!(outcomes, [2, 1, 1, 1, 0]);
    assert_eq!(told.of("wait_seconds", ""), 0);

    // The set changes: now it is known how many there are, and not only what has changed.
    let other = EchoServer::start("b").await;
    world.register(other.address()).await;
    eventually("both are ready", async || {
        told.endpoints() == [2, 0, 0, 0, 0]
    })
    .await;
    assert!(told.of("updates_total", "") > 0);
    drop(world);
    eventually("it has none", async || told.endpoints() == [0; 5]).await;
}

#[tokio::test]
async fn a_recorder_is_told_what_becomes_of_instances() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let told = Told(numbers.clone(), "several");
    let gone = EchoServer::start("gone").await;
    let nowhere = gone.address();
    gone.kill().await;
    let mut world = World::named("several", [&nowhere], |channel| channel).await;
    eventually("it is refused", async || {
        told.of("connect_failures_total", "") >= 1
    })
    .await;

    // Two channels: the gauges are those of both.
    let good = EchoServer::start("good").await;
    let bad = Scripted::start("bad", [Act::Reset(REFUSED_STREAM); 5]).await;
    world.register(good.address()).await;
    world.register(&bad.address).await;
    let two_up = async |channels: i64| {
        let up = async || told.endpoints()[0] == 2 * channels;
        eventually("both that live are ready", up).await;
    };
    two_up(1).await;
    let other = world.coordinator.channel("several").await.unwrap();
    two_up(2).await;
    drop(other);
    two_up(1).await;

    eventually("it is taken out", async || {
        world.call().await.unwrap();
        told.of("ejections_total", "") == 1
    })
    .await;
    assert_eq!(told.of("resends_total", ""), 5);
    eventually("that is told, too", async || told.endpoints()[3] == 1).await;
}

#[tokio::test]
async fn a_recorder_is_told_of_calls_that_nobody_takes() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let told = Told(numbers.clone(), "nobody");
    let little = Duration::from_millis(10);
    let mut world = World::named("nobody", [""; 0], |channel| channel.wait(little)).await;
    world.call().await.unwrap_err();
    assert_eq!(told.ended("unserved"), 1);
    assert_eq!(told.of("wait_seconds", ""), 1);
}
