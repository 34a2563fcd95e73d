//! [`OwnKeys`]: one watch for all records of this coordinator in a range. [`OwnKey`]: one of them.
//!
//! The keys of one coordinator's instances begin alike, so its records of a service are one range: as
//! many registrations as there are share a watch, and none of them hears of other processes' records.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::chain::Seen;
use crate::{
    client::{KeyValue, Span},
    engine::Engine,
    key::Key,
    watch::{Cause, Update, Watcher},
};

/// The watch ends when the last [`OwnKey`] is gone.
#[derive(Debug)]
pub(super) struct OwnKeys {
    slots: Arc<Slots>,
    _ends: DropGuard,
}

/// By key; each as long as its [`OwnKey`].
#[derive(Debug, Default)]
struct Slots(Mutex<HashMap<Vec<u8>, Arc<Slot>>>);

#[derive(Debug, Default)]
struct Slot {
    /// What was seen and not yet told: the newest.
    unread: Mutex<Option<Seen>>,
    news: Notify,
}

impl OwnKeys {
    pub(super) fn watch(engine: &Engine, name: &str, span: Span) -> Self {
        let slots = Arc::<Slots>::default();
        let ended = CancellationToken::new();
        let ends = ended.clone().drop_guard();
        let watching = watching(engine.watcher(name, span), slots.clone());
        drop(engine.tasks.spawn(async move {
            ended.run_until_cancelled(watching).await;
        }));
        Self { slots, _ends: ends }
    }

    /// From now on `key`, which nobody else here looks after, is told of.
    pub(super) fn key(self: &Arc<Self>, key: &Key) -> OwnKey {
        let slot = Arc::<Slot>::default();
        let key = key.as_bytes().to_vec();
        self.slots.lock().insert(key.clone(), slot.clone());
        OwnKey {
            keys: self.clone(),
            key,
            slot,
        }
    }
}

async fn watching(mut watcher: Watcher, slots: Arc<Slots>) {
    loop {
        let update = watcher.next().await;
        slots.tell(&update, |key| watcher.map().get(key));
    }
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Slot>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell<'a>(&self, update: &Update, now: impl Fn(&[u8]) -> Option<&'a KeyValue>) {
        let seen = |key: &[u8]| Seen {
            at: update.revision,
            record: now(key).map(|kv| (kv.mod_revision, kv.lease)),
            regressed: update.cause == Cause::Regressed,
        };
        let slots = self.lock();
        if update.cause == Cause::Events {
            for change in &update.changes {
                if let Some(slot) = slots.get(&change.key) {
                    slot.put(seen(&change.key));
                }
            }
        } else {
            // A list speaks of every key: one that was put and deleted unseen is no change of the map,
            // and yet it is not there.
            for (key, slot) in &*slots {
                slot.put(seen(key));
            }
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        // Nothing panics while it is held.
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut seen: Seen) {
        let mut unread = self.lock();
        seen.regressed |= unread.is_some_and(|unread| unread.regressed);
        *unread = Some(seen);
        self.news.notify_one();
    }
}

/// One record of this coordinator's.
#[derive(Debug)]
pub(super) struct OwnKey {
    keys: Arc<OwnKeys>,
    key: Vec<u8>,
    slot: Arc<Slot>,
}

impl OwnKey {
    /// The record as it was seen last: after each change of it, and after each list of the range.
    ///
    /// # Cancel safety
    /// Safe: what was seen is told once this returns it.
    pub(super) async fn next(&mut self) -> Seen {
        loop {
            let unread = self.slot.lock().take();
            if let Some(seen) = unread {
                return seen;
            }
            self.slot.news.notified().await;
        }
    }
}

impl Drop for OwnKey {
    fn drop(&mut self) {
        self.keys.slots.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Change;

    fn record(key: &str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            mod_revision,
            lease: 7,
            ..KeyValue::default()
        }
    }

    fn update(revision: i64, cause: Cause, changed: &[&str]) -> Update {
        let change = |key: &&str| Change {
            key: (*key).into(),
            old: None,
            new: Some(record(key, revision)),
        };
        Update {
            revision,
            cause,
            changes: changed.iter().map(change).collect(),
        }
    }

    struct Rig {
        slots: Slots,
        a: Arc<Slot>,
        b: Arc<Slot>,
    }

    fn rig() -> Rig {
        let (slots, a, b) = (Slots::default(), Arc::default(), Arc::default());
        slots.lock().insert(b"a".to_vec(), Arc::clone(&a));
        slots.lock().insert(b"b".to_vec(), Arc::clone(&b));
        Rig { slots, a, b }
    }

    fn seen(slot: &Slot) -> Option<(i64, Option<(i64, i64)>, bool)> {
        let seen = slot.lock().take()?;
        Some((seen.at, seen.record, seen.regressed))
    }

    #[test]
    fn an_event_is_told_to_its_key_alone_and_a_list_to_all() {
        let rig = rig();
        let there = record("a", 5);
        let now = |key: &[u8]| (key == b"a").then_some(&there);
        rig.slots.tell(&update(6, Cause::Events, &["a", "c"]), now);
        assert_eq!(seen(&rig.a), Some((6, Some((5, 7)), false)));
        assert_eq!(seen(&rig.b), None);
        for cause in [Cause::Listed, Cause::Relisted, Cause::Audited] {
            rig.slots.tell(&update(8, cause, &[]), now);
            assert_eq!(seen(&rig.a), Some((8, Some((5, 7)), false)));
            assert_eq!(seen(&rig.b), Some((8, None, false)), "it is gone");
        }
    }

    #[test]
    fn that_history_went_back_is_told_also_after_later_news() {
        let rig = rig();
        rig.slots.tell(&update(3, Cause::Regressed, &[]), |_| None);
        rig.slots.tell(&update(4, Cause::Events, &["a"]), |_| None);
        assert_eq!(seen(&rig.a), Some((4, None, true)));
        assert_eq!(seen(&rig.b), Some((3, None, true)));
        rig.slots.tell(&update(5, Cause::Events, &["a"]), |_| None);
        assert_eq!(seen(&rig.a), Some((5, None, false)));
    }
}
