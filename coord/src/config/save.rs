//! Saving: a whole struct, as the keys that it is read from.

use std::collections::{BTreeMap, HashSet};

use super::{
    builder::ConfigBuilder,
    center::ConfigCenter,
    commit::CONFLICTS,
    decode::{self, Keys, Note, claim, is_sound},
    encoder::keys_of,
    history::{Change, Place},
    list::{Depth, Listing},
    shape::{CoordConfig, Field, Form, WriteConfig, flat},
    version::Version,
    whole::Whole,
};
use crate::{
    client::{KeyValue, Range, Span},
    error::{Context, Error, Result},
    key::{Key, Prefix},
    retry::Backoff,
};

const SAVE: &str = "save config";

/// The keys that the struct is to have, by their paths below its prefix.
type Wanted = BTreeMap<String, (Place, Vec<u8>)>;

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
    /// If somebody writes a key of the struct meanwhile it begins again: several that save at once do
    /// not mix. (Of more than 43 keys that stay as they are not each is looked at again: that another
    /// client, or [`ConfigCenter::delete`], deletes one in this moment counts as done after it.)
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
        let mut wanted = BTreeMap::new();
        for (path, value) in keys {
            let key = match path.as_str() {
                "" => prefix.itself(),
                path => prefix.key(path),
            };
            let place = self.center.place(SAVE, key.as_str())?;
            wanted.insert(path, (place, value));
        }
        let mut backoff = Backoff::for_call(&CONFLICTS);
        loop {
            let (revision, found) = self.stored(&prefix).await?;
            let whole = self.plan(&prefix, &wanted, revision, &found).await;
            if whole.writes.is_empty() {
                return Ok(revision.into());
            }
            let (span, parts) = (self.span(&prefix), self.parts(&prefix));
            let (writes, guards) = whole.guarded(self.center.versioned(), span, parts);
            let done = self.center.commit_if(SAVE, prefix.as_str(), guards, writes);
            match done.await {
                Err(error @ Error::Conflict { .. }) => match backoff.next_try() {
                    Some(delay) => self.engine().clock.sleep(delay).await,
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    /// What has to be written over `found`.
    async fn plan(
        &self,
        prefix: &Prefix,
        wanted: &Wanted,
        revision: i64,
        found: &[KeyValue],
    ) -> Whole {
        let find = |place: &Place| {
            let index = found.binary_search_by(|kv| kv.key.as_slice().cmp(place.key.as_bytes()));
            index.ok().map(|index| &found[index])
        };
        let mut whole = Whole {
            revision,
            found: found.len(),
            writes: Vec::new(),
            same: Vec::new(),
            again: None,
        };
        for (place, text) in wanted.values() {
            let write = || (place.clone(), Change::to(Some(text.clone())));
            match find(place) {
                Some(kv) if kv.value == *text => {
                    whole.same.push((place.key.clone(), kv.mod_revision));
                    whole.again = Some(write());
                }
                _ => whole.writes.push(write()),
            }
        }
        for kv in self.superfluous(prefix, wanted, found).await {
            let place = Place::new(&self.engine().layout, Key::found(&kv.key));
            whole.writes.push((place, Change::to(None)));
        }
        whole
    }

    /// The keys that a field would read, and that `wanted` has not.
    async fn superfluous<'f>(
        &self,
        prefix: &Prefix,
        wanted: &Wanted,
        found: &'f [KeyValue],
    ) -> Vec<&'f KeyValue> {
        let present = |path: &str| {
            let below = format!("{path}/");
            let mut after = wanted.range(below.clone()..);
            wanted.contains_key(path)
                || after.next().is_some_and(|(key, _)| key.starts_with(&below))
        };
        let below_a_value = |path: &str| {
            let mut ends = path.match_indices('/');
            ends.any(|(end, _)| wanted.contains_key(&path[..end]))
        };
        let (mut superfluous, mut doubtful) = (Vec::new(), Vec::new());
        for kv in found {
            let Some(path) = prefix.strip(&kv.key).filter(|path| is_sound(path)) else {
                continue;
            };
            let Ok(path) = std::str::from_utf8(path) else {
                continue;
            };
            if !wanted.contains_key(path) && claim(T::SHAPE, path, &present).reads() {
                match below_a_value(path) {
                    true => doubtful.push(kv),
                    false => superfluous.push(kv),
                }
            }
        }
        if !doubtful.is_empty() {
            let kept = self.unread(prefix, wanted, &doubtful).await;
            superfluous.extend(doubtful.into_iter().filter(|kv| !kept.contains(&kv.key)));
        }
        superfluous
    }

    /// Those of `keys`, all below a value, that the value's type does not look at: the keys below a
    /// number are nobody's, those below a list would be a second list.
    async fn unread(
        &self,
        prefix: &Prefix,
        wanted: &Wanted,
        keys: &[&KeyValue],
    ) -> HashSet<Vec<u8>> {
        let mut all: Keys = keys
            .iter()
            .map(|&kv| (kv.key.clone(), kv.clone()))
            .collect();
        for (place, text) in wanted.values() {
            let kv = KeyValue {
                key: place.key.as_bytes().to_vec(),
                value: text.clone(),
                ..KeyValue::default()
            };
            all.insert(kv.key.clone(), kv);
        }
        let prefix = prefix.clone();
        let read = move || decode::decode::<T>(&prefix, &all, None).notes;
        let notes = self.engine().tasks.aside(read).await.unwrap_or_default();
        notes
            .into_iter()
            .filter_map(|note| match note {
                Note::Unknown { unknown, .. } => Some(unknown.key.into_bytes()),
                Note::Warning(_) => None,
            })
            .collect()
    }

    /// What stands below the prefix now, in the order of keys, and the revision of that.
    async fn stored(&self, prefix: &Prefix) -> Result<(i64, Vec<KeyValue>)> {
        match self.span(prefix) {
            Span::Interval(..) => {
                let listing = Listing::below(&self.center, SAVE, prefix, Depth::Value);
                listing.stored().await
            }
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

    /// The same, field by field: without what stands beside them.
    fn parts(&self, prefix: &Prefix) -> Vec<Span> {
        match T::SHAPE.form() {
            Form::Keys => flat(T::FIELDS)
                .flat_map(Field::keys)
                .map(|key| prefix.branch(key))
                .map(|(from, end)| Span::Interval(from, end))
                .collect(),
            Form::Document(_) | Form::Value => vec![self.span(prefix)],
        }
    }
}
