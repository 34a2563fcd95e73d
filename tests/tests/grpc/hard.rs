//! What is hard on a channel, and must not be noticed, or not be paid for by others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use coord_tests::{
    echo::{EchoHandler, EchoRequest, EchoServer},
    eventually,
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::{Code, Request, transport::Server};

use crate::{
    load::Load,
    world::{SERVICE, World},
};

/// Two servers, both of which have answered.
async fn two() -> (World, [EchoServer; 2]) {
    let servers = [EchoServer::start("a").await, EchoServer::start("b").await];
    let mut world = World::of(servers.iter().map(EchoServer::address)).await;
    for server in &servers {
        eventually("it is connected to", async || {
            world.call().await.unwrap();
            server.handler().calls() > 0
        })
        .await;
    }
    (world, servers)
}

/// Well before an ejection would end.
async fn soon_answered_by(world: &mut World, server: &str) {
    let answered = async { while world.call().await.unwrap() != server {} };
    let soon = tokio::time::timeout(Duration::from_secs(15), answered).await;
    soon.unwrap_or_else(|_| panic!("{server} takes no calls"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_breaks_under_many_calls_is_one_failure_and_not_many() {
    let (mut world, [a, _b]) = two().await;
    for _ in 0..5 {
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let mut client = world.client.clone();
                let long = EchoRequest {
                    delay_ms: u32::MAX,
                    ..EchoRequest::default()
                };
                tokio::spawn(async move { client.echo(long).await })
            })
            .collect();
        eventually("they are in flight", async || a.handler().in_flight() == 32).await;
        a.cut();
        eventually("they have failed", async || {
            calls.iter().filter(|call| call.is_finished()).count() == 32
        })
        .await;
        // From then on none does.
        soon_answered_by(&mut world, "a").await;
        soon_answered_by(&mut world, "b").await;
        calls.into_iter().for_each(|call| call.abort());
        eventually("they are over", async || a.handler().in_flight() == 0).await;
    }
}

#[tokio::test]
async fn what_the_caller_cannot_send_does_not_count_against_the_servers() {
    let (mut world, _servers) = two().await;
    let mut client = world.client.clone().max_encoding_message_size(100);
    for _ in 0..20 {
        let requests = stream::iter([1, 1, 1000]).then(async |length| {
            tokio::task::yield_now().await;
            EchoRequest {
                text: "x".repeat(length),
                ..EchoRequest::default()
            }
        });
        client.client_stream(requests).await.unwrap_err();
    }
    for server in ["a", "b"] {
        soon_answered_by(&mut world, server).await;
    }
}

#[tokio::test]
async fn limits_that_are_never_reached_are_none() {
    let server = EchoServer::start("a").await;
    let never = Duration::MAX;
    let mut world = World::with([server.address()], |channel| {
        channel
            .wait(never)
            .timeout(never)
            .connect_timeout(never)
            .keep_alive(never)
            .slow_start(never)
    })
    .await;
    for _ in 0..3 {
        assert_eq!(world.call().await.unwrap(), "a");
    }
    let mut request = Request::new(EchoRequest::default());
    let longest = "99999999H".parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", longest);
    world.client.echo(request).await.unwrap();
}

#[tokio::test]
async fn a_call_that_has_no_time_left_is_not_sent() {
    let (mut world, servers) = two().await;
    let calls = || servers.each_ref().map(|server| server.handler().calls());
    let before = calls();
    for nothing in ["0n", "0H"] {
        let mut request = Request::new(EchoRequest::default());
        let nothing = nothing.parse().unwrap();
        request.metadata_mut().insert("grpc-timeout", nothing);
        let error = world.client.echo(request).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert!(error.message().contains("before the call was sent"));
    }
    assert_eq!(calls(), before);
}

#[tokio::test]
async fn who_answers_nobody_is_taken_out_although_all_deadlines_are_short() {
    let (mut world, [a, _b]) = two().await;
    a.handler().set_latency(Duration::from_secs(3600));
    eventually("it takes no calls", async || {
        let before = a.handler().calls();
        for _ in 0..8 {
            let mut request = Request::new(EchoRequest::default());
            request.set_timeout(Duration::from_millis(200));
            // Those to the other are answered, or late, too, on a machine that is busy.
            let _ = world.client.echo(request).await;
        }
        a.handler().calls() == before
    })
    .await;
}

/// What a server may do once it has seen the headers of a call, and nothing of its message.
#[derive(Clone, Copy, Debug)]
enum Then {
    Cut,
    Reset,
}

/// A server that lets nobody send more than headers; how many calls it has seen.
async fn headers_only(then: Then) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await?;
                // SETTINGS: the window of a stream is zero.
                let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
                stream.write_all(&settings).await?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).await?;
                    let [_, high, low, kind, flags, id @ ..] = head;
                    let mut payload = vec![0; u16::from_be_bytes([high, low]).into()];
                    stream.read_exact(&mut payload).await?;
                    match (kind, then) {
                        (4, _) if flags == 0 => {
                            stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
                        }
                        (1, Then::Cut) => {
                            count.fetch_add(1, SeqCst);
                            return Ok::<_, std::io::Error>(());
                        }
                        (1, Then::Reset) => {
                            count.fetch_add(1, SeqCst);
                            // RST_STREAM: CANCEL.
                            let reset = [&[0, 0, 4, 3, 0], &id[..], &[0, 0, 0, 8]].concat();
                            stream.write_all(&reset).await?;
                        }
                        _ => {}
                    }
                }
            });
        }
    });
    (address, seen)
}

/// A handler of a stream begins at the headers: that no message has reached it says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_whose_headers_alone_were_seen_is_not_repeated() {
    for (then, code) in [
        (Then::Cut, Code::Unavailable),
        (Then::Reset, Code::Cancelled),
    ] {
        for calls in 1..=20 {
            let (address, seen) = headers_only(then).await;
            let mut world = World::of([&address]).await;
            let error = world.call().await.unwrap_err();
            assert_eq!(error.code(), code, "{then:?}: {error}");
            assert_eq!(seen.load(SeqCst), 1, "{then:?}, the {calls}. time");
        }
    }
}

/// The connections end while calls are sent on them: each is answered, and none is lost or waits for
/// ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_of_a_limited_age_cost_no_call() {
    let servers = ["a", "b", "c"].map(async |name| {
        let handler = EchoHandler::new(name);
        let router = Server::builder()
            .max_connection_age(Duration::from_millis(50))
            .add_service(handler.service());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        EchoServer::serve(handler, router, listener)
    });
    let servers = futures_util::future::join_all(servers).await;
    let world = World::of(servers.iter().map(EchoServer::address)).await;
    let load = Load::start(&world.coordinator.channel(SERVICE).await.unwrap());
    for server in &servers {
        eventually("its connections have come and gone", async || {
            server.connections().accepted() > 20
        })
        .await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), load.end()).await;
    let tally = ended.expect("every call ends");
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
}
