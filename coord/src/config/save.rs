//! Saving: a whole struct, as the keys that it is read from.

use super::{
    builder::ConfigBuilder,
    center::ConfigCenter,
    commit::CONFLICTS,
    decode::claim,
    encoder::keys_of,
    history::{Change, Place},
    list::stored,
    shape::{CoordConfig, Form, WriteConfig},
    version::Version,
};
use crate::{
    client::{Compare, CompareOp, KeyValue, Range, Span},
    error::{Context, Error, Result},
    key::Prefix,
    retry::Backoff,
};

const SAVE: &str = "save config";

impl<T: CoordConfig> ConfigBuilder<T> {
    /// What [`save`](Self::save) writes through: its author, comment and metadata are told with
    /// every key.
    pub fn center(mut self, center: ConfigCenter) -> Self {
        self.center = center;
        self
    }

    /// Writes `value`, so that whoever binds the prefix has it: in one transaction the keys that
    /// differ, and the deletion of those that its fields would read and that it has not. Keys that no
    /// field reads stay. Returns the version of what was written; the store's revision if nothing
    /// differs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// #[derive(coord::CoordConfig)]
    /// #[coord(prefix = "shop", write)]
    /// struct Shop {
    ///     name: String,
    ///     motto: Option<String>,
    /// }
    ///
    /// let shop = Shop {
    ///     name: "Corner shop".into(),
    ///     motto: None,
    /// };
    /// coordinator.config::<Shop>().save(&shop).await?;
    ///
    /// let config = coordinator.config::<Shop>().start().await?;
    /// assert_eq!(config.load().name, "Corner shop");
    /// # coordinator.close().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) lists every placeholder without a value, or every field that has no
    /// text form, and refuses more changed keys than one
    /// [transaction](super::ConfigTransaction) takes; else as for
    /// [`ConfigCenter::set`](ConfigCenter::set).
    ///
    /// # Cancel safety
    /// Dropped after its first poll all of it may happen, or nothing.
    pub async fn save(&self, value: &T) -> Result<Version>
    where
        T: WriteConfig,
    {
        self.engine().check_open(SAVE)?;
        let prefix = self.resolve(SAVE)?;
        let keys = keys_of(value).map_err(|faults| Error::Invalid {
            context: Context::new(SAVE).key(prefix.as_str()),
            faults,
        })?;
        let place_of = |path: &str| {
            let key = match path {
                "" => prefix.itself(),
                path => prefix.key(path),
            };
            self.center.place(SAVE, key.as_str())
        };
        let mut wanted = Vec::with_capacity(keys.len());
        for (path, value) in &keys {
            wanted.push((place_of(path)?, value.as_slice()));
        }
        let present = |path: &str| {
            let below = format!("{path}/");
            let mut after = keys.range(below.clone()..);
            keys.contains_key(path) || after.next().is_some_and(|(key, _)| key.starts_with(&below))
        };
        let mut backoff = Backoff::for_call(&CONFLICTS);
        loop {
            let (revision, found) = self.stored(&prefix).await?;
            let find = |place: &Place| {
                let index =
                    found.binary_search_by(|kv| kv.key.as_slice().cmp(place.key.as_bytes()));
                index.ok().map(|index| &found[index])
            };
            let mut writes: Vec<(Place, Change)> = wanted
                .iter()
                .filter(|(place, text)| find(place).is_none_or(|kv| kv.value != *text))
                .map(|(place, text)| (place.clone(), Change::to(Some(text.to_vec()))))
                .collect();
            for kv in &found {
                let path = prefix.strip(&kv.key).map(std::str::from_utf8);
                if let Some(Ok(path)) = path
                    && !keys.contains_key(path)
                    && claim(T::SHAPE, path, &present).reads()
                {
                    writes.push((place_of(path)?, Change::to(None)));
                }
            }
            if writes.is_empty() {
                return Ok(revision.into());
            }
            // Nobody has written any of the struct's keys since they were read.
            let guard = Compare::mod_revision(self.span(&prefix), CompareOp::Less, revision + 1);
            match self.center.commit_if(SAVE, guard, writes).await {
                Err(error @ Error::Conflict { .. }) => match backoff.next_try() {
                    Some(delay) => self.engine().clock.sleep(delay).await,
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    /// What stands below the prefix now, in the order of keys, and the revision of that.
    async fn stored(&self, prefix: &Prefix) -> Result<(i64, Vec<KeyValue>)> {
        match self.span(prefix) {
            Span::Interval(..) => stored(&self.center, SAVE, prefix.clone()).await,
            key @ Span::Key(_) => {
                let reply = self.engine().read(Range::new(key)).await;
                let reply = reply.map_err(|error| {
                    error.into_error(Context::new(SAVE).key(prefix.itself().as_str()))
                })?;
                Ok((reply.header.revision, reply.kvs))
            }
        }
    }

    /// Where the struct's keys are.
    pub(super) fn span(&self, prefix: &Prefix) -> Span {
        match T::SHAPE.form() {
            Form::Document(_) => Span::key(&prefix.itself()),
            Form::Keys | Form::Value => Span::prefix(prefix),
        }
    }
}
