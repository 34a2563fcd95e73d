//! One connection through the proxy.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Shared, lane, late::Stray};

/// Carries one client's connection until both directions have ended or one has broken.
///
/// If the server cannot be reached the client is sent away at once, as by a server that died behind
/// its load balancer. (For a client that is refused, there is [`refuse`](super::Proxy::refuse).)
pub(super) async fn run(mut client: TcpStream, shared: Arc<Shared>) {
    let (mut severed, mut detached) = (shared.severed.subscribe(), shared.detached.subscribe());
    let Ok(mut server) = TcpStream::connect(&shared.upstream).await else {
        return;
    };
    // The proxy is to add no delay of its own; without this it works too.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (arrivals, mut sent) = lane::queue();
    let (answers, mut answered) = lane::queue();
    let broken = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = shared
            .requests
            .relay(from_client, to_server, arrivals, &mut sent);
        let replies = shared
            .replies
            .relay(from_server, to_client, answers, &mut answered);
        tokio::select! {
            _ = async { tokio::try_join!(requests, replies) } => return,
            _ = severed.changed() => Broken::HalfOpen,
            _ = detached.changed() => Broken::Detached,
        }
    };
    match broken {
        Broken::HalfOpen => {
            drop(server);
            tokio::select! {
                () = swallow(&mut client) => {}
                _ = detached.changed() => {}
            }
        }
        Broken::Detached => {
            let strays = detached.borrow().clone();
            let bytes = sent.into_bytes();
            // Without a receiver nobody wants it any more.
            let _ = strays.map(|strays| strays.send(Stray { server, bytes }));
        }
    }
}

/// How a connection was broken by command.
enum Broken {
    HalfOpen,
    Detached,
}

/// Reads what the client says, to nobody, until it goes; then says goodbye.
async fn swallow(client: &mut TcpStream) {
    let mut nowhere = [0; 1024];
    while client.read(&mut nowhere).await.is_ok_and(|n| n > 0) {}
    // It may be gone for good already.
    let _ = client.shutdown().await;
}
