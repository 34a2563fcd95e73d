//! [`Rider`]: somebody else's transaction, in one with deletes that are about to be sent.

use tokio::sync::oneshot;

use crate::client::{CallError, Certainty, Op, OpReply, Reason, Txn, TxnReply};

/// A transaction that goes with others in one, and who asked for it.
#[derive(Debug)]
pub(super) struct Rider {
    pub(super) txn: Txn,
    pub(super) turn: oneshot::Sender<Turn>,
}

/// What becomes of a transaction that was to go with others.
#[derive(Debug)]
pub(crate) enum Turn {
    Answered(Result<TxnReply, CallError>),
    /// It did nothing: send it by itself.
    Alone,
}

impl Turn {
    /// The answer, nested in that to the whole.
    pub(crate) fn answered(whole: &TxnReply, own: Option<OpReply>) -> Self {
        Self::Answered(match own {
            // Of a nested one etcd tells no header.
            Some(OpReply::Txn(own)) => Ok(TxnReply {
                header: whole.header,
                ..own
            }),
            _ => Err(CallError::malformed()),
        })
    }

    /// The whole failed. What etcd refused of it may be the fault of another, but for what is nobody's:
    /// the lease is gone, etcd has too much to do, or no room.
    pub(crate) fn failed(error: &CallError) -> Self {
        let nobodys = [Reason::LeaseNotFound, Reason::Unavailable, Reason::NoSpace];
        match error.certainty == Certainty::Refused && !nobodys.contains(&error.reason) {
            true => Self::Alone,
            false => Self::Answered(Err(error.clone())),
        }
    }
}

/// How many of the operations that etcd takes it uses up: etcd counts the most of each level.
pub(super) fn operations(txn: &Txn) -> usize {
    let own = [txn.when.len(), txn.then.len(), txn.otherwise.len()];
    let branches = txn.then.iter().chain(&txn.otherwise);
    let nested = branches.map(|op| match op {
        Op::Txn(nested) => operations(nested),
        _ => 0,
    });
    own.into_iter().max().unwrap_or(0) + nested.max().unwrap_or(0)
}
