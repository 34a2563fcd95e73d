//! [`CallError`]: what a failed call means: not sent, refused, or unknown.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};

use super::classify::{Class, classify};
use crate::error::{Context, Error};

/// What is certain about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It never left this process: no endpoint took the connection.
    NotSent,
    /// etcd answered that it did not and will not do it.
    Refused,
    /// It may have been applied, or may be applied later. Measured: 22 % of the writes that failed
    /// with "transport error" were there, 30 % of those that timed out on a stopped server came later.
    Unknown,
}

/// Why etcd or the transport refused, as far as a caller acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No endpoint answers, the connection broke, no leader, the server is overloaded.
    Unavailable,
    /// The deadline passed.
    Timeout,
    LeaseNotFound,
    LeaseExists,
    /// A read or watch at a revision that was compacted away.
    Compacted,
    FutureRevision,
    /// The reply is larger than this client decodes (4 MiB by tonic's default; ours is raised).
    TooLarge,
    /// The token is wrong or expired: refresh it and send again.
    BadToken,
    Denied,
    /// The request can never work: invalid argument, too many operations, duplicate key.
    Invalid,
    /// The store is full.
    NoSpace,
    /// The coordinator was closed.
    Closed,
    Other,
}

/// A failed call.
#[derive(Clone, Debug)]
pub(crate) struct CallError {
    pub(crate) certainty: Certainty,
    pub(crate) reason: Reason,
    /// In words, without the cause's.
    pub(crate) message: String,
    /// The limit that passed, for [`Reason::Timeout`].
    limit: Duration,
    /// The member or the connection to it is at fault: the next call should go to another one.
    endpoint_failed: bool,
    cause: Option<Below>,
}

impl CallError {
    pub(crate) fn new(certainty: Certainty, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            certainty,
            reason,
            message: message.into(),
            limit: Duration::ZERO,
            endpoint_failed: false,
            cause: None,
        }
    }

    /// What a watch was cancelled for, from the text that etcd gives with it.
    pub(crate) fn canceled_watch(reason: &str) -> Self {
        // Over this path the text is all there is; its code stands inside it, if anywhere.
        Self::from_words(Code::Unknown, reason)
    }

    pub(super) fn timeout(certainty: Certainty, limit: Duration, endpoint: Option<&str>) -> Self {
        let limit_text = humantime::format_duration(limit);
        let message = match endpoint {
            Some(endpoint) => format!("no answer from {endpoint} within {limit_text}"),
            None => format!("no endpoint was connected within {limit_text}"),
        };
        Self {
            limit,
            endpoint_failed: certainty == Certainty::Unknown,
            ..Self::new(certainty, Reason::Timeout, message)
        }
    }

    /// The stream was closed under the call.
    pub(super) fn stream_ended() -> Self {
        Self::new(
            Certainty::NotSent,
            Reason::Unavailable,
            "the stream has ended",
        )
    }

    /// An answer without a part that every answer has.
    pub(crate) fn malformed() -> Self {
        Self::new(
            Certainty::Unknown,
            Reason::Other,
            "the answer is incomplete: this is no etcd",
        )
    }

    pub(super) fn endpoint_failed(&self) -> bool {
        self.endpoint_failed
    }

    fn from_words(code: Code, message: &str) -> Self {
        let Class(certainty, reason, endpoint_failed) = classify(code, message);
        Self {
            endpoint_failed,
            ..Self::new(certainty, reason, message)
        }
    }

    /// The public error for a call made for `context`.
    pub(crate) fn into_error(self, context: Context) -> Error {
        let maybe_applied = self.certainty == Certainty::Unknown;
        let detail = self.message;
        let context = match self.cause {
            Some(cause) => context.cause(cause),
            None => context,
        };
        match self.reason {
            Reason::Unavailable | Reason::LeaseExists | Reason::Other => Error::Unavailable {
                context,
                maybe_applied,
                detail,
            },
            Reason::Timeout => Error::Timeout {
                context,
                limit: self.limit,
                maybe_applied,
                holder: None,
                position: None,
            },
            // This variant has no words of its own for what etcd said.
            Reason::LeaseNotFound | Reason::Compacted => Error::NotFound {
                context: context.cause(Words(detail)),
            },
            Reason::FutureRevision | Reason::TooLarge | Reason::Invalid => Error::Invalid {
                context,
                faults: vec![detail],
            },
            Reason::BadToken | Reason::Denied => Error::Denied { context, detail },
            Reason::NoSpace => Error::Exhausted { context, detail },
            Reason::Closed => Error::Closed { context },
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_ref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl From<etcd_client::Error> for CallError {
    fn from(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => status.into(),
            // The crate's own words for a stream or a channel that ended.
            other => Self {
                endpoint_failed: true,
                ..Self::new(Certainty::Unknown, Reason::Unavailable, other.to_string())
            },
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if let Some(not_sent) = NotSent::find(&status) {
            return not_sent.clone().into();
        }
        let cause = Below::of(&status);
        let mut error = Self::from_words(status.code(), status.message());
        if let Some(depth) = cause {
            error.cause = Some(Below {
                status: Arc::new(status),
                depth,
            });
        }
        error
    }
}

/// An endpoint and why it could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) endpoint: Arc<str>,
    pub(super) error: String,
}

/// The proof that a request did not leave: our channel returns it instead of sending.
///
/// It travels inside a [`Status`], as its source, since nothing else passes through the stubs.
#[derive(Clone, Debug)]
pub(super) enum NotSent {
    /// No endpoint answers; each with its last error.
    Down(Arc<[Failure]>),
    /// The connection was lost before the request was handed to it: the next one may carry it.
    Lost,
    /// The connection's owner was closed.
    Closed,
}

impl NotSent {
    pub(super) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        error
            .downcast_ref()
            .or_else(|| below(error).find_map(|error| error.downcast_ref()))
    }

    pub(super) fn into_status(self) -> Status {
        let mut status = Status::unavailable(self.to_string());
        status.set_source(Arc::new(self));
        status
    }
}

impl From<NotSent> for CallError {
    fn from(not_sent: NotSent) -> Self {
        let reason = match not_sent {
            NotSent::Down(_) | NotSent::Lost => Reason::Unavailable,
            NotSent::Closed => Reason::Closed,
        };
        Self::new(Certainty::NotSent, reason, not_sent.to_string())
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(failures) => {
                f.write_str("no etcd endpoint can be used")?;
                for (i, Failure { endpoint, error }) in failures.iter().enumerate() {
                    let separator = if i == 0 { ": " } else { "; " };
                    write!(f, "{separator}{endpoint}: {error}")?;
                }
                Ok(())
            }
            Self::Lost => f.write_str("the connection was lost before the request was sent"),
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl StdError for NotSent {}

/// etcd's own words, as a cause.
#[derive(Debug)]
struct Words(String);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Words {}

/// What lay below a status. The levels that only repeat its message are left out, so that a report
/// which walks the chain prints nothing twice.
#[derive(Clone, Debug)]
struct Below {
    status: Arc<Status>,
    depth: usize,
}

impl Below {
    /// How far down the first level with words of its own is.
    fn of(status: &Status) -> Option<usize> {
        below(status).position(|error| error.to_string() != status.message())
    }

    fn error(&self) -> &(dyn StdError + 'static) {
        // `of` has found this level.
        below(&*self.status)
            .nth(self.depth)
            .unwrap_or(&*self.status)
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl StdError for Below {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error().source()
    }
}

/// The chain of causes.
fn below<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut level = error.source();
    std::iter::from_fn(move || {
        let error = level?;
        level = error.source();
        Some(error)
    })
}

/// An error and everything below it in one line, each text once.
pub(crate) fn in_one_line(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    for error in below(error) {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{
        Certainty::{NotSent as Unsent, Refused, Unknown as Maybe},
        *,
    };

    #[test]
    fn the_proof_that_nothing_was_sent_survives_the_stubs() {
        let failures = [("http://a:1", "refused"), ("http://b:2", "silent")];
        let down = NotSent::Down(
            failures
                .map(|(endpoint, error)| Failure {
                    endpoint: endpoint.into(),
                    error: error.into(),
                })
                .into(),
        );
        // As the stubs do with what a channel returns.
        let status = Status::from_error(Box::new(down.into_status()));
        let error = CallError::from(etcd_client::Error::GRpcStatus(status));
        assert_eq!(
            (error.certainty, error.reason),
            (Unsent, Reason::Unavailable)
        );
        assert_eq!(
            error.message,
            "no etcd endpoint can be used: http://a:1: refused; http://b:2: silent"
        );
        let closed = CallError::from(NotSent::Closed);
        assert_eq!((closed.certainty, closed.reason), (Unsent, Reason::Closed));
    }

    #[test]
    fn public_errors_say_what_to_do() {
        let limit = Duration::from_secs(5);
        for (error, code, retryable, maybe_applied) in [
            (
                CallError::timeout(Maybe, limit, Some("http://a:1")),
                "timeout",
                true,
                true,
            ),
            (
                CallError::timeout(Unsent, limit, None),
                "timeout",
                true,
                false,
            ),
            (
                CallError::new(Maybe, Reason::Unavailable, ""),
                "unavailable",
                true,
                true,
            ),
            (
                CallError::new(Refused, Reason::Unavailable, ""),
                "unavailable",
                true,
                false,
            ),
            (
                CallError::new(Unsent, Reason::Unavailable, ""),
                "unavailable",
                true,
                false,
            ),
            (
                CallError::new(Refused, Reason::LeaseNotFound, ""),
                "not_found",
                false,
                false,
            ),
            (
                CallError::new(Refused, Reason::Compacted, ""),
                "not_found",
                false,
                false,
            ),
            (
                CallError::new(Refused, Reason::Invalid, ""),
                "invalid",
                false,
                false,
            ),
            (
                CallError::new(Refused, Reason::Denied, ""),
                "denied",
                false,
                false,
            ),
            (
                CallError::new(Refused, Reason::BadToken, ""),
                "denied",
                false,
                false,
            ),
            (
                CallError::new(Refused, Reason::NoSpace, ""),
                "exhausted",
                true,
                false,
            ),
            (
                CallError::new(Unsent, Reason::Closed, ""),
                "closed",
                false,
                false,
            ),
        ] {
            let reason = error.reason;
            let error = error.into_error(Context::new("test"));
            assert_eq!(
                (error.code(), error.is_retryable(), error.maybe_applied()),
                (code, retryable, maybe_applied),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn a_report_that_walks_the_chain_prints_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Outer(#[source] std::io::Error);
        let reset = std::io::Error::other("connection reset");
        let error = CallError::from(Status::from_error(Box::new(Outer(reset))));
        let error = error.into_error(Context::new("read").key("k"));
        assert_eq!(
            in_one_line(&error),
            "cannot read `k`: transport error (it may have taken effect): connection reset"
        );
    }
}
