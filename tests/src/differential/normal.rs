//! What of an answer is the server's own, and is not compared.

use super::op::Reply;
use crate::rpc::{ResponseHeader, ResponseOp, TxnResponse, WatchResponse, response_op::Response};

/// By how much the time that a lease has left may differ from what it was granted: the two servers
/// are not asked at one instant, and one of them has its clock moved.
const TIME_LEFT: i64 = 60;

/// Who answered is not compared, only that somebody did: etcd leaves it out of inner headers.
fn header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

fn txn(response: &mut TxnResponse) {
    header(&mut response.header);
    for ResponseOp { response } in &mut response.responses {
        match response {
            Some(Response::Range(range)) => header(&mut range.header),
            Some(Response::Put(put)) => header(&mut put.header),
            Some(Response::DeleteRange(delete)) => header(&mut delete.header),
            Some(Response::Txn(inner)) => txn(inner),
            None => {}
        }
    }
}

pub(super) fn watch(response: &mut WatchResponse) {
    header(&mut response.header);
}

/// `chosen` are the ids that the server chose for leases, in the order in which it did.
pub(super) fn reply(reply: &mut Reply, chosen: &[i64]) {
    let lease = |id: &mut i64| {
        if let Some(at) = chosen.iter().position(|chosen| chosen == id) {
            *id = -1_000 - i64::try_from(at).expect("few leases");
        }
    };
    match reply {
        Reply::Range(range) => header(&mut range.header),
        Reply::Put(put) => header(&mut put.header),
        Reply::DeleteRange(delete) => header(&mut delete.header),
        Reply::Txn(response) => txn(response),
        Reply::Compact(compaction) => header(&mut compaction.header),
        Reply::Grant(granted) => {
            header(&mut granted.header);
            lease(&mut granted.id);
        }
        Reply::Revoke(revoked) => header(&mut revoked.header),
        Reply::KeepAlive(renewed) => header(&mut renewed.header),
        Reply::TimeToLive(left) => {
            header(&mut left.header);
            if left.ttl > left.granted_ttl - TIME_LEFT && left.ttl <= left.granted_ttl {
                left.ttl = left.granted_ttl;
            }
            // etcd keeps them in a map.
            left.keys.sort();
        }
        Reply::Leases(leases) => {
            header(&mut leases.header);
            leases
                .leases
                .iter_mut()
                .for_each(|status| lease(&mut status.id));
        }
    }
}

/// The revision in the header of an answer.
pub(super) fn revision(reply: &Reply) -> i64 {
    let header = match reply {
        Reply::Range(range) => &range.header,
        Reply::Put(put) => &put.header,
        Reply::DeleteRange(delete) => &delete.header,
        Reply::Txn(txn) => &txn.header,
        Reply::Compact(compaction) => &compaction.header,
        Reply::Grant(granted) => &granted.header,
        Reply::Revoke(revoked) => &revoked.header,
        Reply::KeepAlive(renewed) => &renewed.header,
        Reply::TimeToLive(left) => &left.header,
        Reply::Leases(leases) => &leases.header,
    };
    header.as_ref().map_or(0, |header| header.revision)
}
