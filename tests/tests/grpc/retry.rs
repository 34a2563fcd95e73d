//! What goes to another instance, and what never does.

use std::error::Error as _;

use coord_tests::{
    echo::{EchoRequest, EchoServer},
    eventually,
};
use futures_util::{StreamExt as _, future::join_all, stream};
use tonic::Code;

use crate::{
    scripted::{
        Act, CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Scripted,
    },
    world::{Elsewhere, SERVICE, World},
};

/// The call fails with this code; the server has met it once, and nobody else.
async fn fails(act: Act, code: Code, says: &str) {
    let (first, other) = (
        Scripted::start("first", [act]).await,
        Scripted::start("other", [act]).await,
    );
    let mut world = World::of([&first.address, &other.address]).await;
    let error = world.call().await.unwrap_err();
    assert_eq!(error.code(), code, "{act:?}: {error:?}");
    let met = if first.seen() == 1 { &first } else { &other };
    assert_eq!(first.seen() + other.seen(), 1, "{act:?}: not repeated");
    for part in [SERVICE, &met.address, "may have been processed", says] {
        assert!(error.message().contains(part), "{part}: {error:?}");
    }
    assert!(error.source().is_some(), "{act:?}: {error:?}");
}

/// The call is answered although the first server does this.
async fn goes_elsewhere(act: Act) {
    let (first, other) = (
        Scripted::start("first", [act; 3]).await,
        Scripted::start("other", []).await,
    );
    let mut world = World::of([&first.address, &other.address]).await;
    // Whichever is connected to first.
    eventually("both have met a call", async || {
        let answered = world.call().await;
        answered.unwrap_or_else(|e| panic!("{act:?}: {e}"));
        first.seen() > 0 && other.seen() > 0
    })
    .await;

    // It need not be another.
    let only = Scripted::start("only", [act]).await;
    let mut world = World::of([&only.address]).await;
    assert_eq!(world.call().await.unwrap(), "only", "{act:?}");
    assert_eq!(only.seen(), 2, "{act:?}");
}

#[tokio::test]
async fn a_refused_stream_goes_elsewhere() {
    goes_elsewhere(Act::Reset(REFUSED_STREAM)).await;
}

#[tokio::test]
async fn a_stream_after_the_last_of_a_connection_that_goes_away_goes_elsewhere() {
    for code in [NO_ERROR, ENHANCE_YOUR_CALM, INTERNAL_ERROR] {
        goes_elsewhere(Act::GoAwayBefore(code)).await;
    }
}

#[tokio::test]
async fn a_large_request_goes_elsewhere_too() {
    let away = [Act::GoAwayBefore(NO_ERROR); 3];
    let (first, other) = (
        Scripted::start("first", away).await,
        EchoServer::start("other").await,
    );
    let mut world = World::of([&first.address, &other.address()]).await;
    eventually("both have met a call", async || {
        let request = EchoRequest {
            text: "x".repeat(3_000_000),
            ..EchoRequest::default()
        };
        let answer = world.client.echo(request).await.unwrap().into_inner();
        assert_eq!((&*answer.server, answer.text.len()), ("other", 3_000_000));
        first.seen() > 0 && other.handler().calls() > 0
    })
    .await;
}

#[tokio::test]
async fn the_last_stream_of_a_connection_that_goes_away_is_answered_on_it() {
    let server = Scripted::start("only", [Act::GoAwayAnswer; 3]).await;
    let mut world = World::of([&server.address]).await;
    for calls in 1..=3 {
        world.call().await.unwrap();
        assert_eq!(server.seen(), calls);
    }
    assert!(server.connections() >= 3);
}

#[tokio::test]
async fn what_the_server_may_have_processed_is_not_repeated() {
    fails(Act::Cut, Code::Unavailable, "the call broke").await;
    fails(
        Act::GoAwayAfter(NO_ERROR),
        Code::Unavailable,
        "the call broke",
    )
    .await;
    fails(
        Act::GoAwayAfter(ENHANCE_YOUR_CALM),
        Code::Unavailable,
        "the call broke",
    )
    .await;
    fails(Act::Reset(CANCEL), Code::Cancelled, "the call broke").await;
    fails(Act::Reset(INTERNAL_ERROR), Code::Internal, "the call broke").await;
    fails(
        Act::Reset(ENHANCE_YOUR_CALM),
        Code::ResourceExhausted,
        "the call broke",
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_asked_for_again() {
    let says = "the answer broke off";
    fails(Act::HeadersCut, Code::Unavailable, says).await;
    fails(Act::MessageReset(CANCEL), Code::Cancelled, says).await;
    fails(Act::MessageReset(INTERNAL_ERROR), Code::Internal, says).await;
    // Even now: it has begun to answer.
    fails(Act::MessageReset(REFUSED_STREAM), Code::Unavailable, says).await;
}

#[tokio::test]
async fn a_stream_of_the_callers_is_not_repeated_once_it_was_begun() {
    let server = Scripted::start("only", [Act::Reset(REFUSED_STREAM)]).await;
    let mut world = World::of([&server.address]).await;
    let requests = stream::iter([1, 2, 3]).then(async |_| {
        tokio::task::yield_now().await;
        EchoRequest::default()
    });
    let error = world.client.client_stream(requests).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("was not processed"), "{error:?}");
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_all_is_not_asked_for_ever() {
    let refuse = Act::Reset(REFUSED_STREAM);
    let server = Scripted::start("only", std::iter::repeat_n(refuse, 10_000)).await;
    let mut world = World::of([&server.address]).await;
    let mut request = tonic::Request::new(EchoRequest::default());
    request.set_timeout(std::time::Duration::from_secs(3));
    let error = world.client.echo(request).await.unwrap_err();
    let says = error.message();
    assert!(says.contains("within 3s"), "{says}");
    match error.code() {
        Code::Unavailable => assert!(
            says.contains("last try:") && says.contains("refused"),
            "{says}"
        ),
        // It ran out in the middle of a try, and not between two of them.
        code => assert_eq!(code, Code::DeadlineExceeded, "{says}"),
    }
    // Pauses grow: far fewer than a loop would send.
    assert!(server.seen() < 500, "{}", server.seen());
}

#[tokio::test]
async fn a_server_that_refuses_all_is_taken_out_like_one_that_refuses_connections() {
    let refuse = Act::Reset(REFUSED_STREAM);
    let bad = Scripted::start("bad", std::iter::repeat_n(refuse, 10_000)).await;
    let good = Scripted::start("good", []).await;
    let mut world = World::of([&bad.address, &good.address]).await;
    eventually("it is asked no more", async || {
        let before = bad.seen();
        for _ in 0..10 {
            assert_eq!(world.call().await.unwrap(), "good");
        }
        before > 0 && bad.seen() == before
    })
    .await;
    // Five in a row, and what was on its way.
    assert!((5..15).contains(&bad.seen()), "{}", bad.seen());
}

/// The system knows that it is dead, and the runtime has not asked yet: it has one thread, and that is
/// busy from the death until the calls are on their way.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_was_dead_before_the_call_began_fails_none() {
    for _ in 0..20 {
        let doomed = Elsewhere::start("doomed").await;
        let alive = EchoServer::start("alive").await;
        let mut world = World::of([alive.address(), doomed.server.address()]).await;
        eventually("both are called", async || {
            world.call().await.unwrap();
            alive.handler().calls() > 0 && doomed.server.handler().calls() > 0
        })
        .await;
        doomed.die();
        // In turns, so that one of them would meet it.
        let calls = (0..2).map(|_| {
            let mut client = world.client.clone();
            async move { client.echo(EchoRequest::default()).await }
        });
        for answer in join_all(calls).await {
            assert_eq!(answer.unwrap().get_ref().server, "alive");
        }
    }
}

/// Connections close under the callers all the time, as they do when servers are restarted: what was not
/// answered goes over the next connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_close_in_order_cost_no_call() {
    let mut server = EchoServer::start("one").await;
    let world = World::of([&server.address()]).await;
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let mut client = world.client.clone();
            tokio::spawn(async move {
                let mut calls = 0_u64;
                loop {
                    let request = EchoRequest {
                        text: "on".into(),
                        times: 0,
                        ..EchoRequest::default()
                    };
                    let answer = client.echo(request).await?;
                    if answer.get_ref().server == "last" {
                        return Ok::<_, tonic::Status>(calls);
                    }
                    calls += 1;
                }
            })
        })
        .collect();
    for round in 1..=20 {
        eventually("the next round is called", async || {
            server.handler().calls() > 64
        })
        .await;
        let address = server.address();
        server.stop().await;
        let name = if round == 20 { "last" } else { "next" };
        server = EchoServer::start_on(name, &address).await;
    }
    for caller in callers {
        let calls = caller.await.unwrap().unwrap();
        assert!(calls > 0);
    }
}
