//! What a status means: one table of etcd's words and of what stands between.

use tonic::Code;

use super::{Certainty, Reason};

/// Certainty, reason, and whether the member or the connection to it is at fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Class(pub(super) Certainty, pub(super) Reason, pub(super) bool);

/// Text before code: three conditions share `OUT_OF_RANGE`, and services that etcd builds on its own
/// client lose the code. Only what starts with etcd's own words is an answer of etcd: a broken
/// connection or a proxy can produce every code, and their word is no proof that nothing was done.
pub(super) fn classify(code: Code, message: &str) -> Class {
    use Certainty::{Refused, Unknown};
    let text = match message.rsplit_once("desc = ") {
        Some((_, text)) => text,
        None => message,
    };
    if let Some(words) = text.strip_prefix("etcdserver: ") {
        return classify_words(code, words);
    }
    match code {
        Code::OutOfRange if text.contains("message length too large") => {
            // This client's own decode limit: the request was carried out.
            Class(Unknown, Reason::TooLarge, false)
        }
        Code::ResourceExhausted if text.starts_with("grpc: received message larger than max") => {
            Class(Refused, Reason::Invalid, false)
        }
        Code::Unimplemented => Class(Refused, Reason::Other, false),
        Code::PermissionDenied | Code::Unauthenticated => Class(Unknown, Reason::Denied, false),
        Code::Unknown
        | Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::ResourceExhausted => Class(Unknown, Reason::Unavailable, true),
        _ => Class(Unknown, Reason::Other, false),
    }
}

fn classify_words(code: Code, words: &str) -> Class {
    use Certainty::{Refused, Unknown};
    match words {
        "mvcc: required revision has been compacted" => Class(Refused, Reason::Compacted, false),
        "mvcc: required revision is a future revision" => {
            Class(Refused, Reason::FutureRevision, false)
        }
        "mvcc: database space exceeded" => Class(Refused, Reason::NoSpace, false),
        "requested lease not found" => Class(Refused, Reason::LeaseNotFound, false),
        "lease already exists" => Class(Refused, Reason::LeaseExists, false),
        // Every member refuses while the cluster is this far behind: going to another is no use.
        "too many requests" => Class(Refused, Reason::Unavailable, false),
        // Said before anything is proposed.
        "no leader" | "rpc not supported for learner" => Class(Refused, Reason::Unavailable, true),
        "invalid auth token" | "revision of auth store is old" => {
            Class(Refused, Reason::BadToken, false)
        }
        "permission denied"
        | "authentication failed, invalid user ID or password"
        | "authentication is not enabled"
        | "invalid auth management"
        | "user name is empty"
        | "user name not found"
        | "role name not found" => Class(Refused, Reason::Denied, false),
        // The member is well, and may have proposed it already.
        "leader changed" => Class(Unknown, Reason::Unavailable, false),
        _ => match code {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists => Class(Refused, Reason::Invalid, false),
            Code::PermissionDenied | Code::Unauthenticated => Class(Refused, Reason::Denied, false),
            Code::ResourceExhausted => Class(Refused, Reason::Unavailable, false),
            // "request timed out" with its reasons, "server stopped".
            Code::Unavailable | Code::DeadlineExceeded => Class(Unknown, Reason::Unavailable, true),
            _ => Class(Unknown, Reason::Other, false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Certainty::{Refused, Unknown as Maybe},
        *,
    };

    const STAY: bool = false;
    const LEAVE: bool = true;

    #[rustfmt::skip]
    const TABLE: &[(Code, &str, Certainty, Reason, bool)] = &[
        // What etcd says definitely.
        (Code::NotFound, "etcdserver: requested lease not found", Refused, Reason::LeaseNotFound, STAY),
        (Code::Unknown, "etcdserver: requested lease not found", Refused, Reason::LeaseNotFound, STAY),
        (Code::FailedPrecondition, "etcdserver: lease already exists", Refused, Reason::LeaseExists, STAY),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", Refused, Reason::Compacted, STAY),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision", Refused, Reason::FutureRevision, STAY),
        (Code::OutOfRange, "etcdserver: too large lease TTL", Refused, Reason::Invalid, STAY),
        (Code::InvalidArgument, "etcdserver: duplicate key given in txn request", Refused, Reason::Invalid, STAY),
        (Code::InvalidArgument, "etcdserver: too many operations in txn request", Refused, Reason::Invalid, STAY),
        (Code::InvalidArgument, "etcdserver: key is not provided", Refused, Reason::Invalid, STAY),
        (Code::InvalidArgument, "etcdserver: request is too large", Refused, Reason::Invalid, STAY),
        (Code::ResourceExhausted, "grpc: received message larger than max (2097160 vs. 2097152)", Refused, Reason::Invalid, STAY),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Refused, Reason::NoSpace, STAY),
        (Code::ResourceExhausted, "etcdserver: too many requests", Refused, Reason::Unavailable, STAY),
        (Code::Unknown, "etcdserver: too many requests", Refused, Reason::Unavailable, STAY),
        (Code::Unauthenticated, "etcdserver: invalid auth token", Refused, Reason::BadToken, STAY),
        (Code::Unknown, "etcdserver: invalid auth token", Refused, Reason::BadToken, STAY),
        (Code::InvalidArgument, "etcdserver: revision of auth store is old", Refused, Reason::BadToken, STAY),
        (Code::PermissionDenied, "etcdserver: permission denied", Refused, Reason::Denied, STAY),
        (Code::Unknown, "rpc error: code = PermissionDenied desc = etcdserver: permission denied", Refused, Reason::Denied, STAY),
        (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password", Refused, Reason::Denied, STAY),
        (Code::InvalidArgument, "etcdserver: user name is empty", Refused, Reason::Denied, STAY),
        (Code::FailedPrecondition, "etcdserver: authentication is not enabled", Refused, Reason::Denied, STAY),
        (Code::Unavailable, "etcdserver: no leader", Refused, Reason::Unavailable, LEAVE),
        (Code::FailedPrecondition, "etcdserver: rpc not supported for learner", Refused, Reason::Unavailable, LEAVE),
        (Code::Unimplemented, "unknown service etcdserverpb.KV", Refused, Reason::Other, STAY),
        // What may have been done.
        (Code::Unavailable, "etcdserver: request timed out", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unavailable, "etcdserver: leader changed", Maybe, Reason::Unavailable, STAY),
        (Code::Unavailable, "etcdserver: server stopped", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unknown, "context deadline exceeded", Maybe, Reason::Unavailable, LEAVE),
        (Code::DeadlineExceeded, "context deadline exceeded", Maybe, Reason::Unavailable, LEAVE),
        (Code::OutOfRange, "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes", Maybe, Reason::TooLarge, STAY),
        // The transport and what stands between: no code and no text of theirs proves anything.
        (Code::Unknown, "transport error", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unknown, "h2 protocol error: error reading a body from connection", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unavailable, "http2 error", Maybe, Reason::Unavailable, LEAVE),
        (Code::Unavailable, "tcp connect error", Maybe, Reason::Unavailable, LEAVE),
        (Code::Cancelled, "operation was canceled", Maybe, Reason::Unavailable, LEAVE),
        (Code::Cancelled, "Timeout expired", Maybe, Reason::Unavailable, LEAVE),
        (Code::ResourceExhausted, "h2 protocol error: too much", Maybe, Reason::Unavailable, LEAVE),
        (Code::Internal, "h2 protocol error: stream reset", Maybe, Reason::Unavailable, LEAVE),
        (Code::PermissionDenied, "grpc-status header missing, mapped from HTTP status code 403", Maybe, Reason::Denied, STAY),
        (Code::DataLoss, "etcdserver: corrupt cluster", Maybe, Reason::Other, STAY),
        (Code::Aborted, "whatever", Maybe, Reason::Other, STAY),
    ];

    #[test]
    fn every_failure_has_its_class() {
        for &(code, message, certainty, reason, endpoint_failed) in TABLE {
            assert_eq!(
                classify(code, message),
                Class(certainty, reason, endpoint_failed),
                "{code:?} {message}"
            );
        }
    }
}
