//! A struct that always holds what etcd holds, and the way back from a bad idea.
//!
//! `cargo run --example config`, with an etcd in its own memory;
//! `COORD_ENDPOINTS=http://localhost:2379 cargo run --example config`, with yours.

use std::time::Duration;

use coord::{CoordConfig, Coordinator};

#[derive(CoordConfig, Debug)]
#[coord(prefix = "examples/{service}", write)]
struct Shop {
    /// Required: without this key the shop does not start.
    name: String,
    #[coord(default = 100, range = 1..=10_000)]
    max_orders: u32,
    #[coord(default = "5s")]
    timeout: Duration,
    motto: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(coord_examples::options()?).await?;
    let module = coordinator.module("shop");
    let first = Shop {
        name: "Corner shop".into(),
        max_orders: 100,
        timeout: Duration::from_secs(5),
        motto: None,
    };
    module.config::<Shop>().save(&first).await?;

    let config = module.config::<Shop>().start().await?;
    let shop = config.load();
    println!("{} takes {} orders", shop.name, shop.max_orders);

    // A change, from anywhere: `etcdctl put /config/examples/shop/max_orders 7` is the same.
    let center = coordinator.config_center().author("alice");
    let mut values = config.subscribe();
    let careful = center.clone().comment("a slow start");
    let careful = careful.set("examples/shop/max_orders", &7).await?;
    println!("now it takes {}", values.changed().await?.max_orders);

    // Bad values are refused, all of them are told, and the good ones stay.
    let bad = center.transaction();
    let bad = bad.set("examples/shop/timeout", "soon");
    let bad = bad.set("examples/shop/max_orders", &50_000);
    let bad = bad.commit().await?;
    config.wait_for_revision(bad).await?;
    println!("still {}, because", config.load().max_orders);
    let refusal = config.status().refusal.map(|it| it.faults);
    for fault in refusal.unwrap_or_default() {
        println!("  {fault}");
    }

    // Nothing that was written is lost.
    println!("max_orders was");
    let key = "examples/shop/max_orders";
    for step in center.history::<u32>(key, 10).await? {
        let value = step.value.transpose()?;
        let (by, why) = (step.author.as_deref(), step.comment.as_deref());
        println!(
            "  {value:?} at version {} by {}{}",
            step.version,
            by.unwrap_or("somebody else"),
            why.map(|why| format!(": {why}")).unwrap_or_default()
        );
    }
    center.rollback(key, careful).await?;
    // Without its key a field is its default again.
    let good = center.delete("examples/shop/timeout").await?;
    config.wait_for_revision(good).await?;
    let shop = config.load();
    println!("{} orders within {:?} again", shop.max_orders, shop.timeout);

    // Without its required key the shop would refuse the change: it is closed first.
    drop((config, values));
    let end = center.transaction().delete("examples/shop/name");
    end.delete(key).commit().await?;
    coordinator.close().await;
    Ok(())
}
