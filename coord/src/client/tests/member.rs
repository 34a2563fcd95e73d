//! A scripted member for tests: as much of etcd's gRPC as a test lets it speak, on a real socket.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use etcd_client::proto::{
    PbAuthenticateResponse, PbLeaseKeepAliveResponse, PbRangeResponse, PbResponseHeader,
    PbStatusResponse,
};
use futures_util::{StreamExt, stream::BoxStream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tonic_prost::ProstCodec;

use crate::client::lease::KeepAliveRequest;
use crate::tasks::{Tasks, Thread};

/// How it answers one kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Well,
    /// Never.
    Silence,
    Refusal(Code, &'static str),
}

/// What it does, changed by the test at any time.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) status: Answer,
    pub(super) calls: Answer,
    pub(super) leader: u64,
    pub(super) learner: bool,
    pub(super) version: &'static str,
    /// Calls must carry this token; `Authenticate` hands it out.
    pub(super) token: Option<&'static str>,
}

#[derive(Debug)]
struct Inside {
    script: Mutex<Script>,
    connections: AtomicU64,
    open: AtomicU64,
    statuses: AtomicU64,
    calls: AtomicU64,
    sign_ins: AtomicU64,
    /// Paths of the requests that demanded a leader.
    with_leader: Mutex<Vec<String>>,
    /// Cancelled to close every connection.
    hangup: Mutex<CancellationToken>,
}

/// A member. It listens until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    address: SocketAddr,
    inside: Arc<Inside>,
    tasks: Tasks,
    _thread: Thread,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.close_connections();
        self.tasks.cancelled().cancel();
    }
}

impl Member {
    /// Starts the member with this id, on a thread of its own.
    pub(super) async fn start(id: u64) -> Self {
        let thread = Thread::start("member").unwrap();
        let tasks = thread.tasks(&CancellationToken::new());
        let inside = Arc::new(Inside {
            script: Mutex::new(Script {
                status: Answer::Well,
                calls: Answer::Well,
                leader: 1,
                learner: false,
                version: "3.6.5",
                token: None,
            }),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            statuses: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            sign_ins: AtomicU64::new(0),
            with_leader: Mutex::default(),
            hangup: Mutex::default(),
        });
        let listener = tasks.spawn(async { TcpListener::bind("127.0.0.1:0").await.unwrap() });
        let listener = listener.await.unwrap();
        let member = Self {
            address: listener.local_addr().unwrap(),
            inside: inside.clone(),
            tasks: tasks.clone(),
            _thread: thread,
        };
        member.tasks.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                inside.connections.fetch_add(1, Ordering::SeqCst);
                inside.open.fetch_add(1, Ordering::SeqCst);
                let hangup = inside.hangup.lock().unwrap().clone();
                let serving = serve(id, socket, inside.clone());
                tasks.spawn(async move { hangup.run_until_cancelled(serving).await });
            }
        });
        member
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.inside.script.lock().unwrap());
    }

    /// How many of its calls have signed in.
    pub(super) fn signed_in(&self) -> u64 {
        self.inside.sign_ins.load(Ordering::SeqCst)
    }

    /// How many connections, statuses, and other calls there were.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let inside = &self.inside;
        let [connections, statuses, calls] = [&inside.connections, &inside.statuses, &inside.calls]
            .map(|count| count.load(Ordering::SeqCst));
        (connections, statuses, calls)
    }

    /// How many connections are open now. Those that the test closed still count.
    pub(super) fn open(&self) -> u64 {
        self.inside.open.load(Ordering::SeqCst)
    }

    pub(super) fn with_leader(&self) -> Vec<String> {
        self.inside.with_leader.lock().unwrap().clone()
    }

    pub(super) fn close_connections(&self) {
        std::mem::take(&mut *self.inside.hangup.lock().unwrap()).cancel();
    }

    /// As SIGSTOP does: the kernel still accepts connections, and nothing answers, HTTP/2 pings
    /// included. Goes on when the result is dropped.
    pub(super) fn stop(&self) -> mpsc::Sender<()> {
        let (go_on, wait) = mpsc::channel();
        let (stopped, is_stopped) = mpsc::channel();
        self.tasks.spawn(async move {
            stopped.send(()).unwrap();
            // Blocks this member's thread, which is the purpose.
            let _ = wait.recv();
        });
        is_stopped.recv().unwrap();
        go_on
    }
}

async fn serve(id: u64, socket: TcpStream, inside: Arc<Inside>) {
    let counted = inside.clone();
    let service = tower::service_fn(move |request| {
        let request = http::Request::map(request, Body::new);
        let inside = inside.clone();
        async move { Ok::<_, Infallible>(respond(id, request, inside).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let serving = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    // How it ends is the test's business.
    let _ = serving.await;
    counted.open.fetch_sub(1, Ordering::SeqCst);
}

async fn respond(
    id: u64,
    request: http::Request<Body>,
    inside: Arc<Inside>,
) -> http::Response<Body> {
    let script = inside.script.lock().unwrap().clone();
    let path = request.uri().path().to_owned();
    let is_status = path == "/etcdserverpb.Maintenance/Status";
    let (count, answer) = if is_status {
        (&inside.statuses, script.status)
    } else {
        (&inside.calls, script.calls)
    };
    count.fetch_add(1, Ordering::SeqCst);
    if request.headers().contains_key("hasleader") {
        inside.with_leader.lock().unwrap().push(path.clone());
    }
    match answer {
        Answer::Well => {}
        Answer::Silence => std::future::pending().await,
        Answer::Refusal(code, words) => return Status::new(code, words).into_http(),
    }
    let takes_any = is_status || path == "/etcdserverpb.Auth/Authenticate";
    let shown = request.headers().get("token");
    if let Some(token) = script.token
        && !takes_any
        && shown.is_none_or(|shown| shown != token)
    {
        return Status::unauthenticated("etcdserver: invalid auth token").into_http();
    }
    let header = Some(PbResponseHeader {
        member_id: id,
        ..PbResponseHeader::default()
    });
    match path.as_str() {
        "/etcdserverpb.Maintenance/Status" => {
            let status = PbStatusResponse {
                header,
                version: script.version.into(),
                leader: script.leader,
                is_learner: script.learner,
                ..PbStatusResponse::default()
            };
            unary(request, status).await
        }
        "/etcdserverpb.KV/Range" => {
            let reply = PbRangeResponse {
                header,
                ..PbRangeResponse::default()
            };
            unary(request, reply).await
        }
        "/etcdserverpb.Auth/Authenticate" => {
            inside.sign_ins.fetch_add(1, Ordering::SeqCst);
            let reply = PbAuthenticateResponse {
                header,
                token: script.token.unwrap_or_default().into(),
            };
            unary(request, reply).await
        }
        "/etcdserverpb.Lease/LeaseKeepAlive" => {
            let service = tower::service_fn(
                |requests: tonic::Request<tonic::Streaming<KeepAliveRequest>>| async {
                    let answers = requests.into_inner().map(|request| {
                        Ok(PbLeaseKeepAliveResponse {
                            header: None,
                            id: request?.id,
                            ttl: 30,
                        })
                    });
                    let answers: BoxStream<'static, Result<PbLeaseKeepAliveResponse, Status>> =
                        answers.boxed();
                    Ok::<_, Status>(tonic::Response::new(answers))
                },
            );
            tonic::server::Grpc::new(ProstCodec::default())
                .streaming(service, request)
                .await
        }
        _ => Status::unimplemented(path).into_http(),
    }
}

async fn unary<M>(request: http::Request<Body>, reply: M) -> http::Response<Body>
where
    M: prost::Message + Default + Clone + 'static,
{
    let service = tower::service_fn(|_: tonic::Request<()>| {
        let reply = reply.clone();
        async { Ok::<_, Status>(tonic::Response::new(reply)) }
    });
    tonic::server::Grpc::new(ProstCodec::<M, ()>::default())
        .unary(service, request)
        .await
}
