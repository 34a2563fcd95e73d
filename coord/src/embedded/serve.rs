//! The server's thread: listens, and serves each connection.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use super::{
    link::{Link, Socket},
    rpc::Services,
    state::State,
};

/// A thread that serves until the handle is dropped. What ran on it has ended with it.
#[derive(Debug)]
pub(super) struct Serving {
    _stop: DropGuard,
    ended: oneshot::Receiver<Infallible>,
}

impl Serving {
    /// Starts a thread that listens as `listen` says.
    ///
    /// # Cancel safety
    /// Safe: the thread ends, and stops listening.
    pub(super) async fn start(
        listen: impl Future<Output = io::Result<TcpListener>> + Send + 'static,
    ) -> io::Result<(Self, Arc<State>)> {
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let serving = Self {
            _stop: stop.clone().drop_guard(),
            ended,
        };
        std::thread::Builder::new()
            .name("embedded-etcd".into())
            .spawn(move || {
                // Dropped last: the end of everything that ran here.
                let _end = end;
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = match runtime.enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error))),
                };
                runtime.block_on(run(listen, started, stop));
                drop(runtime);
            })?;
        match start.await {
            Ok(started) => Ok((serving, started?)),
            Err(_) => Err(io::Error::other("its thread has panicked")),
        }
    }

    /// Stops, and waits until the thread has let go of everything.
    pub(super) async fn stop(self) {
        let Self { _stop: stop, ended } = self;
        drop(stop);
        // An error: the thread has ended, which is all that it says.
        let _ = ended.await;
    }
}

/// Says how the start went, and then serves until it is stopped.
async fn run(
    listen: impl Future<Output = io::Result<TcpListener>>,
    started: oneshot::Sender<io::Result<Arc<State>>>,
    stop: CancellationToken,
) {
    let listening = listen.await.and_then(|listener| {
        let endpoint = endpoint(listener.local_addr()?);
        Ok((listener, Arc::new(State::new(endpoint))))
    });
    // If nobody waits for the answer any more, it has been stopped.
    let (listener, state) = match listening {
        Ok((listener, state)) => {
            let _ = started.send(Ok(state.clone()));
            (listener, state)
        }
        Err(error) => return drop(started.send(Err(error))),
    };
    let ticking = state.clone();
    tokio::spawn(async move { ticking.tick().await });
    stop.run_until_cancelled(accept(listener, state)).await;
}

/// Where clients find a listener: one that listens everywhere, on this machine.
fn endpoint(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

async fn accept(listener: TcpListener, state: Arc<State>) -> Infallible {
    loop {
        let accepted = listener.accept().await;
        // A stopped process accepts nobody; who has come by then waits in the kernel.
        state.gate.opened().await;
        let Ok((stream, _)) = accepted else {
            // The machine is short of something. Meanwhile the others are served.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        match state.door.admit() {
            Some(link) => {
                tokio::spawn(serve(stream, link, state.clone()));
            }
            // A reset, so that nobody takes it for a server that has something to say.
            None => drop(stream.set_zero_linger()),
        }
    }
}

/// Serves a connection until it ends. What is not HTTP/2 ends it.
async fn serve(stream: TcpStream, link: Link, state: Arc<State>) {
    // Small answers, each waited for. If it cannot be set, they are slower.
    let _ = stream.set_nodelay(true);
    let socket = Socket::new(stream, state.gate.clone());
    let services = Arc::new(Services::new(state, link.clone()));
    let service = tower::service_fn(move |request| {
        let request = http::Request::map(request, Body::new);
        let services = services.clone();
        async move { Ok::<_, Infallible>(services.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    // As etcd: a client may have, and give up, as many calls as it likes.
    builder
        .http2()
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(usize::MAX)
        .max_local_error_reset_streams(None);
    let serving = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    link.until_cut(serving).await;
}
