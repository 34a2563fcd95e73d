//! A channel whose clock is the test's: ejections and probes, over real connections.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tonic::{Code, body::Body};
use tower::{Service, service_fn};

use crate::{
    Coordinator,
    clock::{Clock, ManualClock},
    embedded::Server,
    grpc::{
        Channel, Strategy,
        state::{EJECTION, EJECTION_MAX},
    },
    registry::{InstanceSpec, Registration},
    tasks::Tasks,
};

/// A server without messages: it counts its calls, and says that it can serve or that it cannot, or
/// nothing.
struct Plain {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
}

impl Plain {
    async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let this = Self {
            address: listener.local_addr().expect("bound"),
            calls: Arc::default(),
            broken: Arc::default(),
            silent: Arc::default(),
        };
        let (calls, broken, all) = (this.calls.clone(), this.broken.clone(), tasks.clone());
        let silent = this.silent.clone();
        drop(tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (calls, broken, silent) = (calls.clone(), broken.clone(), silent.clone());
                let answer = service_fn(move |_: Request<hyper::body::Incoming>| {
                    calls.fetch_add(1, SeqCst);
                    let status = if broken.load(SeqCst) { "14" } else { "0" };
                    let response = Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", status)
                        .body(Body::empty());
                    let silent = silent.load(SeqCst);
                    async move {
                        if silent {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Infallible>(response.expect("valid"))
                    }
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

fn request() -> Request<Body> {
    let request = Request::builder().method("POST").uri("/test.Plain/Call");
    request.body(Body::empty()).expect("valid")
}

async fn call(channel: &Channel) {
    let request = request();
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

/// Two servers, both of which have answered, and a channel to them whose clock is the hand's.
struct World {
    servers: [Plain; 2],
    channel: Channel,
    hand: ManualClock,
    _registrations: Vec<Registration>,
    _coordinator: Coordinator,
    _etcd: Server,
}

impl World {
    async fn start(tasks: &Tasks) -> Self {
        let servers = [Plain::start(tasks).await, Plain::start(tasks).await];
        let etcd = Server::start().await.expect("it starts");
        let coordinator = etcd.coordinator().await.expect("it connects");
        let registry = coordinator.registry();
        let mut registrations = Vec::new();
        for server in &servers {
            let spec = InstanceSpec::new("plain", server.address.to_string());
            registrations.push(registry.register(spec).await.expect("registered"));
        }
        let (clock, hand) = Clock::manual();
        let channel = coordinator.channel("plain").strategy(Strategy::RoundRobin);
        let channel = channel.clock(clock).await.expect("a channel");
        until(&channel, || servers.iter().all(|it| it.calls() > 0)).await;
        Self {
            servers,
            channel,
            hand,
            _registrations: registrations,
            _coordinator: coordinator,
            _etcd: etcd,
        }
    }
}

/// Calls with this deadline, which passes if the call is sent to a server that is silent.
async fn hasty(world: &World, limit: Duration) {
    let silent = world.servers.iter().filter(|it| it.silent.load(SeqCst));
    let silent: Vec<_> = silent.map(|it| (it, it.calls())).collect();
    let mut request = request();
    let limit_ms = format!("{}m", limit.as_millis());
    let limit_ms = limit_ms.parse().expect("valid");
    request.headers_mut().insert("grpc-timeout", limit_ms);
    let mut channel = world.channel.clone();
    let mut call = channel.call(request);
    let sent = async {
        while silent.iter().all(|(it, before)| it.calls() == *before) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = &mut call => assert_eq!(answer.expect("an answer").status(), 200),
        () = sent => {
            world.hand.advance(limit);
            let status = call.await.expect_err("it is late");
            assert_eq!(status.code(), Code::DeadlineExceeded);
        }
    }
}

#[tokio::test]
async fn a_caller_in_haste_takes_nobody_out_and_a_server_that_hangs_is_taken_out() {
    let tasks = Tasks::current();
    let world = World::start(&tasks).await;
    let [good, bad] = &world.servers;
    for server in &world.servers {
        server.silent.store(true, SeqCst);
    }
    for _ in 0..50 {
        hasty(&world, Duration::from_millis(1)).await;
    }
    for server in &world.servers {
        server.silent.store(false, SeqCst);
    }
    // Both have their share.
    let before = (good.calls(), bad.calls());
    for _ in 0..20 {
        call(&world.channel).await;
    }
    assert_eq!((good.calls(), bad.calls()), (before.0 + 10, before.1 + 10));

    bad.silent.store(true, SeqCst);
    let before = bad.calls();
    let (mut last, mut calm) = (before, 0);
    while calm < 20 {
        hasty(&world, Duration::from_millis(100)).await;
        calm = if bad.calls() == last { calm + 1 } else { 0 };
        last = bad.calls();
    }
    // A second, and five failures in a row; the last of the second is the first of them.
    assert_eq!(bad.calls() - before, 14);
    tasks.close().await;
}

#[tokio::test]
async fn an_ejected_server_is_given_one_call_and_is_taken_in_when_it_answers() {
    let tasks = Tasks::current();
    let world = World::start(&tasks).await;
    let (channel, hand) = (world.channel.clone(), &world.hand);
    let [good, bad] = &world.servers;

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
