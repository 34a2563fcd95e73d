//! Sequences of operations from a seed.
//!
//! Few keys, few values, few leases: operations that have nothing to do with one another find
//! nothing.

use std::ops::RangeInclusive;

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    op::{Op, Request},
    place,
};
use crate::rpc::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest, compare::TargetUnion, request_op,
};

/// No more than twelve: etcd's sort keeps the order of equals only up to there.
const KEYS: &[&[u8]] = &[
    b"a",
    b"aa",
    b"ab",
    b"b",
    b"b\0",
    b"c",
    b"\0",
    b"\xff",
    b"\xff\xff",
];
const VALUES: &[&str] = &["", "1", "1", "2", "12"];

/// How many streams the watches of a sequence are on.
pub(super) const STREAMS: usize = 3;
const LEASES: RangeInclusive<i64> = 1..=4;
/// The lease that runs out: no other operation grants it.
const SHORT_LIVED: i64 = 5;

/// The sequence of a seed; `expiry` says whether leases may run out in it, which takes seconds.
pub(super) fn sequence(seed: u64, length: usize, expiry: bool) -> Vec<Op> {
    let mut generator = Generator {
        random: StdRng::seed_from_u64(seed),
    };
    let mut ops: Vec<_> = (0..length).map(|_| generator.op()).collect();
    if expiry {
        let at = generator.random.random_range(length / 4..=length);
        let expires = generator.expire();
        ops.insert(at, expires);
    }
    ops
}

struct Generator {
    random: StdRng,
}

impl Generator {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from
            .choose(&mut self.random)
            .expect("there is something to pick from")
    }

    fn op(&mut self) -> Op {
        match self.random.random_range(0..100) {
            0..24 => Op::Call(self.put().into()),
            24..42 => Op::Call(self.range().into()),
            42..50 => Op::Call(self.delete().into()),
            50..72 => Op::Call(self.txn().into()),
            72..75 => Op::Call(self.compact().into()),
            75..89 => Op::Call(self.lease_call()),
            89..96 => Op::Watch(self.stream(), self.watch()),
            96..99 => Op::Cancel(self.stream(), self.random.random_range(-1..5)),
            _ => Op::Settle,
        }
    }

    fn stream(&mut self) -> usize {
        self.random.random_range(0..STREAMS)
    }

    fn key(&mut self) -> Bytes {
        if self.chance(1) {
            return Bytes::new();
        }
        Bytes::from_static(self.pick(KEYS))
    }

    fn value(&mut self) -> Bytes {
        Bytes::from_static(self.pick(VALUES).as_bytes())
    }

    /// The end of a range that starts at a key: mostly none.
    fn end(&mut self, percent: u32) -> Bytes {
        if !self.chance(percent) {
            return Bytes::new();
        }
        match self.random.random_range(0..4) {
            0 => Bytes::from_static(b"\0"),
            1 => Bytes::from_static(b"b"),
            _ => self.key(),
        }
    }

    fn lease(&mut self) -> i64 {
        if self.chance(5) {
            return self.pick(&[-1, 9, i64::MIN, i64::MAX]);
        }
        self.random.random_range(LEASES)
    }

    /// A revision to read at.
    fn revision(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => self.pick(&[-1, i64::MIN]),
            1 => place::current(self.random.random_range(1..3)),
            2 => self.pick(&[1, i64::MAX]),
            3..7 => place::compacted(self.random.random_range(-2..4)),
            _ => place::current(-self.random.random_range(0..12)),
        }
    }

    /// A bound for revisions: mostly none.
    fn bound(&mut self) -> i64 {
        if self.chance(85) {
            return 0;
        }
        if self.chance(10) {
            return -1;
        }
        place::current(-self.random.random_range(0..12))
    }

    fn range(&mut self) -> RangeRequest {
        let sorted = self.chance(40);
        RangeRequest {
            key: self.key(),
            range_end: self.end(75),
            limit: if self.chance(2) {
                self.pick(&[i64::MIN, i64::MAX])
            } else if self.chance(40) {
                self.random.random_range(-1..5)
            } else {
                0
            },
            revision: if self.chance(50) { self.revision() } else { 0 },
            sort_order: if sorted {
                self.random.random_range(0..3)
            } else {
                0
            },
            sort_target: if sorted {
                self.random.random_range(0..5)
            } else {
                0
            },
            serializable: self.chance(10),
            keys_only: self.chance(10),
            count_only: self.chance(10),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.chance(8);
        let ignore_lease = self.chance(8);
        PutRequest {
            key: self.key(),
            value: if ignore_value && self.chance(90) {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if self.chance(30) && (!ignore_lease || self.chance(10)) {
                self.lease()
            } else {
                0
            },
            prev_kv: self.chance(40),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(),
            range_end: self.end(40),
            prev_kv: self.chance(40),
        }
    }

    fn compare(&mut self) -> Compare {
        // Now and then one that there is not, and such an operator.
        let odd = self.chance(3);
        let target = self.random.random_range(0..5 + i32::from(odd));
        // Now and then the operand is of another kind than the target.
        let operand = if self.chance(4) {
            self.random.random_range(0..6)
        } else {
            target
        };
        Compare {
            result: self.random.random_range(0..4 + i32::from(odd)),
            target,
            key: self.key(),
            range_end: self.end(30),
            target_union: match operand {
                0 => Some(TargetUnion::Version(self.random.random_range(-1..4))),
                1 => Some(TargetUnion::CreateRevision(self.compared_revision())),
                2 => Some(TargetUnion::ModRevision(self.compared_revision())),
                3 => Some(TargetUnion::Value(self.value())),
                4 => Some(TargetUnion::Lease(if self.chance(50) {
                    0
                } else {
                    self.lease()
                })),
                _ => None,
            },
        }
    }

    fn compared_revision(&mut self) -> i64 {
        if self.chance(30) {
            0
        } else {
            place::current(-self.random.random_range(0..6))
        }
    }

    fn txn(&mut self) -> TxnRequest {
        let mut txn = self.nested(0);
        spare(&mut txn, false);
        txn
    }

    fn nested(&mut self, depth: usize) -> TxnRequest {
        let compares = self.random.random_range(0..3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.txn_ops(depth),
            failure: self.txn_ops(depth),
        }
    }

    fn txn_ops(&mut self, depth: usize) -> Vec<RequestOp> {
        let ops = self.random.random_range(0..4);
        (0..ops).map(|_| self.txn_op(depth)).collect()
    }

    fn txn_op(&mut self, depth: usize) -> RequestOp {
        match self.random.random_range(0..100) {
            0..45 => self.put().into(),
            45..70 => {
                let mut range = self.range();
                if self.chance(70) {
                    // One that fails takes the whole transaction with it.
                    range.revision = 0;
                }
                range.into()
            }
            70..85 => self.delete().into(),
            85..99 if depth < 2 => self.nested(depth + 1).into(),
            85..99 => self.put().into(),
            _ => RequestOp::default(),
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        CompactionRequest {
            revision: match self.random.random_range(0..10) {
                0 => self.pick(&[0, -1, 1, i64::MIN, i64::MAX]),
                1 => place::current(self.random.random_range(1..3)),
                2 | 3 => place::compacted(self.random.random_range(-1..5)),
                _ => place::current(-self.random.random_range(0..10)),
            },
            physical: self.chance(50),
        }
    }

    fn lease_call(&mut self) -> Request {
        let id = self.lease();
        match self.random.random_range(0..14) {
            0..5 => LeaseGrantRequest {
                id: if self.chance(5) { 0 } else { id },
                ttl: match self.random.random_range(0..12) {
                    0 => self.pick(&[9_000_000_000, 9_000_000_001, i64::MAX]),
                    _ => 100 * self.random.random_range(1..10),
                },
            }
            .into(),
            5..8 => LeaseRevokeRequest { id }.into(),
            8..10 => LeaseKeepAliveRequest { id }.into(),
            10..13 => LeaseTimeToLiveRequest {
                id,
                keys: self.chance(70),
            }
            .into(),
            _ => LeaseLeasesRequest {}.into(),
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let filters = match self.random.random_range(0..20) {
            0..3 => vec![0],
            3..6 => vec![1],
            6 => vec![0, 1],
            7 => vec![7],
            _ => vec![],
        };
        WatchCreateRequest {
            key: self.key(),
            range_end: self.end(75),
            start_revision: match self.random.random_range(0..20) {
                0 => self.pick(&[-1, i64::MIN]),
                1 => place::current(self.random.random_range(1..4)),
                2..5 => place::compacted(self.random.random_range(-2..3)),
                5..11 => 0,
                _ => place::current(-self.random.random_range(0..12)),
            },
            progress_notify: self.chance(10),
            filters,
            prev_kv: self.chance(50),
            watch_id: if self.chance(2) {
                self.pick(&[-2, i64::MIN, i64::MAX])
            } else if self.chance(40) {
                self.random.random_range(0..5)
            } else {
                0
            },
            fragment: self.chance(20),
        }
    }

    fn expire(&mut self) -> Op {
        let lease = SHORT_LIVED;
        let calls = self.random.random_range(1..6);
        let put = |generator: &mut Self| PutRequest {
            lease,
            ignore_lease: false,
            ..generator.put()
        };
        let calls = (0..calls).map(|_| {
            if self.chance(70) {
                put(self).into()
            } else if self.chance(50) {
                LeaseKeepAliveRequest { id: lease }.into()
            } else {
                self.txn().into()
            }
        });
        Op::Expire(lease, calls.collect())
    }
}

/// Takes what ends etcd's process out of a transaction; there would be nothing to compare. Returns
/// whether it puts anything, or `later` does.
///
/// etcd does not see that a delete of all keys from one on has a key in common with a put. If the
/// put comes after it, and is to keep what is just deleted, or if the revision is then compacted and
/// the key is read, etcd panics. So no such delete may come before a put.
fn spare(txn: &mut TxnRequest, later: bool) -> bool {
    let then = spare_branch(&mut txn.success, later);
    let otherwise = spare_branch(&mut txn.failure, later);
    then || otherwise
}

fn spare_branch(ops: &mut [RequestOp], mut later: bool) -> bool {
    for op in ops.iter_mut().rev() {
        match &mut op.request {
            Some(request_op::Request::Put(_)) => later = true,
            Some(request_op::Request::DeleteRange(delete)) if later && delete.range_end == "\0" => {
                delete.range_end.clear();
            }
            Some(request_op::Request::Txn(inner)) => later = spare(inner, later),
            _ => {}
        }
    }
    later
}
