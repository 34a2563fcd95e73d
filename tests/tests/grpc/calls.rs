//! Each kind of call, by every way to make one, to its end.

use std::{future::ready, time::Duration};

use coord::grpc::{CALLER, Caller, Channel, caller};
use coord_tests::{
    dropped_after,
    echo::{EchoClient, EchoReply, EchoRequest, EchoServer},
    eventually,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Code, Request, codegen::InterceptedService};
use tower::ServiceBuilder;

use crate::{
    scripted::{Act, Scripted},
    world::{SERVICE, World},
};

fn say(text: &str, times: u32) -> EchoRequest {
    EchoRequest {
        text: text.into(),
        times,
        ..EchoRequest::default()
    }
}

#[tokio::test]
async fn each_kind_of_call_is_answered_and_ends() {
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let mut client = world.client.clone();
    let reply = client.echo(say("one", 0)).await.unwrap().into_inner();
    assert_eq!((&*reply.text, &*reply.server), ("one", "a"));

    let replies = client.server_stream(say("two", 3)).await.unwrap();
    let replies: Vec<EchoReply> = replies.into_inner().try_collect().await.unwrap();
    assert_eq!(replies.len(), 3);

    // All there at once, and bit by bit.
    let texts = ["th", "r", "ee"].map(|text| say(text, 0));
    let reply = client.client_stream(stream::iter(texts.clone())).await;
    assert_eq!(reply.unwrap().get_ref().text, "three");
    let slowly = stream::iter(texts.clone()).then(async |said| {
        tokio::task::yield_now().await;
        said
    });
    let reply = client.client_stream(slowly).await.unwrap();
    assert_eq!(reply.get_ref().text, "three");
    let reply = client.client_stream(stream::empty()).await.unwrap();
    assert_eq!(reply.get_ref().text, "");

    // Each reply is had before the next request is made.
    let (sender, said) = tokio::sync::mpsc::channel(1);
    let said = stream::unfold(said, async |mut said| Some((said.recv().await?, said)));
    sender.send(texts[0].clone()).await.unwrap();
    let mut replies = client.bidi(said).await.unwrap().into_inner();
    for next in texts[1..].iter().chain([&texts[0]]) {
        replies.next().await.unwrap().unwrap();
        sender.send(next.clone()).await.unwrap();
    }
    drop(sender);
    assert_eq!(replies.count().await, 1);

    assert_eq!(server.handler().calls(), 6);
    eventually("all have ended", async || server.handler().in_flight() == 0).await;
    assert_eq!(server.connections().accepted(), 1);
}

#[tokio::test]
async fn a_large_message_goes_both_ways() {
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let mut client = world.client.clone();
    let text = "x".repeat(3 << 20);
    let reply = client.echo(say(&text, 0)).await.unwrap();
    assert!(reply.get_ref().text == text);
}

#[tokio::test]
async fn what_cannot_be_encoded_is_told_and_not_sent() {
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let mut client = world.client.clone().max_encoding_message_size(100);
    let error = client.echo(say(&"x".repeat(101), 0)).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
    assert_eq!(server.handler().calls(), 0);
}

#[tokio::test]
async fn an_applications_status_comes_as_it_is() {
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let mut client = world.client.clone();
    for code in [Code::NotFound, Code::Internal, Code::Unavailable] {
        server.handler().set_status(code, "says the application");
        let error = client.echo(say("one", 0)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (code, "says the application")
        );
    }
    assert_eq!(server.handler().calls(), 3);
}

#[tokio::test]
async fn a_proxys_answer_is_one_of_grpcs() {
    let server = Scripted::start("a", [Act::Unavailable, Act::Status(5)]).await;
    let mut world = World::of([&server.address]).await;
    assert_eq!(world.call().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(world.call().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.call().await.unwrap(), "a");
    assert_eq!(server.seen(), 3);
}

#[tokio::test]
async fn a_channel_is_a_service_like_others() {
    fn assert_channel<C: Clone + Send + Sync + 'static>(_: &C) {}
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let channel = world.coordinator.channel(SERVICE).await.unwrap();
    assert_channel(&channel);

    let intercepted = InterceptedService::new(channel.clone(), Caller::new("by hand"));
    let reply = EchoClient::new(intercepted).echo(say("one", 0)).await;
    assert_eq!(reply.unwrap().get_ref().caller, "by hand");

    // What is generated asks for more than a service does.
    let mut named = EchoClient::with_interceptor(channel.clone(), Caller::new("by its own"));
    let reply = named.echo(say("one", 0)).await;
    assert_eq!(reply.unwrap().get_ref().caller, "by its own");
    let refuses = |_: Request<()>| Err(tonic::Status::unauthenticated("no token"));
    let mut refused = EchoClient::with_interceptor(channel.clone(), refuses);
    let error = refused.echo(say("one", 0)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);

    let layered = ServiceBuilder::new()
        .map_request(|mut request: http::Request<tonic::body::Body>| {
            let name = http::HeaderValue::from_static("by a layer");
            request.headers_mut().insert(CALLER, name);
            request
        })
        .service(channel.clone());
    let reply = EchoClient::new(layered).echo(say("one", 0)).await;
    assert_eq!(reply.unwrap().get_ref().caller, "by a layer");

    // From several tasks, and after the first of its clones.
    let callers = (0..8).map(|_| {
        let mut client = EchoClient::new(channel.clone());
        tokio::spawn(async move { client.echo(say("one", 0)).await })
    });
    let callers: Vec<_> = callers.collect();
    drop(channel);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_server_is_told_who_calls() {
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let module = world.coordinator.module("order-service");
    for (channel, name) in [
        (world.coordinator.channel(SERVICE), ""),
        (module.channel(SERVICE), "order-service"),
        (module.channel(SERVICE).caller("orders/17"), "orders/17"),
    ] {
        let mut client = EchoClient::new(channel.await.unwrap());
        let reply = client.echo(say("one", 0)).await.unwrap();
        assert_eq!(reply.get_ref().caller, name);
        // Whoever knows better is heard.
        let mut request = Request::new(say("one", 0));
        request
            .metadata_mut()
            .insert(CALLER, "else".parse().unwrap());
        assert_eq!(caller(request.metadata()), Some("else"));
        let reply = client.echo(request).await.unwrap();
        assert_eq!(reply.get_ref().caller, "else");
    }
}

#[tokio::test]
async fn a_stream_outlives_its_instance_in_the_registry_and_its_channel() {
    let (old, new) = (
        EchoServer::start("old").await,
        EchoServer::start("new").await,
    );
    let mut world = World::of([old.address()]).await;
    let (sender, said) = tokio::sync::mpsc::channel(1);
    let said = stream::unfold(said, async |mut said| Some((said.recv().await?, said)));
    sender.send(say("before", 0)).await.unwrap();
    let replies = world.client.bidi(said).await.unwrap();
    let mut replies = replies.into_inner();
    replies.next().await.unwrap().unwrap();

    world.register(new.address()).await;
    for registration in world.registrations.drain(..1) {
        registration.deregister().await.unwrap();
    }
    eventually("calls go to the new one", async || {
        let mut client = world.client.clone();
        client.echo(say("one", 0)).await.unwrap().get_ref().server == "new"
    })
    .await;
    sender.send(say("after", 0)).await.unwrap();
    let reply = replies.next().await.unwrap().unwrap();
    assert_eq!((&*reply.text, &*reply.server), ("after", "old"));

    // The last clone goes; the call goes on.
    let World { client, .. } = world;
    drop(client);
    sender.send(say("last", 0)).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap().text, "last");
    drop(sender);
    assert!(replies.next().await.is_none());
    eventually("its end", async || old.handler().in_flight() == 0).await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_is_not_answered() {
    let server = Scripted::start("a", [Act::Answer, Act::Silence, Act::Silence]).await;
    let world = World::with([&server.address], |channel| {
        channel.timeout(Duration::from_secs(2))
    })
    .await;
    let mut client = world.client.clone();
    // It is connected to: that is not what the time is for.
    let mut patient = Request::new(say("one", 0));
    patient.set_timeout(Duration::from_secs(60));
    client.echo(patient).await.unwrap();
    let mut asked = Request::new(say("one", 0));
    asked.set_timeout(Duration::from_secs(1));
    for (request, limit) in [(asked, "1s"), (Request::new(say("one", 0)), "2s")] {
        let error = client.echo(request).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
        for part in [SERVICE, &server.address, "no answer within", limit] {
            assert!(error.message().contains(part), "{part}: {error:?}");
        }
    }
    assert_eq!(server.seen(), 3);
    eventually("both are reset", async || server.resets() == 2).await;
}

#[tokio::test]
async fn a_deadline_holds_until_the_end_of_a_stream() {
    let server = Scripted::start("a", [Act::Answer, Act::MessageSilence]).await;
    let mut world = World::of([&server.address]).await;
    // It is connected to: that is not what the time is for.
    world.call().await.unwrap();
    let mut request = Request::new(say("one", 0));
    request.set_timeout(Duration::from_secs(2));
    let mut replies = world
        .client
        .server_stream(request)
        .await
        .unwrap()
        .into_inner();
    replies.next().await.unwrap().unwrap();
    let error = replies.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    let says = error.message();
    assert!(
        says.contains(SERVICE) && says.contains(&server.address),
        "{says}"
    );
    eventually("it is reset", async || server.resets() == 1).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_await_is_reset() {
    let server = EchoServer::start("a").await;
    let world = World::of([server.address()]).await;
    let mut dropped = 0;
    for polls in 1.. {
        let mut client: EchoClient<Channel> = world.client.clone();
        let call = async move {
            let replies = client.server_stream(say("one", 3)).await.unwrap();
            replies.into_inner().try_for_each(|_| ready(Ok(()))).await
        };
        match dropped_after(polls, call).await {
            None => dropped += 1,
            Some(done) => {
                done.unwrap();
                break;
            }
        }
        eventually("its end", async || server.handler().in_flight() == 0).await;
    }
    assert!(dropped > 1);
    assert_eq!(server.connections().accepted(), 1);
}
