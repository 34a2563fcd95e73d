//! `service HOW`: an annotated main. `HOW` is what it does once it is ready: `serve` until it is
//! told to stop, `return`, `fail`, `panic`, `close` (its coordinator, and serve on), `linger` (not
//! stop when told), `block` (its thread too), `leave-task` (return and leave a task behind that
//! blocks its thread), `unready`; `return`, `fail`, `panic` and `close` once they are told a line.
//!
//! Says `listens ADDRESS`, `id NUMBER TOKEN`, `config TEXT`, `ready`, and `told` when it is to stop.

use std::{process::ExitCode, time::Duration};

use coord::{Config, Context, CoordConfig, Coordinator, InstanceId, Service, Shutdown};
use coord_tests::worker::wire;

#[derive(CoordConfig)]
#[coord(prefix = "{service}")]
struct Greeting {
    #[coord(default = "hello")]
    text: String,
}

#[coord::locked("only-one", wait = "10s")]
async fn under_the_services_coordinator() -> coord::Result<()> {
    Ok(())
}

#[coord::service(
    name = "user-service",
    version = "1.2.3",
    endpoints = ["http://127.0.0.1:1"],
    listen = "127.0.0.1:0",
    ttl = "60s",
    instance_id(max = 63),
    drain = "1s",
    shutdown_timeout = "60s",
    runtime(worker_threads = 2),
    before = super::service_words::log
)]
pub(crate) async fn main(
    ctx: Context,
    coordinator: Coordinator,
    config: Config<Greeting>,
    id: InstanceId,
    shutdown: Shutdown,
) -> anyhow::Result<ExitCode> {
    let how = std::env::args().nth(2).unwrap_or_default();
    let listener = ctx.listener()?;
    wire::say(format_args!("listens {}", listener.local_addr()?));
    wire::say(format_args!("id {} {}", id.get()?, id.fencing_token()));
    wire::say(format_args!("config {}", config.load().text));
    assert_eq!(coordinator.module_name(), Some("user-service"));
    under_the_services_coordinator().await?;
    tokio::spawn(under_the_services_coordinator()).await??;
    if how == "unready" {
        shutdown.await;
        wire::say("told");
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = wire::Lines::open();
    ctx.ready();
    wire::say("ready");
    match how.as_str() {
        "serve" => {
            shutdown.clone().await;
            shutdown.await;
            wire::say("told");
        }
        "close" => {
            told.next().await;
            coordinator.close().await;
            wire::say("closed");
            shutdown.await;
            wire::say("told");
        }
        "return" => {
            told.next().await;
            return Ok(ExitCode::from(7));
        }
        "fail" => {
            told.next().await;
            anyhow::bail!("it failed");
        }
        "panic" => {
            let own = coordinator.instance_ids("own", 0..=3).acquire().await?;
            told.next().await;
            tokio::task::spawn_blocking(|| block_with(own));
            panic!("as told");
        }
        "linger" => {
            shutdown.await;
            wire::say("told");
            std::future::pending::<()>().await;
        }
        "block" => {
            shutdown.await;
            wire::say("told");
            block();
        }
        "leave-task" => {
            shutdown.await;
            wire::say("told");
            let own = coordinator.instance_ids("own", 0..=3).acquire().await?;
            tokio::task::spawn_blocking(|| block_with(own));
        }
        other => anyhow::bail!("no such way {other:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The same by hand, as far as `serve` goes. Told `twice`, it is run again, once the first has left
/// no thread behind; then it says `again`.
pub(crate) fn by_hand() -> ExitCode {
    let first = run_by_hand();
    if std::env::args().nth(2).as_deref() != Some("twice") {
        return first;
    }
    while threads_of_coord() > 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    wire::say("again");
    run_by_hand()
}

fn threads_of_coord() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.ok()?));
    let of_coord = ["coord-io", "coord-heartbeat", "coord-service"];
    names
        .filter(|name| of_coord.contains(&name.trim_end()))
        .count()
}

fn run_by_hand() -> ExitCode {
    Service::new("user-service")
        .version("1.2.3")
        .listen("127.0.0.1:0")
        .instance_id(63)
        .drain(Duration::from_secs(1))
        .worker_threads(2)
        .run(async |ctx: Context| -> anyhow::Result<()> {
            let (listener, id) = (ctx.listener()?, ctx.instance_id()?);
            let config = ctx.coordinator().config::<Greeting>().start().await?;
            wire::say(format_args!("listens {}", listener.local_addr()?));
            wire::say(format_args!("id {} {}", id.get()?, id.fencing_token()));
            wire::say(format_args!("config {}", config.load().text));
            under_the_services_coordinator().await?;
            ctx.ready();
            wire::say("ready");
            ctx.shutdown().await;
            wire::say("told");
            Ok(())
        })
}

/// Goes on using an id that `main` claimed for itself.
fn block_with(own: InstanceId) {
    block();
    drop(own);
}

fn block() {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
