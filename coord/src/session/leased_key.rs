//! [`LeasedKey`]: a key that lives with a session, and owns its undo.

use super::{Receipt, Session, UndoQueue};
use crate::{client::Op, key::Key};

/// A key that is or may come to be on etcd under a session's lease.
///
/// It is made *before* the transaction that puts it is sent: if the caller is dropped in between,
/// the drop hands the key to the undo queue.
#[derive(Debug)]
pub(crate) struct LeasedKey {}

impl LeasedKey {
    /// `fence`: the session key whose rewriting keeps late copies of the put from taking effect
    /// (the put's transaction must compare its `mod_revision`). Without one an unknown put is undone
    /// by a plain delete.
    pub(crate) fn prepare(
        _session: &Session,
        _key: Key,
        _fence: Option<Key>,
        _undo: &UndoQueue,
    ) -> Self {
        todo!()
    }

    pub(crate) fn key(&self) -> &Key {
        todo!()
    }

    pub(crate) fn session(&self) -> &Session {
        todo!()
    }

    /// The put, for a transaction.
    pub(crate) fn put(&self, _value: Vec<u8>) -> Op {
        todo!()
    }

    /// A copy of the put was sent and its answer is not known (say so *before* it is sent, take it
    /// back with [`settled`](Self::settled)). Sticky once a send ended unknown.
    pub(crate) fn sent(&mut self) {
        todo!()
    }

    /// The copy that was sent last has been answered, and no copy before it is unanswered.
    pub(crate) fn settled(&mut self) {
        todo!()
    }

    /// A copy that was sent ended unknown: from now on the undo is the fence.
    pub(crate) fn unknown(&mut self) {
        todo!()
    }

    /// Deletes the key in the background and returns what can be waited for.
    pub(crate) fn release(self) -> Receipt {
        todo!()
    }

    /// Nothing is to be undone: the key is known to be gone, or its session is.
    pub(crate) fn forget(self) {
        todo!()
    }
}
