//! [`ConfigCenter`]: writes that the derive reads.

use serde::Serialize;

use super::encode::encode;
use crate::{
    client::{Op, Span, Txn},
    engine::Engine,
    error::{Context, Error, Result},
};

/// Writes config values: as plain as `etcdctl put` would, so that what is set here is what a config
/// struct reads and what an operator sees.
///
/// A key that starts with `/` is the key itself; any other is below the coordinator's config prefix.
#[derive(Clone, Debug)]
pub struct ConfigCenter {
    engine: Engine,
}

impl ConfigCenter {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Sets one key and returns the store's revision that did it, for
    /// [`Config::wait_for_revision`](super::Config::wait_for_revision).
    ///
    /// Text, numbers, bools, durations and unit enums are written as plain text, everything else as
    /// JSON.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a bad key, and for a value that has no text form;
    /// [`Unavailable`](Error::Unavailable) and [`Timeout`](Error::Timeout) if etcd cannot be reached:
    /// [`maybe_applied`](Error::maybe_applied) tells whether the write may have happened.
    ///
    /// # Cancel safety
    /// Dropped after its first poll the write may or may not happen.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<i64> {
        const SET: &str = "set config";
        let value = encode(value).map_err(|reason| Error::Invalid {
            context: Context::new(SET).key(key),
            faults: vec![reason],
        })?;
        let key = self.engine.layout.config_key(key)?;
        let op = Op::Put {
            key: key.as_bytes().to_vec(),
            value: value.into_bytes(),
            lease: 0,
        };
        self.write(Context::new(SET).key(key.as_str()), op).await
    }

    /// Deletes one key, whether or not it exists, and returns the store's revision after it.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn delete(&self, key: &str) -> Result<i64> {
        let key = self.engine.layout.config_key(key)?;
        let op = Op::Delete {
            span: Span::key(&key),
            prev: false,
        };
        self.write(Context::new("delete config").key(key.as_str()), op)
            .await
    }

    async fn write(&self, context: Context, op: Op) -> Result<i64> {
        self.engine.check_open(context.operation())?;
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        let reply = self
            .engine
            .calls
            .txn(txn)
            .await
            .map_err(|error| error.into_error(context))?;
        Ok(reply.header.revision)
    }
}
