//! An embedded server that is written to for long stays small. Alone in its process, whose memory is
//! what is measured.
#![cfg(target_os = "linux")]

use coord::embedded::Server;
use etcd_client::{Client, Txn, TxnOp};

const WRITES: usize = 100_000;
const VALUE: [u8; 100] = [b'x'; 100];
const LIMIT: u64 = 100 * 1024 * 1024;

#[tokio::test]
async fn a_long_test_does_not_grow_without_bound() {
    let server = Server::start().await.unwrap();
    let mut client = Client::connect([server.endpoint()], None).await.unwrap();
    client.put("first", VALUE, None).await.unwrap();
    let before = resident();
    // As many keys, each written once: all of them are the present.
    write(&mut client, |n| format!("key{n:06}")).await;
    let keys = resident();
    assert!(keys < before + LIMIT, "{} MiB more", mib(keys - before));
    // As many writes of few keys: all but the last are history.
    for _ in 0..3 {
        write(&mut client, |n| format!("key{:06}", n % 100)).await;
    }
    let rewritten = resident();
    assert!(
        rewritten < before + LIMIT,
        "{} MiB more",
        mib(rewritten - before)
    );
    let count = client.get(
        "key",
        Some(
            etcd_client::GetOptions::new()
                .with_prefix()
                .with_count_only(),
        ),
    );
    assert_eq!(count.await.unwrap().count(), WRITES as i64);
}

/// A hundred keys to a transaction, each transaction a revision.
async fn write(client: &mut Client, key: impl Fn(usize) -> String) {
    for start in (0..WRITES).step_by(100) {
        let puts = (start..start + 100).map(|n| TxnOp::put(key(n), VALUE, None));
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        client.txn(txn).await.unwrap();
    }
}

/// What of this process lies in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
