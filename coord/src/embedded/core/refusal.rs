//! [`Refusal`]: what etcd says instead of doing it.

use tonic::Code;

/// A refused request: gRPC's code and etcd's own words, which clients compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: &'static str,
}

macro_rules! refusals {
    ($($name:ident = $code:ident, $message:literal;)*) => {
        impl Refusal {$(
            pub(crate) const $name: Self = Self {
                code: Code::$code,
                message: concat!("etcdserver: ", $message),
            };
        )*}
    };
}

refusals! {
    EMPTY_KEY = InvalidArgument, "key is not provided";
    KEY_NOT_FOUND = InvalidArgument, "key not found";
    VALUE_PROVIDED = InvalidArgument, "value is provided";
    LEASE_PROVIDED = InvalidArgument, "lease is provided";
    INVALID_SORT = InvalidArgument, "invalid sort option";
    TOO_MANY_OPERATIONS = InvalidArgument, "too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument, "duplicate key given in txn request";
    TOO_LARGE = InvalidArgument, "request is too large";
    COMPACTED = OutOfRange, "mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange, "mvcc: required revision is a future revision";
    LEASE_NOT_FOUND = NotFound, "requested lease not found";
    LEASE_EXISTS = FailedPrecondition, "lease already exists";
    TTL_TOO_LARGE = OutOfRange, "too large lease TTL";
}
