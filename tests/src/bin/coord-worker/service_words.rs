//! `service-words`: an annotated main with every word. `service-sync HOW`: one that is not async;
//! `HOW` is `serve`, `panic` or `deaf` (not stop when told).
//!
//! `service-words` says `id NUMBER`, `thread NAME`, `config TEXT`, then takes one listener for each
//! line it is told, and `taken NAME`. Both say `ready` and `told` when they are to stop.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use coord::{Config, Context, CoordConfig, InstanceId, Listeners, Shutdown};
use coord_tests::worker::wire;
use tokio::runtime::Handle;

/// Where the service is.
#[derive(CoordConfig)]
#[coord(prefix = "at/{zone}")]
struct Place {
    #[coord(default = "nowhere")]
    text: String,
}

/// Its log lines stand on its standard error.
pub(crate) fn log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

#[coord::service(
    name = "words-service",
    version = "1.2.3",
    namespace = "words/",
    endpoints = ["http://127.0.0.1:1"],
    listen(grpc = "127.0.0.1:0", http = "127.0.0.1:0"),
    advertise(http = "http.internal"),
    zone = "env:WORDS_ZONE",
    weight = 5,
    tags = ["blue", "green"],
    metadata(team = "payments", "build-id" = "7"),
    ttl = "4s",
    ready = listening,
    drain = "0s",
    shutdown_timeout = "60s",
    watchdog = off,
    etcd_down = "5s",
    instance_id(
        pool = "words-pool",
        max = 63,
        hold = "5s",
        cool_down = "6s",
        order = dense,
        sticky = false,
        on_lost = degrade,
        on_exhausted = fail
    ),
    runtime(worker_threads = 2, thread_name = "words"),
    before = log
)]
pub(crate) async fn every(
    id: InstanceId,
    listeners: Listeners,
    place: Config<Place>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    wire::say(format_args!("id {}", id.get()?));
    let thread = || std::thread::current().name().map(ToOwned::to_owned);
    let thread = tokio::spawn(async move { thread() }).await?;
    wire::say(format_args!("thread {}", thread.unwrap_or_default()));
    wire::say(format_args!("config {}", place.load().text));
    let mut told = wire::Lines::open();
    let mut taken = Vec::new();
    for name in ["grpc", "http"] {
        told.next().await;
        taken.push(listeners.take(name)?);
        wire::say(format_args!("taken {name}"));
    }
    shutdown.await;
    wire::say("told");
    Ok(())
}

#[coord::service(
    name = "sync-service",
    listen = "127.0.0.1:0",
    ttl = "60s",
    instance_id(max = 63),
    drain = "0s",
    shutdown_timeout = "60s"
)]
pub(crate) fn blocking(ctx: Context, id: InstanceId, shutdown: Shutdown) -> ExitCode {
    let how = std::env::args().nth(2).unwrap_or_default();
    let listener = ctx.listener().expect("it listens");
    // A task, on the runtime beside it.
    let address = Handle::current().block_on(tokio::spawn(addressed(listener)));
    let address = address.expect("it does not panic");
    wire::say(format_args!("listens {address}"));
    ctx.ready();
    wire::say("ready");
    Handle::current().block_on(shutdown);
    wire::say("told");
    match how.as_str() {
        "panic" => panic!("as told"),
        "deaf" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        _ => {}
    }
    assert!(id.get().is_ok(), "it is given back after this");
    ExitCode::from(3)
}

/// By the service's coordinator, on a thread of its runtime.
#[coord::locked("sync-only-one", wait = "10s")]
async fn only_one() -> coord::Result<()> {
    Ok(())
}

async fn addressed(listener: tokio::net::TcpListener) -> SocketAddr {
    only_one().await.expect("nobody else is in there");
    listener.local_addr().expect("it is bound")
}
