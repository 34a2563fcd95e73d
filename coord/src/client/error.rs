//! [`CallError`]: what a failed call means: not sent, refused, or unknown.

use std::fmt;

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
    Other,
}

/// A failed call.
#[derive(Clone, Debug)]
pub(crate) struct CallError {
    pub(crate) certainty: Certainty,
    pub(crate) reason: Reason,
    /// In words, without the cause's.
    pub(crate) message: String,
}

impl CallError {
    /// The public error for a call made for `context`.
    pub(crate) fn into_error(self, _context: Context) -> Error {
        todo!()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CallError {}
