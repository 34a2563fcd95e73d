//! [`ConfigValue`]: a value as it is stored, with what is known of its write.

use std::{any::type_name, collections::BTreeMap, fmt, time::SystemTime};

use serde::de::DeserializeOwned;

use super::{
    decode,
    history::Seen,
    record::{Note, Record, time},
    version::Version,
};
use crate::error::{Context, Error, Result};

/// A stored value, its version, and what is known of the write that made it.
///
/// Who wrote it, when and why is known of what a [`ConfigCenter`](super::ConfigCenter) has written,
/// not of what was put with another client. Times are those of the writer's own clock.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigValue<T> {
    /// The value.
    pub value: T,
    /// The whole key: what every method of the config center takes.
    pub key: String,
    /// What [`compare_and_set`](super::ConfigCenter::compare_and_set) expects, if nobody is to have
    /// changed it by then.
    pub version: Version,
    /// When the key began to exist.
    pub created: Option<SystemTime>,
    /// When this value was written.
    pub updated: Option<SystemTime>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Why.
    pub comment: Option<String>,
    /// What else its writer had to say.
    pub metadata: BTreeMap<String, String>,
}

impl<T: DeserializeOwned> ConfigValue<T> {
    /// `None`: there is no such key.
    pub(super) fn read(operation: &'static str, seen: &Seen) -> Result<Option<Self>> {
        let Some(kv) = &seen.value else {
            return Ok(None);
        };
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        let Record {
            created_ms,
            at_ms,
            note:
                Note {
                    author,
                    comment,
                    metadata,
                },
            ..
        } = seen.origin();
        Ok(Some(Self {
            value: typed(operation, &key, seen.version(), &kv.value)?,
            key,
            version: seen.version(),
            created: created_ms.map(time),
            updated: at_ms.map(time),
            author,
            comment,
            metadata,
        }))
    }
}

/// Shows everything but the value: it may be a secret.
impl<T> fmt::Debug for ConfigValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigValue")
            .field("key", &self.key)
            .field("version", &self.version)
            .field("created", &self.created)
            .field("updated", &self.updated)
            .field("author", &self.author)
            .field("comment", &self.comment)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// A stored value as a `T`. The error shows nothing of it: nobody says here whether it is a secret.
pub(super) fn typed<T: DeserializeOwned>(
    operation: &'static str,
    key: &str,
    version: Version,
    value: &[u8],
) -> Result<T> {
    decode::single(value).map_err(|_| Error::Invalid {
        context: Context::new(operation).key(key),
        faults: vec![format!(
            "the value of version {version} cannot be read as `{}` (it is not shown: it may be a \
             secret)",
            type_name::<T>()
        )],
    })
}
