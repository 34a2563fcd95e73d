//! [`Answer`]: what the acquire's transaction says.

use super::{super::queue::Listed, oldest};
use crate::client::{KeyValue, OpReply, TxnReply};

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Answer {
    /// The entries are there now; these are ahead, in each queue.
    Put { revision: i64, ahead: Vec<Listed> },
    /// The entries were there already: an earlier copy was applied.
    There { revision: i64 },
    /// Nothing was put, and it was not asked why.
    Unexplained,
    /// Some of the attempt's keys are there, others are not.
    Torn,
    /// The session key is gone, and with it the lease.
    NoSession,
    /// A try found somebody.
    Busy { first: KeyValue },
    /// The session's incarnation is another one.
    Moved { incarnation: i64 },
}

impl Answer {
    /// The answer to an attempt with `keys` keys in `queues` queues.
    pub(super) fn of(reply: TxnReply, queues: usize, keys: usize) -> Self {
        let revision = reply.header.revision;
        let mut ranges: Vec<OpReply> = reply
            .replies
            .into_iter()
            .filter(|reply| matches!(reply, OpReply::Get(_)))
            .collect();
        if reply.succeeded {
            let each = ranges.len() / queues;
            let mut ranges = ranges.into_iter();
            let ahead = (0..queues).map(|_| Listed::of(ranges.by_ref().take(each)));
            return Self::Put {
                revision,
                ahead: ahead.collect(),
            };
        }
        if ranges.is_empty() {
            return Self::Unexplained;
        }
        let mut rest = ranges.split_off(keys.min(ranges.len()));
        let fronts = rest.split_off(rest.len().min(1));
        let own = Listed::of(ranges).kvs;
        let session = Listed::of(rest).kvs.into_iter().next();
        // The order matters: a try whose first copy was applied finds itself in the queue.
        match (own.first(), session, oldest(Listed::of(fronts).kvs)) {
            (Some(first), _, _) if own.len() == keys => Self::There {
                revision: first.create_revision,
            },
            (Some(_), _, _) => Self::Torn,
            (None, None, _) => Self::NoSession,
            (None, Some(_), Some(first)) => Self::Busy { first },
            (None, Some(session), None) => Self::Moved {
                incarnation: session.mod_revision,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::RangeReply;

    fn at(mod_revision: i64) -> RangeReply {
        RangeReply {
            kvs: vec![KeyValue {
                create_revision: 3,
                mod_revision,
                ..KeyValue::default()
            }],
            ..RangeReply::default()
        }
    }

    fn otherwise(ranges: Vec<RangeReply>) -> Answer {
        let reply = TxnReply {
            replies: ranges.into_iter().map(OpReply::Get).collect(),
            ..TxnReply::default()
        };
        Answer::of(reply, 1, 1)
    }

    #[test]
    fn who_asks_no_reason_is_told_none() {
        let answer = otherwise(Vec::new());
        assert!(matches!(answer, Answer::Unexplained), "{answer:?}");
    }

    #[test]
    fn a_failed_compare_is_explained_in_order() {
        let none = RangeReply::default;
        // An earlier copy was applied: even a try that finds itself in the queue has not lost.
        let there = otherwise(vec![at(3), at(7), at(3)]);
        assert!(matches!(there, Answer::There { revision: 3 }), "{there:?}");
        let dead = otherwise(vec![none(), none(), at(3)]);
        assert!(matches!(dead, Answer::NoSession), "{dead:?}");
        let busy = otherwise(vec![none(), at(7), at(5)]);
        assert!(matches!(busy, Answer::Busy { .. }), "{busy:?}");
        // After a fence the queue may be empty: that is not "busy".
        let moved = otherwise(vec![none(), at(9), none()]);
        assert!(
            matches!(moved, Answer::Moved { incarnation: 9 }),
            "{moved:?}"
        );
    }
}
