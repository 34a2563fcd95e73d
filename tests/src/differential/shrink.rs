//! What of a sequence is needed to make a difference.

use std::time::{Duration, Instant};

use super::{Difference, Found, Op, Pair, op::Request};
use crate::rpc::{RequestOp, TxnRequest, request_op};

/// Then what is left is good enough.
const ENOUGH: Duration = Duration::from_secs(120);

impl Pair {
    /// Drops operations as long as the servers differ without them.
    pub async fn shrink(&mut self, seed: u64, ops: Vec<Op>, difference: Difference) -> Found {
        let started = Instant::now();
        let mut found = Found {
            seed,
            ops,
            difference,
        };
        // Large parts first: most of a long sequence has nothing to do with it.
        let mut part = found.ops.len().div_ceil(2);
        loop {
            let mut smaller = false;
            let mut end = found.ops.len();
            while end > 0 && started.elapsed() < ENOUGH {
                let begin = end.saturating_sub(part);
                let mut ops = found.ops.clone();
                ops.drain(begin..end);
                smaller |= self.still(ops, &mut found).await;
                end = begin;
            }
            if part > 1 {
                part = part.div_ceil(2);
            } else if !smaller {
                break;
            }
        }
        let mut at = 0;
        while at < found.ops.len() && started.elapsed() < ENOUGH {
            let mut shrunk = false;
            for smaller in simpler(&found.ops[at]) {
                let mut ops = found.ops.clone();
                ops[at] = smaller;
                if self.still(ops, &mut found).await {
                    shrunk = true;
                    break;
                }
            }
            if !shrunk {
                at += 1;
            }
        }
        found
    }

    async fn still(&mut self, ops: Vec<Op>, found: &mut Found) -> bool {
        let Some(difference) = self.run(&ops).await else {
            return false;
        };
        found.ops = ops;
        found.difference = difference;
        true
    }
}

/// The operation with one part less.
fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Call(Request::Txn(txn)) => {
            let smaller = simpler_txns(txn).into_iter();
            smaller.map(|txn| Op::Call(txn.into())).collect()
        }
        Op::Expire(lease, calls) => {
            let fewer = without_one(calls).into_iter();
            fewer.map(|calls| Op::Expire(*lease, calls)).collect()
        }
        _ => Vec::new(),
    }
}

fn simpler_txns(txn: &TxnRequest) -> Vec<TxnRequest> {
    let mut all = Vec::new();
    for compare in without_one(&txn.compare) {
        all.push(TxnRequest {
            compare,
            ..txn.clone()
        });
    }
    for success in simpler_branches(&txn.success) {
        all.push(TxnRequest {
            success,
            ..txn.clone()
        });
    }
    for failure in simpler_branches(&txn.failure) {
        all.push(TxnRequest {
            failure,
            ..txn.clone()
        });
    }
    all
}

fn simpler_branches(ops: &[RequestOp]) -> Vec<Vec<RequestOp>> {
    let mut all = without_one(ops);
    for (at, op) in ops.iter().enumerate() {
        if let Some(request_op::Request::Txn(inner)) = &op.request {
            for smaller in simpler_txns(inner) {
                let mut ops = ops.to_vec();
                ops[at] = smaller.into();
                all.push(ops);
            }
        }
    }
    all
}

fn without_one<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
    let without = |at| {
        let mut fewer = of.to_vec();
        fewer.remove(at);
        fewer
    };
    (0..of.len()).map(without).collect()
}
