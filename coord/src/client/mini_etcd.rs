//! The embedded server's core under this client's plain data: for tests of protocol rules, in which a
//! copy of a request may be executed at any time, also twice and also late.

use std::time::Duration;

use etcd_client::proto::{PbLeaseGrantRequest, PbLeaseRevokeRequest, PbLeaseTimeToLiveRequest};

use super::{CallError, KeyValue, Op, OpReply, Range, Span, Txn, TxnReply, classify, txn};
use crate::embedded::Core;

/// Nothing runs out by itself: expiry is a revocation by the test.
const NOW: Duration = Duration::ZERO;

/// One etcd.
#[derive(Clone, Debug)]
pub(crate) struct MiniEtcd {
    core: Core,
    /// How many transactions were executed.
    pub(crate) transactions: u64,
}

impl MiniEtcd {
    pub(crate) fn new() -> Self {
        Self {
            core: Core::new(),
            transactions: 0,
        }
    }

    pub(crate) fn grant(&mut self, lease: i64) {
        let request = PbLeaseGrantRequest { id: lease, ttl: 60 };
        self.core.grant(NOW, request).expect("a new lease");
    }

    pub(crate) fn lives(&self, lease: i64) -> bool {
        let request = PbLeaseTimeToLiveRequest {
            id: lease,
            keys: false,
        };
        self.core.time_to_live(NOW, request).ttl > 0
    }

    /// Expiry and revocation are the same thing: all keys of the lease go in one revision.
    pub(crate) fn revoke(&mut self, lease: i64) {
        let _ = self.core.revoke(PbLeaseRevokeRequest { id: lease });
    }

    pub(crate) fn revision(&self) -> i64 {
        self.core.revision()
    }

    pub(crate) fn get(&self, key: &str) -> Option<KeyValue> {
        let read = Txn {
            then: vec![Op::Get(Range::new(Span::Key(key.into())))],
            ..Txn::default()
        };
        let mut replies = self.clone().txn(&read).expect("a read").replies;
        match replies.pop() {
            Some(OpReply::Get(mut reply)) => reply.kvs.pop(),
            reply => panic!("{reply:?} to a read"),
        }
    }

    /// An operator's hand.
    pub(crate) fn delete(&mut self, key: &str) {
        self.operate(Op::Delete {
            span: Span::Key(key.into()),
            prev: false,
        });
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        self.operate(Op::Put {
            key: key.into(),
            value: value.into(),
            lease: 0,
        });
    }

    fn operate(&mut self, op: Op) {
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        self.txn(&txn).expect("an operation that cannot fail");
    }

    /// Executes `txn`, or nothing of it.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<TxnReply, CallError> {
        self.transactions += 1;
        let reply = self.core.txn(txn::txn(txn).into()).map_err(|refusal| {
            let class = classify::classify(refusal.code, refusal.message);
            CallError::new(class.0, class.1, refusal.message)
        })?;
        txn::txn_reply(reply)
    }
}
