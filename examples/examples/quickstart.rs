//! The whole story in one process: `cargo run --example quickstart`.
//!
//! A service whose config changes while it runs, whose tasks contend for a lock, and which finds a
//! second instance of itself. It runs on an etcd in its own memory, or on the one that
//! `COORD_ENDPOINTS` names. Each step checks what it prints: if one did not happen, the exit code
//! is not 0.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use coord::{
    Config, Context, CoordConfig, Coordinator, Error, InstanceEvent, InstanceId, InstanceSpec,
    locked,
};
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

macro_rules! say {
    ($part:literal, $($text:tt)+) => { println!("{:>10}  {}", $part, format_args!($($text)+)) };
}

/// Always what stands on etcd below `/config/quickstart/`.
#[derive(CoordConfig)]
#[coord(prefix = "{service}")]
struct Shop {
    #[coord(default = "welcome")]
    greeting: String,
    #[coord(default = "5s")]
    timeout: Duration,
}

/// Runs under a distributed lock, or not at all.
#[locked("quickstart/till/{till}", wait = "10s", guard = held)]
async fn count_the_till(clerk: &str, till: u32) -> anyhow::Result<()> {
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    ensure!(
        INSIDE.fetch_add(1, Ordering::SeqCst) == 0,
        "two clerks at one till"
    );
    say!(
        "lock",
        "{clerk} has till {till}, fencing token {}",
        held.fencing_token()
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    say!("lock", "{clerk} is done");
    INSIDE.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

/// The same lock, for those who will not wait.
#[locked("quickstart/till/{till}", try)]
async fn glance_at_the_till(till: u32) -> anyhow::Result<()> {
    bail!("till {till} was free")
}

/// Registered from `ready` until it stops. The id is this instance's alone.
#[coord::service(
    name = "quickstart",
    endpoints = coord_examples::endpoints(),
    listen = "127.0.0.1:0",
    instance_id(max = 1023)
)]
async fn main(
    ctx: Context,
    coordinator: Coordinator,
    shop: Config<Shop>,
    id: InstanceId,
) -> anyhow::Result<()> {
    let health = coordinator.health();
    let etcd = health.connections[0]
        .endpoint
        .as_deref()
        .unwrap_or_default();
    let whose = match coord_examples::endpoints().as_slice() {
        [] => "the one that COORD_ENDPOINTS names",
        _ => "in this process's memory",
    };
    say!("etcd", "{whose}, at {etcd}");
    config_changes_live(&coordinator, &shop).await?;
    tasks_take_turns(&coordinator).await?;

    let mut events = coordinator.registry().watch("quickstart")?;
    let listener = ctx.listener()?;
    say!(
        "service",
        "instance {} listens at {}",
        id.get()?,
        listener.local_addr()?
    );
    tokio::spawn(greet(
        listener,
        format!("{} from instance {}", shop.load().greeting, id.get()?),
    ));
    ctx.ready();
    joined(events.next().await)?;
    say!("service", "ready, so now others find it");
    instances_find_each_other(&coordinator).await?;
    say!(
        "done",
        "every step happened; the service deregisters, and gives its id back"
    );
    Ok(())
}

/// What is put on etcd is in the struct; what does not decode is refused.
async fn config_changes_live(coordinator: &Coordinator, shop: &Config<Shop>) -> anyhow::Result<()> {
    let now = shop.load();
    say!(
        "config",
        "no keys, so defaults: greeting {:?}, timeout {:?}",
        now.greeting,
        now.timeout
    );

    let center = coordinator.config_center();
    let revision = center.set("quickstart/timeout", "250ms").await?;
    shop.wait_for_revision(revision).await?;
    ensure!(
        shop.load().timeout == Duration::from_millis(250),
        "the change did not arrive"
    );
    say!(
        "config",
        "put /config/quickstart/timeout 250ms  ->  timeout is 250ms"
    );

    let revision = center.set("quickstart/timeout", "soon").await?;
    shop.wait_for_revision(revision).await?;
    ensure!(
        shop.load().timeout == Duration::from_millis(250),
        "a bad value replaced a good one"
    );
    let refusal = shop.status().refusal.context("no refusal is told")?;
    say!(
        "config",
        "put /config/quickstart/timeout soon  ->  refused, and timeout stays 250ms:"
    );
    for fault in refusal.faults {
        say!("", "{fault}");
    }
    center.delete("quickstart/timeout").await?;
    Ok(())
}

/// Two tasks want the same till. Tasks of other processes, or machines, would wait in the same queue.
async fn tasks_take_turns(coordinator: &Coordinator) -> anyhow::Result<()> {
    let held = coordinator.lock("quickstart/till/1").acquire().await?;
    match glance_at_the_till(1).await {
        Err(error) => match error.downcast_ref() {
            Some(Error::Busy {
                holder: Some(holder),
                ..
            }) => {
                say!("lock", "till 1 is busy: held by {holder}");
            }
            _ => return Err(error),
        },
        Ok(()) => bail!("two hold one lock"),
    }
    let clerks = ["ann", "ben"].map(|clerk| tokio::spawn(count_the_till(clerk, 1)));
    ensure!(held.unlock().await?.confirmed, "somebody else held it too");
    for clerk in clerks {
        clerk.await??;
    }
    Ok(())
}

/// A second instance appears, both are called, and it leaves again.
async fn instances_find_each_other(coordinator: &Coordinator) -> anyhow::Result<()> {
    let registry = coordinator.registry();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let spec = InstanceSpec::new("quickstart", listener.local_addr()?.to_string());
    tokio::spawn(greet(listener, "hello from the second one".to_owned()));
    let second = registry.register(spec).await?;
    for instance in registry.discover("quickstart").await? {
        let mut greeting = String::new();
        let mut connection = TcpStream::connect(&instance.address).await?;
        connection.read_to_string(&mut greeting).await?;
        say!("registry", "found {}: {greeting:?}", instance.address);
    }
    second.deregister().await?;
    let left = registry.discover("quickstart").await?.len();
    ensure!(left == 1, "{left} instances are left");
    say!("registry", "the second one has deregistered; one is left");
    Ok(())
}

fn joined(event: Option<InstanceEvent>) -> anyhow::Result<()> {
    match event {
        Some(InstanceEvent::Registered(_)) => Ok(()),
        other => bail!("expected a registration, saw {other:?}"),
    }
}

/// One line for whoever connects.
async fn greet(listener: TcpListener, greeting: String) -> std::io::Result<()> {
    loop {
        listener
            .accept()
            .await?
            .0
            .write_all(greeting.as_bytes())
            .await?;
    }
}
