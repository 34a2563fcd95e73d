//! One call: pick, send, or wait; again, if it was never sent.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, header::USER_AGENT};
use hyper::client::conn::TrySendError;
use tonic::{Status, body::Body};
use tracing::Span;

use super::{
    body::ResponseBody,
    caller::CALLER,
    deadline::Deadline,
    endpoint::Outcome,
    request::{Kept, RequestBody, address},
    search::{Found, Search},
    shared::{Owned, Shared},
    status::{self, When},
    underway::Underway,
};

/// A call's answer.
///
/// # Cancel safety
/// Dropping it cancels the call: what was sent is reset.
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
    let shared = &*owned.shared;
    let (mut head, body) = request.into_parts();
    let limit = shared.settings.timeout;
    let now = shared.clock.now();
    let mut deadline = Deadline::new(&mut head.headers, limit, &shared.clock, now);
    introduce(&mut head.headers, shared);
    let mut request = Request::from_parts(head, RequestBody::new(body).await?);

    let mut search = Search::new(shared);
    let mut attempt = 0_u32;
    loop {
        attempt += 1;
        let Found { flight, mut sender } = search.endpoint(deadline.as_mut()).await?;
        let call = Underway::new(flight, owned.clone());
        if search.took_time()
            && let Some(deadline) = &deadline
        {
            deadline.rewrite(request.headers_mut(), shared.clock.now());
        }
        address(&mut request, call.endpoint());
        let kept = Kept::of(&request);
        let span = tracing::debug_span!(
            target: "coord::grpc",
            "grpc.call",
            service = %shared.service,
            instance = %call.endpoint().authority,
            attempt,
        );
        let answer = pin!(sender.try_send_request(request));
        drop(sender);
        match or_late(answer, deadline.as_mut(), &span).await {
            Ok(Ok(response)) => {
                return Ok(ResponseBody::of(response, call, deadline));
            }
            Ok(Err(error)) => request = again(error, kept, call, &mut search)?,
            Err(Late(limit)) => {
                let status = status::late(&shared.service, call.endpoint(), When::Sent, limit);
                call.ended(Outcome::Failed);
                return Err(status);
            }
        }
    }
}

/// The request, if no server has processed it: it was given back before it was sent, or none of its body
/// left, or the server says so.
fn again(
    mut error: TrySendError<Request<RequestBody>>,
    kept: Option<Kept>,
    call: Underway,
    search: &mut Search<'_>,
) -> Result<Request<RequestBody>, Status> {
    let returned = error.take_message();
    let error = error.into_error();
    let refused = status::refused(&error);
    let kept = kept.filter(|kept| refused || !kept.begun());
    let (shared, endpoint) = (call.shared(), call.endpoint());
    if let Some(request) = returned.or_else(|| kept.map(Kept::again)) {
        let why = status::unprocessed(&shared.service, endpoint, error);
        search.failed(endpoint.clone(), why);
        call.resent();
        return Ok(request);
    }
    if refused {
        let status = status::unprocessed(&shared.service, endpoint, error);
        call.ended(Outcome::Unknown);
        return Err(status);
    }
    let status = status::broken(&shared.service, endpoint, When::Sent, error);
    call.ended(Outcome::Failed);
    Err(status)
}

/// The deadline, of this length, has passed.
struct Late(Duration);

/// `future`, within `span`, for as long as the deadline allows.
async fn or_late<F: Future>(
    mut future: Pin<&mut F>,
    mut deadline: Option<&mut Deadline>,
    span: &Span,
) -> Result<F::Output, Late> {
    poll_fn(|cx| {
        let _within = span.enter();
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match &mut deadline {
            Some(deadline) => deadline.poll(cx).map(|()| Err(Late(deadline.limit))),
            None => Poll::Pending,
        }
    })
    .await
}

/// Says who calls, and with what.
fn introduce(headers: &mut HeaderMap, shared: &Shared) {
    const OURS: &str = concat!("coord/", env!("CARGO_PKG_VERSION"));
    let before = headers.insert(USER_AGENT, HeaderValue::from_static(OURS));
    if let Some(before) = before {
        // The program's own comes first.
        let both = [before.as_bytes(), OURS.as_bytes()].join(&b' ');
        // Two header values and a space are one.
        headers.insert(USER_AGENT, HeaderValue::try_from(both).unwrap_or(before));
    }
    if let Some(caller) = &shared.caller
        && !headers.contains_key(CALLER)
    {
        headers.insert(CALLER, caller.header().clone());
    }
}
