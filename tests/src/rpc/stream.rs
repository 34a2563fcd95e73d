//! A call with many requests and many answers.

use futures_util::stream::poll_fn;
use prost::Message;
use std::{fmt, time::Duration};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
    time::timeout,
};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{ANSWER, Answer, Refused};

/// One stream, read by a task of its own: etcd answers nothing, not even that the stream is open,
/// before the first request, and a stream that nobody reads lags behind. Dropping it ends it.
pub struct Stream<Q, R> {
    /// `None`: there are no more.
    requests: Option<UnboundedSender<Q>>,
    answers: UnboundedReceiver<Answer<R>>,
    // Dropped, it ends the task, and with it the call.
    _reader: JoinSet<()>,
}

impl<Q, R> fmt::Debug for Stream<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl<Q: Message + 'static, R: Message + Default + 'static> Stream<Q, R> {
    pub(super) fn open(mut grpc: Grpc<Channel>, path: &'static str) -> Self {
        let (requests, mut sent) = mpsc::unbounded_channel();
        let (arrived, answers) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let call = async {
                let ready = grpc.ready().await;
                ready.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
                let sent = tonic::Request::new(poll_fn(move |context| sent.poll_recv(context)));
                let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::default());
                let mut stream = grpc.streaming(sent, path, codec).await?.into_inner();
                while let Some(answer) = stream.message().await? {
                    let _ = arrived.send(Ok(answer));
                }
                Ok::<_, tonic::Status>(())
            };
            if let Err(status) = call.await {
                let _ = arrived.send(Err(status.into()));
            }
        });
        Self {
            requests: Some(requests),
            answers,
            _reader: reader,
        }
    }

    /// Sends a request; on a stream that has ended, nothing.
    pub fn send(&self, request: impl Into<Q>) {
        if let Some(requests) = &self.requests {
            // That it has ended is among the answers.
            let _ = requests.send(request.into());
        }
    }

    /// Says that there are no more requests.
    pub fn finish(&mut self) {
        self.requests = None;
    }

    /// The next answer.
    ///
    /// # Errors
    ///
    /// What ended the stream, or that nothing came for long.
    pub async fn next(&mut self) -> Answer<R> {
        let next = self.next_within(ANSWER).await;
        next.unwrap_or_else(|| Err(Refused::silence()))
    }

    /// The next answer, if one comes in time.
    pub async fn next_within(&mut self, bound: Duration) -> Option<Answer<R>> {
        match timeout(bound, self.answers.recv()).await {
            Ok(Some(answer)) => Some(answer),
            Ok(None) => Some(Err(Refused {
                code: tonic::Code::Ok,
                message: "the stream has ended".to_owned(),
            })),
            Err(_) => None,
        }
    }
}
