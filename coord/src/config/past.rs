//! What a key was: its [`HistoryEntry`]s.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use serde::de::DeserializeOwned;

use super::{
    center::ConfigCenter,
    history::{Place, Seen},
    list::smaller,
    record::{Record, time},
    value::typed,
    version::Version,
};
use crate::{
    client::{CallError, Op, OpReply, Range, RangeReply},
    error::{Context, Result},
    metrics,
};

const HISTORY: &str = "read the history of config";

/// How many steps are read at once, unless their values make that too much for one reply.
const PAGE: usize = 1_000;

/// One step in a key's history. See [`ConfigCenter::history`](super::ConfigCenter::history).
#[non_exhaustive]
pub struct HistoryEntry<T> {
    /// What it made of the key.
    pub kind: HistoryKind,
    /// The version that it made, which [`rollback`](super::ConfigCenter::rollback) takes.
    pub version: Version,
    /// The value that it wrote; `None` for a deletion. An error if it cannot be read as a `T`: a key
    /// may have held another type once.
    pub value: Option<Result<T>>,
    /// When it was done, by the clock of who did it; unknown if it was another client.
    pub at: Option<SystemTime>,
    /// Who did it; unknown if it was another client.
    pub author: Option<String>,
    /// Why.
    pub comment: Option<String>,
    /// What else its author had to say.
    pub metadata: BTreeMap<String, String>,
}

/// What a step made of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryKind {
    /// A value was written.
    Set,
    /// The key was deleted.
    Deleted,
    /// What an older version was, written again.
    RolledBack {
        /// That version.
        to: Version,
    },
}

impl<T: DeserializeOwned> HistoryEntry<T> {
    pub(super) fn read(operation: &'static str, key: &str, version: Version, step: Record) -> Self {
        let value = step.what.value();
        Self {
            kind: match step.rolled_back_to {
                Some(to) => HistoryKind::RolledBack { to },
                None if step.what.is_deleted() => HistoryKind::Deleted,
                None => HistoryKind::Set,
            },
            version,
            value: value.map(|value| typed(operation, key, version, &value)),
            at: step.at_ms.map(time),
            author: step.note.author,
            comment: step.note.comment,
            metadata: step.note.metadata,
        }
    }
}

/// Shows everything but the value: it may be a secret.
impl<T> fmt::Debug for HistoryEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryEntry")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("at", &self.at)
            .field("author", &self.author)
            .field("comment", &self.comment)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

impl ConfigCenter {
    /// The last `limit` steps of `key`, newest first, with the current value; deletions are steps
    /// too. How many older ones are kept is
    /// [`ConfigOptions::history_limit`](crate::ConfigOptions::history_limit). Of what other clients
    /// have put, what was there at a write through a config center is known, without author and time;
    /// of what they have deleted, nothing.
    ///
    /// # Errors
    /// As for [`get`](Self::get); a value that is no `T` is an error of its own step.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history<T: DeserializeOwned>(
        &self,
        key: &str,
        limit: usize,
    ) -> Result<Vec<HistoryEntry<T>>> {
        self.engine().check_open(HISTORY)?;
        let place = self.place(HISTORY, key)?;
        let key = place.key.as_str();
        let mut page = limit.clamp(1, PAGE);
        let (mut steps, mut end) = (Vec::new(), None);
        loop {
            let past = place.reads_past(end, page);
            let (some, oldest) = match self.steps(&place, end.is_none(), past).await {
                Err(error) if smaller(&error, &mut page) => continue,
                some => some.map_err(|error| error.into_error(Context::new(HISTORY).key(key)))?,
            };
            steps.extend(some);
            // What is filed meanwhile is newer, what is removed is older.
            end = oldest;
            if end.is_none() || steps.len() >= limit {
                break;
            }
        }
        Ok(steps
            .into_iter()
            .take(limit)
            .map(|(version, record)| HistoryEntry::read(HISTORY, key, version, record))
            .collect())
    }

    /// What is not filed yet, if that is asked for, and what `past` reads, with the oldest version of
    /// the latter if there may be older ones. A record that cannot be read is counted, and passed over.
    pub(super) async fn steps(
        &self,
        place: &Place,
        unfiled: bool,
        past: Range,
    ) -> Result<(Vec<(Version, Record)>, Option<Version>), CallError> {
        let mut reads = Vec::new();
        if unfiled {
            reads.extend(place.reads_current());
        }
        reads.push(Op::Get(past));
        let mut replies = self.engine().read_all(reads).await?.replies;
        let filed = match replies.pop() {
            Some(OpReply::Get(filed)) => filed,
            _ => RangeReply::default(),
        };
        let seen = Seen::read(place, replies);
        let bad = || ::metrics::counter!(metrics::BAD_CONFIG_RECORDS).increment(1);
        if seen.is_bad() {
            bad();
        }
        let unfiled = seen.unfiled().into_iter();
        let mut steps: Vec<_> = unfiled
            .filter_map(|(at, record)| Some((at, Record::read(&record)?)))
            .collect();
        for kv in &filed.kvs {
            match place.filed(kv) {
                Some(step) => steps.push(step),
                None => bad(),
            }
        }
        let oldest = filed.kvs.last().filter(|_| filed.more);
        Ok((steps, oldest.and_then(|kv| place.version_of(kv))))
    }
}
