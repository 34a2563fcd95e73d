//! How long a service that leaves goes on serving: until nobody calls it any more.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use coord::{Context, Coordinator, Service};
use coord_tests::{
    Backend,
    echo::{EchoClient, EchoHandler},
    on_both,
};
use rustix::process::Signal;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tonic::{
    Code,
    service::Routes,
    transport::{Channel, Server},
};
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving},
};

use crate::serve::{Running, WAIT, say};

const HOUR: Duration = Duration::from_secs(3_600);
/// Between two calls: far less than any `quiet` below, unless the machine stands still.
const PAUSE: Duration = Duration::from_millis(20);

on_both! {
    it_ends_once_no_new_call_has_come_for_a_while,
    each_new_call_holds_it_up,
    it_ends_whoever_goes_on_calling,
    it_is_whole_if_etcd_did_not_confirm_that_others_hear,
}

/// Told to leave, and not serving any more; what it tells of its health then.
async fn leaving(running: &mut Running) -> impl AsyncFnMut() -> Option<ServingStatus> + use<> {
    running.routable().await;
    let mut told = running.health_watch().await;
    assert_eq!(told().await, Some(Serving));
    running.signal(Signal::TERM);
    assert_eq!(told().await, Some(NotServing));
    told
}

/// Waits for the end of the drain.
async fn over(mut told: impl AsyncFnMut() -> Option<ServingStatus>) {
    let over = timeout(WAIT, told()).await;
    assert_eq!(over.expect("the drain ends"), None);
}

/// Calls again and again until it is refused.
fn call_on(mut echo: EchoClient<Channel>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while echo.echo(say("again", 0)).await.is_ok() {
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn it_ends_once_no_new_call_has_come_for_a_while(server: Backend) {
    let times = [("COORD_DRAIN", "1h"), ("COORD_QUIET", "1s")];
    let mut running = Running::start(&server, &times).await;
    // Both are no new calls: one that has begun, and somebody who asks again and again how it is.
    let mut echo = running.echo.clone();
    let long = tokio::spawn(async move { echo.echo(say("long", 5_000)).await });
    running.echo.echo(say("before", 0)).await.unwrap();
    let mut health = running.health.clone();
    let probe = tokio::spawn(async move {
        while health.check(HealthCheckRequest::default()).await.is_ok() {
            tokio::time::sleep(PAUSE).await;
        }
    });
    over(leaving(&mut running).await).await;
    assert_eq!(long.await.unwrap().unwrap().get_ref().text, "long");
    probe.await.unwrap();
    running.worker.expect("ended").await;
    assert_eq!(running.worker.ended().await.code(), Some(0));
    let log = running.worker.errors();
    assert!(log.contains("drained: no new request for 1s"), "{log}");
}

async fn each_new_call_holds_it_up(server: Backend) {
    let quiet = Duration::from_secs(2);
    let times = [("COORD_DRAIN", "1h"), ("COORD_QUIET", "2s")];
    let mut running = Running::start(&server, &times).await;
    let told = leaving(&mut running).await;
    let begin = Instant::now();
    let mut last = begin;
    // One that is refused by its name has come, too; and so has one on a connection of its own.
    let mut kinds = (0..3).cycle();
    while begin.elapsed() < 2 * quiet {
        let began = Instant::now();
        let served = match kinds.next() {
            Some(0) => running.echo.echo(say("late", 0)).await.map(drop),
            Some(1) => unknown(&running).await,
            _ => match EchoClient::connect(format!("http://{}", running.address)).await {
                Ok(mut new) => new.echo(say("new", 0)).await.map(drop),
                Err(error) => Err(tonic::Status::unavailable(error.to_string())),
            },
        };
        if let Err(refused) = served {
            // By a machine that stood still: then the listener closes before anybody is refused.
            let closed = TcpStream::connect(&running.address).await.is_err();
            assert!(closed, "{refused}");
            break;
        }
        last = began;
        tokio::time::sleep(PAUSE).await;
    }
    over(told).await;
    // Each began a while anew, the last one too.
    assert!(last.elapsed() >= quiet, "{:?}", last.elapsed());
    assert_eq!(running.worker.ended().await.code(), Some(0));
}

/// A call that the service does not know; `Ok` if it said so.
async fn unknown(running: &Running) -> Result<(), tonic::Status> {
    let mut client = tonic::client::Grpc::new(running.channel.clone());
    client
        .ready()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/no.such.Service/Call");
    let codec = tonic_prost::ProstCodec::<coord_tests::echo::EchoRequest, ()>::default();
    let answer = client
        .unary(tonic::Request::new(say("", 0)), path, codec)
        .await;
    match answer.map(drop) {
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        other => other,
    }
}

async fn it_ends_whoever_goes_on_calling(server: Backend) {
    let times = [("COORD_DRAIN", "3s"), ("COORD_QUIET", "2s")];
    let mut running = Running::start(&server, &times).await;
    let callers = [call_on(running.echo.clone()), call_on(running.echo.clone())];
    over(leaving(&mut running).await).await;
    for caller in callers {
        timeout(WAIT, caller).await.expect("it is refused").unwrap();
    }
    assert_eq!(running.worker.ended().await.code(), Some(0));
}

/// Whoever calls rarely would find it for as long as its lease lives.
async fn it_is_whole_if_etcd_did_not_confirm_that_others_hear(server: Backend) {
    let times = [("COORD_DRAIN", "4s"), ("COORD_QUIET", "0s")];
    let mut running = Running::start(&server, &times).await;
    running.routable().await;
    server.stop();
    let begin = Instant::now();
    running.signal(Signal::TERM);
    running.worker.expect("ended").await;
    assert!(begin.elapsed() >= Duration::from_secs(4));
    let log = running.worker.errors();
    assert!(log.contains("drained for 4s"), "{log}");
    server.cont();
    assert_eq!(running.worker.ended().await.code(), Some(0));
}

/// Serves in this process, and says when it was told to stop, once it has been asked to.
struct Here {
    ask: oneshot::Sender<()>,
    told: oneshot::Receiver<Duration>,
    ended: JoinHandle<ExitCode>,
}

impl Here {
    /// One that is routable.
    async fn start(coordinator: &Coordinator, service: Service) -> Self {
        let (ask, asked) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let ended = tokio::task::spawn_blocking(move || {
            service.run(async move |ctx: Context| {
                let watch = ctx.clone();
                let watched = tokio::spawn(async move {
                    asked.await.unwrap();
                    let begin = Instant::now();
                    watch.stop();
                    watch.shutdown().await;
                    tell.send(begin.elapsed()).unwrap();
                });
                let routes = Routes::new(EchoHandler::new("a").service());
                ctx.serve_tonic(Server::builder(), routes).await?;
                watched.await.unwrap();
                Ok::<_, coord::Error>(())
            })
        });
        let channel = coordinator.channel("echo").wait(WAIT).await.unwrap();
        let mut echo = EchoClient::new(channel);
        echo.echo(say("it serves", 0)).await.unwrap();
        Self { ask, told, ended }
    }

    /// For how long it went on serving.
    async fn drain(self) -> Duration {
        self.ask.send(()).unwrap();
        let drain = timeout(WAIT, self.told)
            .await
            .expect("the drain ends")
            .unwrap();
        assert_eq!(self.ended.await.unwrap(), ExitCode::SUCCESS);
        drain
    }
}

#[coord::test]
async fn it_ends_after_a_second_where_nobody_says_when(coordinator: Coordinator) {
    let service = Service::new("echo").listen("127.0.0.1:0").drain(HOUR);
    let drain = Here::start(&coordinator, service).await.drain().await;
    assert!(drain >= Duration::from_secs(1), "{drain:?}");
}

/// Whose requests nobody counts, unless it is said that only those of gRPC matter.
#[coord::test]
async fn it_is_whole_for_one_that_has_another_listener(coordinator: Coordinator) {
    let service = || {
        Service::new("echo")
            .listen_named("grpc", "127.0.0.1:0")
            .listen_named("http", "127.0.0.1:0")
    };
    let whole = Duration::from_secs(3);
    let here = Here::start(&coordinator, service().drain(whole)).await;
    let drain = here.drain().await;
    assert!(drain >= whole, "{drain:?}");
    let quiet = Duration::from_millis(100);
    let said = service().drain(HOUR).quiet(quiet);
    let drain = Here::start(&coordinator, said).await.drain().await;
    assert!(drain >= quiet, "{drain:?}");
}
