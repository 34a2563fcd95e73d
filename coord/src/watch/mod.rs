//! Watches: the engine under everything that follows keys.
//!
//! Two entries: [`Watcher`] (list, then watch: config, discovery, a record's own key) and
//! [`FromNow`] (the lock queues' watch, which must not wait for etcd's 100 ms loop).

mod from_now;
mod line;
mod list;
mod mutation;
mod place;
mod recovery;
#[cfg(test)]
mod script;
mod source;
mod state;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use from_now::{FromNow, Signal};
pub(crate) use source::Source;
pub(crate) use stream::Watcher;

use std::time::Duration;

use crate::{client::KeyValue, clock::Instant};

/// One change of the map, or several that became visible at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    /// The map now equals the store at this revision.
    pub(crate) revision: i64,
    pub(crate) cause: Cause,
    /// What differs from the map before; in key order for a list, in event order otherwise. A whole
    /// revision is never split. Empty for a list that found nothing new.
    pub(crate) changes: Vec<Change>,
}

/// Why an [`Update`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The first list.
    Listed,
    Events,
    /// The periodic audit found what no event had told.
    Audited,
    /// Listed again: the watch's place was compacted away, or could not be decoded.
    Relisted,
    /// Listed again because the server's history went back (a restore): `revision` may be lower.
    Regressed,
}

/// One key's change. Never both `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    pub(crate) old: Option<KeyValue>,
    pub(crate) new: Option<KeyValue>,
}

/// What a watch knows of itself.
#[derive(Clone, Debug)]
pub(crate) struct WatchStatus {
    pub(crate) phase: Phase,
    /// The last revision that the map equals; 0 before the first list.
    pub(crate) revision: i64,
    /// When the last message came.
    pub(crate) alive_at: Option<Instant>,
    /// When the last linearizable read was *sent* that the map has caught up with.
    pub(crate) verified_at: Option<Instant>,
    /// How often the stream was opened again.
    pub(crate) reconnects: u64,
    /// The last trouble, in words; `None` once events flow again.
    pub(crate) trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No list yet, or a new one is being made; the old map stays.
    Listing,
    Opening,
    Watching,
    /// Waiting before the next try.
    BackingOff,
}

/// What to watch for and how often to look.
#[derive(Clone, Debug)]
pub(crate) struct WatchOptions {
    /// How often the whole range is listed and compared. Zero: never.
    pub(crate) sync_interval: Duration,
    /// How often progress is asked for; two unanswered requests are silence.
    pub(crate) progress_interval: Duration,
    /// How many keys one page of a list has.
    pub(crate) page: i64,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(300),
            progress_interval: Duration::from_secs(10),
            page: 1_000,
        }
    }
}
