//! A service that greets whoever connects, until SIGTERM or Ctrl-C.
//!
//! `COORD_ENDPOINTS=http://127.0.0.1:2379 cargo run --example service`
//!
//! With `-- --once` it ends after the first connection.

use coord::{Context, InstanceId};
use tokio::io::AsyncWriteExt as _;

fn logging() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
}

#[coord::service(
    name = "greeter",
    endpoints = ["http://127.0.0.1:2379"],
    listen = "0.0.0.0:0",
    instance_id(max = 1023),
    drain = "2s",
    before = logging
)]
async fn main(ctx: Context, id: InstanceId) -> anyhow::Result<()> {
    let listener = ctx.listener()?;
    ctx.ready();
    println!(
        "instance {} listens at {}",
        id.get()?,
        listener.local_addr()?
    );

    let once = std::env::args().any(|argument| argument == "--once");
    let shutdown = ctx.shutdown();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut connection, peer) = accepted?;
                let greeting = format!("instance {} greets {peer}\n", id.get()?);
                connection.write_all(greeting.as_bytes()).await?;
                if once {
                    break;
                }
            }
            () = &mut shutdown => break,
        }
    }
    println!("instance {} stops", id.get()?);
    Ok(())
}
