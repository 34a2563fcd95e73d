//! What a failure means: whether the server has looked at the call, what the caller is told, and what
//! it says of the endpoint.

use std::{error::Error, fmt::Write, sync::Arc, time::Duration};

use h2::Reason;
use http::{HeaderMap, HeaderName, StatusCode};
use tonic::{Code, Status};

use super::endpoint::{Endpoint, Outcome};

/// By the protocol, the server has not processed the request: it reset the stream with REFUSED_STREAM,
/// or went away and named a last stream before this one. Of a stream that it has named, a GOAWAY is no
/// error: it goes on, and breaks with the connection or not at all.
pub(super) fn refused(error: &(dyn Error + 'static)) -> bool {
    http2(error).is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
    })
}

/// The server has seen the call, and ended it: some of it may have been processed, if it was not
/// [refused].
pub(super) fn reset(error: &(dyn Error + 'static)) -> bool {
    http2(error).is_some_and(|error| error.is_remote() && error.is_reset())
}

/// What a call that broke says of its endpoint.
pub(super) fn blame(error: &(dyn Error + 'static)) -> Outcome {
    match http2(error).filter(|error| error.is_reset()) {
        // The server ended this one call, or what it sent is against the protocol.
        Some(error) if error.is_remote() || error.is_library() => Outcome::Failed,
        // We did, since the caller's request could not be read to its end.
        Some(_) => Outcome::Unknown,
        None => Outcome::Broken,
    }
}

fn http2<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e h2::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// When a call broke.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// Before its answer began.
    Sent,
    /// In the middle of its answer.
    Answering,
}

/// For a call that broke on its way, and that may have been processed.
///
/// The code is UNAVAILABLE where the connection broke; a stream that the server has reset says why, and
/// gets what gRPC over HTTP/2 lays down for the reason.
pub(super) fn broken(
    service: &str,
    endpoint: &Endpoint,
    when: When,
    error: impl Error + Send + Sync + 'static,
) -> Status {
    let reset = http2(&error)
        .filter(|error| error.is_reset())
        .and_then(h2::Error::reason);
    let code = match reset {
        Some(
            Reason::NO_ERROR
            | Reason::PROTOCOL_ERROR
            | Reason::INTERNAL_ERROR
            | Reason::FLOW_CONTROL_ERROR
            | Reason::SETTINGS_TIMEOUT
            | Reason::FRAME_SIZE_ERROR
            | Reason::COMPRESSION_ERROR
            | Reason::CONNECT_ERROR,
        ) => Code::Internal,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(Reason::REFUSED_STREAM) | None => Code::Unavailable,
        Some(_) => Code::Unknown,
    };
    let mut text = format!("{service} at {}: ", endpoint.authority);
    let _ = match when {
        When::Sent => write!(text, "the call broke, and may have been processed"),
        When::Answering => write!(
            text,
            "the answer broke off, and the call may have been processed"
        ),
    };
    say(&mut text, &error);
    with_cause(Status::new(code, text), error)
}

/// For a call that no server has processed.
pub(super) fn unprocessed(
    service: &str,
    endpoint: &Endpoint,
    error: impl Error + Send + Sync + 'static,
) -> Status {
    let mut text = format!(
        "{service} at {}: the call was not processed",
        endpoint.authority
    );
    say(&mut text, &error);
    with_cause(Status::unavailable(text), error)
}

/// For a call whose caller had no time left: it passes on what remains of its own.
pub(super) fn over(service: &str) -> Status {
    Status::deadline_exceeded(format!(
        "{service}: the deadline had passed before the call was sent"
    ))
}

/// For a call whose time ran out on an endpoint.
pub(super) fn late(service: &str, endpoint: &Endpoint, when: When, limit: Duration) -> Status {
    let limit = humantime::format_duration(limit);
    let what = match when {
        When::Sent => "no answer",
        When::Answering => "no end of the answer",
    };
    let place = &endpoint.authority;
    Status::deadline_exceeded(format!(
        "{service} at {place}: {what} within {limit}; the call may have been processed"
    ))
}

/// Appends what `error` and its causes say.
fn say(text: &mut String, error: &(dyn Error + 'static)) {
    for cause in causes(error) {
        let _ = write!(text, ": {cause}");
    }
}

fn with_cause(mut status: Status, error: impl Error + Send + Sync + 'static) -> Status {
    status.set_source(Arc::new(error));
    status
}

/// What an answer says of its endpoint, by the status in these headers or trailers; `None`: there is
/// none in them.
///
/// Only codes that speak of the server count against it: UNAVAILABLE, and DEADLINE_EXCEEDED if it goes on
/// for a while, since who hangs must not look as good as who answers. INTERNAL, UNKNOWN and the others are mostly answers to
/// this one request, which every instance would give: who counts them (as outlier detection by success
/// rate does, with a whole population to compare with) takes out good servers one after the other when
/// one client sends what nobody can answer.
pub(super) fn told(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(&GRPC_STATUS)?;
    Some(match Code::from_bytes(status.as_bytes()) {
        Code::Unavailable => Outcome::Failed,
        Code::DeadlineExceeded => Outcome::Late,
        Code::ResourceExhausted => Outcome::Overloaded,
        _ => Outcome::Answered,
    })
}

/// Parsed once.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The same of an answer that is not gRPC's: a proxy's.
pub(super) fn told_by_http(status: StatusCode) -> Option<Outcome> {
    match status {
        StatusCode::OK => None,
        StatusCode::TOO_MANY_REQUESTS => Some(Outcome::Overloaded),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Some(Outcome::Failed)
        }
        _ => Some(Outcome::Answered),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_speaks_of_the_server_counts_against_it() {
        for (status, outcome) in [
            ("0", Outcome::Answered),
            ("1", Outcome::Answered),
            ("2", Outcome::Answered),
            ("4", Outcome::Late),
            ("5", Outcome::Answered),
            ("8", Outcome::Overloaded),
            ("13", Outcome::Answered),
            ("14", Outcome::Failed),
            ("no number", Outcome::Answered),
        ] {
            let mut headers = HeaderMap::new();
            assert_eq!(told(&headers), None);
            headers.insert(&GRPC_STATUS, HeaderValue::from_static(status));
            assert_eq!(told(&headers), Some(outcome), "{status}");
        }
        for (status, outcome) in [
            (StatusCode::OK, None),
            (StatusCode::UNAUTHORIZED, Some(Outcome::Answered)),
            (StatusCode::TOO_MANY_REQUESTS, Some(Outcome::Overloaded)),
            (StatusCode::SERVICE_UNAVAILABLE, Some(Outcome::Failed)),
        ] {
            assert_eq!(told_by_http(status), outcome);
        }
    }
}
