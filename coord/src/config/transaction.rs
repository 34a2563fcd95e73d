//! [`ConfigTransaction`]: several writes, together or not at all.

use std::{collections::HashSet, fmt};

use serde::Serialize;

use super::{
    center::{ConfigCenter, encoded},
    history::{Change, Place},
    version::Version,
};
use crate::error::{Context, Error, Result};

const COMMIT: &str = "commit a config transaction";

/// Several writes that happen together or not at all. Made by
/// [`ConfigCenter::transaction`](ConfigCenter::transaction).
///
/// One transaction takes 42 keys. It takes fewer, 32 at the least, if some of them have been put by
/// another client since their last write here, since of such a key two values are filed. Where nothing
/// is filed ([`ConfigOptions::versioning`](crate::ConfigOptions::versioning) is off) it takes 128. More
/// are refused before anything is written. An empty one writes nothing.
#[must_use = "nothing is written before `commit`"]
pub struct ConfigTransaction {
    center: ConfigCenter,
    writes: Vec<(Place, Option<Version>, Change)>,
    faults: Vec<String>,
}

impl ConfigTransaction {
    pub(super) fn new(center: ConfigCenter) -> Self {
        Self {
            center,
            writes: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Sets `key`, whatever it is now.
    pub fn set<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Self {
        let value = encoded(COMMIT, key, value);
        self.add(key, None, value.map(Some))
    }

    /// Sets `key`; nothing at all is written if it exists.
    pub fn create<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Self {
        self.compare_and_set(key, Version::ABSENT, value)
    }

    /// Sets `key`; nothing at all is written if its version is not `version`.
    pub fn compare_and_set<T: Serialize + ?Sized>(
        self,
        key: &str,
        version: impl Into<Version>,
        value: &T,
    ) -> Self {
        let value = encoded(COMMIT, key, value);
        self.add(key, Some(version.into()), value.map(Some))
    }

    /// Deletes `key`, if it exists.
    pub fn delete(self, key: &str) -> Self {
        self.add(key, None, Ok(None))
    }

    /// Deletes `key`; nothing at all is written if its version is not `version`.
    pub fn delete_if(self, key: &str, version: impl Into<Version>) -> Self {
        self.add(key, Some(version.into()), Ok(None))
    }

    /// Writes it all, and returns the version that all its keys have from then on.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) with every bad key, every value without a text form and every key
    /// that is there twice, and for more keys than one transaction takes;
    /// [`Conflict`](Error::Conflict) with the key and its current version if one has not the version
    /// that it must have; [`Unavailable`](Error::Unavailable) and [`Timeout`](Error::Timeout) as for
    /// [`ConfigCenter::set`].
    ///
    /// # Cancel safety
    /// Dropped after its first poll all of it may happen, or nothing.
    pub async fn commit(mut self) -> Result<Version> {
        let mut keys = HashSet::new();
        for (place, ..) in &self.writes {
            if !keys.insert(&place.key) {
                self.faults
                    .push(format!("`{}` is written twice", place.key));
            }
        }
        if !self.faults.is_empty() {
            return Err(Error::Invalid {
                context: Context::new(COMMIT),
                faults: self.faults,
            });
        }
        self.center.commit(COMMIT, self.writes).await
    }

    fn add(mut self, key: &str, expected: Option<Version>, value: Result<Option<Vec<u8>>>) -> Self {
        let place = self.center.place(COMMIT, key);
        match (place, value) {
            (Ok(place), Ok(value)) => self.writes.push((place, expected, Change::to(value))),
            (place, value) => {
                let faults = [place.err(), value.err()].into_iter().flatten();
                let faults = faults.flat_map(|error| match error {
                    Error::Invalid { faults, .. } => faults,
                    other => vec![other.to_string()],
                });
                self.faults
                    .extend(faults.map(|fault| format!("`{key}`: {fault}")));
            }
        }
        self
    }
}

/// Shows the keys, not the values: they may be secret.
impl fmt::Debug for ConfigTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.writes.iter().map(|(place, ..)| &place.key).collect();
        f.debug_struct("ConfigTransaction")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
