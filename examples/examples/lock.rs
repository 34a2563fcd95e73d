//! Two workers, one lock: declared with `#[locked]` and taken by hand. A write that etcd carries out only
//! while the lock is held. Two candidates, one leader.
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

/// A holder that was paused past its lease, and does not know it yet, writes nothing: etcd itself
/// compares its fencing token.
#[locked("example/orders/{order}", wait = "10s", guard = held)]
async fn record(order: u64) -> Result<i64, Error> {
    held.transaction()
        .put(format!("example/orders/{order}/state"), "shipped")
        .commit()
        .await
}

/// Leads for one term, and then lets the next candidate lead.
async fn schedule(coordinator: &Coordinator, address: &str) -> Result<(), Error> {
    let election = coordinator.election("example/scheduler");
    // Runs while it leads; if leadership is lost, it stops where it stands, and begins anew when it
    // leads again.
    election
        .lead(address, |term| async move {
            println!("{address} leads, under token {}", term.fencing_token());
            term.proclaim(format!("{address}: busy")).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let done = term.transaction().put("example/scheduled", address);
            done.commit().await.map(drop)
        })
        .await?
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
    println!("recorded at revision {}", record(42).await?);

    // Whoever wants to know who leads: the value of the leader, and whether there is one.
    let mut leaders = coordinator.election("example/scheduler").observe()?;
    let watching = tokio::spawn(async move {
        while let Some(leader) = leaders.next().await {
            match leader {
                Some(leader) => println!("seen: {}", String::from_utf8_lossy(&leader.value)),
                None => println!("seen: nobody leads"),
            }
        }
    });
    tokio::try_join!(
        schedule(&coordinator, "10.0.0.7:9000"),
        schedule(&coordinator, "10.0.0.8:9000"),
    )?;

    // The example leaves nothing behind.
    let guard = coordinator.lock("example/orders/42").acquire().await?;
    guard
        .transaction()
        .delete("example/orders/42/state")
        .delete("example/scheduled")
        .commit()
        .await?;
    guard.unlock().await?;
    coordinator.close().await;
    // Ends with the coordinator.
    watching.await?;
    Ok(())
}
