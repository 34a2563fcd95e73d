//! One TCP link that can be damaged.
//!
//! A [`Proxy`] stands for the network between one client and one server. What goes through it obeys
//! one [`Flow`] per direction, which can be changed at any time and holds for open connections too.
//!
//! | what happens to a network | call |
//! |---|---|
//! | it is slow | [`flow`](Proxy::flow)`(Flow::Delay(…))` |
//! | a partition that heals: what was sent arrives late | `flow(Flow::Hold)`, then [`heal`](Proxy::heal) |
//! | a black hole | `flow(Flow::Discard)` |
//! | requests arrive, answers do not | [`replies`](Proxy::replies)`(Flow::Discard)` |
//! | requests arrive long after their senders gave up | `requests(Flow::Hold)`, [`detach`](Proxy::detach), then [`Late::deliver`] |
//! | every connection breaks now | [`cut`](Proxy::cut) |
//! | the server forgot the connections, the client does not know | [`half_open`](Proxy::half_open) |
//! | nothing listens | [`refuse`](Proxy::refuse) |
//!
//! ```
//! # use coord_tests::{Flow, Proxy};
//! # async fn test(etcd: coord_tests::Etcd) {
//! let proxy = Proxy::start(&etcd.endpoint()).await;
//! // … connect to proxy.endpoint() …
//! proxy.replies(Flow::Hold);
//! // … a request is now applied, and its answer waits …
//! proxy.heal().await;
//! # }
//! ```

mod lane;
mod late;
mod link;

pub use lane::{Flow, Traffic};
pub use late::Late;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{ports::Port, runtime};
use lane::Lane;
use late::Stray;

/// A TCP proxy in front of one server.
///
/// It runs on a thread of its own, so it goes on while the test blocks or pauses its runtime.
/// Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Proxy {
    scheme: String,
    port: Port,
    shared: Arc<Shared>,
    /// The task that accepts; none while connections are refused.
    entry: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What the proxy and its tasks share.
#[derive(Debug)]
struct Shared {
    upstream: String,
    requests: Lane,
    replies: Lane,
    /// Changes when the server side of every open connection is to go.
    severed: watch::Sender<()>,
    /// Changes when every open connection is to be given up; then it says to whom.
    detached: watch::Sender<Option<mpsc::UnboundedSender<Stray>>>,
    links: Mutex<JoinSet<()>>,
    accepted: AtomicUsize,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`: an endpoint (`https://127.0.0.1:2379`) or an address
    /// (`127.0.0.1:2379`).
    ///
    /// # Panics
    ///
    /// If no port can be listened on.
    pub async fn start(upstream: &str) -> Self {
        let (scheme, address) = match upstream.split_once("://") {
            Some((scheme, address)) => (format!("{scheme}://"), address),
            None => (String::new(), upstream),
        };
        let proxy = Self {
            scheme,
            port: Port::take(),
            shared: Arc::new(Shared {
                upstream: address.to_owned(),
                requests: Lane::new(),
                replies: Lane::new(),
                severed: watch::Sender::new(()),
                detached: watch::Sender::new(None),
                links: Mutex::new(JoinSet::new()),
                accepted: AtomicUsize::new(0),
            }),
            entry: tokio::sync::Mutex::new(None),
        };
        proxy.admit().await;
        proxy
    }

    /// What to connect to instead of the server, with the server's scheme.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}{}", self.scheme, self.address())
    }

    /// The address that the proxy listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// From now on what clients send obeys `flow`.
    pub fn requests(&self, flow: Flow) {
        self.shared.requests.set(flow);
    }

    /// From now on what the server sends obeys `flow`.
    pub fn replies(&self, flow: Flow) {
        self.shared.replies.set(flow);
    }

    /// From now on both directions obey `flow`.
    pub fn flow(&self, flow: Flow) {
        self.requests(flow);
        self.replies(flow);
    }

    /// Closes every connection, on both sides; returns how many there were. New ones are accepted.
    /// What waited in them is lost.
    pub async fn cut(&self) -> usize {
        let mut links = std::mem::take(&mut *self.shared.links());
        while links.try_join_next().is_some() {}
        let open = links.len();
        links.shutdown().await;
        open
    }

    /// Closes the server side of every connection; the client's side stays open and says nothing,
    /// as when a server or a firewall has forgotten it. New connections are not touched.
    pub fn half_open(&self) {
        self.shared.severed.send_replace(());
    }

    /// Closes the client side of every connection, as [`cut`](Self::cut) does; what clients had sent
    /// and what waits here, because of the flow of requests, is kept: it is late, not lost. New
    /// connections are accepted, and obey the flow.
    pub async fn detach(&self) -> Late {
        let (strays, mut given) = mpsc::unbounded_channel();
        let mut links = std::mem::take(&mut *self.shared.links());
        self.shared.detached.send_replace(Some(strays));
        while links.join_next().await.is_some() {}
        self.shared.detached.send_if_modified(|strays| {
            *strays = None;
            // Nobody is to be told.
            false
        });
        Late(std::iter::from_fn(|| given.try_recv().ok()).collect())
    }

    /// Closes the port: new connections are refused by the system. Open ones are not touched.
    pub async fn refuse(&self) {
        if let Some(entry) = self.entry.lock().await.take() {
            entry.abort();
            // The port is closed once the task is gone; that it was cancelled is no news.
            let _ = entry.await;
        }
    }

    /// Accepts connections again, after [`refuse`](Self::refuse).
    ///
    /// # Panics
    ///
    /// If the port cannot be listened on.
    pub async fn admit(&self) {
        let mut entry = self.entry.lock().await;
        if entry.is_none() {
            let address = self.address();
            let listener = runtime::run(TcpListener::bind(address)).await;
            let listener = listener.expect("nothing else takes the proxy's port");
            *entry = Some(runtime::handle().spawn(accept(listener, Arc::clone(&self.shared))));
        }
    }

    /// The network is whole again: everything passes, what was held is delivered, connections are
    /// accepted. A connection in which bytes were discarded is closed: it cannot go on.
    pub async fn heal(&self) {
        self.flow(Flow::Pass);
        self.admit().await;
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        let mut links = self.shared.links();
        while links.try_join_next().is_some() {}
        links.len()
    }

    /// How many connections have been accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// What clients have sent.
    #[must_use]
    pub fn sent(&self) -> Traffic {
        self.shared.requests.traffic()
    }

    /// What the server has sent.
    #[must_use]
    pub fn answered(&self) -> Traffic {
        self.shared.replies.traffic()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.get_mut().take() {
            entry.abort();
        }
        // Each connection's task holds `Shared`, and with it the set that would end it.
        self.shared.links().abort_all();
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(self: &Arc<Self>, client: TcpStream) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut links = self.links();
        while links.try_join_next().is_some() {}
        links.spawn_on(link::run(client, Arc::clone(self)), runtime::handle());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // An error is one client's, who has gone again before it was accepted.
        if let Ok((client, _)) = listener.accept().await {
            shared.open(client);
        }
    }
}
