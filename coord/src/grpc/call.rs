//! One call: pick, send, or wait; again, if it was never sent.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::USER_AGENT};
use hyper::client::conn::TrySendError;
use tonic::{Status, body::Body};
use tracing::Span;

use super::{
    body::ResponseBody,
    caller,
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

/// A plain function around the future: what an `async fn` is given lies in its future twice. Each call
/// allocates that, and beyond a kilobyte that is slow.
pub(super) fn run(
    owned: Arc<Owned>,
    request: Request<Body>,
) -> impl Future<Output = Result<Response<ResponseBody>, Status>> + Send {
    let shared = &*owned.shared;
    let mut request = request.map(RequestBody::new);
    let headers = request.headers_mut();
    let (limit, now) = (shared.settings.timeout, shared.clock.now());
    let mut deadline = Deadline::new(headers, limit, &shared.clock, now);
    introduce(headers, shared);
    async move {
        let shared = &*owned.shared;
        if deadline
            .as_ref()
            .is_some_and(|deadline| deadline.limit.is_zero())
        {
            return Err(status::over(&shared.service));
        }
        request.body_mut().look().await?;
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
                    call.ended(Outcome::Late);
                    return Err(status);
                }
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
    let (refused, reset) = (status::refused(&error), status::reset(&error));
    let kept = kept.filter(|kept| refused || !(kept.begun() || reset));
    // A server may go away; one that stays and refuses call after call does not serve.
    let outcome = match refused && reset {
        true => Outcome::Failed,
        false => Outcome::Unknown,
    };
    let (shared, endpoint) = (call.shared(), call.endpoint());
    if let Some(request) = returned.or_else(|| kept.map(Kept::again)) {
        let why = status::unprocessed(&shared.service, endpoint, error);
        search.failed(endpoint.clone(), why);
        call.resent(outcome);
        return Ok(request);
    }
    if refused {
        let status = status::unprocessed(&shared.service, endpoint, error);
        call.ended(outcome);
        return Err(status);
    }
    let outcome = status::blame(&error);
    let status = status::broken(&shared.service, endpoint, When::Sent, error);
    call.ended(outcome);
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

/// Parsed once.
static CALLER: HeaderName = HeaderName::from_static(caller::CALLER);

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
        && !headers.contains_key(&CALLER)
    {
        headers.insert(&CALLER, caller.header().clone());
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body::{Body as _, Frame};
    use tonic::codegen::Bytes;
    use tower::Service as _;

    use super::*;
    use crate::{
        embedded::Server,
        grpc::{Channel, body::ResponseBody},
        registry::InstanceSpec,
    };

    /// A call to etcd, which is a gRPC server, too.
    fn request() -> Request<Body> {
        let message = RequestBody::Stream {
            // An empty one.
            ready: vec![Frame::data(Bytes::from_static(&[0; 5]))],
            rest: Body::empty(),
        };
        Request::post("/etcdserverpb.Maintenance/Status")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(message))
            .unwrap()
    }

    async fn read(body: &mut ResponseBody) {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            frame.unwrap();
        }
    }

    fn in_flight(channel: &Channel) -> u32 {
        let set = channel.shared().ready.load();
        set.members[0].endpoint.load.in_flight()
    }

    #[tokio::test]
    async fn a_call_is_in_flight_until_its_answer_has_ended_or_it_is_dropped() {
        let etcd = Server::start().await.unwrap();
        let coordinator = etcd.coordinator().await.unwrap();
        let address = etcd.endpoint().trim_start_matches("http://");
        let spec = InstanceSpec::new("etcd", address);
        let _registration = coordinator.registry().register(spec).await.unwrap();
        let mut channel = coordinator.channel("etcd").await.unwrap();

        let answer = channel.call(request()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(in_flight(&channel), 1, "its body has not ended");
        // Read to the end, it has ended, although it is not dropped.
        let mut body = answer.into_body();
        read(&mut body).await;
        assert_eq!(in_flight(&channel), 0);
        assert!(body.is_end_stream());

        let mut dropped = 0;
        for polls in 1.. {
            let mut left = polls;
            let mut called = channel.clone();
            let mut call = Box::pin(async move {
                read(called.call(request()).await.unwrap().body_mut()).await;
            });
            let done = poll_fn(|cx| {
                if left == 0 {
                    return Poll::Ready(None);
                }
                left -= 1;
                call.as_mut().poll(cx).map(Some)
            })
            .await;
            drop(call);
            assert_eq!(in_flight(&channel), 0, "after {polls} polls");
            match done {
                None => dropped += 1,
                Some(()) => break,
            }
        }
        assert!(dropped > 0);
    }

    /// What is larger than that comes from an allocator's slow path: glibc's, for one.
    #[tokio::test]
    async fn a_call_is_not_larger_than_a_kilobyte() {
        let etcd = Server::start().await.unwrap();
        let coordinator = etcd.coordinator().await.unwrap();
        let mut channel = coordinator.channel("nobody").await.unwrap();
        let size = size_of_val(&*channel.call(request()).0);
        assert!(size <= 1_024, "{size} bytes");
    }

    #[tokio::test]
    async fn a_programs_own_name_comes_before_ours() {
        let etcd = Server::start().await.unwrap();
        let coordinator = etcd.coordinator().await.unwrap();
        let channel = coordinator.channel("nobody").await.unwrap();
        let mut headers = HeaderMap::new();
        introduce(&mut headers, channel.shared());
        let ours = headers[USER_AGENT].clone();
        assert!(ours.to_str().unwrap().starts_with("coord/"));
        headers.insert(USER_AGENT, HeaderValue::from_static("shop/2"));
        introduce(&mut headers, channel.shared());
        assert_eq!(
            headers[USER_AGENT].to_str().unwrap(),
            format!("shop/2 {}", ours.to_str().unwrap())
        );
    }
}
