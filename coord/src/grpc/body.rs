//! [`ResponseBody`]: an answer's body. The call that it answers lasts until its end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::{Status, codegen::Bytes};

use super::{
    deadline::Deadline,
    endpoint::Outcome,
    status::{self, When},
    underway::Underway,
};

/// An answer's body. The call that it answers lasts until its end, or until it is dropped, which resets
/// the stream once its requests have ended, too. By default it is empty: that of a call which an
/// interceptor has refused.
#[derive(Debug, Default)]
pub struct ResponseBody(Option<Live>);

/// A body that has not ended.
#[derive(Debug)]
struct Live {
    incoming: Incoming,
    call: Underway,
    deadline: Option<Deadline>,
    /// By the headers.
    told: Option<Outcome>,
}

impl Live {
    fn end(self, told: Option<Outcome>) {
        // Without a word it was cut short.
        let outcome = told.or(self.told).unwrap_or(Outcome::Failed);
        self.call.ended(outcome);
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.deadline.as_mut();
        deadline.is_some_and(|deadline| deadline.poll(cx).is_ready())
    }

    fn late(self) -> Status {
        let limit = self.deadline.map(|deadline| deadline.limit);
        let (shared, endpoint) = (self.call.shared(), self.call.endpoint());
        let limit = limit.unwrap_or_default();
        let status = status::late(&shared.service, endpoint, When::Answering, limit);
        // It was slow, or a stream without end: that says nothing of the server, which has begun to
        // answer.
        self.call.ended(Outcome::Unknown);
        status
    }

    fn broken(self, error: hyper::Error) -> Status {
        let (shared, endpoint) = (self.call.shared(), self.call.endpoint());
        let outcome = status::blame(&error);
        let status = status::broken(&shared.service, endpoint, When::Answering, error);
        self.call.ended(outcome);
        status
    }
}

impl ResponseBody {
    pub(super) fn of(
        response: Response<Incoming>,
        mut call: Underway,
        deadline: Option<Deadline>,
    ) -> Response<Self> {
        let (head, incoming) = response.into_parts();
        let told = status::told(&head.headers).or_else(|| status::told_by_http(head.status));
        if matches!(told, None | Some(Outcome::Answered)) {
            call.answering();
        }
        let live = Live {
            told,
            incoming,
            call,
            deadline,
        };
        // An answer of headers alone: nobody may look for the end of its body.
        let body = if live.incoming.is_end_stream() {
            live.end(None);
            Self(None)
        } else {
            Self(Some(live))
        };
        Response::from_parts(head, body)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // While it lives it is here; whoever ends it leaves nothing.
        let Some(mut live) = self.0.take() else {
            return Poll::Ready(None);
        };
        // First: what always has a frame ready must end, too.
        if live.is_late(cx) {
            return Poll::Ready(Some(Err(live.late())));
        }
        let Poll::Ready(frame) = Pin::new(&mut live.incoming).poll_frame(cx) else {
            self.0 = Some(live);
            return Poll::Pending;
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if frame.is_trailers() || live.incoming.is_end_stream() {
                    live.end(frame.trailers_ref().and_then(status::told));
                } else {
                    self.0 = Some(live);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(live.broken(error))),
            None => {
                live.end(None);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|live| live.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or(SizeHint::with_exact(0), |live| live.incoming.size_hint())
    }
}
