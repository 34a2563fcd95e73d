//! [`LeasedKey`]: a key, or several that are put together, that lives with a session, and owns its undo.

use super::{Nonce, Receipt, Session, Undo, UndoQueue};
use crate::{client::Op, key::Key};

/// A key that is or may come to be on etcd under a session's lease; or several, put and undone
/// together.
///
/// It is made *before* the transaction that puts it is sent: if the caller is dropped in between,
/// the drop hands the key to the undo queue.
///
/// | how it stands | a drop or release |
/// |---|---|
/// | never sent, or no copy was applied | does nothing |
/// | every copy of the put answered, one was applied | deletes the key |
/// | a copy unanswered, or one that ended unknown | sets the fence and deletes the key |
#[derive(Debug)]
pub(crate) struct LeasedKey {
    keys: Vec<Key>,
    fence: Option<Key>,
    session: Session,
    undo: UndoQueue,
    puts: Puts,
    nonce: Option<Nonce>,
    moved: bool,
}

/// What became of the copies of the put. An answer settles only its own copy.
#[derive(Clone, Copy, Debug, Default)]
struct Puts {
    in_flight: bool,
    applied: bool,
    unknown: bool,
}

impl LeasedKey {
    /// `fence`: the session key whose rewriting keeps late copies of the put from taking effect
    /// (the put's transaction must compare its `mod_revision`). Without one an unknown put is undone
    /// by a plain delete. `nonce`: the number in the keys' names, if others are to use it again.
    pub(crate) fn prepare(
        session: &Session,
        keys: Vec<Key>,
        fence: Option<Key>,
        nonce: Option<Nonce>,
        undo: &UndoQueue,
    ) -> Self {
        undo.own(&keys);
        Self {
            keys,
            fence,
            session: session.clone(),
            undo: undo.clone(),
            puts: Puts::default(),
            nonce,
            moved: false,
        }
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The put of each key, for one transaction.
    pub(crate) fn puts(&self, value: &[u8]) -> impl Iterator<Item = Op> {
        self.keys.iter().map(|key| Op::Put {
            key: key.as_bytes().to_vec(),
            value: value.to_vec(),
            lease: self.session.lease(),
        })
    }

    /// A copy of the put is about to be sent: say so *before* it is, and then say how it ended with
    /// [`applied`](Self::applied), [`refused`](Self::refused) or [`unknown`](Self::unknown).
    pub(crate) fn sent(&mut self) {
        self.puts.in_flight = true;
    }

    /// The answer to the copy that was sent last says that the key is there.
    pub(crate) fn applied(&mut self) {
        self.puts.in_flight = false;
        self.puts.applied = true;
    }

    /// The copy that was sent last did not put the key and never will: it did not leave, or its
    /// answer says so.
    pub(crate) fn refused(&mut self) {
        self.puts.in_flight = false;
    }

    /// The copy that was sent last ended unknown: from now on the undo is the fence.
    pub(crate) fn unknown(&mut self) {
        self.puts.in_flight = false;
        self.puts.unknown = true;
    }

    /// The keys may stand with another lease by now. They are deleted whether or not the session that
    /// they were put with still lives; and their number is not used again, because a late copy of what
    /// moved them, or of its undo, may come.
    pub(crate) fn moved(&mut self) {
        self.moved = true;
        self.nonce = None;
    }

    /// Deletes the keys in the background and returns what can be waited for.
    pub(crate) fn release(mut self) -> Receipt {
        self.undo().unwrap_or_else(Receipt::nothing)
    }

    /// Deletes some of the keys, which are known to be there, in the background; the others stay, and
    /// what undoes them.
    ///
    /// No fence is needed, also if there is one at the end: the put's transaction compares all of its
    /// keys, so no late copy of it takes effect while one of them is there.
    pub(crate) fn release_part(&mut self, part: &[Key]) -> Receipt {
        self.keys.retain(|key| !part.contains(key));
        // A copy of this delete may come after all others are done.
        self.nonce = None;
        let keys = part.to_vec();
        let receipt = self.undo.push(Undo::Delete { keys }, None);
        self.undo.disown(part);
        receipt
    }

    /// Nothing is to be undone: the key is known to be gone, or its session is.
    pub(crate) fn forget(mut self) {
        self.nonce = None;
        drop(self.take_undo());
    }

    fn undo(&mut self) -> Option<Receipt> {
        let undo = self.take_undo();
        let nonce = self.nonce.take();
        if let Some(undo) = undo {
            if self.moved && matches!(undo, Undo::Fence { .. }) {
                // Of a dead session the fence cannot be set, and need not: but the keys may be there.
                let keys = self.keys.clone();
                drop(self.undo.push(Undo::Delete { keys }, None));
            }
            return Some(self.undo.push(undo, nonce));
        }
        // No copy of the put was applied or ever will be.
        if let Some(nonce) = nonce {
            nonce.give_back();
        }
        None
    }

    /// What undoes it; once.
    fn take_undo(&mut self) -> Option<Undo> {
        let puts = std::mem::take(&mut self.puts);
        let unsure = puts.unknown || puts.in_flight;
        if unsure {
            self.nonce = None;
        } else if !puts.applied {
            return None;
        }
        let keys = self.keys.clone();
        Some(match &self.fence {
            Some(session_key) if unsure => Undo::Fence {
                session_key: session_key.clone(),
                lease: self.session.lease(),
                keys,
            },
            _ => Undo::Delete { keys },
        })
    }
}

impl Drop for LeasedKey {
    fn drop(&mut self) {
        drop(self.undo());
        self.undo.disown(&self.keys);
    }
}

#[cfg(test)]
mod tests;
