//! The operations of a sequence: data, so that they can be printed, dropped and sent again.

use crate::rpc::{
    Answer, Api, CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, compare, request_op,
};

/// One operation. Revisions in it may be [places](super::place).
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// One call.
    Call(Request),
    /// A watch is opened on one of the streams.
    Watch(usize, WatchCreateRequest),
    /// A watch of one of the streams is cancelled, whether there is one or not.
    Cancel(usize, i64),
    /// Everything that was written is waited for on every watch, and compared.
    Settle,
    /// A short lease is granted, used, and runs out.
    Expire(i64, Vec<Request>),
}

macro_rules! requests {
    ($($name:ident($request:ident) -> $response:ident;)+) => {
        /// A call with one answer.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Request {
            $($name($request),)+
        }

        /// What it is answered.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Reply {
            $($name($response),)+
        }

        impl Request {
            /// What is called.
            pub(super) fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$name(request)
                }
            }

            impl From<$response> for Reply {
                fn from(response: $response) -> Self {
                    Self::$name(response)
                }
            }
        )+
    };
}

requests! {
    Range(RangeRequest) -> RangeResponse;
    Put(PutRequest) -> PutResponse;
    DeleteRange(DeleteRangeRequest) -> DeleteRangeResponse;
    Txn(TxnRequest) -> TxnResponse;
    Compact(CompactionRequest) -> CompactionResponse;
    Grant(LeaseGrantRequest) -> LeaseGrantResponse;
    Revoke(LeaseRevokeRequest) -> LeaseRevokeResponse;
    KeepAlive(LeaseKeepAliveRequest) -> LeaseKeepAliveResponse;
    TimeToLive(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
    Leases(LeaseLeasesRequest) -> LeaseLeasesResponse;
}

impl Request {
    /// Sends it.
    pub(super) async fn send(self, api: &Api) -> Answer<Reply> {
        Ok(match self {
            Self::Range(request) => api.range(request).await?.into(),
            Self::Put(request) => api.put(request).await?.into(),
            Self::DeleteRange(request) => api.delete_range(request).await?.into(),
            Self::Txn(request) => api.txn(request).await?.into(),
            Self::Compact(request) => api.compact(request).await?.into(),
            Self::Grant(request) => api.grant(request).await?.into(),
            Self::Revoke(request) => api.revoke(request).await?.into(),
            Self::KeepAlive(request) => api.keep_alive(request.id).await?.into(),
            Self::TimeToLive(request) => api.time_to_live(request).await?.into(),
            Self::Leases(request) => api.leases(request).await?.into(),
        })
    }

    /// Every revision in it.
    pub(super) fn revisions(&mut self, visit: &mut impl FnMut(&mut i64)) {
        match self {
            Self::Range(range) => of_range(range, visit),
            Self::Txn(txn) => of_txn(txn, visit),
            Self::Compact(compaction) => visit(&mut compaction.revision),
            _ => {}
        }
    }
}

fn of_range(range: &mut RangeRequest, visit: &mut impl FnMut(&mut i64)) {
    visit(&mut range.revision);
    visit(&mut range.min_mod_revision);
    visit(&mut range.max_mod_revision);
    visit(&mut range.min_create_revision);
    visit(&mut range.max_create_revision);
}

fn of_txn(txn: &mut TxnRequest, visit: &mut dyn FnMut(&mut i64)) {
    use compare::TargetUnion::{CreateRevision, ModRevision};
    for compare in &mut txn.compare {
        if let Some(ModRevision(revision) | CreateRevision(revision)) = &mut compare.target_union {
            visit(revision);
        }
    }
    for RequestOp { request } in txn.success.iter_mut().chain(&mut txn.failure) {
        match request {
            Some(request_op::Request::Range(range)) => of_range(range, &mut &mut *visit),
            Some(request_op::Request::Txn(txn)) => of_txn(txn, &mut *visit),
            _ => {}
        }
    }
}
