//! [`ConfigCenter`]: typed reads and writes of single values.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    cache::{Cache, Writing},
    commit::Commit,
    encode::encode,
    events::ConfigEvents,
    history::{Change, Place, Seen},
    record::Note,
    transaction::ConfigTransaction,
    value::{ConfigValue, typed},
    version::Version,
};
use crate::{
    client::{CallError, Compare, Op, OpReply, Range, Span},
    engine::Engine,
    error::{Context, Error, Result},
    host,
};

const GET: &str = "read config";
const SET: &str = "set config";
const DELETE: &str = "delete config";
const UPDATE: &str = "update config";

/// Reads and writes config values, as plain as `etcdctl` does: what is set here is what a config
/// struct reads and what an operator sees. Made by
/// [`Coordinator::config_center`](crate::Coordinator::config_center); cheap to clone.
///
/// A key that starts with `/` is the key itself; any other is below the coordinator's config prefix.
///
/// Every write is filed: who wrote what, when and why, and what was there before, in the same
/// transaction as the value ([`history`](Self::history), [`rollback`](Self::rollback)). A value that
/// another client has put is filed by the next write here. With
/// [`ConfigOptions::versioning`](crate::ConfigOptions::versioning) off nothing is filed.
///
/// What is filed is kept as it was, a secret too: who may read the history's keys
/// (`<namespace>coord/history/`) reads every value. A value is in a request three times (itself, its
/// record, the one that it replaces): etcd's limit of 1.5 MiB is reached at a third of that. What
/// another client has put there is replaced whatever it is; if its record has more than 1 MiB it is
/// not filed.
///
/// Versions are revisions of the store. In one that was filled key by key from another (`etcdctl
/// make-mirror`) those of the other mean nothing: leave the history's keys out, or delete them there,
/// or new steps are taken for older ones than the copied and are the first to be removed. A restored
/// snapshot has its own revisions, and its history.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// let center = coordinator.config_center().author("alice");
///
/// center.set("shop/limit", &100).await?;
/// let limit = center.get::<u32>("shop/limit").await?.expect("it was set");
/// assert_eq!((limit.value, limit.author.as_deref()), (100, Some("alice")));
///
/// // Only if nobody has changed it since it was read.
/// center.compare_and_set("shop/limit", limit.version, &120).await?;
/// // Or, as often as it takes:
/// center.update("shop/limit", |old: Option<u32>| old.unwrap_or(100) + 20).await?;
///
/// let steps = center.history::<u32>("shop/limit", 10).await?;
/// let values: Vec<_> = steps.into_iter().filter_map(|step| step.value?.ok()).collect();
/// assert_eq!(values, [140, 120, 100]);
///
/// center.comment("too many").rollback("shop/limit", limit.version).await?;
/// # let center = coordinator.config_center();
/// # assert_eq!(center.get::<u32>("shop/limit").await?.expect("it is set").value, 100);
/// # coordinator.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConfigCenter {
    engine: Engine,
    cache: Cache,
    note: Arc<Note>,
}

impl ConfigCenter {
    pub(crate) fn new(engine: Engine, cache: Cache) -> Self {
        let author = match &engine.module {
            Some(module) => format!("{module}@{}", host::name()),
            None => host::name(),
        };
        let note = Note {
            author: Some(author),
            ..Note::default()
        };
        Self {
            engine,
            cache,
            note: Arc::new(note),
        }
    }

    /// The center whose writes say that `author` made them. Default: the module's and the machine's
    /// name.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.note).author = Some(author.into());
        self
    }

    /// The center whose writes say why they were made.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.note).comment = Some(comment.into());
        self
    }

    /// The center whose writes also say this, such as the number of a ticket.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let metadata = &mut Arc::make_mut(&mut self.note).metadata;
        metadata.insert(name.into(), value.into());
        self
    }

    /// The value of `key`, with its version and what is known of its write; `None` if there is no
    /// such key. With [`ConfigOptions::cache_ttl`](crate::ConfigOptions::cache_ttl) it may be so old,
    /// but never older than a write through this coordinator.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a bad key, and for a value that is no `T`;
    /// [`Unavailable`](Error::Unavailable) and [`Timeout`](Error::Timeout) if etcd cannot be reached.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<ConfigValue<T>>> {
        self.engine.check_open(GET)?;
        let place = self.place(GET, key)?;
        let ttl = self.engine.options.config.cache_ttl;
        if ttl.is_zero() {
            return ConfigValue::read(GET, &self.current(GET, &place).await?);
        }
        let now = self.engine.clock.now();
        let seen = match self.cache.get(&place.key, now, ttl) {
            Ok(seen) => seen,
            Err(reading) => {
                let seen = self.current(GET, &place).await?;
                self.cache.keep(&place.key, &reading, &seen);
                seen
            }
        };
        ConfigValue::read(GET, &seen)
    }

    /// The version of `key`'s current value; [`Version::ABSENT`] if there is no such key. Always
    /// asked of etcd.
    ///
    /// # Errors
    /// As for [`get`](Self::get), but for the value.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn version(&self, key: &str) -> Result<Version> {
        self.engine.check_open(GET)?;
        let place = self.place(GET, key)?;
        let range = Range {
            keys_only: true,
            ..Range::new(Span::key(&place.key))
        };
        let reply = self.engine.read(range).await;
        let reply = reply.map_err(|error| failed(GET, &place, error))?;
        let kv = reply.kvs.first();
        Ok(kv.map_or(Version::ABSENT, |kv| kv.mod_revision.into()))
    }

    /// Sets `key`, whatever it is now, and returns the new version:
    /// [`Config::wait_for_revision`](super::Config::wait_for_revision) takes it.
    ///
    /// Text, numbers, bools, durations and unit enums are written as plain text, everything else as
    /// JSON.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a bad key, and for a value that has no text form;
    /// [`Unavailable`](Error::Unavailable) and [`Timeout`](Error::Timeout) if etcd cannot be reached:
    /// [`maybe_applied`](Error::maybe_applied) tells whether the write may have happened;
    /// [`Conflict`](Error::Conflict) only if very many writers write the key all the time.
    ///
    /// # Cancel safety
    /// Dropped after its first poll the write may or may not happen.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Version> {
        let value = encoded(SET, key, value)?;
        self.write(SET, key, None, Some(value)).await
    }

    /// Sets `key` if it does not exist. The same as [`compare_and_set`](Self::compare_and_set) with
    /// [`Version::ABSENT`].
    ///
    /// # Errors
    /// As for [`compare_and_set`](Self::compare_and_set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn create<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Version> {
        self.compare_and_set(key, Version::ABSENT, value).await
    }

    /// Sets `key` if its version is still `version`.
    ///
    /// # Errors
    /// [`Conflict`](Error::Conflict) with the current version if it is not; else as for
    /// [`set`](Self::set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn compare_and_set<T: Serialize + ?Sized>(
        &self,
        key: &str,
        version: impl Into<Version>,
        value: &T,
    ) -> Result<Version> {
        let (value, version) = (encoded(SET, key, value)?, version.into());
        self.write(SET, key, Some(version), Some(value)).await
    }

    /// Sets `key` to what `change` makes of its value (`None`: there is none), and, if somebody else
    /// was faster, to what it makes of theirs: nothing is lost, and `change` may be called more than
    /// once. Returns the new version.
    ///
    /// # Errors
    /// As for [`set`](Self::set); [`Invalid`](Error::Invalid) also if the value is no `T`.
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> T,
    ) -> Result<Version> {
        let place = self.place(UPDATE, key)?;
        let _writing = self.writing([&place]);
        Commit::new(self, UPDATE, vec![place.clone()])?
            .run(|seen| {
                let kv = seen[0].value.as_ref();
                let old =
                    kv.map(|kv| typed(UPDATE, place.key.as_str(), seen[0].version(), &kv.value));
                let new = encoded(UPDATE, key, &change(old.transpose()?))?;
                Ok(vec![Change::to(Some(new))])
            })
            .await
    }

    /// Deletes `key`, and returns the version under which the [`history`](Self::history) lists the
    /// deletion. If there is no such key nothing happens, and the version is the store's revision.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn delete(&self, key: &str) -> Result<Version> {
        self.write(DELETE, key, None, None).await
    }

    /// Deletes `key` if its version is still `version`.
    ///
    /// # Errors
    /// [`Conflict`](Error::Conflict) with the current version if it is not; else as for
    /// [`set`](Self::set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn delete_if(&self, key: &str, version: impl Into<Version>) -> Result<Version> {
        self.write(DELETE, key, Some(version.into()), None).await
    }

    /// Several writes that happen together or not at all, in one revision: a config struct bound to
    /// their keys takes them over in one step.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let center = coordinator.config_center();
    /// let version = center
    ///     .transaction()
    ///     .set("shop/db/host", "db-1")
    ///     .set("shop/db/port", &5433)
    ///     .delete("shop/db/socket")
    ///     .commit()
    ///     .await?;
    /// assert_eq!(center.version("shop/db/port").await?, version);
    /// # coordinator.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transaction(&self) -> ConfigTransaction {
        ConfigTransaction::new(self.clone())
    }

    /// The changes of `key` from now on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let center = coordinator.config_center();
    /// let mut changes = center.watch::<u32>("shop/limit").await?;
    /// // Read after the watch began: what comes later is an event.
    /// let mut limit = center.get::<u32>("shop/limit").await?.map(|it| it.value);
    ///
    /// center.set("shop/limit", &7).await?;
    /// let event = changes.next().await.expect("the coordinator is open");
    /// match event.new {
    ///     Some(Ok(new)) => limit = Some(new),
    ///     Some(Err(error)) => eprintln!("still {limit:?}: {error}"),
    ///     None => limit = None,
    /// }
    /// assert_eq!(limit, Some(7));
    /// # coordinator.close().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a bad key; [`Unavailable`](Error::Unavailable) if etcd does
    /// not answer within the connect and the request timeout together. Once it has begun it does not
    /// fail: it follows again whatever happens to the connection.
    ///
    /// # Cancel safety
    /// Safe: the watch ends.
    pub async fn watch<T: DeserializeOwned>(&self, key: &str) -> Result<ConfigEvents<T>> {
        let key = self
            .engine
            .layout
            .config_key(ConfigEvents::<T>::WATCH, key)?;
        ConfigEvents::start(&self.engine, Span::key(&key), key.as_str()).await
    }

    /// The changes of all keys below `prefix` from now on, as [`watch`](Self::watch) tells those of
    /// one. A prefix ends at a slash: `shop` does not mean `shop2/limit`. The empty one means all of
    /// the coordinator's config.
    ///
    /// # Errors
    /// As for [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// As for [`watch`](Self::watch).
    pub async fn watch_prefix<T: DeserializeOwned>(&self, prefix: &str) -> Result<ConfigEvents<T>> {
        let prefix = (self.engine.layout).config_below(ConfigEvents::<T>::WATCH, prefix)?;
        ConfigEvents::start(&self.engine, Span::prefix(&prefix), prefix.as_str()).await
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn note(&self) -> &Note {
        &self.note
    }

    pub(super) fn versioned(&self) -> bool {
        self.engine.options.config.versioning
    }

    pub(super) fn place(&self, operation: &'static str, key: &str) -> Result<Place> {
        let key = self.engine.layout.config_key(operation, key)?;
        Ok(Place::new(&self.engine.layout, key))
    }

    fn writing<'p>(&self, places: impl IntoIterator<Item = &'p Place>) -> Writing<'_> {
        let keys = places.into_iter().map(|place| place.key.clone());
        self.cache.write(keys.collect())
    }

    async fn current(&self, operation: &'static str, place: &Place) -> Result<Seen> {
        let reads = if self.versioned() { 2 } else { 1 };
        let reads = place.reads_current().into_iter().take(reads).collect();
        let replies = self.read(operation, place, reads).await?;
        Ok(Seen::read(place, replies))
    }

    pub(super) async fn read(
        &self,
        operation: &'static str,
        place: &Place,
        reads: Vec<Op>,
    ) -> Result<Vec<OpReply>> {
        self.engine.check_open(operation)?;
        let reply = self.engine.read_all(reads).await;
        let reply = reply.map_err(|error| failed(operation, place, error))?;
        Ok(reply.replies)
    }

    async fn write(
        &self,
        operation: &'static str,
        key: &str,
        expected: Option<Version>,
        value: Option<Vec<u8>>,
    ) -> Result<Version> {
        let place = self.place(operation, key)?;
        self.commit(operation, vec![(place, expected, Change::to(value))])
            .await
    }

    /// All `writes` in one transaction, each if its key has the expected version.
    pub(super) async fn commit(
        &self,
        operation: &'static str,
        writes: Vec<(Place, Option<Version>, Change)>,
    ) -> Result<Version> {
        let _writing = self.writing(writes.iter().map(|(place, ..)| place));
        let places = writes.iter().map(|(place, ..)| place.clone()).collect();
        let commit = Commit::new(self, operation, places)?;
        let unconditional = writes.iter().all(|(_, expected, _)| expected.is_none());
        if unconditional && !self.versioned() {
            let changes = writes.into_iter().map(|(.., change)| change);
            return commit.blindly(changes.collect()).await;
        }
        commit
            .run(|seen| {
                let pairs = writes.iter().zip(seen);
                pairs
                    .map(|((place, expected, change), seen)| {
                        Commit::expect(operation, place, seen, *expected)?;
                        Ok(change.clone())
                    })
                    .collect()
            })
            .await
    }

    /// All `writes` in one transaction, if all `guards` hold. Logs and errors tell of `subject`, not of
    /// its keys.
    pub(super) async fn commit_if(
        &self,
        operation: &'static str,
        subject: &str,
        guards: Vec<Compare>,
        writes: Vec<(Place, Change)>,
    ) -> Result<Version> {
        let _writing = self.writing(writes.iter().map(|(place, _)| place));
        let (places, changes): (_, Vec<_>) = writes.into_iter().unzip();
        Commit::new(self, operation, places)?
            .guarded(subject, guards)
            .run(|_| Ok(changes.clone()))
            .await
    }
}

fn failed(operation: &'static str, place: &Place, error: CallError) -> Error {
    error.into_error(Context::new(operation).key(place.key.as_str()))
}

pub(super) fn encoded<T: Serialize + ?Sized>(
    operation: &'static str,
    key: &str,
    value: &T,
) -> Result<Vec<u8>> {
    encode(value).map_err(|reason| Error::Invalid {
        context: Context::new(operation).key(key),
        faults: vec![reason],
    })
}
