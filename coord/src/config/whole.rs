//! [`Whole`]: a write that makes all keys of a place what they are to be, and is not mixed with
//! another such.
//!
//! A range of keys can be compared as "put by nobody since"; that a key was deleted is seen only by a
//! compare that names it. So every key that stays as it is is named, as far as there is room. Of a
//! place with more keys the others are covered by this: such a write that only deletes also puts one
//! of its keys again, which the compare of the range sees.

use super::history::{Change, MAX_KEYS, MAX_OPS, Place};
use crate::{
    client::{Compare, CompareOp, Span},
    key::Key,
};

/// How many keys that stay as they are can be named, however many are written: two compares for each
/// of those, and one for the range.
const NAMED: usize = MAX_OPS - 2 * MAX_KEYS - 1;

/// What is to be written, and what was read before.
pub(super) struct Whole {
    /// The revision of what was read.
    pub(super) revision: i64,
    /// How many keys there were.
    pub(super) found: usize,
    pub(super) writes: Vec<(Place, Change)>,
    /// The keys that stay as they are, with their revisions.
    pub(super) same: Vec<(Key, i64)>,
    /// Puts the last of those again.
    pub(super) again: Option<(Place, Change)>,
}

impl Whole {
    /// The writes, and what must hold for them to be all that is needed. `span` has all the keys;
    /// `parts` has them too, with less of what stands between them.
    pub(super) fn guarded(
        mut self,
        versioned: bool,
        span: Span,
        parts: Vec<Span>,
    ) -> (Vec<(Place, Change)>, Vec<Compare>) {
        let only_deletes = self.writes.iter().all(|(_, change)| change.value.is_none());
        if only_deletes && !self.writes.is_empty() && self.found > NAMED && self.again.is_some() {
            self.same.pop();
            self.writes.extend(self.again);
        }
        let written = if versioned { 2 * self.writes.len() } else { 0 };
        let room = MAX_OPS.saturating_sub(written);
        let older = |span| Compare::mod_revision(span, CompareOp::Less, self.revision + 1);
        let mut guards: Vec<_> = parts.into_iter().map(older).collect();
        if self.same.len() + guards.len() > room {
            guards = vec![older(span)];
            self.same.truncate(room.saturating_sub(1));
        }
        guards.extend(self.same.into_iter().map(|(key, revision)| {
            Compare::mod_revision(Span::key(&key), CompareOp::Equal, revision)
        }));
        (self.writes, guards)
    }
}
