//! The same random operations to two servers.

use coord_tests::{
    Etcd, EtcdConfig,
    differential::{Pair, Side, fuzz},
};

async fn etcd() -> Option<Etcd> {
    // As etcd is shipped: the shortest lease follows from these.
    let config = EtcdConfig::new()
        .argument("--heartbeat-interval=100")
        .argument("--election-timeout=1000");
    Etcd::start_or_skip(config).await
}

#[tokio::test]
async fn etcd_against_etcd() {
    let mut etcds = Vec::new();
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let (Some(one), Some(other)) = tokio::join!(etcd(), etcd()) else {
            return;
        };
        pairs.push(Pair::new(
            Side::new("one", &one.endpoint()),
            Side::new("other", &other.endpoint()),
        ));
        etcds.extend([one, other]);
    }
    let n = std::env::var("N").map_or(20, |n| n.parse().unwrap());
    let s = std::env::var("S").map_or(0, |n| n.parse().unwrap());
    let l = std::env::var("L").map_or(200, |n| n.parse().unwrap());
    let t = std::time::Instant::now();
    if let Err(found) = fuzz(&mut pairs, s..s + n, l).await {
        for e in &etcds {
            println!(
                "{}",
                e.log()
                    .lines()
                    .filter(|l| l.contains("panic") || l.contains("fatal"))
                    .take(5)
                    .collect::<Vec<_>>()
                    .join("\n")
            );
        }
        panic!("{found:?}");
    }
    println!("{n} sequences: {:?}", t.elapsed());
}
