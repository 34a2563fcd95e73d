//! etcd's API without a client in between: what is asked is what goes out, what is compared is what
//! came back.
//!
//! etcd-client neither says everything that etcd understands nor shows everything that it answers,
//! and the embedded server is built on its messages: comparing through it would compare less.

mod messages;
mod stream;

pub use messages::*;
pub use stream::Stream;

use std::{fmt, time::Duration};

use prost::Message;
use tokio::time::timeout;
use tonic::{
    Code, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// How long one answer is waited for: one that takes longer is missing.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// A refusal, as etcd words it.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// The message.
    pub message: String,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.code, self.message)
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

impl Refused {
    fn silence() -> Self {
        Self {
            code: Code::Unknown,
            message: format!("the test kit had no answer in {ANSWER:?}"),
        }
    }
}

/// What a call gave.
pub type Answer<T> = Result<T, Refused>;

/// One connection to a server that speaks etcd's API.
#[derive(Clone, Debug)]
pub struct Api {
    grpc: Grpc<Channel>,
}

impl Api {
    /// A connection to `endpoint`, made at the first call.
    ///
    /// # Panics
    ///
    /// If `endpoint` is no URL; if not called on a runtime.
    #[must_use]
    pub fn new(endpoint: &str) -> Self {
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("the URL of a server");
        let endpoint = endpoint.tcp_nodelay(true);
        // Streams that a test leaves unread must not hold up the calls beside them.
        let endpoint = endpoint
            .initial_stream_window_size(16 << 20)
            .initial_connection_window_size(64 << 20);
        let grpc = Grpc::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX);
        Self { grpc }
    }

    async fn unary<Q, R>(&self, path: &'static str, request: Q) -> Answer<R>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = self.grpc.clone();
            let ready = grpc.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::default());
            grpc.unary(tonic::Request::new(request), path, codec).await
        };
        let answer = timeout(ANSWER, call).await;
        let answer = answer.map_err(|_| Refused::silence())?;
        Ok(answer?.into_inner())
    }

    /// A new stream of watches.
    #[must_use]
    pub fn watch(&self) -> Stream<WatchRequest, WatchResponse> {
        Stream::open(self.grpc.clone(), "/etcdserverpb.Watch/Watch")
    }

    /// A new stream of keep-alives.
    #[must_use]
    pub fn keep_alives(&self) -> Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> {
        Stream::open(self.grpc.clone(), "/etcdserverpb.Lease/LeaseKeepAlive")
    }

    /// One keep-alive, on a stream of its own.
    ///
    /// # Errors
    ///
    /// What ended the stream.
    pub async fn keep_alive(&self, id: i64) -> Answer<LeaseKeepAliveResponse> {
        let mut stream = self.keep_alives();
        stream.send(LeaseKeepAliveRequest { id });
        stream.next().await
    }
}

/// One method for each call that has one answer.
macro_rules! calls {
    ($($method:ident($path:literal, $request:ident) -> $response:ident;)+) => {
        impl Api {
            $(
                #[doc = concat!("`", $path, "`")]
                ///
                /// # Errors
                ///
                /// As the server answers.
                pub async fn $method(&self, request: $request) -> Answer<$response> {
                    self.unary(concat!("/etcdserverpb.", $path), request).await
                }
            )+
        }
    };
}

calls! {
    no_method("KV/Nothing", RangeRequest) -> RangeResponse;
    no_service("Nothing/Nothing", RangeRequest) -> RangeResponse;
    range("KV/Range", RangeRequest) -> RangeResponse;
    put("KV/Put", PutRequest) -> PutResponse;
    delete_range("KV/DeleteRange", DeleteRangeRequest) -> DeleteRangeResponse;
    txn("KV/Txn", TxnRequest) -> TxnResponse;
    compact("KV/Compact", CompactionRequest) -> CompactionResponse;
    grant("Lease/LeaseGrant", LeaseGrantRequest) -> LeaseGrantResponse;
    revoke("Lease/LeaseRevoke", LeaseRevokeRequest) -> LeaseRevokeResponse;
    time_to_live("Lease/LeaseTimeToLive", LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
    leases("Lease/LeaseLeases", LeaseLeasesRequest) -> LeaseLeasesResponse;
    status("Maintenance/Status", StatusRequest) -> StatusResponse;
    alarm("Maintenance/Alarm", AlarmRequest) -> AlarmResponse;
    defragment("Maintenance/Defragment", DefragmentRequest) -> DefragmentResponse;
    hash("Maintenance/Hash", HashRequest) -> HashResponse;
    hash_kv("Maintenance/HashKV", HashKvRequest) -> HashKvResponse;
    members("Cluster/MemberList", MemberListRequest) -> MemberListResponse;
    authenticate("Auth/Authenticate", AuthenticateRequest) -> AuthenticateResponse;
}
