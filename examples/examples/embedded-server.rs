//! An etcd in memory, in the foreground: for `etcdctl`, for other programs, for other languages'
//! tests. It serves until Ctrl-C: this example does not end by itself.
//!
//! ```sh
//! cargo run --example embedded-server -- 127.0.0.1:2379
//! etcdctl --endpoints http://127.0.0.1:2379 put /config/app/timeout 2s
//! ```

use coord::embedded::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1);
    let server = match &address {
        Some(address) => Server::bind(address).await?,
        // A free port.
        None => Server::start().await?,
    };
    println!("{}", server.endpoint());
    eprintln!("An etcd in memory, for development and tests: what it stores goes with it.");
    eprintln!("Ctrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
