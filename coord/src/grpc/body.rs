//! [`ResponseBody`]: an answer's body. The call that it answers lasts until its end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::{Status, codegen::Bytes};

use super::load::InFlight;

/// An answer's body. The call that it answers lasts until its end, or until it is dropped.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    _call: InFlight,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, call: InFlight) -> Self {
        Self {
            incoming,
            _call: call,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.incoming)
            .poll_frame(cx)
            .map_err(|error| Status::from_error(error.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
