//! [`Place`]: the map, the revision that it equals, and what of the store's history is known.

use std::collections::BTreeMap;

use super::{Change, list::Sent, mutation::mutated};
use crate::{
    client::{Event, EventKind, Header, KeyValue},
    clock::Instant,
};

pub(super) type Map = BTreeMap<Vec<u8>, KeyValue>;

/// Where a watch stands in the store's history.
#[derive(Debug, Default)]
pub(super) struct Place {
    map: Map,
    /// The last revision that the map equals; 0 before the first list.
    pos: i64,
    /// Of the linearizable answers so far. A lower term, or another cluster, is another history.
    term: u64,
    cluster: u64,
    /// A linearizable answer that `pos` has not reached: when it was sent, and its revision.
    unreached: Option<(Instant, i64)>,
    verified_at: Option<Instant>,
}

impl Place {
    pub(super) fn map(&self) -> &Map {
        &self.map
    }

    pub(super) fn pos(&self) -> i64 {
        self.pos
    }

    pub(super) fn verified_at(&self) -> Option<Instant> {
        self.verified_at
    }

    /// To be kept with a linearizable read that is sent now.
    pub(super) fn sent(&self, at: Instant) -> Sent {
        Sent {
            at,
            pos: self.pos,
            term: self.term,
            cluster: self.cluster,
        }
    }

    /// Rule 10: does a linearizable answer prove that history went back? It is compared with what
    /// was known when it was sent: it may be older than an event that was folded since.
    pub(super) fn went_back(&self, sent: &Sent, header: &Header) -> bool {
        if mutated!(NoRegressionCheck) {
            return false;
        }
        let pos = if mutated!(CompareWithPresentPosition) {
            self.pos
        } else {
            sent.pos
        };
        header.revision < pos
            || header.raft_term < sent.term
            || (sent.cluster != 0 && header.cluster_id != sent.cluster)
    }

    /// Rule 10: is a stream's member behind? It may lag, so this proves nothing.
    pub(super) fn is_ahead_of(&self, header: &Header) -> bool {
        !mutated!(NoRegressionCheck)
            && (header.revision < self.pos
                || header.raft_term < self.term
                || (self.cluster != 0 && header.cluster_id != self.cluster))
    }

    /// Rule 13: a linearizable answer came that does not prove a step back.
    pub(super) fn answered(&mut self, sent: &Sent, header: &Header) {
        self.term = self.term.max(header.raft_term);
        self.cluster = header.cluster_id;
        self.unreached = Some((sent.at, header.revision));
        self.reach(self.pos);
    }

    /// Nothing changed in the range up to `revision`.
    pub(super) fn reach(&mut self, revision: i64) {
        self.pos = self.pos.max(revision);
        if let Some((sent_at, _)) = self.unreached.take_if(|(_, answer)| *answer <= self.pos) {
            self.verified_at = self.verified_at.max(Some(sent_at));
        }
    }

    /// Rule 1: folds whole revisions. What is not after `pos` was folded before, or came with a list.
    pub(super) fn fold(
        &mut self,
        mut events: Vec<Event>,
        journal: Option<&mut Journal>,
    ) -> Vec<Change> {
        if !mutated!(StartAtPosition) {
            events.retain(|event| event.kv.mod_revision > self.pos);
        }
        let Some(last) = events.last().map(|event| event.kv.mod_revision) else {
            return Vec::new();
        };
        if let Some(journal) = journal {
            events.iter().for_each(|event| journal.note(event));
        }
        let changes = fold(&mut self.map, events);
        self.reach(last);
        changes
    }

    /// Rule 3: a list sets the place, also to a lower revision.
    pub(super) fn install(&mut self, header: &Header, sent: &Sent, list: Map) -> Vec<Change> {
        self.pos = header.revision;
        self.term = header.raft_term;
        self.cluster = header.cluster_id;
        self.unreached = None;
        self.verified_at = Some(sent.at);
        replace(&mut self.map, list)
    }

    /// Rule 8: an audit's list, with the events after it laid over it.
    pub(super) fn overlay(
        &mut self,
        header: &Header,
        sent: &Sent,
        mut list: Map,
        journal: Journal,
    ) -> Vec<Change> {
        journal.overlay(&mut list, header.revision);
        let changes = replace(&mut self.map, list);
        self.answered(sent, header);
        self.reach(header.revision);
        changes
    }
}

/// Folds `events` in order; what changed, one entry per event that changed anything.
fn fold(map: &mut Map, events: Vec<Event>) -> Vec<Change> {
    let mut changes = Vec::with_capacity(events.len());
    for Event { kind, kv } in events {
        let key = kv.key.clone();
        match kind {
            EventKind::Put => {
                let old = map.insert(key.clone(), kv.clone());
                changes.push(Change {
                    key,
                    old,
                    new: Some(kv),
                });
            }
            EventKind::Delete => {
                if let Some(old) = map.remove(&key) {
                    changes.push(Change {
                        key,
                        old: Some(old),
                        new: None,
                    });
                }
            }
        }
    }
    changes
}

/// Replaces the map by `next`; what differs, in key order. The old map is never cleared first: a key
/// that is in both is not told as gone and come.
fn replace(map: &mut Map, next: Map) -> Vec<Change> {
    let mut changes = Vec::new();
    for (key, new) in &next {
        let old = map.remove(key);
        if old.as_ref() != Some(new) || mutated!(ClearThenFill) {
            changes.push(Change {
                key: key.clone(),
                old,
                new: Some(new.clone()),
            });
        }
    }
    // What is left of the old map is not in the new one.
    changes.extend(std::mem::take(map).into_iter().map(|(key, old)| Change {
        key,
        old: Some(old),
        new: None,
    }));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    *map = next;
    changes
}

/// The last event of every key since an audit was sent, deletions too: without them the audit's
/// list would bring back what was deleted while it was on its way.
#[derive(Debug, Default)]
pub(super) struct Journal(BTreeMap<Vec<u8>, Event>);

impl Journal {
    fn note(&mut self, event: &Event) {
        if mutated!(AuditResurrects) && event.kind == EventKind::Delete {
            return;
        }
        self.0.insert(event.kv.key.clone(), event.clone());
    }

    /// Lays the events after `revision` over a list made at it.
    fn overlay(self, list: &mut Map, revision: i64) {
        if mutated!(AuditReplaces) {
            return;
        }
        let later = self
            .0
            .into_values()
            .filter(|event| event.kv.mod_revision > revision);
        fold(list, later.collect());
    }
}
