//! [`Channel`]: what a generated client calls.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    body::ResponseBody,
    call::{self, Call},
    shared::Owned,
};

/// A channel to a service, for every client that tonic generates. Cheap to clone; every clone is the
/// same channel.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Owned>);

impl Channel {
    pub(super) fn new(owned: Owned) -> Self {
        Self(Arc::new(owned))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &super::shared::Shared {
        &self.0.shared
    }

    /// Picks an endpoint as a call does, and sends nothing; whether there is one. For benchmarks.
    #[doc(hidden)]
    pub fn picks(&self) -> bool {
        let shared = &self.0.shared;
        let (set, now) = (shared.ready.load(), shared.clock.now());
        shared.picker.pick(&set, &[], now).is_some()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = Call;

    /// Always ready: whether an endpoint is, each call finds out for itself.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Call {
        Call(Box::pin(call::run(self.0.clone(), request)))
    }
}
