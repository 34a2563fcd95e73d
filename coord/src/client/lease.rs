//! Leases: grant, revoke, time to live, and one keep-alive stream for all of them.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use etcd_client::proto::PbLeaseKeepAliveResponse;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{
    CallError, Certainty, Header,
    channel::{Shared, Sticky},
};
use crate::clock::{Clock, Instant};

/// A granted lease. etcd may grant more than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) header: Header,
    pub(crate) ttl: Duration,
}

/// What etcd says about a lease. `None`: it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    pub(crate) remaining: Option<Duration>,
    pub(crate) granted: Duration,
}

/// One answer on the stream. `ttl` `None`: the lease is gone (etcd answers a TTL ≤ 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    pub(crate) lease: i64,
    pub(crate) ttl: Option<Duration>,
}

/// Seconds of etcd; `None` for zero or less.
pub(super) fn seconds(ttl: i64) -> Option<Duration> {
    u64::try_from(ttl)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

/// etcd's request. The crate's stub takes it for one lease only, and fails if that one is gone.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct KeepAliveRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// The stream: requests for any lease go in, answers come out in order.
///
/// It opens with the first request: etcd answers nothing before. From then on each request must be
/// answered within the request timeout, or the stream fails and its endpoint is left.
pub(crate) struct KeepAlives {
    requests: mpsc::UnboundedSender<KeepAliveRequest>,
    answers: Answers,
    /// When the requests that are not answered yet were sent.
    unanswered: VecDeque<Instant>,
    shared: Arc<Shared>,
    generation: u64,
    endpoint: Arc<str>,
    clock: Clock,
    limit: Duration,
}

enum Answers {
    Opening(BoxFuture<'static, Result<Response<Streaming<PbLeaseKeepAliveResponse>>, Status>>),
    Open(Box<Streaming<PbLeaseKeepAliveResponse>>),
    Ended,
}

impl Answers {
    /// # Cancel safety
    /// Safe: an answer is returned or stays.
    async fn next(&mut self) -> Result<Option<PbLeaseKeepAliveResponse>, Status> {
        if let Self::Opening(stream) = self {
            let outcome = stream.await;
            *self = Self::Ended;
            *self = Self::Open(Box::new(outcome?.into_inner()));
        }
        match self {
            Self::Open(stream) => stream.message().await,
            Self::Opening(_) | Self::Ended => Ok(None),
        }
    }
}

impl KeepAlives {
    pub(super) fn open(
        sticky: Sticky,
        generation: u64,
        endpoint: Arc<str>,
        clock: Clock,
        limit: Duration,
    ) -> Self {
        let shared = sticky.0.clone();
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let requests_out = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let opening = async move {
            let mut grpc = tonic::client::Grpc::new(sticky);
            let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
            let codec = ProstCodec::<KeepAliveRequest, PbLeaseKeepAliveResponse>::default();
            grpc.streaming(tonic::Request::new(requests_out), path, codec)
                .await
        };
        Self {
            requests,
            answers: Answers::Opening(Box::pin(opening)),
            unanswered: VecDeque::new(),
            shared,
            generation,
            endpoint,
            clock,
            limit,
        }
    }

    /// Sends one keep-alive. The first one leaves with the next poll of [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Safe: it is sent or not.
    pub(crate) async fn send(&mut self, lease: i64) -> Result<(), CallError> {
        self.requests
            .send(KeepAliveRequest { id: lease })
            .map_err(|_| CallError::stream_ended())?;
        self.unanswered.push_back(self.clock.now());
        Ok(())
    }

    /// The next answer. An error or `None` ends the stream; that says nothing about the leases.
    ///
    /// # Cancel safety
    /// Safe: an answer is returned or stays.
    pub(crate) async fn next(&mut self) -> Result<Option<KeepAlive>, CallError> {
        let answer = match self.unanswered.front() {
            None => Ok(self.answers.next().await),
            Some(sent) => {
                let left = (*sent + self.limit).since(self.clock.now());
                self.clock.timeout(left, self.answers.next()).await
            }
        };
        let error = match answer {
            Ok(Ok(answer)) => {
                self.unanswered.pop_front();
                return Ok(answer.map(|answer| KeepAlive {
                    lease: answer.id,
                    ttl: seconds(answer.ttl),
                }));
            }
            Ok(Err(status)) => CallError::from(status),
            Err(_elapsed) => {
                CallError::timeout(Certainty::Unknown, self.limit, Some(&self.endpoint))
            }
        };
        self.answers = Answers::Ended;
        if error.endpoint_failed() {
            self.shared.leave(self.generation);
        }
        Err(error)
    }
}

impl fmt::Debug for KeepAlives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlives")
            .field("endpoint", &self.endpoint)
            .field("unanswered", &self.unanswered.len())
            .finish_non_exhaustive()
    }
}
