//! Requests and replies as plain data, so that no type of `etcd-client` leaves this folder and the
//! engines can be driven by a scripted server.

use std::fmt;

/// What every reply of etcd carries. A watch's cancel carries zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// The store's revision when the reply was made, also for reads at an older one.
    pub(crate) revision: i64,
    pub(crate) raft_term: u64,
}

/// One key at one revision. A tombstone has only `key` and `mod_revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    /// 0: no lease.
    pub(crate) lease: i64,
}

/// Which keys: one, or a half-open interval.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Span {
    Key(Vec<u8>),
    /// From the first (included) to the second (excluded).
    Interval(Vec<u8>, Vec<u8>),
}

impl Span {
    pub(crate) fn key(key: &crate::key::Key) -> Self {
        Self::Key(key.as_bytes().to_vec())
    }

    pub(crate) fn prefix(prefix: &crate::key::Prefix) -> Self {
        Self::Interval(prefix.as_bytes().to_vec(), prefix.end())
    }
}

/// How a range is sorted. Without one etcd answers in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    KeyAscending,
    KeyDescending,
    CreateAscending,
    CreateDescending,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) span: Span,
    /// 0: the latest.
    pub(crate) revision: i64,
    /// 0: no limit. etcd applies it after a sort that is not by key, and counts before it.
    pub(crate) limit: i64,
    pub(crate) order: Order,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
    pub(crate) serializable: bool,
    /// 0: no bound. etcd's `count` ignores these filters, its `more` does not.
    pub(crate) min_mod_revision: i64,
    pub(crate) max_create_revision: i64,
}

impl Range {
    pub(crate) fn new(span: Span) -> Self {
        Self {
            span,
            revision: 0,
            limit: 0,
            order: Order::KeyAscending,
            keys_only: false,
            count_only: false,
            serializable: false,
            min_mod_revision: 0,
            max_create_revision: 0,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeReply {
    pub(crate) header: Header,
    pub(crate) kvs: Vec<KeyValue>,
    pub(crate) more: bool,
    pub(crate) count: i64,
}

/// What a compare looks at: all that etcd compares; the parts use what they need of it.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the vocabulary is tested whole")
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Lease(i64),
    Value(Vec<u8>),
}

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the vocabulary is tested whole")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// One condition. Over an interval it must hold for every key in it; over no key at all, numbers are
/// compared with 0 and a value compare is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compare {
    pub(crate) span: Span,
    pub(crate) op: CompareOp,
    pub(crate) target: Target,
}

impl Compare {
    pub(crate) fn create_revision(span: Span, op: CompareOp, revision: i64) -> Self {
        Self {
            span,
            op,
            target: Target::CreateRevision(revision),
        }
    }

    pub(crate) fn mod_revision(span: Span, op: CompareOp, revision: i64) -> Self {
        Self {
            span,
            op,
            target: Target::ModRevision(revision),
        }
    }

    pub(crate) fn lease(span: Span, op: CompareOp, lease: i64) -> Self {
        Self {
            span,
            op,
            target: Target::Lease(lease),
        }
    }
}

/// One operation of a transaction. They run in order and see each other's writes; a key may be
/// written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get(Range),
    /// A lease of 0 detaches the key from any lease.
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    /// `prev`: return what was deleted.
    Delete {
        span: Span,
        prev: bool,
    },
    Txn(Txn),
}

/// If all of `when` hold `then`, else `otherwise`. At most 128 operations in each branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Txn {
    pub(crate) when: Vec<Compare>,
    pub(crate) then: Vec<Op>,
    pub(crate) otherwise: Vec<Op>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TxnReply {
    /// All zeros in a nested transaction's reply: use the outer one.
    pub(crate) header: Header,
    pub(crate) succeeded: bool,
    pub(crate) replies: Vec<OpReply>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpReply {
    Get(RangeReply),
    Put,
    Delete(DeleteReply),
    Txn(TxnReply),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteReply {
    pub(crate) deleted: i64,
    pub(crate) prev: Vec<KeyValue>,
}

/// A server's version, as `Status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// `3.5.16`, also with a suffix: `3.6.0-rc.1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = text.split(['-', '+']).next()?;
        let mut parts = plain.split('.').map(|part| part.parse().ok());
        Some(Self::new(parts.next()??, parts.next()??, parts.next()??))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
