//! [`Claim`]: the transaction that takes an id, and what its reply means. Data only: no clock, no
//! connection.
//!
//! # Rules (found by model checking; each has a test that fails without it)
//! 1. The whole decision is one transaction: the first free of a few candidates is taken, else the
//!    reply is the map of what is taken. So no race is ever lost; at worst all candidates are taken.
//! 2. The owner key makes a repeat safe: a repeated claim, with the same or with other candidates,
//!    finds what an earlier copy took. It is never deleted before its lease ends, because it also
//!    keeps late copies of the claim from taking a second slot.
//! 3. An owner key alone proves nothing: the slot may have been freed since. It counts only together
//!    with a slot of the same revision and the same lease.

use std::collections::BTreeSet;

use super::pool::Pool;
use crate::{
    client::{Compare, CompareOp, KeyValue, Op, OpReply, Range, Span, Txn, TxnReply},
    key::Key,
};

/// One claim: one lease, one owner key. Neither is ever used for another one.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    owner: Key,
    lease: i64,
    /// What a slot holds, for people.
    record: Vec<u8>,
    /// Whether the id's mark is read with it.
    marked: bool,
}

/// What a claim's reply means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// `number` is this claim's since the revision `epoch`. `mark`: how the mark stood then, if it was
    /// to be read and this is the reply to the copy that took the slot.
    Mine {
        number: u32,
        epoch: i64,
        mark: Option<KeyValue>,
    },
    /// Every candidate is taken. These are.
    Taken { used: BTreeSet<u32> },
    /// An earlier copy took a slot that has been freed since. The lease and the owner key are used
    /// up: start again with new ones.
    Spent,
}

impl Claim {
    pub(super) fn new(pool: &Pool, uuid: &str, lease: i64, record: Vec<u8>) -> Self {
        Self {
            owner: pool.owner(uuid),
            lease,
            record,
            marked: false,
        }
    }

    /// Reads the id's mark in the same transaction: an earlier read could be older than what the last
    /// holder wrote.
    pub(super) fn marked(mut self, marked: bool) -> Self {
        self.marked = marked;
        self
    }

    pub(super) fn txn(&self, pool: &Pool, candidates: &[u32]) -> Txn {
        let taken = || Op::Get(keys_only(pool));
        let chain = candidates.iter().rev().fold(vec![taken()], |next, number| {
            let mut take = vec![
                self.put(&pool.slot(*number), self.record.clone()),
                self.put(&self.owner, number.to_string().into_bytes()),
            ];
            if self.marked {
                take.push(Op::Get(Range::new(Span::key(&pool.mark(*number)))));
            }
            vec![Op::Txn(Txn {
                when: vec![absent(&pool.slot(*number))],
                then: take,
                otherwise: next,
            })]
        });
        Txn {
            when: vec![absent(&self.owner)],
            then: chain,
            otherwise: vec![Op::Get(Range::new(Span::key(&self.owner))), taken()],
        }
    }

    fn put(&self, key: &Key, value: Vec<u8>) -> Op {
        Op::Put {
            key: key.as_bytes().to_vec(),
            value,
            lease: self.lease,
        }
    }

    pub(super) fn read(&self, pool: &Pool, candidates: &[u32], reply: &TxnReply) -> Outcome {
        if !reply.succeeded {
            return self.read_earlier(pool, reply);
        }
        // Only the outer header carries a revision.
        let epoch = reply.header.revision;
        let mut replies = &reply.replies;
        for number in candidates {
            match replies.first() {
                Some(OpReply::Txn(nested)) if nested.succeeded => {
                    let mark = match nested.replies.last() {
                        // Absent is a mark as well: that of an id that was never stamped.
                        Some(OpReply::Get(mark)) => {
                            Some(mark.kvs.first().cloned().unwrap_or_default())
                        }
                        _ => None,
                    };
                    return Outcome::Mine {
                        number: *number,
                        epoch,
                        mark,
                    };
                }
                Some(OpReply::Txn(nested)) => replies = &nested.replies,
                _ => break,
            }
        }
        match replies.first() {
            Some(OpReply::Get(taken)) => Outcome::Taken {
                used: pool.numbers(&taken.kvs),
            },
            // etcd answers in the request's shape; anything else cannot be believed.
            _ => Outcome::Spent,
        }
    }

    /// The owner key exists: an earlier copy of this claim took something.
    fn read_earlier(&self, pool: &Pool, reply: &TxnReply) -> Outcome {
        let [OpReply::Get(owner), OpReply::Get(slots)] = reply.replies.as_slice() else {
            return Outcome::Spent;
        };
        let Some(owner) = owner.kvs.first() else {
            return Outcome::Spent;
        };
        let epoch = owner.mod_revision;
        slots
            .kvs
            .iter()
            .find(|slot| is_mine(Some(slot), epoch, self.lease))
            .and_then(|slot| pool.number(&slot.key))
            .map_or(Outcome::Spent, |number| Outcome::Mine {
                number,
                epoch,
                mark: None,
            })
    }
}

/// Whether a slot, as it was read, is the one that was taken at `epoch` under `lease`.
pub(super) fn is_mine(slot: Option<&KeyValue>, epoch: i64, lease: i64) -> bool {
    slot.is_some_and(|slot| slot.create_revision == epoch && slot.lease == lease)
}

/// What holds only while a slot is the one that was taken at `epoch` under `lease`. Either would do,
/// but for an etcd that was put back to an older state: it gives out revisions anew.
pub(super) fn held(slot: &Key, epoch: i64, lease: i64) -> Vec<Compare> {
    vec![
        Compare::create_revision(Span::key(slot), CompareOp::Equal, epoch),
        Compare::lease(Span::key(slot), CompareOp::Equal, lease),
    ]
}

/// Gives the slot back, if it is still the one that was taken: a late or repeated copy must not free a
/// successor's. The owner key stays; it goes with the lease. `also`: what is done with it.
pub(super) fn release(slot: &Key, epoch: i64, lease: i64, also: Option<Op>) -> Txn {
    let delete = Op::Delete {
        span: Span::key(slot),
        prev: false,
    };
    Txn {
        when: held(slot, epoch, lease),
        then: std::iter::once(delete).chain(also).collect(),
        otherwise: Vec::new(),
    }
}

fn absent(key: &Key) -> Compare {
    Compare::create_revision(Span::key(key), CompareOp::Equal, 0)
}

fn keys_only(pool: &Pool) -> Range {
    Range {
        keys_only: true,
        ..Range::new(Span::prefix(pool.slots()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::MiniEtcd,
        instance_id::order::{Choice, Order},
    };

    fn pool(max: u32) -> Pool {
        Pool::for_tests("p", 0..=max)
    }

    fn claim(etcd: &mut MiniEtcd, pool: &Pool, lease: i64) -> Claim {
        etcd.grant(lease);
        Claim::new(pool, &format!("uuid-{lease}"), lease, b"{}".to_vec())
    }

    fn send(etcd: &mut MiniEtcd, pool: &Pool, claim: &Claim, candidates: &[u32]) -> Outcome {
        let reply = etcd
            .txn(&claim.txn(pool, candidates))
            .expect("a live lease");
        claim.read(pool, candidates, &reply)
    }

    #[test]
    fn the_first_free_candidate_is_taken_and_the_epoch_is_its_revision() {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(9));
        let a = claim(&mut etcd, &pool, 1);
        let b = claim(&mut etcd, &pool, 2);
        let Outcome::Mine {
            number: 4, epoch, ..
        } = send(&mut etcd, &pool, &a, &[4, 5])
        else {
            panic!("4 is free");
        };
        let slot = etcd.get(pool.slot(4).as_str()).expect("taken");
        assert_eq!((slot.create_revision, slot.lease), (epoch, 1));
        let second = send(&mut etcd, &pool, &b, &[4, 5]);
        assert!(matches!(second, Outcome::Mine { number: 5, epoch: e, .. } if e > epoch));
    }

    #[test]
    fn all_taken_names_what_is_and_writes_nothing() {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(1));
        for lease in [1, 2] {
            let claim = claim(&mut etcd, &pool, lease);
            send(&mut etcd, &pool, &claim, &[0, 1]);
        }
        let late = claim(&mut etcd, &pool, 3);
        let before = etcd.revision();
        let used = BTreeSet::from([0, 1]);
        assert_eq!(
            send(&mut etcd, &pool, &late, &[1, 0]),
            Outcome::Taken { used: used.clone() }
        );
        assert_eq!(send(&mut etcd, &pool, &late, &[]), Outcome::Taken { used });
        assert_eq!(etcd.revision(), before);
    }

    /// The answer was lost, and a copy arrives late as well: one slot, found again.
    #[test]
    fn a_repeated_claim_finds_what_the_first_copy_took() {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(9));
        let a = claim(&mut etcd, &pool, 1);
        let first = send(&mut etcd, &pool, &a, &[4]);
        assert_eq!(send(&mut etcd, &pool, &a, &[7, 8]), first);
        assert_eq!(send(&mut etcd, &pool, &a, &[4]), first);
        assert!(etcd.get(pool.slot(7).as_str()).is_none());
    }

    /// An owner key that outlived its slot is no proof, not even when the slot is taken again.
    #[test]
    fn an_owner_key_without_its_slot_is_not_believed() {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(9));
        let a = claim(&mut etcd, &pool, 1);
        send(&mut etcd, &pool, &a, &[4]);
        etcd.delete(pool.slot(4).as_str());
        assert_eq!(send(&mut etcd, &pool, &a, &[4]), Outcome::Spent);
        let b = claim(&mut etcd, &pool, 2);
        send(&mut etcd, &pool, &b, &[4]);
        assert_eq!(send(&mut etcd, &pool, &a, &[4]), Outcome::Spent);
    }

    /// Released, then a late copy of the claim arrives: the owner key still fences it off.
    #[test]
    fn a_late_copy_of_a_released_claim_takes_nothing() {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(9));
        let a = claim(&mut etcd, &pool, 1);
        let Outcome::Mine { number, epoch, .. } = send(&mut etcd, &pool, &a, &[4]) else {
            panic!("free");
        };
        let released = etcd
            .txn(&release(&pool.slot(number), epoch, 1, None))
            .expect("done");
        assert!(released.succeeded);
        assert_eq!(send(&mut etcd, &pool, &a, &[4]), Outcome::Spent);
        assert!(etcd.get(pool.slot(4).as_str()).is_none());
        // And once the lease is gone, the copy cannot write at all.
        etcd.revoke(1);
        assert!(etcd.txn(&a.txn(&pool, &[4])).is_err());
    }

    #[test]
    fn a_late_release_does_not_free_the_successors_slot() {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(9));
        let a = claim(&mut etcd, &pool, 1);
        let Outcome::Mine { epoch, .. } = send(&mut etcd, &pool, &a, &[4]) else {
            panic!("free");
        };
        etcd.revoke(1);
        let b = claim(&mut etcd, &pool, 2);
        send(&mut etcd, &pool, &b, &[4]);
        let reply = etcd
            .txn(&release(&pool.slot(4), epoch, 1, None))
            .expect("done");
        assert!(!reply.succeeded);
        assert_eq!(etcd.get(pool.slot(4).as_str()).map(|kv| kv.lease), Some(2));
    }

    /// Claims of 1,024 ids by a thousand, each of which knows of `crowd` earlier ones only what etcd
    /// tells it; returns how many transactions that takes.
    fn a_thousand_claims(order: Order) -> u64 {
        let (mut etcd, pool) = (MiniEtcd::new(), pool(1_023));
        let mut taken = BTreeSet::new();
        for lease in 1..=1_000 {
            let claim = claim(&mut etcd, &pool, lease);
            let mut used = BTreeSet::new();
            let mut choice = Choice::new(order, None);
            loop {
                let drawn = choice.next(&pool, &used);
                match send(&mut etcd, &pool, &claim, &drawn) {
                    Outcome::Mine { number, .. } => break assert!(taken.insert(number)),
                    Outcome::Taken { used: now } => used = now,
                    Outcome::Spent => panic!("nothing was freed"),
                }
                choice.missed();
            }
        }
        etcd.transactions
    }

    /// Every process draws at random: a thousand claims of 1,024 ids need hardly more than one
    /// transaction each.
    #[test]
    fn a_thousand_claims_need_about_one_transaction_each() {
        let transactions = a_thousand_claims(Order::Any);
        assert!(transactions <= 1_100, "{transactions}");
    }

    /// One after the other, each finds the lowest taken, is told all that are, and takes the next.
    #[test]
    fn dense_claims_need_two_transactions_each() {
        let transactions = a_thousand_claims(Order::Dense);
        assert!(transactions <= 2_000, "{transactions}");
    }
}
