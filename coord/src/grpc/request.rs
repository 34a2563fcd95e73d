//! A request that can be sent again: [`RequestBody`], [`Kept`].

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, uri::PathAndQuery};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body, codegen::Bytes};

use super::endpoint::Endpoint;

/// Up to this size a body is kept until its answer begins: the message that a gRPC server takes by
/// default, and what stands before it. It is not copied for that.
const KEPT: usize = 4 * 1024 * 1024 + 5;

/// A request's body.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// Was there at once, and can be sent again: that of each unary call that is not large, and of a
    /// stream whose few messages are all there.
    Whole {
        whole: Arc<Whole>,
        /// Still to be taken from this copy.
        left: bool,
    },
    /// Comes bit by bit, and only once.
    Stream {
        /// What came when it was looked at, the newest first.
        ready: Vec<Frame<Bytes>>,
        rest: Body,
    },
}

/// A body of one buffer. It is not empty: of an empty one, the headers alone are the whole request,
/// so that [`begun`](Self::begun) would say nothing of it.
#[derive(Debug)]
pub(super) struct Whole {
    data: Bytes,
    begun: AtomicBool,
}

impl RequestBody {
    /// Not looked at yet.
    pub(super) fn new(body: Body) -> Self {
        Self::Stream {
            ready: Vec::new(),
            rest: body,
        }
    }

    /// Looks at what of the body is there.
    ///
    /// # Errors
    /// The body's own: its message could not be encoded, or is too large to be sent.
    ///
    /// # Cancel safety
    /// Does not wait.
    pub(super) async fn look(&mut self) -> Result<(), Status> {
        let Self::Stream { ready, rest } = self else {
            return Ok(());
        };
        let first = match next(rest).await {
            Poll::Pending => return Ok(()),
            Poll::Ready(None) => {
                *rest = Body::empty();
                return Ok(());
            }
            Poll::Ready(Some(frame)) => frame?,
        };
        match next(rest).await {
            Poll::Pending => ready.push(first),
            Poll::Ready(Some(second)) => ready.extend([second?, first]),
            Poll::Ready(None) => {
                *rest = Body::empty();
                match first.into_data() {
                    Ok(data) if (1..=KEPT).contains(&data.len()) => {
                        let begun = AtomicBool::new(false);
                        let whole = Arc::new(Whole { data, begun });
                        *self = Self::Whole { whole, left: true };
                    }
                    Ok(data) => ready.push(Frame::data(data)),
                    Err(other) => ready.push(other),
                }
            }
        }
        Ok(())
    }
}

/// What comes next, if it is there.
async fn next(body: &mut Body) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Whole { whole, left } => Poll::Ready(std::mem::take(left).then(|| {
                whole.begun.store(true, Relaxed);
                Ok(Frame::data(whole.data.clone()))
            })),
            Self::Stream { ready, rest } => match ready.pop() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { left, .. } => !left,
            Self::Stream { ready, rest } => ready.is_empty() && rest.is_end_stream(),
        }
    }
}

/// What is kept of a request that was given to a connection: as little as makes another, since most are
/// dropped unused. Where it goes is [told](address) anew.
#[derive(Debug)]
pub(super) struct Kept {
    method: Method,
    path: Option<PathAndQuery>,
    version: Version,
    /// A copy of the map would be two.
    headers: Vec<(HeaderName, HeaderValue)>,
    whole: Arc<Whole>,
}

impl Kept {
    /// `None`: its body comes only once.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let RequestBody::Whole { whole, .. } = request.body() else {
            return None;
        };
        whole.begun.store(false, Relaxed);
        let headers = request.headers().iter();
        Some(Self {
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            version: request.version(),
            headers: headers
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            whole: whole.clone(),
        })
    }

    /// The connection has taken some of the body since this was kept. If not, no message can have
    /// reached the server: at most the headers of a stream that was reset after them.
    pub(super) fn begun(&self) -> bool {
        self.whole.begun.load(Relaxed)
    }

    /// The request, anew; not addressed.
    pub(super) fn again(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Whole {
            whole: self.whole,
            left: true,
        });
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.map_or_else(Uri::default, Uri::from);
        *request.version_mut() = self.version;
        for (name, value) in self.headers {
            // One name may have several values.
            request.headers_mut().append(name, value);
        }
        request
    }
}

/// Addresses `request` to `endpoint`.
pub(super) fn address(request: &mut Request<RequestBody>, endpoint: &Endpoint) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(endpoint.scheme.clone());
    parts.authority = Some(endpoint.authority.clone());
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    // With a scheme, an authority and a path, there is nothing that it could miss.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames one by one; `None`: not yet there.
    struct Frames(Vec<Option<Result<Frame<Bytes>, Status>>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            cx.waker().wake_by_ref();
            match self.0.remove(0) {
                None => Poll::Pending,
                frame => Poll::Ready(frame),
            }
        }
    }

    fn data(bytes: &'static [u8]) -> Option<Result<Frame<Bytes>, Status>> {
        Some(Ok(Frame::data(Bytes::from_static(bytes))))
    }

    async fn made_of(frames: Vec<Option<Result<Frame<Bytes>, Status>>>) -> RequestBody {
        let mut body = RequestBody::new(Body::new(Frames(frames)));
        body.look().await.unwrap();
        body
    }

    async fn read(mut body: RequestBody) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        frames
    }

    #[tokio::test]
    async fn what_is_there_at_once_is_kept_and_sent_as_often_as_it_must() {
        let body = made_of(vec![data(b"one message")]).await;
        let request = Request::post("/a.B/C").header("te", "trailers");
        let request = request.header("tag", "one").header("tag", "two");
        let request = request.version(Version::HTTP_2).body(body).unwrap();
        let kept = Kept::of(&request).unwrap();
        assert!(!kept.begun());
        assert_eq!(read(request.into_body()).await, ["one message"]);
        assert!(kept.begun());

        let again = kept.again();
        assert_eq!(again.uri(), "/a.B/C");
        assert_eq!(again.method(), Method::POST);
        assert_eq!(again.version(), Version::HTTP_2);
        assert_eq!(again.headers()["te"], "trailers");
        assert!(again.headers().get_all("tag").iter().eq(["one", "two"]));
        let kept = Kept::of(&again).unwrap();
        assert!(!kept.begun(), "counts from when it was kept");
        assert_eq!(read(again.into_body()).await, ["one message"]);
        assert!(kept.begun());
    }

    #[tokio::test]
    async fn what_comes_later_is_passed_on_in_order_and_not_kept() {
        let bodies = [
            vec![],
            vec![None],
            vec![None, data(b"a")],
            vec![data(b"a"), None],
            vec![data(b"a"), None, data(b"b")],
            vec![data(b"a"), data(b"b")],
            vec![data(b"a"), data(b"b"), data(b"c"), None, data(b"d")],
            vec![data(b"")],
        ];
        for frames in bodies {
            let expected: Vec<Bytes> = frames
                .iter()
                .filter_map(|frame| frame.as_ref()?.as_ref().ok()?.data_ref().cloned())
                .collect();
            let body = made_of(frames).await;
            let request = Request::new(body);
            assert!(Kept::of(&request).is_none());
            assert_eq!(read(request.into_body()).await, expected);
        }
    }

    #[tokio::test]
    async fn a_large_body_is_not_kept() {
        for (size, kept) in [(KEPT, true), (KEPT + 1, false)] {
            let frame = Frame::data(Bytes::from(vec![7; size]));
            let request = Request::new(made_of(vec![Some(Ok(frame))]).await);
            assert_eq!(Kept::of(&request).is_some(), kept);
            let read = read(request.into_body()).await;
            assert_eq!(read.iter().map(Bytes::len).sum::<usize>(), size);
        }
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_encoded_is_told_before_anything_is_sent() {
        let failing = Frames(vec![Some(Err(Status::out_of_range("too large")))]);
        let mut body = RequestBody::new(Body::new(failing));
        let error = body.look().await.unwrap_err();
        assert_eq!(error.message(), "too large");
    }

    #[tokio::test]
    async fn a_stream_is_not_read_before_it_is_sent() {
        let body = made_of(vec![data(b"1"), data(b"2"), data(b"3"), data(b"4")]).await;
        assert!(matches!(body, RequestBody::Stream { ready, .. } if ready.len() == 2));
    }
}
