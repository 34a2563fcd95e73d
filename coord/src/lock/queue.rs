//! [`View`]: what one queue entry knows of its queue, and what follows from it.
//!
//! Pure: no clock, no task, no etcd. The hub feeds it what the watch tells and what reads answer; it
//! says whether the entry owns the lock, is gone, needs a read, or waits.
//!
//! # Rules
//! Entries own in the order of their create revisions; an entry's own is R. The set of entries
//! created before R only shrinks, so it is enough to see each of them deleted.
//! 1. A snapshot is the set of entries created before R, at the header revision H of the reply that
//!    carried it. It is usable iff everything deleted after H is or will be told: the watch, as this
//!    entry has it, begins at a revision ≤ H. Deletions that arrive while a reply is under way are
//!    kept, and applied to it if they are later than H: else a reply that is overtaken by a deletion
//!    would bring the deleted entry back, and the wait would never end.
//! 2. A read asks for entries created up to R, newest first. Its first one must be the entry itself,
//!    else the entry is gone: an empty list does not mean that it owns. A read from before the watch
//!    was opened again is void.
//! 3. All deletions of one revision are applied, the own entry first, before anything is concluded: a
//!    revoked lease deletes the holder's and the waiter's entry together.
//! 4. Whether a list is complete is told by `more`, never by `count` (which ignores the filter).

use std::collections::{HashMap, HashSet};

use crate::{
    client::{KeyValue, Order, Range, Span},
    clock::Instant,
    key::Prefix,
};

/// How many entries ahead are listed at once. Further ones matter only once these are gone.
const NEAREST: usize = 32;

/// The range of an acquire: who is ahead of an entry that is about to be put. Ordered by creation,
/// newest first, so that a cut list holds the nearest ones.
pub(super) fn ahead_of_new(queue: &Prefix) -> Range {
    Range {
        limit: NEAREST as i64,
        order: Order::CreateDescending,
        keys_only: true,
        ..Range::new(Span::prefix(queue))
    }
}

/// The range of a read for an entry created at `revision`: itself and who is ahead (rule 2).
fn ahead_of(queue: &Prefix, revision: i64) -> Range {
    Range {
        limit: NEAREST as i64 + 1,
        max_create_revision: revision,
        ..ahead_of_new(queue)
    }
}

/// What follows from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Somebody is ahead, or the watch is not open.
    Wait,
    /// What is known is not enough: ask etcd.
    Read,
    /// The entry was seen to be the first one.
    Own,
    /// The entry was deleted, by whomever.
    Gone,
    /// This entry is ahead and has no lease: no crash will ever remove it.
    Stuck(Vec<u8>),
}

/// The entries ahead, at one revision (rule 1).
#[derive(Debug)]
struct Snapshot {
    at: i64,
    /// With their leases.
    ahead: HashMap<Vec<u8>, i64>,
    complete: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct View {
    entry: Vec<u8>,
    /// R, once an answer told it.
    created: Option<i64>,
    /// Every deletion after this revision is told. `None`: there is no watch at the moment.
    from: Option<i64>,
    known: Option<Snapshot>,
    /// What was deleted while a reply is under way, and when.
    told: Vec<(i64, Vec<u8>)>,
    reading: bool,
    /// A read is wanted although nothing seems to be missing.
    audit: bool,
    gone: bool,
    /// When something was last learned about those ahead.
    learned_at: Instant,
}

impl View {
    /// A view for the entry `entry` that is about to be sent. `from`: everything deleted after this
    /// revision will be told from now on.
    pub(super) fn new(entry: Vec<u8>, from: Option<i64>, now: Instant) -> Self {
        Self {
            entry,
            created: None,
            from,
            known: None,
            told: Vec::new(),
            reading: false,
            audit: false,
            gone: false,
            learned_at: now,
        }
    }

    /// The acquire was answered: the entry was put at `revision`, and `ahead` is the list made in the
    /// same transaction.
    pub(super) fn put(
        &mut self,
        revision: i64,
        ahead: &[KeyValue],
        more: bool,
        now: Instant,
    ) -> Step {
        self.found(revision, now);
        if self.gone {
            return Step::Gone;
        }
        self.install(revision, ahead, more, now);
        self.told.clear();
        match &self.known {
            // It was the first one in the very transaction that put it: no watch is needed to say so.
            Some(known) if known.complete && ahead.is_empty() => Step::Own,
            _ => self.step(),
        }
    }

    /// The entry is there since `revision`, by an earlier copy of the acquire; who is ahead is not
    /// known.
    pub(super) fn found(&mut self, revision: i64, now: Instant) {
        self.created = Some(revision);
        self.learned_at = now;
        let entry = &self.entry;
        self.gone |= self
            .told
            .iter()
            .any(|(at, key)| *at > revision && key == entry);
    }

    /// The watch is open: everything deleted after `revision` will be told.
    pub(super) fn opened(&mut self, revision: i64) {
        self.from = Some(revision);
    }

    /// The watch is gone.
    pub(super) fn closed(&mut self) {
        self.from = None;
    }

    /// All deletions of one revision (rule 3).
    pub(super) fn deleted(&mut self, revision: i64, keys: &[Vec<u8>], now: Instant) {
        if self.created.is_none() || self.reading {
            self.told
                .extend(keys.iter().map(|key| (revision, key.clone())));
        }
        if self.created.is_some_and(|created| revision > created) && keys.contains(&self.entry) {
            self.gone = true;
        }
        if let Some(known) = &mut self.known
            && revision > known.at
        {
            for key in keys {
                if known.ahead.remove(key).is_some() {
                    self.learned_at = now;
                }
            }
        }
    }

    /// Nothing was learned since `limit`: ask, for the case that the server lost an event.
    pub(super) fn audit(&mut self, limit: Instant) {
        self.audit |= self.learned_at < limit;
    }

    /// The read to send now, if one is wanted and none is under way.
    pub(super) fn start_read(&mut self, queue: &Prefix) -> Option<Range> {
        let created = self.created?;
        if self.reading || self.step() != Step::Read {
            return None;
        }
        self.reading = true;
        Some(ahead_of(queue, created))
    }

    /// The read was answered. True: an audit found an entry gone that no event had told of.
    pub(super) fn read(&mut self, at: i64, kvs: &[KeyValue], more: bool, now: Instant) -> bool {
        self.reading = false;
        let missed = self.judge(at, kvs, more, now);
        self.told.clear();
        missed
    }

    fn judge(&mut self, at: i64, kvs: &[KeyValue], more: bool, now: Instant) -> bool {
        if self.from.is_none_or(|from| at < from) {
            return false;
        }
        let ahead = match kvs.split_first() {
            Some((own, ahead))
                if own.key == self.entry && Some(own.create_revision) == self.created =>
            {
                ahead
            }
            _ => {
                self.gone = true;
                return false;
            }
        };
        let audited = std::mem::take(&mut self.audit);
        let missed = audited
            && !more
            && self.known.as_ref().is_some_and(|known| {
                let here: HashSet<&[u8]> = ahead.iter().map(|kv| kv.key.as_slice()).collect();
                known.ahead.keys().any(|key| !here.contains(key.as_slice()))
            });
        self.install(at, ahead, more, now);
        missed
    }

    fn install(&mut self, at: i64, ahead: &[KeyValue], more: bool, now: Instant) {
        let gone: HashSet<&[u8]> = self
            .told
            .iter()
            .filter(|(revision, _)| *revision > at)
            .map(|(_, key)| key.as_slice())
            .collect();
        self.known = Some(Snapshot {
            at,
            ahead: ahead
                .iter()
                .filter(|kv| !gone.contains(kv.key.as_slice()))
                .map(|kv| (kv.key.clone(), kv.lease))
                .collect(),
            complete: !more,
        });
        self.learned_at = now;
    }

    /// What follows.
    pub(super) fn step(&self) -> Step {
        if self.gone {
            return Step::Gone;
        }
        let (Some(_), Some(from)) = (self.created, self.from) else {
            return Step::Wait;
        };
        match &self.known {
            Some(known) if from <= known.at && !self.audit => match known.ahead.is_empty() {
                true if known.complete => Step::Own,
                true => Step::Read,
                false => match known.ahead.iter().find(|(_, lease)| **lease == 0) {
                    Some((key, _)) => Step::Stuck(key.clone()),
                    None => Step::Wait,
                },
            },
            _ => Step::Read,
        }
    }

    /// How many are ahead, if that is known.
    pub(super) fn position(&self) -> Option<u32> {
        let known = self.known.as_ref().filter(|known| known.complete)?;
        u32::try_from(known.ahead.len()).ok()
    }
}

#[cfg(test)]
mod tests {
    //! Every test is a story that once went wrong in a model of the protocol, told by events. The
    //! numbers are revisions.

    use super::*;

    const NOW: Instant = Instant::from_micros(1);

    fn kv(key: &str, create_revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision,
            lease: 7,
            ..KeyValue::default()
        }
    }

    fn keys(of: &[&str]) -> Vec<Vec<u8>> {
        of.iter().map(|key| (*key).into()).collect()
    }

    fn queue() -> Prefix {
        crate::key::Layout::new("", "config/", "coord/", "coord/")
            .lock_queue("q")
            .expect("a valid name")
    }

    fn view(from: Option<i64>) -> View {
        View::new(b"me".to_vec(), from, NOW)
    }

    /// A view that waits for `a` (created at 4) since revision 5, with the watch open from there.
    fn waiting() -> View {
        let mut view = view(None);
        assert_eq!(view.put(5, &[kv("a", 4)], false, NOW), Step::Wait);
        view.opened(5);
        assert_eq!(view.step(), Step::Wait);
        view
    }

    #[test]
    fn whoever_is_alone_in_the_transaction_that_put_it_owns_without_a_watch() {
        assert_eq!(view(None).put(5, &[], false, NOW), Step::Own);
        assert_eq!(view(Some(2)).put(5, &[], false, NOW), Step::Own);
    }

    #[test]
    fn the_last_deletion_ahead_is_the_grant_and_no_read_is_made() {
        let mut view = view(None);
        view.put(5, &[kv("b", 4), kv("a", 3)], false, NOW);
        view.opened(5);
        assert_eq!(view.position(), Some(2));
        view.deleted(6, &keys(&["b"]), NOW);
        assert_eq!((view.step(), view.position()), (Step::Wait, Some(1)));
        view.deleted(7, &keys(&["stranger"]), NOW);
        assert_eq!(view.step(), Step::Wait);
        view.deleted(8, &keys(&["a"]), NOW);
        assert_eq!(view.step(), Step::Own);
        assert_eq!(view.start_read(&queue()), None);
    }

    #[test]
    fn without_a_watch_a_deletion_can_be_missed_so_nothing_is_concluded() {
        let mut view = waiting();
        view.closed();
        assert_eq!(view.step(), Step::Wait);
        assert_eq!(view.start_read(&queue()), None);
    }

    /// The holder's deletion reaches the hub before the waiter's reply, which then brings it back.
    #[test]
    fn a_deletion_that_overtakes_the_reply_is_applied_to_it() {
        let mut view = view(Some(2));
        view.deleted(6, &keys(&["a"]), NOW);
        assert_eq!(view.put(5, &[kv("a", 4)], false, NOW), Step::Own);
    }

    /// Another client makes its key again under the same name after it was deleted.
    #[test]
    fn a_deletion_from_before_the_snapshot_is_of_an_older_key_of_that_name() {
        let mut overtaken = view(Some(1));
        overtaken.deleted(3, &keys(&["go"]), NOW);
        assert_eq!(overtaken.put(5, &[kv("go", 4)], false, NOW), Step::Wait);

        let mut lagging = view(Some(1));
        lagging.put(5, &[kv("go", 4)], false, NOW);
        lagging.deleted(3, &keys(&["go"]), NOW);
        assert_eq!(lagging.step(), Step::Wait);
        lagging.deleted(6, &keys(&["go"]), NOW);
        assert_eq!(lagging.step(), Step::Own);
    }

    /// What was deleted between the acquire and the opening of the watch is told by nobody.
    #[test]
    fn a_watch_that_begins_after_the_snapshot_needs_a_read() {
        let mut view = view(None);
        view.put(5, &[kv("a", 4)], false, NOW);
        view.opened(9);
        assert_eq!(view.step(), Step::Read);
        let range = view.start_read(&queue()).expect("a read");
        // Later entries must not be listed: two waiters would wait for each other.
        assert_eq!(range.max_create_revision, 5);
        assert_eq!(
            (range.order, range.serializable),
            (Order::CreateDescending, false)
        );
        assert_eq!(view.start_read(&queue()), None, "one read at a time");
        view.read(9, &[kv("me", 5)], false, NOW);
        assert_eq!(view.step(), Step::Own);
    }

    /// Also one that was open before the acquire was answered, but after its revision.
    #[test]
    fn what_counts_is_the_revision_of_the_reply_and_not_the_entrys_own() {
        let mut view = view(Some(8));
        assert_eq!(view.put(5, &[kv("a", 4)], false, NOW), Step::Read);
        view.start_read(&queue()).expect("a read");
        view.read(8, &[kv("me", 5), kv("a", 4)], false, NOW);
        assert_eq!(view.step(), Step::Wait);
    }

    /// The entry itself was deleted in the gap: then the list is empty, and that is no grant.
    #[test]
    fn a_read_that_does_not_begin_with_the_entry_says_that_it_is_gone() {
        for answer in [vec![], vec![kv("a", 4)], vec![kv("me", 7)]] {
            let mut view = view(None);
            view.put(5, &[kv("a", 4)], false, NOW);
            view.opened(9);
            view.start_read(&queue()).expect("a read");
            view.read(9, &answer, false, NOW);
            assert_eq!(view.step(), Step::Gone, "{answer:?}");
        }
    }

    #[test]
    fn a_read_from_before_the_watch_was_opened_again_is_void() {
        let mut view = waiting();
        view.closed();
        view.opened(9);
        view.start_read(&queue()).expect("a read");
        view.closed();
        view.opened(12);
        view.read(10, &[kv("me", 5)], false, NOW);
        assert_eq!(view.step(), Step::Read);
        view.start_read(&queue()).expect("another read");
        view.read(12, &[kv("me", 5)], false, NOW);
        assert_eq!(view.step(), Step::Own);
    }

    #[test]
    fn a_deletion_that_overtakes_a_read_is_applied_to_it() {
        let mut view = waiting();
        view.opened(9);
        view.start_read(&queue()).expect("a read");
        view.deleted(11, &keys(&["a"]), NOW);
        view.read(10, &[kv("me", 5), kv("a", 4)], false, NOW);
        assert_eq!(view.step(), Step::Own);
    }

    /// Holder and waiter share a session: a revoked lease deletes both at one revision.
    #[test]
    fn deletions_of_one_revision_are_one_and_the_own_entry_comes_first() {
        for order in [["a", "me"], ["me", "a"]] {
            let mut waiting = waiting();
            waiting.deleted(8, &keys(&order), NOW);
            assert_eq!(waiting.step(), Step::Gone);

            let mut overtaken = view(Some(2));
            overtaken.deleted(8, &keys(&order), NOW);
            assert_eq!(overtaken.put(5, &[kv("a", 4)], false, NOW), Step::Gone);
            let mut alone = view(Some(2));
            alone.deleted(8, &keys(&order), NOW);
            assert_eq!(alone.put(5, &[], false, NOW), Step::Gone);
        }
    }

    /// An earlier copy of the acquire was applied. Its list is lost, and a list made now would hold
    /// later entries too.
    #[test]
    fn an_entry_that_is_found_reads_who_is_ahead() {
        let mut view = view(Some(2));
        view.found(5, NOW);
        assert_eq!(view.step(), Step::Read);
        assert_eq!(
            view.start_read(&queue())
                .expect("a read")
                .max_create_revision,
            5
        );
        view.read(9, &[kv("me", 5), kv("a", 4)], false, NOW);
        assert_eq!(view.step(), Step::Wait);
        view.deleted(10, &keys(&["a"]), NOW);
        assert_eq!(view.step(), Step::Own);
    }

    #[test]
    fn an_entry_that_was_deleted_before_it_was_found_is_gone() {
        let mut view = view(Some(2));
        view.deleted(7, &keys(&["me"]), NOW);
        view.found(5, NOW);
        assert_eq!(view.step(), Step::Gone);
    }

    #[test]
    fn a_cut_list_is_read_again_when_its_part_is_empty() {
        let mut view = view(None);
        view.put(50, &[kv("b", 49)], true, NOW);
        view.opened(50);
        assert_eq!((view.step(), view.position()), (Step::Wait, None));
        view.deleted(51, &keys(&["b"]), NOW);
        assert_eq!(view.step(), Step::Read);
        view.start_read(&queue()).expect("a read");
        // `count` would say 2 or more here for ever; it is not looked at.
        view.read(52, &[kv("me", 50), kv("a", 3)], false, NOW);
        assert_eq!(view.step(), Step::Wait);
    }

    /// The server swallowed a deletion.
    #[test]
    fn an_audit_finds_a_deletion_that_was_not_told() {
        let mut view = waiting();
        view.audit(NOW);
        assert_eq!(view.step(), Step::Wait, "it has learned something just now");
        view.audit(NOW + std::time::Duration::from_secs(1));
        view.start_read(&queue()).expect("a read");
        assert!(view.read(9, &[kv("me", 5)], false, NOW), "a missed event");
        assert_eq!(view.step(), Step::Own);
        view.closed();
        view.opened(12);
        assert_eq!(view.step(), Step::Read, "an owner makes sure of its entry");
    }

    #[test]
    fn an_audit_that_finds_nothing_new_changes_nothing() {
        let mut view = waiting();
        view.audit(NOW + std::time::Duration::from_secs(1));
        view.start_read(&queue()).expect("a read");
        assert!(!view.read(9, &[kv("me", 5), kv("a", 4)], false, NOW));
        assert_eq!(view.step(), Step::Wait);
    }

    #[test]
    fn an_entry_without_a_lease_ahead_is_named() {
        let mut view = view(None);
        let stray = KeyValue {
            lease: 0,
            ..kv("stray", 4)
        };
        view.put(5, &[stray], false, NOW);
        view.opened(5);
        assert_eq!(view.step(), Step::Stuck(b"stray".to_vec()));
    }

    #[test]
    fn an_owner_whose_entry_is_deleted_is_told() {
        let mut view = waiting();
        view.deleted(6, &keys(&["a"]), NOW);
        assert_eq!(view.step(), Step::Own);
        view.deleted(9, &keys(&["me"]), NOW);
        assert_eq!(view.step(), Step::Gone);
    }
}
