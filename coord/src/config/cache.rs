//! [`Cache`]: what `get` has read, for as long as `cache_ttl` allows.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::history::Seen;
use crate::{clock::Instant, key::Key};

/// Beyond this many keys it begins anew: it saves reads, and must not hold a whole store.
const MOST: usize = 10_000;

/// Shared by all config centers of one coordinator, so that its own writes are seen by its own reads.
#[derive(Clone, Default)]
pub(crate) struct Cache(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Each with the instant at which its read was sent.
    read: HashMap<Key, (Instant, Seen)>,
    /// Counts the beginnings and the ends of writes: a read during which one of them was is not kept,
    /// since it may have been answered before the write.
    writes: u64,
}

/// A write is under way. Its end is its drop: after the answer, or when its caller gave it up.
#[derive(Debug)]
pub(super) struct Writing<'c> {
    cache: &'c Cache,
    keys: Vec<Key>,
}

impl Cache {
    /// What a read sent no longer than `ttl` ago has found.
    pub(super) fn get(&self, key: &Key, now: Instant, ttl: Duration) -> Option<Seen> {
        let inner = self.lock();
        let (sent, seen) = inner.read.get(key)?;
        (now.since(*sent) < ttl).then(|| seen.clone())
    }

    /// To be called before a read is sent; for [`keep`](Self::keep).
    pub(super) fn writes(&self) -> u64 {
        self.lock().writes
    }

    pub(super) fn keep(&self, key: &Key, sent: Instant, writes: u64, seen: &Seen) {
        let mut inner = self.lock();
        if inner.writes == writes {
            if inner.read.len() >= MOST {
                inner.read.clear();
            }
            inner.read.insert(key.clone(), (sent, seen.clone()));
        }
    }

    /// Forgets `keys`, now and when the write ends.
    pub(super) fn write(&self, keys: Vec<Key>) -> Writing<'_> {
        self.forget(&keys);
        Writing { cache: self, keys }
    }

    fn forget(&self, keys: &[Key]) {
        let mut inner = self.lock();
        inner.writes += 1;
        for key in keys {
            inner.read.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no value: it may be a secret.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.cache.forget(&self.keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    const TTL: Duration = Duration::from_secs(10);

    fn key() -> Key {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        layout.config_key("test", "a").expect("valid")
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_was_read_is_known_for_as_long_as_it_may_be() {
        let cache = Cache::default();
        assert!(cache.get(&key(), at(100), TTL).is_none());
        cache.keep(&key(), at(100), cache.writes(), &Seen::default());
        assert!(cache.get(&key(), at(109), TTL).is_some());
        assert!(cache.get(&key(), at(110), TTL).is_none());
    }

    #[test]
    fn a_write_forgets_at_its_beginning_and_at_its_end() {
        let cache = Cache::default();
        cache.keep(&key(), at(100), cache.writes(), &Seen::default());
        let before = cache.writes();
        let writing = cache.write(vec![key()]);
        assert!(cache.get(&key(), at(101), TTL).is_none());
        // Sent before the write, answered during it.
        cache.keep(&key(), at(101), before, &Seen::default());
        assert!(cache.get(&key(), at(101), TTL).is_none());
        // Sent and answered during it.
        let during = cache.writes();
        cache.keep(&key(), at(101), during, &Seen::default());
        drop(writing);
        assert!(cache.get(&key(), at(101), TTL).is_none());
        // Sent during it, answered after.
        cache.keep(&key(), at(101), during, &Seen::default());
        assert!(cache.get(&key(), at(101), TTL).is_none());
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let cache = Cache::default();
        let layout = Layout::new("", "config/", "coord/", "coord/");
        for n in 0..=MOST {
            let key = layout.config_key("test", &n.to_string()).expect("valid");
            cache.keep(&key, at(1), cache.writes(), &Seen::default());
        }
        assert_eq!(cache.lock().read.len(), 1);
    }
}
