//! [`Status`]: how a bound struct stands to etcd.

use std::{fmt, time::Duration};

use super::decode::{Fault, UnknownKey, Warning};

/// How a bound struct stands to etcd. See [`Config::status`](super::Config::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The prefix that is bound, placeholders filled.
    pub prefix: String,
    /// Whether changes arrive now.
    pub phase: Phase,
    /// The store's revision up to which every change was looked at.
    pub revision: i64,
    /// The revision that the current value was made from. Of another history, while a store that was
    /// restored to an older state holds no good value.
    pub applied_revision: i64,
    /// How long ago the last message came from etcd. An idle etcd sends few.
    pub heard: Option<Duration>,
    /// How long ago a read was sent to the leader that the current keys agree with: nothing older
    /// than this can have been missed.
    pub verified: Option<Duration>,
    /// Why the newest keys are not in use, until a good change comes. The value from before stays.
    pub refusal: Option<Refusal>,
    /// How many changes were refused since the start: one that was soon repaired is counted too.
    pub refusals: u64,
    /// Keys below the prefix that no field reads.
    pub unknown: Vec<UnknownKey>,
    /// Keys that are read, but perhaps not as they were meant.
    pub warnings: Vec<Warning>,
    /// How often the watch was opened again.
    pub reconnects: u64,
    /// What is wrong with the connection, in words.
    pub trouble: Option<String>,
}

/// Whether changes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Changes arrive as they are made.
    Watching,
    /// etcd is not reached, or reached again and not yet read: the value stays, and nothing is lost.
    Reconnecting,
    /// The coordinator was closed: the value stays as it is for good.
    Closed,
    /// Made by [`Config::fixed`](super::Config::fixed).
    Fixed,
}

/// A change that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The revision that it came with.
    pub revision: i64,
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} refused", self.revision)?;
        for (index, fault) in self.faults.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}
