//! Watches: the engine under everything that follows keys.
//!
//! Two entries: [`Watcher`] (list, then watch: config, discovery, a record's own key) and
//! [`FromNow`] (the lock queues' watch, which must not wait for etcd's 100 ms loop).
//!
//! | room | |
//! |---|---|
//! | `state` | the machine: states, transitions, what each of them does; no IO, no clock |
//! | `place` | the map, the revision that it equals, what is known of the store's history |
//! | `list` | a range read in pages at one revision |
//! | `recovery` | what a failure asks for, when to try again, the trouble in words |
//! | `line` | carries out what the machine says, against a [`Source`] |
//! | `stream`, `from_now` | the two entries |
//!
//! # Rules
//!
//! The engine was model-checked before it was built; each rule is there because a run without it
//! lost or invented something. `pos` is the last revision that the map equals.
//!
//! 1. A stream starts at `pos` + 1. Whole revisions are folded, what is not after `pos` is dropped,
//!    one message is one publication, then `pos` is the last event's revision. No header of
//!    `created`, of a cancel (it may be 0) or of events moves `pos`: a catch-up carries the store's
//!    revision long before its last events.
//! 2. A list's first page is linearizable and at no revision; *its* header names the list's
//!    revision, and all other pages are read at that. If it is gone, or the term falls: begin again.
//! 3. Installing a list sets `pos`, also downwards. The map is compared, never cleared: deletions
//!    are told, and what stayed is not.
//! 4. One gRPC stream for each watch, since an answer to a progress request does not say for which
//!    watch it speaks; the first request goes out after `created`. An answer moves `pos` if the
//!    member is 3.5.8 or newer, no fragment is waiting for the rest, and it is not below `pos`.
//! 5. That version is the stream's own member's, read again for every stream; unknown is old.
//! 6. `canceled` is looked at before `created`: a refused watch is both. Compacted, or too large to
//!    decode: list again. Token or permission: a new token and a new stream. Else: back off, reopen.
//! 7. With a stream go its fragments, its progress, its probe and its audit.
//! 8. An audit lists while the stream runs, and journals what is folded meanwhile, deletions too.
//!    The journal's entries after the list's revision are laid over the list, and the map becomes
//!    that. Only that finds an event that etcd lost.
//! 9. A probe is a linearizable read of one key that changed after `pos`; none, and as many keys as
//!    in the map, means that nothing changed up to its header.
//! 10. A stream whose member is behind `pos`, or in a lower term, is suspect: its events are held
//!     and a probe is sent. Only a linearizable answer below what was known when it was *sent*
//!     proves that history went back. A lagging member does not.
//! 11. Silence (two progress requests unanswered and no other message) proves nothing either: a
//!     watch that waits for the store's next revision is answered nothing at all. A probe settles it.
//! 12. A from-now watch starts at 0, has no map, and announces every gap: its user reads.
//! 13. `verified_at` is when the last linearizable read was *sent* whose revision `pos` has reached.
//!     Progress proves less: a member without a leader answers it for ever.
//! 14. The audit stays on; streams require a leader; a prefix ends in `/`.

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
    /// What differs from the map before: in key order for a list or an audit, else one entry for each
    /// event in their order (a key that changed twice is there twice). A revision is never split.
    /// Empty only for a list that found nothing new.
    pub(crate) changes: Vec<Change>,
}

/// Why an [`Update`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The first list.
    Listed,
    Events,
    /// The periodic audit found what no event had told (yet: it may have overtaken one).
    Audited,
    /// Listed again: the watch's place was compacted away, or could not be decoded.
    Relisted,
    /// Listed again because the server's history went back (a restore). `revision` may be lower than
    /// the one before, and what it names is another history's: who waits for a revision waits in vain.
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
