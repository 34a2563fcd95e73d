//! The embedded etcd as its users see it: how it lives, what it is told to do wrong, and how real
//! clients take it.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

// Beside this file they would each be a test binary of its own.
#[path = "embedded/any_order.rs"]
mod any_order;
#[path = "embedded/controls.rs"]
mod controls;
#[path = "embedded/coordinator.rs"]
mod coordinator;
#[path = "embedded/etcdctl.rs"]
mod etcdctl;
#[path = "embedded/life.rs"]
mod life;
#[path = "embedded/wire.rs"]
mod wire;

use coord::embedded::Server;
use etcd_client::{Client, Event, EventType, WatchOptions, WatchResponse, WatchStream};

async fn start() -> (Server, Client) {
    let server = Server::start().await.unwrap();
    let client = connect(&server).await;
    (server, client)
}

async fn connect(server: &Server) -> Client {
    Client::connect([server.endpoint()], None).await.unwrap()
}

async fn value(client: &mut Client, key: &str) -> Option<String> {
    let reply = client.get(key, None).await.unwrap();
    let kv = reply.kvs().first();
    kv.map(|kv| kv.value_str().unwrap().to_owned())
}

/// A watch of one key from now on.
async fn watch(client: &mut Client, key: &str) -> WatchStream {
    watch_from(client, key, 0).await
}

async fn watch_from(client: &mut Client, key: &str, revision: i64) -> WatchStream {
    let options = WatchOptions::new().with_start_revision(revision);
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    assert!(message(&mut stream).await.created());
    stream
}

async fn message(stream: &mut WatchStream) -> WatchResponse {
    stream.message().await.unwrap().unwrap()
}

/// An event as a line: the key and its value, or `-` for a deletion.
fn line(event: &Event) -> String {
    let kv = event.kv().unwrap();
    let value = match event.event_type() {
        EventType::Put => kv.value_str().unwrap(),
        EventType::Delete => "-",
    };
    format!("{} {value}", kv.key_str().unwrap())
}

/// The events of the next message.
async fn events(stream: &mut WatchStream) -> Vec<String> {
    message(stream).await.events().iter().map(line).collect()
}
