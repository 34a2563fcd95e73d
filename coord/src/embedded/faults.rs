//! [`Faults`]: which calls fail, and how.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A call that a [`Server`](super::Server) can be told to fail.
///
/// What coord itself writes, it writes with [`Txn`](Self::Txn), also a single key; other clients have
/// [`Put`](Self::Put) and [`DeleteRange`](Self::DeleteRange), too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rpc {
    /// `KV/Range`: every read.
    Range,
    /// `KV/Put`.
    Put,
    /// `KV/DeleteRange`: what coord sends to delete a single key, as most unlocks do.
    DeleteRange,
    /// `KV/Txn`: every other write of coord's.
    Txn,
    /// `KV/Compact`.
    Compact,
    /// A message on a stream of `Watch/Watch`: a watch is created or cancelled, or progress asked for.
    Watch,
    /// `Lease/LeaseGrant`.
    LeaseGrant,
    /// `Lease/LeaseRevoke`.
    LeaseRevoke,
    /// A message on a stream of `Lease/LeaseKeepAlive`: one renewal.
    LeaseKeepAlive,
    /// `Lease/LeaseTimeToLive`.
    LeaseTimeToLive,
    /// `Lease/LeaseLeases`.
    LeaseLeases,
    /// `Maintenance/Status`, with which coord looks at a server before it uses it.
    Status,
}

impl Rpc {
    /// The call that is one request and one answer behind a path; those on streams are met message
    /// by message.
    pub(super) fn unary(path: &str) -> Option<Self> {
        Some(match path {
            "/etcdserverpb.KV/Range" => Self::Range,
            "/etcdserverpb.KV/Put" => Self::Put,
            "/etcdserverpb.KV/DeleteRange" => Self::DeleteRange,
            "/etcdserverpb.KV/Txn" => Self::Txn,
            "/etcdserverpb.KV/Compact" => Self::Compact,
            "/etcdserverpb.Lease/LeaseGrant" => Self::LeaseGrant,
            "/etcdserverpb.Lease/LeaseRevoke" => Self::LeaseRevoke,
            "/etcdserverpb.Lease/LeaseTimeToLive" => Self::LeaseTimeToLive,
            "/etcdserverpb.Lease/LeaseLeases" => Self::LeaseLeases,
            "/etcdserverpb.Maintenance/Status" => Self::Status,
            _ => return None,
        })
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    /// Not carried out.
    Refused,
    /// Carried out, and its connection closed instead of an answer.
    ReplyLost,
}

/// What a test has ordered.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Orders>);

#[derive(Debug, Default)]
struct Orders {
    refused: HashSet<Rpc>,
    /// How many of the next replies are lost.
    lost: HashMap<Rpc, usize>,
}

impl Faults {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse(&self, rpc: Rpc) {
        self.orders().refused.insert(rpc);
    }

    pub(super) fn accept(&self, rpc: Rpc) {
        self.orders().refused.remove(&rpc);
    }

    pub(super) fn lose_reply(&self, rpc: Rpc) {
        *self.orders().lost.entry(rpc).or_default() += 1;
    }

    /// Decides on a call that has come.
    pub(super) fn meet(&self, rpc: Rpc) -> Fate {
        let mut orders = self.orders();
        if orders.refused.contains(&rpc) {
            return Fate::Refused;
        }
        match orders.lost.get_mut(&rpc) {
            Some(left @ 1..) => {
                *left -= 1;
                Fate::ReplyLost
            }
            _ => Fate::Served,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_lost_as_often_as_ordered_and_refusals_last_until_accepted() {
        let faults = Faults::default();
        faults.lose_reply(Rpc::Put);
        faults.lose_reply(Rpc::Put);
        faults.refuse(Rpc::Put);
        assert_eq!(faults.meet(Rpc::Put), Fate::Refused);
        assert_eq!(faults.meet(Rpc::Txn), Fate::Served);
        faults.accept(Rpc::Put);
        let met = [(); 3].map(|()| faults.meet(Rpc::Put));
        assert_eq!(met, [Fate::ReplyLost, Fate::ReplyLost, Fate::Served]);
    }
}
