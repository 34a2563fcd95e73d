//! Commands that hold locks.
//!
//! `lock-sections ENDPOINT NAME COUNT`: runs that many critical sections. Each reads a counter on
//! etcd and writes it back one higher, in two steps, so that an overlap loses one. Says `ready`,
//! begins when it is told anything, and says
//! `section TOKEN BEGIN END` for each (nanoseconds on the machine's clock), then `done`.
//!
//! `lock-hold ENDPOINT NAME TTL_SECONDS`: holds a lock for as long as it can. Says `held TOKEN`, then
//! `tick TIME` each time its body is polled, and `lost REASON` at the end.
//!
//! `lock-abort ENDPOINT NAME TTL_SECONDS`: holds a lock with `on_lost = abort`, and never awaits again
//! after it has said `held`.
//!
//! `lock-write ENDPOINT NAME TTL_SECONDS KEY`: holds a lock by hand. Says `held TOKEN`; then writes each
//! line that it is told to `KEY`, in a transaction under the lock, and says `wrote REVISION`,
//! `lost REASON`, or `failed ERROR`.

use std::time::Duration;

use anyhow::Context as _;
use coord::{Coordinator, Error, OnLost};
use coord_tests::{
    backend::patient,
    history::monotonic,
    worker::wire::{Lines, say},
};

pub(crate) fn sections(arguments: Vec<String>) -> anyhow::Result<()> {
    let [endpoint, name, count] = arguments.as_slice() else {
        anyhow::bail!("ENDPOINT NAME COUNT")
    };
    let count: usize = count.parse()?;
    runtime()?.block_on(async {
        let coordinator = connect(endpoint, 600).await?;
        let mut store = etcd_client::Client::connect([endpoint], None).await?;
        say("ready");
        Lines::open().next().await;
        for _ in 0..count {
            let guard = coordinator
                .lock(name.as_str())
                .wait_forever()
                .acquire()
                .await?;
            let begin = monotonic();
            let counter = store.get("counter", None).await?;
            let counter: u64 = match counter.kvs().first() {
                Some(kv) => kv.value_str()?.parse()?,
                None => 0,
            };
            store
                .put("counter", (counter + 1).to_string(), None)
                .await?;
            let end = monotonic();
            say(format_args!(
                "section {} {begin} {end}",
                guard.fencing_token()
            ));
        }
        say("done");
        coordinator.close().await;
        Ok(())
    })
}

pub(crate) fn hold(arguments: Vec<String>) -> anyhow::Result<()> {
    let [endpoint, name, ttl] = arguments.as_slice() else {
        anyhow::bail!("ENDPOINT NAME TTL_SECONDS")
    };
    let ttl = ttl.parse()?;
    runtime()?.block_on(async {
        let coordinator = connect(endpoint, ttl).await?;
        let held = coordinator
            .lock(name.as_str())
            .run(async |held| {
                say(format_args!("held {}", held.fencing_token()));
                loop {
                    say(format_args!("tick {}", monotonic()));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        match held {
            Ok(()) => anyhow::bail!("the body ended"),
            Err(Error::Lost { reason, .. }) => say(format_args!("lost {reason:?}")),
            Err(error) => return Err(error).context("hold the lock"),
        }
        Ok(())
    })
}

pub(crate) fn abort(arguments: Vec<String>) -> anyhow::Result<()> {
    let [endpoint, name, ttl] = arguments.as_slice() else {
        anyhow::bail!("ENDPOINT NAME TTL_SECONDS")
    };
    let ttl = ttl.parse()?;
    runtime()?.block_on(async {
        let coordinator = connect(endpoint, ttl).await?;
        let lock = coordinator.lock(name.as_str()).on_lost(OnLost::Abort);
        // One that was given back in time is none that was lost.
        drop(lock.clone().acquire().await?);
        lock.run(async |_held| {
            say("held");
            loop {
                std::thread::park();
            }
        })
        .await?
    })
}

pub(crate) fn write(arguments: Vec<String>) -> anyhow::Result<()> {
    let [endpoint, name, ttl, key] = arguments.as_slice() else {
        anyhow::bail!("ENDPOINT NAME TTL_SECONDS KEY")
    };
    let ttl = ttl.parse()?;
    runtime()?.block_on(async {
        let coordinator = connect(endpoint, ttl).await?;
        let guard = coordinator.lock(name.as_str()).acquire().await?;
        say(format_args!("held {}", guard.fencing_token()));
        let mut told = Lines::open();
        while let Some(value) = told.next().await {
            let write = guard.transaction().put(key.as_str(), value);
            match write.commit().await {
                Ok(revision) => say(format_args!("wrote {revision}")),
                Err(Error::Lost { reason, .. }) => say(format_args!("lost {reason:?}")),
                Err(error) => say(format_args!("failed {error}")),
            }
        }
        Ok(())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn connect(endpoint: &str, ttl: u64) -> coord::Result<Coordinator> {
    let mut options = patient().endpoints([endpoint]);
    options.lock.ttl = Duration::from_secs(ttl);
    Coordinator::connect(options).await
}
