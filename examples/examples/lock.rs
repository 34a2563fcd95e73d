//! Two workers, one lock: declared with `#[locked]` and taken by hand.
//!
//! `cargo run --example lock`, with an etcd in its own memory;
//! `COORD_ENDPOINTS=http://localhost:2379 cargo run --example lock`, with yours.

use std::time::Duration;

use coord::{Coordinator, Error, locked};

/// Runs under the lock `example/orders/<order>`, or not at all. `coord::Error` can be any error type
/// with a `From<coord::Error>`.
#[locked("example/orders/{order}", wait = "10s", guard = held)]
async fn ship(order: u64, worker: &str) -> Result<(), Error> {
    println!(
        "{worker}: order {order} is mine, token {}",
        held.fencing_token()
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("{worker}: shipped, with {:?} to spare", held.remaining());
    Ok(())
}

/// Leaves it to whoever is doing it already.
#[locked("example/orders/{order}", try)]
async fn ship_if_free(order: u64) -> Result<(), Error> {
    println!("order {order} was free");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(coord_examples::options()?).await?;
    // What `#[locked]` uses, unless it is told another one.
    coord::set_global(coordinator.clone());

    // One after the other: the order is the one in which they queued.
    tokio::try_join!(ship(42, "anna"), ship(42, "ben"))?;

    // By hand: a guard, for as long as it lives.
    let guard = coordinator
        .lock("example/orders/42")
        .wait(Duration::from_secs(10))
        .acquire()
        .await?;
    match ship_if_free(42).await {
        Err(Error::Busy { holder, .. }) => {
            let holder = holder.map(|holder| holder.to_string());
            println!("busy: held by {}", holder.as_deref().unwrap_or("somebody"));
        }
        other => anyhow::bail!("the lock is taken, and yet: {other:?}"),
    }
    let released = guard.unlock().await?;
    println!("released; held throughout: {}", released.confirmed);
    ship_if_free(42).await?;

    coordinator.close().await;
    Ok(())
}
