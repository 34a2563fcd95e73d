//! A gRPC server that says who it is, counts, and misbehaves on command.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use coord_tests::echo::{EchoClient, EchoRequest, EchoServer};
//!
//! let server = EchoServer::start("a").await;
//! let mut client = EchoClient::connect(server.uri()).await.unwrap();
//! let reply = client.echo(EchoRequest { text: "hi".into(), ..EchoRequest::default() }).await.unwrap();
//! assert_eq!(reply.get_ref().server, "a");
//! assert_eq!(server.handler().calls(), 1);
//! server.kill().await;
//! assert!(client.echo(EchoRequest::default()).await.is_err());
//! # });
//! ```

mod io;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
pub use io::Connections;
pub use pb::{EchoReply, EchoRequest, echo_client::EchoClient};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Server, server::Router},
};

use crate::ports::Port;

/// What is generated from `proto/echo.proto`.
#[expect(missing_docs, clippy::pedantic, reason = "generated")]
pub mod pb {
    tonic::include_proto!("coord.tests");
}

/// Answers, counts, and does what it is told. Cheap to clone; every clone is the same one.
#[derive(Clone, Debug)]
pub struct EchoHandler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    calls: AtomicU64,
    in_flight: watch::Sender<u64>,
    latency: Mutex<Duration>,
    status: Mutex<Option<(Code, String)>>,
}

impl EchoHandler {
    /// One that answers at once.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            calls: AtomicU64::new(0),
            in_flight: watch::Sender::new(0),
            latency: Mutex::default(),
            status: Mutex::default(),
        }))
    }

    /// The generated service, for a server.
    #[must_use]
    pub fn service(&self) -> pb::echo_server::EchoServer<Self> {
        pb::echo_server::EchoServer::new(self.clone())
    }

    /// What it answers with as `server`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many calls have reached it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls.load(SeqCst)
    }

    /// How many calls have reached it and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        *self.0.in_flight.borrow()
    }

    /// From now on a reply takes this long.
    pub fn set_latency(&self, latency: Duration) {
        *lock(&self.0.latency) = latency;
    }

    /// From now on calls fail with this; with [`Code::Ok`] they succeed again.
    pub fn set_status(&self, code: Code, message: &str) {
        *lock(&self.0.status) = (code != Code::Ok).then(|| (code, message.to_owned()));
    }

    fn begin(&self) -> InFlight {
        self.0.calls.fetch_add(1, SeqCst);
        self.0.in_flight.send_modify(|calls| *calls += 1);
        InFlight(self.clone())
    }

    async fn answer(&self, delay_ms: u32) -> Result<(), Status> {
        let latency = *lock(&self.0.latency) + Duration::from_millis(delay_ms.into());
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match &*lock(&self.0.status) {
            Some((code, message)) => Err(Status::new(*code, message)),
            None => Ok(()),
        }
    }

    fn reply(&self, text: String, caller: &str) -> EchoReply {
        EchoReply {
            text,
            server: self.0.name.clone(),
            caller: caller.to_owned(),
        }
    }
}

/// A call that has reached the handler and has not ended.
#[derive(Debug)]
struct InFlight(EchoHandler);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.send_modify(|calls| *calls -= 1);
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

#[tonic::async_trait]
impl pb::echo_server::Echo for EchoHandler {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        let _call = self.begin();
        let caller = caller(request.metadata());
        let EchoRequest { text, delay_ms, .. } = request.into_inner();
        self.answer(delay_ms).await?;
        Ok(Response::new(self.reply(text, &caller)))
    }

    type ServerStreamStream = Replies;

    async fn server_stream(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<Replies>, Status> {
        let call = self.begin();
        let caller = caller(request.metadata());
        let EchoRequest {
            text,
            times,
            delay_ms,
        } = request.into_inner();
        let replies = stream::try_unfold((self.clone(), call, 0), move |(this, call, said)| {
            let (text, caller) = (text.clone(), caller.clone());
            async move {
                if times != 0 && said == times {
                    return Ok(None);
                }
                this.answer(delay_ms).await?;
                // A stream without latency shares its thread.
                tokio::task::yield_now().await;
                let reply = this.reply(text, &caller);
                Ok(Some((reply, (this, call, said.wrapping_add(1)))))
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoReply>, Status> {
        let _call = self.begin();
        let caller = caller(request.metadata());
        let texts: Vec<_> = request
            .into_inner()
            .map_ok(|said| said.text)
            .try_collect()
            .await?;
        self.answer(0).await?;
        Ok(Response::new(self.reply(texts.concat(), &caller)))
    }

    type BidiStream = Replies;

    async fn bidi(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let (this, call) = (self.clone(), self.begin());
        let caller = caller(request.metadata());
        let replies = request.into_inner().then(move |said| {
            let (this, caller) = (this.clone(), caller.clone());
            // The stream owns the call.
            let _ = &call;
            async move {
                let said = said?;
                this.answer(said.delay_ms).await?;
                Ok(this.reply(said.text, &caller))
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

fn caller(metadata: &MetadataMap) -> String {
    let caller = metadata.get("x-coord-client");
    caller
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct EchoServer {
    handler: EchoHandler,
    connections: Connections,
    address: SocketAddr,
    _port: Option<Port>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    task: tokio::sync::Mutex<JoinHandle<()>>,
}

impl EchoServer {
    /// On a port of its own of the loopback interface, which stays its own when it was stopped.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn start(name: &str) -> Self {
        let port = Port::take();
        let mut server = Self::start_on(name, &format!("127.0.0.1:{}", port.number())).await;
        server._port = Some(port);
        server
    }

    /// On this address.
    ///
    /// # Panics
    ///
    /// If it cannot be had.
    pub async fn start_on(name: &str, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address");
        let handler = EchoHandler::new(name);
        let router = Server::builder().add_service(handler.service());
        Self::serve(handler, router, listener)
    }

    /// A router of one's own, with TLS for one.
    ///
    /// # Panics
    ///
    /// If the listener has no address.
    #[must_use]
    pub fn serve(handler: EchoHandler, router: Router, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let connections = Connections::default();
        let incoming = connections.accept(listener);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let served = router.serve_with_incoming_shutdown(incoming, stopped);
            served.await.expect("it serves until it is stopped");
        });
        Self {
            handler,
            connections,
            address,
            _port: None,
            stop: Mutex::new(Some(stop)),
            task: tokio::sync::Mutex::new(task),
        }
    }

    /// What answers.
    #[must_use]
    pub fn handler(&self) -> &EchoHandler {
        &self.handler
    }

    /// What was accepted, and what of it is open.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// `127.0.0.1:PORT`, as the registry takes it.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`, as tonic takes it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the listener, says GOAWAY, and waits until the calls in flight have ended.
    ///
    /// # Panics
    ///
    /// If the server has panicked.
    pub async fn stop(&self) {
        // Stopped before: then it is only waited for.
        drop(lock(&self.stop).take());
        let task = &mut *self.task.lock().await;
        if !task.is_finished() {
            task.await.expect("it does not panic");
        }
    }

    /// Closes the listener and breaks all connections, as a SIGKILL does.
    ///
    /// # Panics
    ///
    /// If the server has panicked.
    pub async fn kill(&self) {
        self.connections.refuse();
        self.stop().await;
    }

    /// Breaks all connections. It goes on accepting new ones.
    pub fn cut(&self) {
        self.connections.cut();
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.connections.refuse();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
