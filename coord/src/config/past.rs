//! What a key was: its [`HistoryEntry`]s, and the way back to one of them.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use serde::de::DeserializeOwned;

use super::{
    center::ConfigCenter,
    history::{Change, Place, Seen},
    record::{Record, time},
    value::typed,
    version::Version,
};
use crate::{
    client::{Op, OpReply},
    error::{Context, Error, Result},
    metrics,
};

const HISTORY: &str = "read the history of config";
const ROLL_BACK: &str = "roll back config";

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
    /// have put, what was there at a write through a config center is known, without author and time.
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
        let place = self.place(HISTORY, key)?;
        let past = place.reads_past(i64::try_from(limit.max(1)).unwrap_or(i64::MAX));
        let steps = self.steps(HISTORY, &place, past).await?;
        let key = place.key.as_str();
        Ok(steps
            .into_iter()
            .take(limit)
            .map(|(version, record)| HistoryEntry::read(HISTORY, key, version, record))
            .collect())
    }

    /// Makes `key` again what it was at `version`, one that [`history`](Self::history) lists: a
    /// value, or deleted. That is a new write, whatever the key is now, and a new step in the
    /// history. Returns its version.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) if the history has no such version (any more); else as for
    /// [`set`](Self::set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn rollback(&self, key: &str, version: impl Into<Version>) -> Result<Version> {
        let (place, version) = (self.place(ROLL_BACK, key)?, version.into());
        let filed = place.reads_filed(version);
        let steps = self.steps(ROLL_BACK, &place, filed).await?;
        let Some((_, step)) = steps.into_iter().find(|(at, _)| *at == version) else {
            return Err(Error::NotFound {
                context: Context::new(ROLL_BACK).key(place.key.as_str()),
            });
        };
        let change = Change {
            value: step.what.value(),
            rolled_back_to: Some(version),
        };
        self.commit(ROLL_BACK, vec![(place, None, change)]).await
    }

    /// What is not filed yet, and what `past` reads. A record that cannot be read is counted, and
    /// passed over.
    async fn steps(
        &self,
        operation: &'static str,
        place: &Place,
        past: Op,
    ) -> Result<Vec<(Version, Record)>> {
        let mut reads = place.reads_current().to_vec();
        reads.push(past);
        let mut replies = self.read(operation, place, reads).await?;
        let filed = match replies.pop() {
            Some(OpReply::Get(filed)) => filed.kvs,
            _ => Vec::new(),
        };
        let unfiled = Seen::read(place, replies).unfiled().into_iter();
        let unfiled = unfiled.filter_map(|(at, record)| Some((at, Record::read(&record)?)));
        let filed = filed.iter().filter_map(|kv| {
            let step = place.filed(kv);
            if step.is_none() {
                ::metrics::counter!(metrics::BAD_CONFIG_RECORDS).increment(1);
            }
            step
        });
        Ok(unfiled.chain(filed).collect())
    }
}
