//! [`LockTransaction`]: writes that etcd carries out only while the lock is held.

use std::{fmt, sync::Arc};

use super::hold::Hold;
use crate::{
    client::{Compare, CompareOp, KeyValue, Op, OpReply, Range, Span, Txn, TxnReply},
    error::{Context, Error, LostReason, Result},
    key::Key,
};

const COMMIT: &str = "commit under lock";

/// How many operations etcd takes in one branch of a transaction, and how many comparisons.
const MAX_OPS: usize = 128;

/// Writes that happen together, and only while the lock is held. Made by
/// [`Held::transaction`](super::Held::transaction).
///
/// Keys are as they stand on etcd: neither the namespace nor any prefix is put before them.
#[must_use = "nothing is written before `commit`"]
pub struct LockTransaction {
    hold: Arc<Hold>,
    expected: Vec<(Vec<u8>, i64)>,
    writes: Vec<Op>,
}

impl LockTransaction {
    pub(super) fn new(hold: Arc<Hold>) -> Self {
        Self {
            hold,
            expected: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Puts `value` at `key`, without a lease.
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Op::Put {
            key: key.into(),
            value: value.into(),
            lease: 0,
        });
        self
    }

    /// Deletes `key`, if it exists.
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Op::Delete {
            span: Span::Key(key.into()),
            prev: false,
        });
        self
    }

    /// Nothing at all is written unless `key` was last written at `revision` (its `mod_revision`; 0: it
    /// does not exist).
    pub fn compare(mut self, key: impl Into<Vec<u8>>, revision: i64) -> Self {
        self.expected.push((key.into(), revision));
        self
    }

    /// Carries it out, and returns the revision that it made.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock is not held any more; [`Error::Conflict`] with a compared key and the
    /// revision that it has; [`Error::Invalid`] for more than 128 writes, for more than 128 comparisons, of
    /// which each name that is held is one, for an empty key, and for a key that is written twice; [`Error::Unavailable`] and [`Error::Timeout`], of which
    /// [`maybe_applied`](Error::maybe_applied) says whether it may have been carried out.
    ///
    /// # Cancel safety
    /// Dropped after its first poll all of it may happen, or nothing.
    pub async fn commit(self) -> Result<i64> {
        let hold = &self.hold;
        hold.check()?;
        let Some(queued) = hold.queued() else {
            return Err(Error::NotConfigured {
                context: self.context(),
                detail: "this lock is a double: there is no etcd to write to".into(),
            });
        };
        loop {
            let entries = queued.entries();
            let most = self.writes.len().max(self.expected.len() + entries.len());
            if most > MAX_OPS {
                let fault =
                    format!("{most} operations are more than etcd takes at once: {MAX_OPS}");
                return Err(Error::invalid(COMMIT, fault));
            }
            let engine = queued.session.engine();
            // On the heap, as the acquire is.
            let reply = Box::pin(engine.write(self.txn(&entries))).await;
            let reply = reply.map_err(|error| error.into_error(self.context()))?;
            if reply.succeeded {
                return Ok(reply.header.revision);
            }
            // Else it was downgraded meanwhile, and has other entries.
            if Arc::ptr_eq(&entries, &queued.entries()) {
                return Err(self.refused(reply, entries.len()));
            }
        }
    }

    fn txn(&self, entries: &[Key]) -> Txn {
        let look = |span: &Span| {
            Op::Get(Range {
                keys_only: true,
                ..Range::new(span.clone())
            })
        };
        let revision = self.hold.revision();
        let mut txn = Txn {
            then: self.writes.clone(),
            ..Txn::default()
        };
        for entry in entries {
            let span = Span::key(entry);
            txn.otherwise.push(look(&span));
            txn.when
                .push(Compare::create_revision(span, CompareOp::Equal, revision));
        }
        for (name, revision) in &self.expected {
            let span = Span::Key(name.clone());
            txn.otherwise.push(look(&span));
            txn.when
                .push(Compare::mod_revision(span, CompareOp::Equal, *revision));
        }
        txn
    }

    /// Why nothing was written.
    fn refused(&self, reply: TxnReply, entries: usize) -> Error {
        let mut found = reply.replies.into_iter().map(|reply| match reply {
            OpReply::Get(range) => range.kvs.into_iter().next().unwrap_or_default(),
            OpReply::Put | OpReply::Delete(_) | OpReply::Txn(_) => KeyValue::default(),
        });
        let revision = self.hold.revision();
        if found
            .by_ref()
            .take(entries)
            .any(|kv| kv.create_revision != revision)
        {
            // Unless it was given back meanwhile: then it is gone for that reason.
            self.hold.lose(LostReason::Revoked);
        }
        if let Err(lost) = self.hold.check() {
            return lost;
        }
        let found = found.map(|kv| kv.mod_revision);
        let conflict = self
            .expected
            .iter()
            .zip(found)
            .find(|((_, expected), found)| expected != found);
        let (key, current) = conflict.map_or((&[][..], 0), |((key, _), now)| (key, now));
        Error::Conflict {
            context: Context::new(COMMIT).key(String::from_utf8_lossy(key)),
            current,
        }
    }

    fn context(&self) -> Context {
        Context::new(COMMIT).key(self.hold.identity().name())
    }
}

/// Shows the keys, not the values: they may be secret.
impl fmt::Debug for LockTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self
            .writes
            .iter()
            .filter_map(|write| match write {
                Op::Put { key, .. }
                | Op::Delete {
                    span: Span::Key(key),
                    ..
                } => Some(String::from_utf8_lossy(key)),
                _ => None,
            })
            .collect();
        f.debug_struct("LockTransaction")
            .field("lock", &self.hold.identity().name())
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
