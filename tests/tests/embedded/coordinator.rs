//! What a coordinator makes of what goes wrong.

use std::time::Duration;

use coord::{
    Config, CoordConfig, Coordinator,
    embedded::{Rpc, Server},
};
use coord_tests::{backend::patient, eventually};
use etcd_client::GetOptions;

use crate::connect;

#[derive(CoordConfig, Debug)]
#[coord(prefix = "app")]
struct App {
    #[coord(default = 1)]
    size: u32,
}

const SIZE: &str = "/config/app/size";

/// A server and a live config on it.
async fn bench() -> (Server, Coordinator, Config<App>) {
    let server = Server::start().await.unwrap();
    let options = patient().endpoints([server.endpoint()]);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let config = coordinator.config::<App>().start().await.unwrap();
    (server, coordinator, config)
}

/// Puts a size, on a connection that nobody has broken.
async fn put(server: &Server, size: u32) {
    let mut client = connect(server).await;
    client.put(SIZE, size.to_string(), None).await.unwrap();
}

/// Puts a size, and waits until the config has it.
async fn resize(server: &Server, config: &Config<App>, size: u32) {
    put(server, size).await;
    is(config, size).await;
}

async fn is(config: &Config<App>, size: u32) {
    let what = format!("the size is {size}");
    eventually(&what, async || config.load().size == size).await;
}

#[tokio::test]
async fn a_config_and_a_lock_survive_their_connections() {
    let (server, coordinator, config) = bench().await;
    let guard = coordinator.lock("held").acquire().await.unwrap();
    for size in 2..5 {
        server.drop_connections();
        resize(&server, &config, size).await;
        guard.verify().await.unwrap();
    }
    assert!(guard.is_held());
    assert!(guard.unlock().await.unwrap().confirmed);
}

#[tokio::test]
async fn a_config_finds_what_was_compacted_away_while_it_was_cut_off() {
    let (server, _coordinator, config) = bench().await;
    resize(&server, &config, 2).await;
    server.refuse(Rpc::Watch);
    server.drop_connections();
    for size in 3..6 {
        put(&server, size).await;
    }
    server.compact(server.revision()).unwrap();
    server.accept(Rpc::Watch);
    is(&config, 5).await;
}

#[tokio::test]
async fn a_config_follows_a_restored_store_to_the_older_value() {
    let (server, _coordinator, config) = bench().await;
    resize(&server, &config, 2).await;
    let then = server.revision();
    resize(&server, &config, 3).await;
    server.restore(then).unwrap();
    is(&config, 2).await;
    resize(&server, &config, 4).await;
}

#[tokio::test]
async fn a_config_gets_over_a_lost_event() {
    let server = Server::start().await.unwrap();
    let mut options = server.options();
    options.config.sync_interval = Duration::from_millis(200);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let config = coordinator.config::<App>().start().await.unwrap();
    server.swallow_event(SIZE);
    resize(&server, &config, 2).await;
}

#[tokio::test]
async fn a_lock_is_lost_with_its_lease() {
    let (server, coordinator, _config) = bench().await;
    let guard = coordinator.lock("one").acquire().await.unwrap();
    server.advance(Duration::from_secs(3_600));
    guard.lost().await;
    assert!(!guard.is_held());

    let guard = coordinator.lock("two").acquire().await.unwrap();
    let leases = connect(&server).await.leases().await.unwrap();
    let id = leases.leases().first().unwrap().id();
    assert!(server.expire_lease(id));
    guard.lost().await;
}

#[tokio::test]
async fn an_acquire_whose_reply_is_lost_has_one_place_in_the_queue() {
    let (server, coordinator, _config) = bench().await;
    server.lose_reply(Rpc::Txn);
    let guard = coordinator.lock("name").acquire().await.unwrap();
    assert!(guard.is_held());
    let prefix = GetOptions::new().with_prefix();
    let mut client = connect(&server).await;
    let queue = client.get("coord/lock/name!/", Some(prefix)).await.unwrap();
    assert_eq!(queue.count(), 1);
}

#[tokio::test]
async fn without_leases_there_are_no_locks() {
    let (server, coordinator, _config) = bench().await;
    server.refuse(Rpc::LeaseGrant);
    let acquire = coordinator.lock("name").wait(Duration::from_millis(200));
    let error = acquire.acquire().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    server.accept(Rpc::LeaseGrant);
    drop(coordinator.lock("name").acquire().await.unwrap());
}

#[tokio::test]
async fn a_stalled_server_is_given_up_and_found_again() {
    let server = Server::start().await.unwrap();
    let mut options = server.options();
    options.request_timeout = Duration::from_millis(300);
    options.retry.max_attempts = 1;
    let coordinator = Coordinator::connect(options).await.unwrap();
    server.stall();
    let error = coordinator.ping().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    server.resume();
    eventually("it answers", async || coordinator.ping().await).await;
}

#[tokio::test]
async fn a_server_that_keeps_no_history_is_enough() {
    let (server, coordinator, config) = bench().await;
    server.set_retention(0);
    let turns = (0..4u32).map(|_| {
        let coordinator = coordinator.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                let guard = coordinator.lock("name").acquire().await.unwrap();
                guard.unlock().await.unwrap();
            }
        })
    });
    let turns: Vec<_> = turns.collect();
    for size in 2..22 {
        resize(&server, &config, size).await;
    }
    for turn in turns {
        turn.await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_is_lost_on_a_store_that_is_restored_to_its_very_beginning() {
    let (server, coordinator, config) = bench().await;
    let guard = coordinator.lock("name").acquire().await.unwrap();
    resize(&server, &config, 2).await;
    server.restore(1).unwrap();
    guard.lost().await;
    is(&config, 1).await;
    drop(coordinator.lock("name").acquire().await.unwrap());
    resize(&server, &config, 3).await;
}
