//! Ranges and transactions: our plain data to etcd's messages and back.

use etcd_client::{
    CompareOp as EtcdCompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget,
    TxnOp,
    proto::{
        PbDeleteResponse, PbKeyValue, PbRangeResponse, PbResponseHeader, PbTxnOpResponse,
        PbTxnResponse,
    },
};

use super::{
    CallError, Compare, CompareOp, DeleteReply, Header, KeyValue, Op, OpReply, Order, Range,
    RangeReply, Span, Target, Txn, TxnReply,
};

pub(super) fn get(range: &Range) -> (Vec<u8>, GetOptions) {
    let mut options = GetOptions::new()
        .with_revision(range.revision)
        .with_limit(range.limit)
        .with_min_mod_revision(range.min_mod_revision)
        .with_max_create_revision(range.max_create_revision);
    if let Span::Interval(_, end) = &range.span {
        options = options.with_range(end.as_slice());
    }
    options = match range.order {
        // etcd's own order. Asking for it would make etcd read everything before it cuts.
        Order::KeyAscending => options,
        Order::KeyDescending => options.with_sort(SortTarget::Key, SortOrder::Descend),
        Order::CreateAscending => options.with_sort(SortTarget::Create, SortOrder::Ascend),
        Order::CreateDescending => options.with_sort(SortTarget::Create, SortOrder::Descend),
    };
    if range.keys_only {
        options = options.with_keys_only();
    }
    if range.count_only {
        options = options.with_count_only();
    }
    if range.serializable {
        options = options.with_serializable();
    }
    (start(&range.span), options)
}

pub(super) fn txn(txn: &Txn) -> etcd_client::Txn {
    etcd_client::Txn::new()
        .when(txn.when.iter().map(compare).collect::<Vec<_>>())
        .and_then(txn.then.iter().map(op).collect::<Vec<_>>())
        .or_else(txn.otherwise.iter().map(op).collect::<Vec<_>>())
}

fn compare(compare: &Compare) -> etcd_client::Compare {
    let key = start(&compare.span);
    let op = match compare.op {
        CompareOp::Equal => EtcdCompareOp::Equal,
        CompareOp::NotEqual => EtcdCompareOp::NotEqual,
        CompareOp::Greater => EtcdCompareOp::Greater,
        CompareOp::Less => EtcdCompareOp::Less,
    };
    let condition = match &compare.target {
        Target::Version(version) => etcd_client::Compare::version(key, op, *version),
        Target::CreateRevision(revision) => {
            etcd_client::Compare::create_revision(key, op, *revision)
        }
        Target::ModRevision(revision) => etcd_client::Compare::mod_revision(key, op, *revision),
        Target::Lease(lease) => etcd_client::Compare::lease(key, op, *lease),
        Target::Value(value) => etcd_client::Compare::value(key, op, value.as_slice()),
    };
    match &compare.span {
        Span::Key(_) => condition,
        Span::Interval(_, end) => condition.with_range(end.as_slice()),
    }
}

fn op(op: &Op) -> TxnOp {
    match op {
        Op::Get(range) => {
            let (key, options) = get(range);
            TxnOp::get(key, Some(options))
        }
        Op::Put { key, value, lease } => {
            let options = PutOptions::new().with_lease(*lease);
            TxnOp::put(key.as_slice(), value.as_slice(), Some(options))
        }
        Op::Delete { span, prev } => {
            let (key, options) = delete(span, *prev);
            TxnOp::delete(key, Some(options))
        }
        Op::Txn(nested) => TxnOp::txn(txn(nested)),
    }
}

/// What it deletes, and whether it tells what that was, if it does nothing else.
pub(super) fn only_delete(txn: &Txn) -> Option<(&Span, bool)> {
    match (txn.when.as_slice(), txn.then.as_slice()) {
        ([], [Op::Delete { span, prev }]) => Some((span, *prev)),
        _ => None,
    }
}

pub(super) fn delete(span: &Span, prev: bool) -> (Vec<u8>, DeleteOptions) {
    let mut options = DeleteOptions::new();
    if let Span::Interval(_, end) = span {
        options = options.with_range(end.as_slice());
    }
    if prev {
        options = options.with_prev_key();
    }
    (start(span), options)
}

fn start(span: &Span) -> Vec<u8> {
    match span {
        Span::Key(key) | Span::Interval(key, _) => key.clone(),
    }
}

pub(super) fn txn_reply(reply: PbTxnResponse) -> Result<TxnReply, CallError> {
    let replies = reply.responses.into_iter().map(|reply| {
        // etcd answers every operation; an answer that is missing would shift all after it.
        let reply = reply.response.ok_or_else(CallError::malformed)?;
        Ok(match reply {
            PbTxnOpResponse::ResponseRange(reply) => OpReply::Get(range_reply(reply)),
            PbTxnOpResponse::ResponsePut(_) => OpReply::Put,
            PbTxnOpResponse::ResponseDeleteRange(reply) => OpReply::Delete(delete_reply(reply)),
            PbTxnOpResponse::ResponseTxn(reply) => OpReply::Txn(txn_reply(reply)?),
        })
    });
    Ok(TxnReply {
        header: header(reply.header),
        succeeded: reply.succeeded,
        replies: replies.collect::<Result<_, CallError>>()?,
    })
}

/// As a transaction's that did nothing else.
pub(super) fn deleted(mut reply: PbDeleteResponse) -> TxnReply {
    TxnReply {
        header: header(reply.header.take()),
        succeeded: true,
        replies: vec![OpReply::Delete(delete_reply(reply))],
    }
}

fn delete_reply(reply: PbDeleteResponse) -> DeleteReply {
    DeleteReply {
        deleted: reply.deleted,
        prev: reply.prev_kvs.into_iter().map(KeyValue::from).collect(),
    }
}

pub(super) fn range_reply(reply: PbRangeResponse) -> RangeReply {
    RangeReply {
        header: header(reply.header),
        kvs: reply.kvs.into_iter().map(KeyValue::from).collect(),
        more: reply.more,
        count: reply.count,
    }
}

/// All zeros if there is none, as in a nested transaction's reply.
pub(super) fn header(header: Option<PbResponseHeader>) -> Header {
    header.map_or_else(Header::default, |header| Header {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    })
}

impl From<PbKeyValue> for KeyValue {
    fn from(kv: PbKeyValue) -> Self {
        Self {
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}
