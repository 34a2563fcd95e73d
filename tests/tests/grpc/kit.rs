//! The test kit's own server does what it is told.

use std::time::Duration;

use coord_tests::{
    echo::{EchoClient, EchoRequest, EchoServer},
    eventually,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::Code;

fn say(text: &str, times: u32) -> EchoRequest {
    EchoRequest {
        text: text.into(),
        times,
        delay_ms: 0,
    }
}

#[tokio::test]
async fn each_kind_of_call_is_answered_and_counted() {
    let server = EchoServer::start("a").await;
    let mut client = EchoClient::connect(server.uri()).await.unwrap();
    let reply = client.echo(say("one", 0)).await.unwrap().into_inner();
    assert_eq!((&*reply.text, &*reply.server), ("one", "a"));
    let streamed = client.server_stream(say("two", 3)).await.unwrap();
    let streamed: Vec<_> = streamed.into_inner().try_collect().await.unwrap();
    assert_eq!(streamed.len(), 3);
    let said = stream::iter([say("th", 0), say("ree", 0)]);
    let reply = client.client_stream(said).await.unwrap();
    assert_eq!(reply.get_ref().text, "three");
    let said = stream::iter([say("fo", 0), say("ur", 0)]);
    let replies = client.bidi(said).await.unwrap().into_inner();
    let texts: Vec<_> = replies
        .map_ok(|reply| reply.text)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(texts, ["fo", "ur"]);
    assert_eq!(server.handler().calls(), 4);
    eventually("all have ended", async || server.handler().in_flight() == 0).await;
    assert_eq!(server.connections().accepted(), 1);
}

#[tokio::test]
async fn a_status_is_given_and_a_cut_breaks_what_is_in_flight() {
    let server = EchoServer::start("a").await;
    let mut client = EchoClient::connect(server.uri()).await.unwrap();
    server.handler().set_status(Code::ResourceExhausted, "full");
    let error = client.echo(say("one", 0)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::ResourceExhausted, "full")
    );
    server.handler().set_status(Code::Ok, "");
    server.handler().set_latency(Duration::from_millis(1));
    let endless = client.server_stream(say("two", 0)).await.unwrap();
    let mut endless = endless.into_inner();
    endless.next().await.unwrap().unwrap();
    server.cut();
    let broken = async { while endless.next().await.is_some_and(|reply| reply.is_ok()) {} };
    tokio::time::timeout(Duration::from_secs(30), broken)
        .await
        .expect("it breaks");
    eventually("the handler's end", async || {
        server.handler().in_flight() == 0
    })
    .await;
    // It still accepts.
    client.echo(say("three", 0)).await.unwrap();
    assert_eq!(server.connections().accepted(), 2);
}

#[tokio::test]
async fn a_stop_waits_for_what_is_in_flight_and_a_kill_does_not() {
    let server = EchoServer::start("a").await;
    let mut client = EchoClient::connect(server.uri()).await.unwrap();
    server.handler().set_latency(Duration::from_millis(50));
    let mut caller = client.clone();
    let call = tokio::spawn(async move { caller.echo(say("one", 0)).await });
    eventually("it is in flight", async || {
        server.handler().in_flight() == 1
    })
    .await;
    server.stop().await;
    call.await.unwrap().unwrap();
    client.echo(say("two", 0)).await.unwrap_err();

    let server = EchoServer::start_on("a", &server.address()).await;
    server.handler().set_latency(Duration::from_secs(3600));
    let call = tokio::spawn(async move { client.echo(say("three", 0)).await });
    eventually("it is in flight", async || {
        server.handler().in_flight() == 1
    })
    .await;
    server.kill().await;
    call.await.unwrap().unwrap_err();
}
