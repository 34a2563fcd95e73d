//! One call: pick, send, or wait; again, if it was never sent.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body};

use super::{body::ResponseBody, load::InFlight, shared::Owned};

/// A call's answer. Dropping it cancels the call.
pub struct Call(
    pub(super) Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Status>> + Send>>,
);

impl Future for Call {
    type Output = Result<Response<ResponseBody>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

pub(super) async fn run(
    owned: Arc<Owned>,
    request: Request<Body>,
) -> Result<Response<ResponseBody>, Status> {
    let shared = &owned.shared;
    let now = shared.clock.now();
    let set = shared.ready.load_full();
    let Some((endpoint, connection)) = shared.picker.pick(&set, &[], now) else {
        return Err(Status::unavailable(format!(
            "no endpoint for {}",
            shared.service
        )));
    };
    let mut flight = InFlight::begin(endpoint.clone(), now);
    let sent = connection.sender().try_send_request(request);
    match sent.await {
        Ok(response) => {
            flight.answering(shared.clock.now());
            Ok(response.map(|incoming| ResponseBody::new(incoming, flight)))
        }
        Err(refused) => Err(Status::from_error(refused.into_error().into())),
    }
}
