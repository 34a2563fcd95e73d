//! What happened to one lock, and whether it was right.
//!
//! Two witnesses are compared: what the holders say (when they were in, under which token), and what
//! the store says (each key of the queue, from its creation to its deletion). Tokens are create
//! revisions, so there is nothing to search for: the order is known, and the check is one pass over
//! the sections in that order.
//!
//! ```no_run
//! # use coord_tests::history::{History, Mode};
//! # async fn test(client: etcd_client::Client, coordinator: coord::Coordinator) {
//! let history = History::of(&client, "coord/lock/jobs!/").await;
//! let guard = coordinator.lock("jobs").acquire().await.unwrap();
//! let inside = history.enter(Mode::Exclusive, guard.fencing_token().get());
//! // … the critical section …
//! drop(inside);
//! drop(guard);
//! history.check(&client).await;
//! # }
//! ```

mod judge;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Client, EventType, GetOptions, WatchOptions};

use self::judge::{Entry, Section};
use crate::eventually;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By one.
    Exclusive,
    /// Beside other readers.
    Read,
    /// So many permits of so many.
    Permits {
        /// How many.
        take: u32,
        /// Of how many.
        of: u32,
    },
}

/// The sections of one lock. Cheap to clone; every clone is the same history.
#[derive(Clone, Debug)]
pub struct History {
    queue: String,
    /// The store's revision when it began.
    since: i64,
    sections: Arc<Mutex<Vec<Section>>>,
}

/// Somebody is in. Dropped *before* the lock is given back; also when the body is dropped since the
/// lock was lost.
#[derive(Debug)]
pub struct Inside {
    history: History,
    section: Section,
    /// When it was seen to run last.
    seen: Option<u128>,
}

/// Nanoseconds on the one clock that all processes of the machine share.
#[must_use]
pub fn monotonic() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32).as_nanos()
}

impl History {
    /// From now on. `queue`: the prefix of the lock's keys.
    ///
    /// # Panics
    ///
    /// If the store does not answer.
    pub async fn of(client: &Client, queue: &str) -> Self {
        let reply = client.kv_client().get(queue, None).await.expect("a get");
        Self {
            queue: queue.to_owned(),
            since: reply.header().expect("a header").revision(),
            sections: Arc::default(),
        }
    }

    /// Somebody was just told that it holds the lock.
    #[must_use]
    pub fn enter(&self, mode: Mode, token: i64) -> Inside {
        let entered = monotonic();
        Inside {
            history: self.clone(),
            section: Section {
                mode,
                token,
                entered,
                left: entered,
                writes: Vec::new(),
            },
            seen: None,
        }
    }

    /// A section that another process tells of, in [`monotonic`] time.
    pub fn add(&self, mode: Mode, token: i64, entered: u128, left: u128) {
        self.sections().push(Section {
            mode,
            token,
            entered,
            left,
            writes: Vec::new(),
        });
    }

    /// Compares the two witnesses, once everybody has left the queue.
    ///
    /// # Panics
    ///
    /// If something was wrong, with all of it; if somebody stays in the queue.
    pub async fn check(&self, client: &Client) {
        eventually("the queue is empty", async || {
            let keys = GetOptions::new().with_prefix().with_count_only();
            match client
                .kv_client()
                .get(self.queue.as_str(), Some(keys))
                .await
            {
                Ok(reply) => reply.count() == 0,
                Err(_) => false,
            }
        })
        .await;
        let entries = self.entries(client).await;
        let sections = self.sections();
        let faults = judge::faults(&sections, &entries);
        assert!(
            faults.is_empty(),
            "{} sections of {}:\n{}",
            sections.len(),
            self.queue,
            faults.join("\n")
        );
    }

    /// How many have been in and left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sections().len()
    }

    /// True if nobody has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key that was in the queue, as the store's own history has it.
    async fn entries(&self, client: &Client) -> Vec<Entry> {
        // The last one: when it is told, everything before it was.
        let end = format!("{}~", self.queue);
        let mut kv = client.kv_client();
        kv.put(end.as_str(), "", None).await.expect("a put");
        kv.delete(end.as_str(), None).await.expect("a delete");
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(self.since + 1);
        let mut watch_client = client.watch_client();
        let watch = watch_client.watch(self.queue.as_str(), Some(options));
        let mut watch = watch.await.expect("a watch");
        let mut entries = Vec::new();
        let mut open: HashMap<Vec<u8>, Entry> = HashMap::new();
        loop {
            let message = watch.message().await.expect("it lives");
            let message = message.expect("it goes on");
            assert!(!message.canceled(), "{}", message.cancel_reason());
            for event in message.events() {
                let kv = event.kv().expect("an event has a key");
                if kv.key() == end.as_bytes() {
                    entries.extend(open.into_values());
                    return entries;
                }
                let key = kv.key().to_vec();
                match event.event_type() {
                    EventType::Put => {
                        open.entry(key).or_insert_with_key(|key| Entry {
                            key: String::from_utf8_lossy(key).into_owned(),
                            created: kv.create_revision(),
                            deleted: None,
                        });
                    }
                    EventType::Delete => {
                        let Some(mut entry) = open.remove(&key) else {
                            continue;
                        };
                        entry.deleted = Some(kv.mod_revision());
                        entries.push(entry);
                    }
                }
            }
        }
    }

    fn sections(&self) -> MutexGuard<'_, Vec<Section>> {
        self.sections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// It runs at this moment, and has just made sure that it may. Whoever says so leaves with the last
    /// time that it does: that it is dropped later, on a machine that is busy, is no longer a stay.
    pub fn runs(&mut self) {
        self.seen = Some(monotonic());
    }

    /// A write was done in the section, fenced by its token, at this revision.
    pub fn wrote(&mut self, revision: i64) {
        self.section.writes.push(revision);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.section.left = self.seen.unwrap_or_else(monotonic);
        self.history.sections().push(self.section.clone());
    }
}
