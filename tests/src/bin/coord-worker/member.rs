//! `service-member`: a service with short leases, that faults happen to. Says `ready NUMBER` with its
//! id, and then answers each line: `id` with `id NUMBER` or `id lost`; `block`, which blocks all
//! threads of its runtime but this one's, with `blocked`; `release` with `released`.

use std::{process::ExitCode, sync::mpsc, time::Duration};

use coord::{Context, OnIdLost, Service};
use coord_tests::worker::wire::{Lines, say};
use tokio::sync::oneshot;

const WORKERS: usize = 2;

pub(crate) fn main() -> ExitCode {
    Service::new("user-service")
        .listen("127.0.0.1:0")
        .ttl(Duration::from_secs(10))
        .instance_id(63)
        .id_hold(Duration::from_secs(12))
        .id_cool_down(Duration::from_secs(1))
        .id_on_lost(OnIdLost::Degrade)
        .drain(Duration::ZERO)
        .worker_threads(WORKERS)
        .run(async |ctx: Context| -> anyhow::Result<()> {
            let id = ctx.instance_id()?;
            ctx.ready();
            say(format_args!("ready {}", id.get()?));
            let mut lines = Lines::open();
            let answering = async {
                let mut blocked = Vec::new();
                while let Some(line) = lines.next().await {
                    match line.as_str() {
                        "id" => match id.get() {
                            Ok(number) => say(format_args!("id {number}")),
                            Err(_) => say("id lost"),
                        },
                        "block" => {
                            for _ in 0..WORKERS {
                                blocked.push(block().await);
                            }
                            say("blocked");
                        }
                        "release" => {
                            blocked.clear();
                            say("released");
                        }
                        other => anyhow::bail!("no such line {other:?}"),
                    }
                }
                Ok(())
            };
            tokio::select! {
                answered = answering => answered,
                () = ctx.shutdown() => Ok(()),
            }
        })
}

/// Blocks one more thread of the runtime, until what this returns is dropped.
async fn block() -> mpsc::Sender<()> {
    let (held, wait) = mpsc::channel();
    let (tell, told) = oneshot::channel();
    drop(tokio::spawn(async move {
        let _ = tell.send(());
        // An error: it is released.
        let _ = wait.recv();
    }));
    let _ = told.await;
    held
}
