//! The controls in any order, while clients write, read, watch and give up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use coord::embedded::{Rpc, Server};
use coord_tests::eventually;
use etcd_client::{Client, DeleteOptions, GetOptions, PutOptions, WatchOptions};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::timeout;

use crate::connect;

const CONTROLS: usize = 300;
const RPCS: [Rpc; 4] = [Rpc::Put, Rpc::Watch, Rpc::LeaseGrant, Rpc::Range];
/// After how long a client gives up: the server may be stalled.
const PATIENCE: Duration = Duration::from_millis(5);

fn control(server: &Server, random: &mut StdRng) {
    let rpc = *RPCS.choose(random).unwrap();
    let back = server.revision() - random.random_range(-1..5);
    match random.random_range(0..18) {
        0 => server.stall(),
        1 | 2 => server.resume(),
        3 => server.freeze(),
        4 => server.thaw(),
        5 => server.advance(Duration::from_secs(random.random_range(0..1_000))),
        // Refused where the history is gone.
        6 => drop(server.restore(back)),
        7 => drop(server.compact(back)),
        8 => server.set_retention(*[0, 1, 100_000, u64::MAX].choose(random).unwrap()),
        9 => server.swallow_event("key1"),
        10 => server.lose_reply(rpc),
        11 => server.refuse(rpc),
        12 | 13 => RPCS.iter().for_each(|rpc| server.accept(*rpc)),
        14 => server.refuse_connections(),
        15 | 16 => server.accept_connections(),
        _ => server.drop_connections(),
    }
}

/// Whatever comes of it.
async fn call(client: &mut Client, round: usize) {
    let key = format!("key{}", round % 7);
    match round % 4 {
        0 => drop(client.put(key, vec![b'x'; round % 100_000], None).await),
        1 => {
            let keys = DeleteOptions::new().with_prefix();
            drop(client.delete("key", Some(keys)).await);
        }
        2 => {
            if let Ok(lease) = client.lease_grant(2, None).await {
                let leased = PutOptions::new().with_lease(lease.id());
                drop(client.put(key, "leased", Some(leased)).await);
            }
        }
        _ => drop(
            client
                .get("", Some(GetOptions::new().with_all_keys()))
                .await,
        ),
    }
}

/// Watches until it ends; what is shown is in order, and no revision is shown twice.
async fn follow(client: &mut Client, start: i64) {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let options = options.with_start_revision(start);
    let Ok(mut stream) = client.watch("key", Some(options)).await else {
        return;
    };
    let mut last = 0;
    while let Ok(Some(message)) = stream.message().await {
        let revisions = message
            .events()
            .iter()
            .map(|e| e.kv().unwrap().mod_revision());
        let revisions: Vec<_> = revisions.collect();
        if let [first, ..] = revisions[..] {
            assert!(first > last, "{first} after {last}");
            assert!(revisions.is_sorted(), "{revisions:?}");
            last = revisions[revisions.len() - 1];
        }
        if message.canceled() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_in_any_order_leave_a_server_that_serves_and_nothing_of_what_was_cut() {
    let server = Server::start().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = connect(&server).await;
        let mut watcher = connect(&server).await;
        let (writes, watches) = (done.clone(), done.clone());
        clients.push(tokio::spawn(async move {
            for round in number.. {
                if writes.load(Relaxed) {
                    break;
                }
                let _ = timeout(PATIENCE, call(&mut client, round)).await;
            }
        }));
        clients.push(tokio::spawn(async move {
            while !watches.load(Relaxed) {
                let start = 3 * i64::try_from(number).unwrap();
                let _ = timeout(PATIENCE * 50, follow(&mut watcher, start)).await;
            }
        }));
    }
    let mut client = connect(&server).await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..CONTROLS {
        tokio::task::block_in_place(|| control(&server, &mut random));
        let _ = timeout(PATIENCE, call(&mut client, round)).await;
    }
    done.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    server.resume();
    server.thaw();
    server.accept_connections();
    RPCS.iter().for_each(|rpc| server.accept(*rpc));
    server.drop_connections();
    // Replies may still be lost, as was ordered.
    eventually("a put is answered", async || {
        client.put("key", "x", None).await.is_ok()
    })
    .await;
    eventually("no stream is left", async || {
        format!("{server:?}").contains("watch_streams: 0")
    })
    .await;
}
