//! A service that greets whoever connects; it finds itself through the registry, is greeted, and stops
//! as after SIGTERM: out of the registry first, then it still greets for a while, then it ends.
//!
//! `cargo run --example service`, with an etcd in its own memory;
//! `COORD_ENDPOINTS=http://localhost:2379 cargo run --example service`, with yours.
//!
//! With `-- --stay` it goes on greeting until SIGTERM or Ctrl-C.

use coord::{Context, Coordinator, InstanceId};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

fn logging() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
}

#[coord::service(
    name = "greeter",
    endpoints = coord_examples::endpoints(),
    listen = "0.0.0.0:0",
    instance_id(max = 1023, order = dense),
    zone = "env:ZONE",
    tags = ["example"],
    drain = "500ms",
    before = logging
)]
async fn main(ctx: Context, coordinator: Coordinator, id: InstanceId) -> anyhow::Result<()> {
    let listener = ctx.listener()?;
    let address = listener.local_addr()?;
    ctx.ready();
    println!("instance {} listens at {address}", id.get()?);

    let stay = std::env::args().any(|argument| argument == "--stay");
    let visit = async {
        if !stay {
            print!("{}", be_greeted(&coordinator, &id).await?);
            ctx.stop();
        }
        ctx.shutdown().await;
        anyhow::Ok(())
    };
    // Greets until it is told to stop: through the drain, too.
    tokio::select! {
        ended = greet(&listener, &id) => ended?,
        visited = visit => visited?,
    }
    println!("instance {} stops", id.get()?);
    Ok(())
}

/// One line for each connection, for as long as the id is ours.
async fn greet(listener: &TcpListener, id: &InstanceId) -> anyhow::Result<()> {
    loop {
        let (mut connection, peer) = listener.accept().await?;
        let greeting = format!("instance {} greets {peer}\n", id.get()?);
        connection.write_all(greeting.as_bytes()).await?;
    }
}

/// What a client of the service does: look the instance up, connect, read.
async fn be_greeted(coordinator: &Coordinator, id: &InstanceId) -> anyhow::Result<String> {
    loop {
        let instances = coordinator.registry().discover("greeter").await?;
        // There is none before the record that `ready` asked for is written.
        if let Some(own) = instances.iter().find(|found| found.id == id.get().ok()) {
            let mut greeting = String::new();
            let mut connection = TcpStream::connect(&own.address).await?;
            connection.read_to_string(&mut greeting).await?;
            return Ok(greeting);
        }
        tokio::task::yield_now().await;
    }
}
