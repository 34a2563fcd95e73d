//! A struct that always holds what etcd holds.
//!
//! `cargo run --example config`, with an etcd in its own memory;
//! `COORD_ENDPOINTS=http://localhost:2379 cargo run --example config`, with yours.

use std::time::Duration;

use coord::{CoordConfig, Coordinator};

#[derive(CoordConfig, Debug)]
#[coord(prefix = "examples/{service}")]
struct Shop {
    /// Required: without this key the shop does not start.
    name: String,
    #[coord(default = 100)]
    max_orders: u32,
    #[coord(default = "5s")]
    timeout: Duration,
    motto: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(coord_examples::options()?).await?;
    let center = coordinator.config_center();
    center.set("examples/shop/name", "Corner shop").await?;
    for key in ["max_orders", "timeout", "motto"] {
        center.delete(&format!("examples/shop/{key}")).await?;
    }

    let config = coordinator.module("shop").config::<Shop>().start().await?;
    println!(
        "{} takes {} orders",
        config.load().name,
        config.load().max_orders
    );

    // A change, from anywhere: `etcdctl put /config/examples/shop/max_orders 7` is the same.
    let mut values = config.subscribe();
    center.set("examples/shop/max_orders", &7).await?;
    println!("now it takes {}", values.changed().await?.max_orders);

    // A bad value is refused, and the good one stays.
    let revision = center.set("examples/shop/timeout", "soon").await?;
    config.wait_for_revision(revision).await?;
    println!("still {:?}, because", config.load().timeout);
    for fault in config
        .status()
        .refusal
        .map(|it| it.faults)
        .unwrap_or_default()
    {
        println!("  {fault}");
    }

    // Without its key a field is its default again.
    let revision = center.delete("examples/shop/timeout").await?;
    config.wait_for_revision(revision).await?;
    println!("motto: {:?}", config.load().motto);

    center.delete("examples/shop/name").await?;
    center.delete("examples/shop/max_orders").await?;
    coordinator.close().await;
    Ok(())
}
