//! `Watch`: streams of events.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Services, begun, in_etcds_words, refused};
use crate::embedded::{
    core::StreamId,
    faults::{Fate, Rpc},
    link::Link,
    state::State,
};

#[tonic::async_trait]
impl PbWatchService for Services {
    type WatchStream = Answers<PbWatchResponse>;

    async fn watch(
        &self,
        requests: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let stream = Watching {
            id: self.state.open_stream(),
            state: self.state.clone(),
            link: self.link.clone(),
            requests: Some(requests.into_inner()),
        };
        begun(stream.boxed()).await
    }
}

/// The answers and events of one stream. They are made when the connection can send them, so that a
/// slow reader costs what the core keeps for it, and holds up nobody.
struct Watching {
    state: Arc<State>,
    link: Link,
    id: StreamId,
    /// `None`: there will be no more of them; events go on.
    requests: Option<Streaming<PbWatchRequest>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.state.close_stream(self.id);
    }
}

impl Stream for Watching {
    type Item = Result<PbWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Requests and events take turns: many of the ones keep nobody from the others.
            let took_request = match self.poll_request(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                Poll::Pending => false,
            };
            // What is shown on a connection that was cut may be what a restored store never had.
            if self.link.is_cut() {
                return Poll::Pending;
            }
            if let Some(message) = self.state.next(self.id, cx.waker()) {
                return Poll::Ready(Some(Ok(message)));
            }
            if !took_request {
                return Poll::Pending;
            }
        }
    }
}

impl Watching {
    /// Takes the next request.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(requests) = &mut self.requests else {
            return Poll::Pending;
        };
        match requests.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(request))) => {
                let fate = self.state.faults.meet(Rpc::Watch);
                if fate == Fate::Refused {
                    return Poll::Ready(Err(refused()));
                }
                self.state.call(|core| core.watch(self.id, request));
                if fate == Fate::ReplyLost {
                    self.link.cut();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Some(Err(status))) => Poll::Ready(Err(in_etcds_words(status))),
            Poll::Ready(None) => {
                self.requests = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
