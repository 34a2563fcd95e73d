//! A channel whose clock is the test's: ejections and probes, over real connections.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tonic::body::Body;
use tower::{Service, service_fn};

use crate::{
    clock::Clock,
    embedded::Server,
    grpc::{
        Channel, Strategy,
        state::{EJECTION, EJECTION_MAX},
    },
    registry::InstanceSpec,
    tasks::Tasks,
};

/// A server without messages: it counts its calls, and says that it can serve or that it cannot.
struct Plain {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Plain {
    async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let this = Self {
            address: listener.local_addr().expect("bound"),
            calls: Arc::default(),
            broken: Arc::default(),
        };
        let (calls, broken, all) = (this.calls.clone(), this.broken.clone(), tasks.clone());
        drop(tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (calls, broken) = (calls.clone(), broken.clone());
                let answer = service_fn(move |_: Request<hyper::body::Incoming>| {
                    calls.fetch_add(1, SeqCst);
                    let status = if broken.load(SeqCst) { "14" } else { "0" };
                    let response = Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", status)
                        .body(Body::empty());
                    std::future::ready(Ok::<_, Infallible>(response.expect("valid")))
                });
                drop(all.spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .http2_only()
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(answer))
                        .await;
                }));
            }
        }));
        this
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

async fn call(channel: &Channel) {
    let request = Request::builder().method("POST").uri("/test.Plain/Call");
    let request = request.body(Body::empty()).expect("valid");
    let answer = channel.clone().call(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

/// Calls until `done`.
async fn until(channel: &Channel, mut done: impl FnMut() -> bool) {
    while !done() {
        call(channel).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_ejected_server_is_given_one_call_and_is_taken_in_when_it_answers() {
    let tasks = Tasks::current();
    let (good, bad) = (Plain::start(&tasks).await, Plain::start(&tasks).await);
    let etcd = Server::start().await.expect("it starts");
    let coordinator = etcd.coordinator().await.expect("it connects");
    let registry = coordinator.registry();
    let mut registrations = Vec::new();
    for server in [&good, &bad] {
        let spec = InstanceSpec::new("plain", server.address.to_string());
        registrations.push(registry.register(spec).await.expect("registered"));
    }
    let (clock, hand) = Clock::manual();
    let channel = coordinator.channel("plain").strategy(Strategy::RoundRobin);
    let channel = channel.clock(clock).await.expect("a channel");
    until(&channel, || good.calls() > 0 && bad.calls() > 0).await;

    bad.broken.store(true, SeqCst);
    let (mut last, mut calm) = (bad.calls(), 0);
    until(&channel, || {
        calm = if bad.calls() == last { calm + 1 } else { 0 };
        last = bad.calls();
        calm > 20
    })
    .await;
    assert!(good.calls() > 20);

    // Its time is over: one call, and no second one.
    for times in 1..=3 {
        let before = bad.calls();
        hand.advance(EJECTION * times);
        until(&channel, || bad.calls() > before).await;
        for _ in 0..20 {
            call(&channel).await;
        }
        assert_eq!(bad.calls(), before + 1, "after {times}");
    }

    bad.broken.store(false, SeqCst);
    let before = bad.calls();
    hand.advance(EJECTION_MAX);
    until(&channel, || bad.calls() > before + 5).await;
    // It has its share again.
    let (good_before, bad_before) = (good.calls(), bad.calls());
    for _ in 0..20 {
        call(&channel).await;
    }
    assert_eq!(
        (good.calls(), bad.calls()),
        (good_before + 10, bad_before + 10)
    );
    tasks.close().await;
}
