//! Calls that find no endpoint: how long they wait, and what they say in the end.

use std::time::Duration;

use coord::grpc::{Channel, ChannelBuilder};
use coord_tests::{
    dropped_after,
    echo::{EchoClient, EchoRequest, EchoServer},
    eventually,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::{Code, Request, Status};

use crate::world::{Elsewhere, SERVICE, World};

const NOBODY: [&str; 0] = [];

/// What a call ends with that has this long; it is not to hang.
async fn ended(client: &EchoClient<Channel>, deadline: Duration) -> Result<(), Status> {
    let mut request = Request::new(EchoRequest::default());
    request.set_timeout(deadline);
    let mut client = client.clone();
    let call = client.echo(request);
    let ended = tokio::time::timeout(deadline + Duration::from_secs(30), call).await;
    ended.expect("it ends by its deadline").map(drop)
}

/// The call fails within its deadline, and its text has these parts.
async fn fails(world: &World, parts: &[&str]) {
    // Until the reason is known, which takes a connection attempt.
    eventually(&format!("a failure that says {parts:?}"), async || {
        let failed = ended(&world.client, Duration::from_millis(200)).await;
        let error = failed.expect_err("nobody serves");
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        let says = error.message();
        let start = format!("no endpoint for {SERVICE} within 200ms: ");
        assert!(says.starts_with(&start), "{says}");
        if parts.iter().all(|part| says.contains(part)) {
            Ok(())
        } else {
            Err(says.to_owned())
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_that_nobody_serves_is_told() {
    let world = World::of(NOBODY).await;
    fails(&world, &["registry: no instance has this name"]).await;
}

/// Nobody has told the channel yet: its one thread is busy from the death until the call has failed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_has_just_hung_up_is_not_said_to_be_ready() {
    let doomed = Elsewhere::start("doomed").await;
    let fail_fast = |channel: ChannelBuilder| channel.wait(Duration::ZERO);
    let mut world = World::with([doomed.server.address()], fail_fast).await;
    eventually("it is connected to", async || world.call().await).await;
    doomed.die();
    let error = world.call().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    let says = error.message();
    assert!(says.ends_with("; connections: 1 just closed"), "{says}");
}

#[tokio::test]
async fn an_address_that_refuses_is_told() {
    let server = EchoServer::start("gone").await;
    server.kill().await;
    let address = server.address();
    let world = World::of([&address]).await;
    fails(&world, &["registry: 1 instance", &address, "refused"]).await;
}

#[tokio::test]
async fn an_address_that_swallows_is_told() {
    // The kernel accepts; nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let world = World::of([&address]).await;
    fails(&world, &["registry: 1 instance", "1 connecting"]).await;
}

#[tokio::test]
async fn a_server_that_speaks_no_http2_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut said = [0; 24];
            let _ = stream.read_exact(&mut said).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let world = World::of([&address]).await;
    fails(&world, &["registry: 1 instance", &address, "HTTP/2"]).await;
}

#[tokio::test]
async fn without_a_deadline_the_channels_limit_counts() {
    let world = World::with(NOBODY, |channel| channel.wait(Duration::from_millis(50))).await;
    let error = world.client.clone().echo(EchoRequest::default()).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("within 50ms"), "{error:?}");
    let world = World::with(NOBODY, |channel| channel.wait(Duration::ZERO)).await;
    let error = world.client.clone().echo(EchoRequest::default()).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("now: "), "{error:?}");
}

#[tokio::test]
async fn a_call_is_served_once_there_is_somebody() {
    let mut world = World::of(NOBODY).await;
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let mut client = world.client.clone();
            tokio::spawn(async move { client.echo(EchoRequest::default()).await })
        })
        .collect();
    let server = EchoServer::start("late").await;
    world.register(server.address()).await;
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().get_ref().server, "late");
    }
}

#[tokio::test]
async fn a_call_that_waits_can_be_dropped() {
    let world = World::of(NOBODY).await;
    for polls in 1..4 {
        let mut client = world.client.clone();
        let call = client.echo(EchoRequest::default());
        tokio::select! {
            dropped = dropped_after(polls, call) => assert!(dropped.is_none()),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

#[tokio::test]
async fn a_closed_coordinator_ends_calls_that_wait_and_refuses_new_ones() {
    let world = World::with(NOBODY, |channel| channel.wait(Duration::from_secs(3600))).await;
    let mut client = world.client.clone();
    let waiting = tokio::spawn(async move { client.echo(EchoRequest::default()).await });
    let World {
        mut client,
        coordinator,
        ..
    } = world;
    tokio::task::yield_now().await;
    coordinator.close().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("closed"), "{error:?}");
    let error = client.echo(EchoRequest::default()).await.unwrap_err();
    assert!(error.message().contains("closed"), "{error:?}");
}
