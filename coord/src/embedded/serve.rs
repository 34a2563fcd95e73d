//! The server's thread: listens, and serves each connection.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpListener,
    runtime::Handle,
    sync::{mpsc::UnboundedReceiver, oneshot},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use super::{link::Link, rpc::Services, state::State};

/// A thread that serves until the handle is dropped. What ran on it has ended with it.
#[derive(Debug)]
pub(super) struct Serving {
    stop: DropGuard,
    ended: oneshot::Receiver<Infallible>,
    runtime: Handle,
    /// Holds the thread up until it is dropped.
    stalled: Mutex<Option<mpsc::Sender<Infallible>>>,
}

/// Where connections come from.
#[derive(Debug)]
pub(super) enum Source {
    Tcp(TcpListener),
    /// The same process.
    Inside(UnboundedReceiver<DuplexStream>),
}

/// What the thread says once it serves.
type Started = (Handle, Arc<State>);

impl Serving {
    /// Starts a thread that listens as `listen` says.
    ///
    /// # Cancel safety
    /// Safe: the thread ends, and stops listening.
    pub(super) async fn start(
        listen: impl Future<Output = io::Result<Source>> + Send + 'static,
    ) -> io::Result<(Self, Arc<State>)> {
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let guard = stop.clone().drop_guard();
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
        let Ok(started) = start.await else {
            return Err(io::Error::other("its thread has panicked"));
        };
        let (runtime, state) = started?;
        let serving = Self {
            stop: guard,
            ended,
            runtime,
            stalled: Mutex::default(),
        };
        Ok((serving, state))
    }

    /// Stops the thread where it is, between two steps of its tasks. When this returns, it has.
    pub(super) fn stall(&self) {
        let mut stalled = self.stalled();
        if stalled.is_some() {
            return;
        }
        let (go_on, wait) = mpsc::channel();
        let (stopped, is_stopped) = mpsc::channel::<Infallible>();
        self.runtime.spawn(async move {
            drop(stopped);
            // Blocks the thread, and everything on it: that is what it is for.
            let _ = wait.recv();
        });
        let _ = is_stopped.recv();
        *stalled = Some(go_on);
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        *self.stalled() = None;
    }

    fn stalled(&self) -> MutexGuard<'_, Option<mpsc::Sender<Infallible>>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops, and waits until the thread has let go of everything.
    pub(super) async fn stop(self) {
        let Self {
            stop,
            stalled,
            ended,
            ..
        } = self;
        drop((stop, stalled));
        // An error: the thread has ended, which is all that it says.
        let _ = ended.await;
    }
}

/// Says how the start went, and then serves until it is stopped.
async fn run(
    listen: impl Future<Output = io::Result<Source>>,
    started: oneshot::Sender<io::Result<Started>>,
    stop: CancellationToken,
) {
    let listening = listen.await.and_then(|source| {
        let endpoint = match &source {
            Source::Tcp(listener) => endpoint(listener.local_addr()?),
            Source::Inside(_) => "in-process".to_owned(),
        };
        Ok((source, Arc::new(State::new(endpoint))))
    });
    // If nobody waits for the answer any more, it has been stopped.
    let (source, state) = match listening {
        Ok((source, state)) => {
            let _ = started.send(Ok((Handle::current(), state.clone())));
            (source, state)
        }
        Err(error) => return drop(started.send(Err(error))),
    };
    let ticking = state.clone();
    tokio::spawn(async move { ticking.tick().await });
    let accept = async {
        match source {
            Source::Tcp(listener) => accept(listener, state).await,
            Source::Inside(given) => take(given, state).await,
        }
    };
    stop.run_until_cancelled(accept).await;
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

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The machine is short of something. Meanwhile the others are served.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        match state.door.admit() {
            Some(link) => {
                // Small answers, each waited for. If it cannot be set, they are slower.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, link, state.clone()));
            }
            // A reset, so that nobody takes it for a server that has something to say.
            None => drop(stream.set_zero_linger()),
        }
    }
}

/// As [`accept`]; ends when nobody can give another connection.
async fn take(mut given: UnboundedReceiver<DuplexStream>, state: Arc<State>) {
    while let Some(stream) = given.recv().await {
        if let Some(link) = state.door.admit() {
            tokio::spawn(serve(stream, link, state.clone()));
        }
    }
    std::future::pending().await
}

/// Serves a connection until it ends. What is not HTTP/2 ends it.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    link: Link,
    state: Arc<State>,
) {
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
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    link.until_cut(serving).await;
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn clients_find_a_server_that_listens_everywhere_on_this_machine() {
        let of = |address: &str| endpoint(address.parse().expect("an address"));
        assert_eq!(of("0.0.0.0:2379"), "http://127.0.0.1:2379");
        assert_eq!(of("[::]:2379"), "http://[::1]:2379");
        assert_eq!(of("10.0.0.5:2379"), "http://10.0.0.5:2379");
    }

    #[tokio::test]
    async fn a_panic_in_one_call_is_not_the_end_of_the_others() {
        let listen = async { TcpListener::bind("127.0.0.1:0").await.map(Source::Tcp) };
        let (serving, state) = Serving::start(listen).await.expect("it starts");
        let call = || state.call(|_| panic!("a fault in the core"));
        catch_unwind(AssertUnwindSafe(call)).expect_err("a panic");
        let client = etcd_client::Client::connect([&state.endpoint], None).await;
        let put = client.expect("a client").put("key", "value", None).await;
        put.expect("it is served");
        serving.stop().await;
    }
}
