//! [`UndoQueue`]: what drops must undo, as plain data, retried until done.

use crate::{client::KeyValue, error::Result, key::Key};

/// One thing to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Delete the keys. They are unique to one attempt, so no guard is needed and a repeat is harmless.
    Delete { keys: Vec<Key> },
    /// Put the session key *with its lease* (without it the key would detach and outlive the
    /// session) and delete the keys, in one transaction: every older put that compares the session
    /// key's `mod_revision` can then never succeed.
    Fence {
        session_key: Key,
        lease: i64,
        keys: Vec<Key>,
    },
}

/// Takes undos from anywhere, also from a `Drop` outside any runtime; runs them in the background.
#[derive(Clone, Debug)]
pub(crate) struct UndoQueue {}

impl UndoQueue {
    /// Never blocks. The receipt may be dropped.
    pub(crate) fn push(&self, _undo: Undo) -> Receipt {
        todo!()
    }

    /// How many are waiting or under way.
    pub(crate) fn len(&self) -> usize {
        todo!()
    }
}

/// Waits for one undo.
#[derive(Debug)]
#[must_use = "the undo runs anyway; drop the receipt to say that nobody waits"]
pub(crate) struct Receipt {}

impl Receipt {
    /// What was deleted: for each key of the undo, in order, the record that was there.
    ///
    /// # Cancel safety
    /// Safe: the undo goes on.
    pub(crate) async fn done(self) -> Result<Vec<Option<KeyValue>>> {
        todo!()
    }
}
