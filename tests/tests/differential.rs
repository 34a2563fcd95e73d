//! The same random operations to two servers.

use coord_tests::differential::{Pair, Side, fuzz};

#[tokio::test]
async fn etcd_against_etcd() {
    let mut pairs = Vec::new();
    let p = std::env::var("P").map_or(2, |n| n.parse().unwrap());
    for _ in 0..p {
        let Some(one) = Side::etcd().await else {
            return;
        };
        let other = if std::env::var("R").is_ok() {
            Side::etcd().await.unwrap()
        } else {
            Side::embedded().await
        };
        pairs.push(Pair::new(one, other));
    }
    let n = std::env::var("N").map_or(20, |n| n.parse().unwrap());
    let s = std::env::var("S").map_or(0, |n| n.parse().unwrap());
    let l = std::env::var("L").map_or(200, |n| n.parse().unwrap());
    let t = std::time::Instant::now();
    if std::env::var("X").is_ok() {
        for seed in s..s + n {
            if let Some(found) = pairs[0].check(seed, l).await {
                println!("{found:?}\n");
            }
        }
        return;
    }
    if let Err(found) = fuzz(&mut pairs, s..s + n, l).await {
        panic!("{found:?}");
    }
    println!("{n} sequences: {:?}", t.elapsed());
}
