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
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Client, Compare, CompareOp, EventType, GetOptions, Txn, TxnOp, WatchOptions};

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
    sections: Arc<Mutex<Sections>>,
}

#[derive(Debug, Default)]
struct Sections {
    all: Vec<Section>,
    /// Whose entries were to be deleted by hand, and since when.
    struck: HashMap<i64, u128>,
    /// Those of them whose entries were.
    deleted: HashSet<i64>,
    /// Whose releases have proved that they held it throughout.
    confirmed: HashSet<i64>,
    /// How often the store has gone back. `None`: it is about to, or has just begun.
    era: Option<u32>,
    eras: u32,
}

/// Somebody asks for the lock. Made before that: what is granted by a store that goes back meanwhile means
/// nothing in the one that comes of it.
#[derive(Clone, Debug)]
pub struct Asking {
    history: History,
    era: Option<u32>,
}

/// Somebody is in. Dropped *before* the lock is given back; also when the body is dropped since the
/// lock was lost.
#[derive(Debug)]
pub struct Inside {
    asking: Asking,
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
            sections: Arc::new(Mutex::new(Sections {
                era: Some(0),
                ..Sections::default()
            })),
        }
    }

    /// Somebody is about to ask for the lock: for a store that may [go back](Self::goes_back).
    #[must_use]
    pub fn asks(&self) -> Asking {
        Asking {
            history: self.clone(),
            era: self.sections().era,
        }
    }

    /// Somebody was just told that it holds the lock.
    #[must_use]
    pub fn enter(&self, mode: Mode, token: i64) -> Inside {
        self.asks().enter(mode, token)
    }

    /// Deletes one of the entries that are in the queue by hand, as an operator might, if there are any.
    /// Its holder may not know it for a while, and the next one comes: from now on only what it writes
    /// under the lock is judged.
    ///
    /// # Panics
    ///
    /// If the store does not answer.
    pub async fn delete_one(&self, client: &Client, which: usize) {
        let mut kv = client.kv_client();
        let all = GetOptions::new().with_prefix();
        let found = kv.get(self.queue.as_str(), Some(all)).await;
        let mut found = found.expect("a get").take_kvs();
        if found.is_empty() {
            return;
        }
        let entry = found.swap_remove(which % found.len());
        let token = entry.create_revision();
        self.sections()
            .struck
            .entry(token)
            .or_insert_with(monotonic);
        // Names are used again: it may be another's by now.
        let same = Compare::create_revision(entry.key(), CompareOp::Equal, token);
        let delete = Txn::new()
            .when([same])
            .and_then([TxnOp::delete(entry.key(), None)]);
        let deleted = kv.txn(delete).await.expect("a transaction");
        if deleted.succeeded() {
            self.sections().deleted.insert(token);
        }
    }

    /// The store is about to be put back to an older state. Whoever is in is judged no further; those who
    /// were are judged by what they say alone: what the store said of them will be forgotten.
    ///
    /// # Panics
    ///
    /// If something was wrong.
    pub fn goes_back(&self) {
        let mut sections = self.sections();
        let faults = sections.faults();
        *sections = Sections {
            eras: sections.eras,
            ..Sections::default()
        };
        self.assert_none(&faults);
    }

    /// It has gone back: what is asked for from now on is judged again.
    pub fn went_back(&self) {
        let mut sections = self.sections();
        sections.eras += 1;
        sections.era = Some(sections.eras);
    }

    /// A section that another process tells of, in [`monotonic`] time.
    pub fn add(&self, mode: Mode, token: i64, entered: u128, left: u128) {
        self.sections().all.push(Section {
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
        let mut faults = judge::faults(&sections.all, &entries);
        faults.extend(sections.faults());
        self.assert_none(&faults);
    }

    fn assert_none(&self, faults: &[String]) {
        let queue = &self.queue;
        assert!(faults.is_empty(), "{queue}:\n{}", faults.join("\n"));
    }

    /// How many have been in and left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sections().all.len()
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

    fn sections(&self) -> MutexGuard<'_, Sections> {
        self.sections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sections {
    /// What is wrong by what was seen from here alone.
    fn faults(&self) -> Vec<String> {
        let mut faults = judge::meetings(&self.believed());
        let proved = self.confirmed.intersection(&self.deleted);
        faults.extend(proved.map(|token| format!("token {token} was deleted and confirmed")));
        faults
    }

    /// Those that nobody else may meet: whose entry is deleted by hand is out of it from then on.
    fn believed(&self) -> Vec<Section> {
        let sections = self.all.iter().cloned();
        sections
            .filter_map(|mut section| {
                if let Some(struck) = self.struck.get(&section.token) {
                    section.left = section.left.min(*struck);
                }
                (section.entered <= section.left).then_some(section)
            })
            .collect()
    }
}

impl Asking {
    /// Somebody was just told that it holds the lock.
    #[must_use]
    pub fn enter(&self, mode: Mode, token: i64) -> Inside {
        let entered = monotonic();
        Inside {
            asking: self.clone(),
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

    /// Its release has proved that it was held from the grant to the end.
    pub fn confirmed(&self, token: i64) {
        let mut sections = self.history.sections();
        if self.is_of(&sections) {
            sections.confirmed.insert(token);
        }
    }

    /// What it was granted, it was granted by the store that is there now.
    fn is_of(&self, sections: &Sections) -> bool {
        self.era.is_some() && self.era == sections.era
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
        let mut sections = self.asking.history.sections();
        if self.asking.is_of(&sections) {
            sections.all.push(self.section.clone());
        }
    }
}
