//! The embedded server, beside a real etcd whose data lie in memory.

use std::time::{Duration, Instant};

use coord::embedded::Server;
use coord_tests::{Etcd, EtcdConfig};
use etcd_client::Client;

use crate::{
    sample::{Samples, in_turns},
    table::Table,
};

const STARTS: usize = 200;
const TURNS: usize = 3_000;
const KEYS: usize = 500;

pub(crate) async fn measure(table: &mut Table) {
    table.time(
        "embedded server: start until it answers",
        starts().await,
        Duration::from_millis(10),
    );

    let etcd = Etcd::start(EtcdConfig::new()).await.expect("etcd starts");
    let server = Server::start().await.expect("the embedded server starts");
    let connected = Client::connect([server.endpoint()], None).await;
    let (ours, other) = (connected.expect("a client connects"), etcd.client().await);
    let put = async |client: &Client, turn: usize| {
        let key = format!("key{}", turn % KEYS);
        let mut client = client.kv_client();
        client.put(key, [b'x'; 100], None).await.expect("a put");
    };
    let get = async |client: &Client, turn: usize| {
        let key = format!("key{}", turn % KEYS);
        client.kv_client().get(key, None).await.expect("a get");
    };
    let both = in_turns(
        TURNS,
        async |n| put(&ours, n).await,
        async |n| put(&other, n).await,
    );
    table.ratio("embedded server: put", both.await, "etcd on tmpfs", 1.0);
    let both = in_turns(
        TURNS,
        async |n| get(&ours, n).await,
        async |n| get(&other, n).await,
    );
    table.ratio("embedded server: get", both.await, "etcd on tmpfs", 1.0);
}

/// A start is over when a client's first call has been answered; the client's own part is in it.
async fn starts() -> Samples {
    let mut samples = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let server = Server::start().await.expect("the embedded server starts");
        let connected = Client::connect([server.endpoint()], None).await;
        let mut client = connected.expect("a client connects");
        client.get("key", None).await.expect("a get");
        samples.push(start.elapsed());
    }
    samples.into_iter().collect()
}
