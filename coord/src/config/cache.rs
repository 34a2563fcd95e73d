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
    entries: HashMap<Key, Entry>,
    /// Names the reads.
    reads: u64,
}

enum Entry {
    /// A read of this name is under way. It is kept only if no write of the key begins or ends before
    /// its answer, which may be older than the write.
    Reading(u64),
    /// When the read was sent.
    Read(Instant, Seen),
}

/// A read under way.
#[derive(Debug)]
pub(super) struct Reading {
    name: u64,
    sent: Instant,
}

/// A write is under way. Its end is its drop: after the answer, or when its caller gave it up.
#[derive(Debug)]
pub(super) struct Writing<'c> {
    cache: &'c Cache,
    keys: Vec<Key>,
}

impl Cache {
    /// What a read sent no longer than `ttl` ago has found; or else one is to be sent, and
    /// [`keep`](Self::keep) called with its answer.
    pub(super) fn get(&self, key: &Key, now: Instant, ttl: Duration) -> Result<Seen, Reading> {
        let mut inner = self.lock();
        match inner.entries.get(key) {
            Some(Entry::Read(sent, seen)) if now.since(*sent) < ttl => return Ok(seen.clone()),
            _ => {}
        }
        if inner.entries.len() >= MOST {
            inner.entries.clear();
        }
        inner.reads += 1;
        let name = inner.reads;
        inner.entries.insert(key.clone(), Entry::Reading(name));
        Err(Reading { name, sent: now })
    }

    pub(super) fn keep(&self, key: &Key, reading: &Reading, seen: &Seen) {
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get_mut(key)
            && matches!(entry, Entry::Reading(name) if *name == reading.name)
        {
            *entry = Entry::Read(reading.sent, seen.clone());
        }
    }

    /// Forgets `keys`, now and when the write ends.
    pub(super) fn write(&self, keys: Vec<Key>) -> Writing<'_> {
        self.forget(&keys);
        Writing { cache: self, keys }
    }

    fn forget(&self, keys: &[Key]) {
        let mut inner = self.lock();
        for key in keys {
            inner.entries.remove(key);
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

    fn key(name: &str) -> Key {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        layout.config_key("test", name).expect("valid")
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn begin(cache: &Cache, seconds: u64) -> Reading {
        cache
            .get(&key("a"), at(seconds), TTL)
            .expect_err("to be read")
    }

    fn is_known(cache: &Cache, seconds: u64) -> bool {
        let inner = cache.lock();
        matches!(inner.entries.get(&key("a")), Some(Entry::Read(sent, _)) if at(seconds).since(*sent) < TTL)
    }

    #[test]
    fn what_was_read_is_known_for_as_long_as_it_may_be() {
        let cache = Cache::default();
        let reading = begin(&cache, 100);
        cache.keep(&key("a"), &reading, &Seen::default());
        assert!(cache.get(&key("a"), at(109), TTL).is_ok());
        assert!(cache.get(&key("a"), at(110), TTL).is_err());
    }

    #[test]
    fn a_write_forgets_at_its_beginning_and_at_its_end() {
        let cache = Cache::default();
        let keep = |reading: &Reading| cache.keep(&key("a"), reading, &Seen::default());
        keep(&begin(&cache, 100));
        assert!(is_known(&cache, 101));
        let writing = cache.write(vec![key("a")]);
        assert!(!is_known(&cache, 101));
        drop(writing);

        let before = begin(&cache, 101);
        let writing = cache.write(vec![key("a")]);
        // Sent before the write, answered during it.
        keep(&before);
        assert!(!is_known(&cache, 101));
        // Sent and answered during it.
        keep(&begin(&cache, 101));
        // Sent during it, answered after.
        let during = begin(&cache, 200);
        drop(writing);
        assert!(!is_known(&cache, 101));
        keep(&during);
        assert!(!is_known(&cache, 200));
        // Of two reads at once the later one.
        let (first, second) = (begin(&cache, 300), begin(&cache, 301));
        keep(&first);
        assert!(!is_known(&cache, 301));
        keep(&second);
        assert!(is_known(&cache, 301));
    }

    #[test]
    fn a_write_of_another_key_costs_nothing() {
        let cache = Cache::default();
        let reading = begin(&cache, 100);
        let writing = cache.write(vec![key("b")]);
        cache.keep(&key("a"), &reading, &Seen::default());
        drop(writing);
        assert!(is_known(&cache, 101));
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let cache = Cache::default();
        for n in 0..=MOST {
            let key = key(&n.to_string());
            let reading = cache.get(&key, at(1), TTL).expect_err("to be read");
            cache.keep(&key, &reading, &Seen::default());
        }
        assert_eq!(cache.lock().entries.len(), 1);
    }
}
