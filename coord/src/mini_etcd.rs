//! A small model of etcd's transactions for tests of protocol rules: revisions, leases, nested
//! transactions, and what happens when the branch that is taken puts under a dead lease.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{
    CallError, Certainty, Compare, CompareOp, DeleteReply, Header, KeyValue, Op, OpReply, Order,
    Range, RangeReply, Reason, Span, Target, Txn, TxnReply,
};

/// One etcd. A copy of a request may be executed at any time, also twice and also late: that is the
/// tests' to decide.
#[derive(Clone, Debug)]
pub(crate) struct MiniEtcd {
    revision: i64,
    keys: BTreeMap<Vec<u8>, KeyValue>,
    leases: BTreeSet<i64>,
    /// How many transactions were executed.
    pub(crate) transactions: u64,
}

impl MiniEtcd {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            keys: BTreeMap::new(),
            leases: BTreeSet::new(),
            transactions: 0,
        }
    }

    pub(crate) fn grant(&mut self, lease: i64) {
        assert!(self.leases.insert(lease), "lease {lease} exists");
    }

    pub(crate) fn lives(&self, lease: i64) -> bool {
        self.leases.contains(&lease)
    }

    /// Expiry and revocation are the same thing: all keys of the lease go in one revision.
    pub(crate) fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let gone = self.keys.values().filter(|kv| kv.lease == lease);
        let gone: Vec<_> = gone.map(|kv| kv.key.clone()).collect();
        if !gone.is_empty() {
            self.revision += 1;
            gone.iter().for_each(|key| drop(self.keys.remove(key)));
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key.as_bytes())
    }

    /// An operator's hand.
    pub(crate) fn delete(&mut self, key: &str) {
        let span = Span::Key(key.as_bytes().to_vec());
        let op = Op::Delete { span, prev: false };
        let _ = self.txn(&Txn {
            then: vec![op],
            ..Txn::default()
        });
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        let op = Op::Put {
            key: key.into(),
            value: value.into(),
            lease: 0,
        };
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        self.txn(&txn).expect("a put without a lease");
    }

    /// Executes `txn`, or nothing of it.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<TxnReply, CallError> {
        self.transactions += 1;
        let before = self.clone();
        let mut wrote = false;
        match self.run(txn, &mut wrote) {
            Ok(mut reply) => {
                if wrote {
                    self.revision += 1;
                }
                reply.header = Header {
                    revision: self.revision,
                    ..Header::default()
                };
                Ok(reply)
            }
            Err(error) => {
                *self = before;
                Err(error)
            }
        }
    }

    fn run(&mut self, txn: &Txn, wrote: &mut bool) -> Result<TxnReply, CallError> {
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        let replies = branch.iter().map(|op| self.apply(op, wrote));
        Ok(TxnReply {
            header: Header::default(),
            succeeded,
            replies: replies.collect::<Result<_, _>>()?,
        })
    }

    fn apply(&mut self, op: &Op, wrote: &mut bool) -> Result<OpReply, CallError> {
        let next = self.revision + 1;
        Ok(match op {
            Op::Get(range) => OpReply::Get(self.range(range)),
            Op::Put { key, value, lease } => {
                if *lease != 0 && !self.leases.contains(lease) {
                    return Err(CallError::new(
                        Certainty::Refused,
                        Reason::LeaseNotFound,
                        "requested lease not found",
                    ));
                }
                *wrote = true;
                let old = self.keys.get(key);
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: old.map_or(next, |old| old.create_revision),
                    mod_revision: next,
                    version: old.map_or(1, |old| old.version + 1),
                    lease: *lease,
                };
                assert!(
                    old.is_none_or(|old| old.mod_revision != next),
                    "duplicate key"
                );
                self.keys.insert(key.clone(), kv);
                OpReply::Put
            }
            Op::Delete { span, .. } => {
                let gone: Vec<_> = self.within(span).map(|kv| kv.key.clone()).collect();
                *wrote |= !gone.is_empty();
                gone.iter().for_each(|key| drop(self.keys.remove(key)));
                OpReply::Delete(DeleteReply {
                    deleted: i64::try_from(gone.len()).expect("few keys"),
                    prev: Vec::new(),
                })
            }
            Op::Txn(nested) => OpReply::Txn(self.run(nested, wrote)?),
        })
    }

    fn range(&self, range: &Range) -> RangeReply {
        assert_eq!(range.revision, 0, "the model keeps no history");
        let mut kvs: Vec<_> = self.within(&range.span).cloned().collect();
        let count = i64::try_from(kvs.len()).expect("few keys");
        if range.order == Order::KeyDescending {
            kvs.reverse();
        }
        if range.limit > 0 {
            kvs.truncate(usize::try_from(range.limit).expect("a small limit"));
        }
        RangeReply {
            header: Header::default(),
            more: i64::try_from(kvs.len()).expect("few keys") < count,
            count,
            kvs,
        }
    }

    fn within<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a KeyValue> {
        self.keys.values().filter(move |kv| match span {
            Span::Key(key) => kv.key == *key,
            Span::Interval(from, to) => kv.key >= *from && kv.key < *to,
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let Span::Key(key) = &compare.span else {
            panic!("the model compares single keys");
        };
        let absent = KeyValue::default();
        let kv = self.keys.get(key).unwrap_or(&absent);
        let (is, against) = match compare.target {
            Target::Version(n) => (kv.version, n),
            Target::CreateRevision(n) => (kv.create_revision, n),
            Target::ModRevision(n) => (kv.mod_revision, n),
            Target::Lease(n) => (kv.lease, n),
            Target::Value(_) => panic!("the model compares no values"),
        };
        match compare.op {
            CompareOp::Equal => is == against,
            CompareOp::NotEqual => is != against,
            CompareOp::Greater => is > against,
            CompareOp::Less => is < against,
        }
    }
}
