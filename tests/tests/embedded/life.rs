//! It starts, there are many, and it ends.

use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use coord::{Error, embedded::Server};
use coord_tests::{dropped_after, eventually};

use crate::{connect, message, start, value, watch};

fn address(server: &Server) -> String {
    server
        .endpoint()
        .strip_prefix("http://")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_server_serves_until_it_is_shut_down() {
    let (server, mut client) = start().await;
    client.put("key", "value", None).await.unwrap();
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("value"));
    assert_eq!(server.revision(), 2);

    let address = address(&server);
    server.shutdown().await;
    TcpListener::bind(&address).expect("the port is free");
    client.get("key", None).await.expect_err("nobody answers");
}

#[tokio::test]
async fn dropping_the_handle_closes_the_connections_and_frees_the_port() {
    let (server, mut client) = start().await;
    let mut stream = watch(&mut client, "key").await;
    let address = address(&server);
    drop(server);
    stream
        .message()
        .await
        .expect_err("its connection is closed");
    eventually("the port is free", async || TcpListener::bind(&address)).await;
}

#[tokio::test]
async fn a_stalled_server_ends_too() {
    let (server, mut client) = start().await;
    server.stall();
    let asked = tokio::spawn(async move { client.get("key", None).await });
    let address = address(&server);
    server.shutdown().await;
    TcpListener::bind(&address).expect("the port is free");
    let _ = asked.await.unwrap();
}

#[tokio::test]
async fn many_servers_run_side_by_side_each_with_a_store_of_its_own() {
    let servers = futures_util::future::join_all((0..30).map(|_| start())).await;
    for (index, (_, client)) in servers.iter().enumerate() {
        let mut client = client.clone();
        client.put("key", index.to_string(), None).await.unwrap();
    }
    for (index, (server, client)) in servers.iter().enumerate() {
        let value = value(&mut client.clone(), "key").await;
        assert_eq!(value, Some(index.to_string()));
        assert_eq!(server.revision(), 2);
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_address() {
    let server = Server::start().await.unwrap();
    let address = address(&server);
    let error = Server::bind(&address).await.unwrap_err();
    assert!(error.is_retryable(), "it may be free later");
    let expected = format!("cannot listen on `{address}`: the address is in use");
    assert_eq!(error.to_string(), expected);

    let error = Server::bind("nonsense").await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("`nonsense`"), "{error}");
}

#[tokio::test]
async fn it_serves_on_a_socket_that_is_given_and_where_it_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let expected = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::start_on(listener).await.unwrap();
    assert_eq!(server.endpoint(), expected);
    connect(&server).await.get("key", None).await.unwrap();

    let server = Server::bind("0.0.0.0:0").await.unwrap();
    let endpoint = server.endpoint();
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
    connect(&server).await.get("key", None).await.unwrap();
}

#[test]
fn it_outlives_the_runtime_that_started_it_and_serves_while_that_is_blocked() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let server = runtime().block_on(Server::start()).unwrap();
    runtime().block_on(async {
        let (done, wait) = mpsc::channel();
        let endpoint = server.endpoint().to_owned();
        let other = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut client = etcd_client::Client::connect([endpoint], None)
                    .await
                    .unwrap();
                client.put("key", "value", None).await.unwrap();
            });
            done.send(()).unwrap();
        });
        // Blocks this runtime until the other one has been served.
        wait.recv().unwrap();
        other.join().unwrap();
    });
    assert_eq!(server.revision(), 2);
    // Outside of every runtime.
    drop(server);
}

#[tokio::test]
async fn a_start_that_is_given_up_listens_nowhere() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for polls in 1.. {
        let listener = eventually("the port is free", async || TcpListener::bind(free)).await;
        if let Some(server) = dropped_after(polls, Server::start_on(listener)).await {
            server.unwrap();
            break;
        }
    }
}

#[tokio::test]
async fn a_shutdown_that_is_given_up_ends_it_all_the_same() {
    for polls in 1.. {
        let server = Server::start().await.unwrap();
        let address = address(&server);
        let done = dropped_after(polls, server.shutdown()).await;
        eventually("nobody listens", async || {
            TcpStream::connect(&address).is_err()
        })
        .await;
        if done.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn what_it_prints_of_itself_counts_what_is_open() {
    let (server, mut client) = start().await;
    assert!(format!("{server:?}").contains("watches: 0"), "{server:?}");
    let mut stream = watch(&mut client, "key").await;
    stream.watch("other", None).await.unwrap();
    assert!(message(&mut stream).await.created());
    let open = format!("{server:?}");
    assert!(open.contains("watch_streams: 1, watches: 2"), "{open}");
}
