//! The whole story on a real etcd, with several processes: `cargo xtask demo`.
//!
//! Each step prints a line and checks what it says: if one did not happen, the exit code is not 0.

use std::{
    io::{BufRead as _, BufReader, PipeReader},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use coord::{Config, CoordConfig, Coordinator, InstanceEvent, Options, locked};
use coord_tests::{Etcd, EtcdConfig};
use futures_util::StreamExt as _;

/// Far longer than any step takes: what is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(30);
const TURNS: usize = 3;

/// Bound to the keys below `/config/shop/`.
#[derive(CoordConfig)]
#[coord(prefix = "shop")]
struct Shop {
    #[coord(default = "welcome")]
    greeting: String,
    #[coord(default = 100)]
    max_connections: u32,
    #[coord(default = "5s")]
    timeout: Duration,
    #[coord(nested)]
    db: Db,
}

#[derive(CoordConfig)]
struct Db {
    #[coord(default = "localhost")]
    host: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => story().await,
        ["clerk", name] => clerk(name).await,
        other => Err(anyhow::anyhow!("no role {other:?}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(part: &str, text: impl std::fmt::Display) {
    println!("{part:>10}  {text}");
}

async fn within<T>(what: &str, step: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, step)
        .await
        .with_context(|| format!("did not happen: {what}"))
}

async fn story() -> anyhow::Result<()> {
    let etcd = Etcd::start(EtcdConfig::new()).await?;
    let coordinator = Coordinator::connect(Options::test().endpoints([etcd.endpoint()])).await?;
    let took = coordinator.ping().await?;
    say(
        "etcd",
        format_args!("a real one, at {}; it answers in {took:?}", etcd.endpoint()),
    );

    config(&coordinator, &etcd).await?;
    locks(&etcd)?;
    registry(&coordinator, &etcd).await?;

    coordinator.close().await;
    say("done", "every step happened");
    Ok(())
}

/// A config change from outside arrives live; a bad value is refused and the good one stays.
async fn config(coordinator: &Coordinator, etcd: &Etcd) -> anyhow::Result<()> {
    let shop: Config<Shop> = coordinator.config().start().await?;
    let now = shop.load();
    say(
        "config",
        format_args!(
            "no keys yet below /config/shop/, so defaults: greeting {:?}, max_connections {}, \
             timeout {:?}, db.host {:?}",
            now.greeting, now.max_connections, now.timeout, now.db.host
        ),
    );

    let revision = coordinator
        .config_center()
        .set("shop/max_connections", &250_u32)
        .await?;
    within("the change by the API", shop.wait_for_revision(revision)).await??;
    ensure!(
        shop.load().max_connections == 250,
        "the change by the API did not arrive"
    );
    say(
        "config",
        "set(\"shop/max_connections\", 250)  ->  max_connections is 250",
    );

    let mut values = shop.subscribe();
    let mut raw = etcd.client().await;
    raw.put("/config/shop/timeout", "250ms", None).await?;
    within("the change by a raw put", values.changed()).await??;
    ensure!(
        shop.load().timeout == Duration::from_millis(250),
        "the raw put did not arrive"
    );
    say(
        "config",
        "etcdctl put /config/shop/timeout 250ms  ->  timeout is 250ms",
    );

    raw.put("/config/shop/timeout", "soon", None).await?;
    let refusal = within("the refusal", async {
        loop {
            if let Some(refusal) = shop.status().refusal {
                return refusal;
            }
            tokio::task::yield_now().await;
        }
    })
    .await?;
    ensure!(
        shop.load().timeout == Duration::from_millis(250),
        "a bad value replaced a good one"
    );
    say(
        "config",
        "etcdctl put /config/shop/timeout soon  ->  refused, timeout stays 250ms:",
    );
    say("", &refusal);

    raw.put("/config/shop/timeout", "1s", None).await?;
    within("the mended value", values.changed()).await??;
    ensure!(
        shop.status().refusal.is_none(),
        "a refusal outlived the good value"
    );
    say(
        "config",
        "etcdctl put /config/shop/timeout 1s  ->  taken, and the refusal is gone",
    );
    Ok(())
}

/// What a second process does: the same section under the same lock, a few times.
async fn clerk(name: &str) -> anyhow::Result<()> {
    for turn in 1..=TURNS {
        count_the_till(name, turn).await?;
    }
    Ok(())
}

#[locked("till", wait = "20s", guard = held)]
async fn count_the_till(name: &str, turn: usize) -> anyhow::Result<()> {
    println!("{name} enters {turn} {}", held.fencing_token());
    // The section does something that takes time: the other process queues meanwhile.
    held.verify().await?;
    println!("{name} leaves {turn} {}", held.fencing_token());
    Ok(())
}

/// Two processes contend for one lock: their sections never overlap, and their tokens rise.
fn locks(etcd: &Etcd) -> anyhow::Result<()> {
    // Both write into one pipe, so that their lines come in the order in which they were written.
    let (reader, writer) = std::io::pipe()?;
    let mut clerks = Vec::new();
    for name in ["ann", "bob"] {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["clerk", name])
            .env("COORD_ENDPOINTS", etcd.endpoint());
        clerks.push((name, Process::start(command.stdout(writer.try_clone()?))?));
    }
    drop(writer);
    let said = lines(reader);

    let mut inside: Option<String> = None;
    let mut last = 0_i64;
    let mut sections = 0;
    while sections < 2 * TURNS {
        let line = said
            .recv_timeout(PATIENCE)
            .context("the clerks say nothing more")?;
        let words: Vec<&str> = line.split(' ').collect();
        let &[name, what, turn, token] = words.as_slice() else {
            bail!("a clerk said {line:?}")
        };
        let token: i64 = token.parse()?;
        match what {
            "enters" => {
                ensure!(token > last, "token {token} came after {last}");
                ensure!(
                    inside.is_none(),
                    "{name} entered while {inside:?} was inside"
                );
                (inside, last) = (Some(name.to_owned()), token);
            }
            _ => {
                ensure!(
                    inside.take().as_deref() == Some(name) && token == last,
                    "{line}"
                );
                sections += 1;
                say(
                    "lock",
                    format_args!("process {name}, turn {turn}, token {token}"),
                );
            }
        }
    }
    for (name, mut clerk) in clerks {
        ensure!(clerk.child.wait()?.success(), "{name} failed");
    }
    say(
        "lock",
        format_args!("{sections} sections, one at a time, tokens rising"),
    );
    Ok(())
}

/// An annotated `main` appears in the registry with its id, and leaves it on SIGTERM.
async fn registry(coordinator: &Coordinator, etcd: &Etcd) -> anyhow::Result<()> {
    let mut events = coordinator.registry().watch("greeter")?;
    let mut command = Command::new(beside("service")?);
    command
        .arg("--stay")
        .env("COORD_ENDPOINTS", etcd.endpoint())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut service = Process::start(&mut command)?;

    let instance = match within("the instance's registration", events.next()).await? {
        Some(InstanceEvent::Registered(instance)) => instance,
        other => bail!("expected a registration, saw {other:?}"),
    };
    let id = instance.id.context("the instance has no id")?;
    say(
        "registry",
        format_args!(
            "greeter is ready at {} with instance id {id}",
            instance.address
        ),
    );

    service.terminate()?;
    match within("the instance's leaving", events.next()).await? {
        Some(InstanceEvent::Left(left)) if left.instance == instance.instance => {}
        other => bail!("expected it to leave, saw {other:?}"),
    }
    say(
        "registry",
        "SIGTERM  ->  it has left the registry, and drains",
    );
    let status = tokio::task::spawn_blocking(move || service.child.wait()).await??;
    ensure!(status.success(), "the service ended with {status}");
    let found = coordinator.registry().discover("greeter").await?;
    ensure!(found.is_empty(), "still registered: {found:?}");
    say(
        "registry",
        format_args!("its process has ended; id {id} is free again"),
    );
    Ok(())
}

/// Another example of this package, which `cargo xtask demo` has built.
fn beside(example: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(example);
    ensure!(
        path.exists(),
        "{} is not built: run `cargo xtask demo`",
        path.display()
    );
    Ok(path)
}

/// The lines that come out of a pipe, so that waiting for one can end.
fn lines(pipe: PipeReader) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            // The story may have ended with an error: then nobody listens.
            if line.is_ok_and(|line| sender.send(line).is_err()) {
                break;
            }
        }
    });
    lines
}

/// A process that does not outlive the demo.
struct Process {
    child: Child,
}

impl Process {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("{command:?} does not start"))?;
        Ok(Self { child })
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()?;
        ensure!(status.success(), "kill: {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
