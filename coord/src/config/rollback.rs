//! The way back: a key, or all keys below a prefix, as they were.

use std::collections::BTreeMap;

use super::{
    center::ConfigCenter,
    commit::CONFLICTS,
    history::{Change, MAX_OPS, Place},
    list::{Depth, Listing, each},
    record::Record,
    version::Version,
    whole::Whole,
};
use crate::{
    client::{KeyValue, Range, Span},
    error::{Context, Error, Result},
    key::{Key, Prefix},
    retry::Backoff,
};

const ROLL_BACK: &str = "roll back config";

/// How many keys one chunk has: each may have two steps that are not filed yet.
const CHUNK: usize = MAX_OPS / 4;

impl ConfigCenter {
    /// Makes `key` again what it was at `version`, one that [`history`](Self::history) lists: a
    /// value, or deleted. That is a new write, whatever the key is now, and a new step in the
    /// history. Returns its version. Only to delete a key that there is not is nothing, as for
    /// [`delete`](Self::delete).
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) if the history has no such version (any more); else as for
    /// [`set`](Self::set).
    ///
    /// # Cancel safety
    /// As for [`set`](Self::set).
    pub async fn rollback(&self, key: &str, version: impl Into<Version>) -> Result<Version> {
        self.engine().check_open(ROLL_BACK)?;
        let (place, version) = (self.place(ROLL_BACK, key)?, version.into());
        let context = || Context::new(ROLL_BACK).key(place.key.as_str());
        let filed = place.reads_filed(version);
        let steps = self.steps(&place, true, filed).await;
        let (steps, _) = steps.map_err(|error| error.into_error(context()))?;
        let Some((_, step)) = steps.into_iter().find(|(at, _)| *at == version) else {
            return Err(Error::NotFound { context: context() });
        };
        let change = Change {
            value: step.what.value(),
            rolled_back_to: Some(version),
        };
        self.commit(ROLL_BACK, vec![(place, None, change)]).await
    }

    /// Makes all keys below `prefix` again what they were at `version`, any revision of the store, in
    /// one transaction: values, and the absence of keys that there were not. Each key that differs
    /// gets a new step in its history, and the others stay. Returns the version of that; the store's
    /// revision if nothing differs.
    ///
    /// What the keys were is taken from their histories, so it does not matter whether etcd has
    /// compacted that revision. What other clients have put is known as far as
    /// [`history`](Self::history) knows it; that they have deleted a key is not: it is again what it
    /// was before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let center = coordinator.config_center();
    /// let good = center.set("shop/limit", &100).await?;
    /// center.set("shop/limit", &1).await?;
    /// center.set("shop/motto", "one each").await?;
    ///
    /// center.rollback_prefix("shop", good).await?;
    /// assert_eq!(center.get::<u32>("shop/limit").await?.expect("it is set").value, 100);
    /// assert!(center.get::<String>("shop/motto").await?.is_none());
    /// # coordinator.close().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a bad prefix and for [`Version::ABSENT`], with every key whose
    /// history does not tell what it was, and for more keys than one
    /// [transaction](super::ConfigTransaction) takes; else as for [`set`](Self::set). Nothing is
    /// written then.
    ///
    /// # Cancel safety
    /// Dropped after its first poll all of it may happen, or nothing.
    pub async fn rollback_prefix(
        &self,
        prefix: &str,
        version: impl Into<Version>,
    ) -> Result<Version> {
        let (prefix, version) = (self.prefix(prefix)?, version.into());
        let mut backoff = Backoff::for_call(&CONFLICTS);
        loop {
            let whole = self.way_back(&prefix, version).await?;
            if whole.writes.is_empty() {
                return Ok(whole.revision.into());
            }
            let span = Span::prefix(&prefix);
            let (writes, guards) = whole.guarded(self.versioned(), span.clone(), vec![span]);
            let done = self.commit_if(ROLL_BACK, prefix.as_str(), guards, writes);
            match done.await {
                Err(error @ Error::Conflict { .. }) => match backoff.next_try() {
                    Some(delay) => self.engine().clock.sleep(delay).await,
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    /// As [`rollback_prefix`](Self::rollback_prefix), for any number of keys, but **not atomic**: one
    /// transaction after another, of 32 keys each. Who is bound to the prefix sees mixtures until it
    /// is done; what others write meanwhile is overwritten, or stays. Returns the version of the last.
    ///
    /// # Errors
    /// As for [`rollback_prefix`](Self::rollback_prefix), but for the number of keys. What is not
    /// known is refused before anything is written; after any other error some keys may be what they
    /// were and others not. To call it again then does the rest.
    ///
    /// # Cancel safety
    /// Dropped after its first poll any part of it may happen.
    pub async fn rollback_prefix_in_chunks(
        &self,
        prefix: &str,
        version: impl Into<Version>,
    ) -> Result<Version> {
        let (prefix, version) = (self.prefix(prefix)?, version.into());
        let whole = self.way_back(&prefix, version).await?;
        let mut last = whole.revision.into();
        for chunk in whole.writes.chunks(CHUNK) {
            let chunk = chunk.iter().cloned();
            let chunk = chunk.map(|(place, change)| (place, None, change));
            last = self.commit(ROLL_BACK, chunk.collect()).await?;
        }
        Ok(last)
    }

    fn prefix(&self, prefix: &str) -> Result<Prefix> {
        self.engine().layout.config_below(ROLL_BACK, prefix)
    }

    /// What has to be written to what is below `prefix` at the revision, so that it is what it was at
    /// `version`.
    async fn way_back(&self, prefix: &Prefix, version: Version) -> Result<Whole> {
        let context = || Context::new(ROLL_BACK).key(prefix.as_str());
        let invalid = |faults| Error::Invalid {
            context: context(),
            faults,
        };
        if !version.exists() {
            let fault = "version 0 is that of a key that does not exist, not one of the store";
            return Err(invalid(vec![fault.to_owned()]));
        }
        let listing = |depth| Listing::below(self, ROLL_BACK, prefix, depth);
        let (revision, values) = listing(Depth::Value).stored().await?;
        let mut whole = Whole {
            revision,
            found: values.len(),
            writes: Vec::new(),
            same: Vec::new(),
            again: None,
        };
        if version.revision() >= revision {
            return Ok(whole);
        }
        let (pinned, records) = listing(Depth::Key).histories(prefix).stored().await?;
        let mut pasts = BTreeMap::<Key, Past>::new();
        for kv in values {
            // What is no UTF-8 has never been written here, and cannot be.
            if std::str::from_utf8(&kv.key).is_ok() {
                let key = Key::found(&kv.key);
                pasts.entry(key).or_default().now = Some(kv);
            }
        }
        for kv in records {
            if let Some((key, filed)) = self.engine().layout.history_of(&kv.key) {
                let past = pasts.entry(key).or_default();
                match filed {
                    Some(filed) if filed > version.revision() => {}
                    Some(filed) => past.filed = past.filed.max(Some(filed)),
                    None => past.head = Some(kv),
                }
            }
        }
        let mut stays = |key: &Key, now: &KeyValue| {
            whole.same.push((key.clone(), now.mod_revision));
            let place = Place::new(&self.engine().layout, key.clone());
            whole.again = Some((place, Change::to(Some(now.value.clone()))));
        };
        pasts.retain(|key, past| match &past.now {
            Some(now) if now.mod_revision <= version.revision() => {
                stays(key, now);
                false
            }
            _ => true,
        });

        let places = pasts
            .keys()
            .map(|key| Place::new(&self.engine().layout, key.clone()));
        let places: Vec<_> = places.collect();
        let ranges = places
            .iter()
            .zip(pasts.values())
            .map(|(place, past)| Range {
                // As it was when its key was listed: by now it may be another step's.
                revision: pinned,
                ..past.reads(place, version)
            });
        let found = each(self.engine(), &ranges.collect::<Vec<_>>()).await;
        let found = found.map_err(|error| error.into_error(context()))?;
        let (mut writes, mut faults) = (Vec::new(), Vec::new());
        for ((place, past), found) in places.into_iter().zip(pasts.into_values()).zip(found) {
            match past.was(&place, version, &found) {
                Ok((_, value)) if value.as_ref() == past.now.as_ref().map(|kv| &kv.value) => {
                    if let Some(now) = &past.now {
                        stays(&place.key, now);
                    }
                }
                Ok((at, value)) => {
                    let change = Change {
                        value,
                        rolled_back_to: Some(at),
                    };
                    writes.push((place, change));
                }
                Err(reason) => faults.push(format!("`{}`: {reason}", place.key)),
            }
        }
        match faults.is_empty() {
            true => Ok(Whole { writes, ..whole }),
            false => Err(invalid(faults)),
        }
    }
}

/// What is known of a key without its older values.
#[derive(Default)]
struct Past {
    now: Option<KeyValue>,
    /// Without its value.
    head: Option<KeyValue>,
    /// The newest filed step up to the version.
    filed: Option<i64>,
}

impl Past {
    /// The newest step up to `version` is the head.
    fn is_head(&self, version: Version) -> bool {
        let head = self.head.as_ref();
        head.is_some_and(|head| head.mod_revision <= version.revision())
    }

    /// What tells what it was.
    fn reads(&self, place: &Place, version: Version) -> Range {
        match self.filed {
            _ if self.is_head(version) => place.reads_head(),
            Some(filed) => place.reads_filed(filed.into()),
            // All steps, to know whether there was one before.
            None => place.reads_since(version.revision()),
        }
    }

    /// The step up to `version`, and what it made of the key. `found`: what was read.
    fn was(
        &self,
        place: &Place,
        version: Version,
        found: &[KeyValue],
    ) -> std::result::Result<(Version, Option<Vec<u8>>), String> {
        let step = match (&self.head, self.filed) {
            (Some(head), _) if self.is_head(version) => Some(head.mod_revision),
            (_, filed) => filed,
        };
        if let Some(step) = step {
            let record = found.first().and_then(|kv| Record::read(&kv.value));
            let record = record.ok_or_else(|| format!("its step {step} cannot be read"))?;
            return Ok((step.into(), record.what.value()));
        }
        let steps = found.iter().filter_map(|kv| place.filed(kv));
        let known = steps.filter(|(_, record)| !record.id.is_empty()).count();
        let written = self.head.as_ref().map_or(0, |head| head.version);
        // The head is one of them.
        if written > 0 && i64::try_from(known + 1) != Ok(written) {
            return Err(format!(
                "its history does not reach back to version {version}"
            ));
        }
        let now = self.now.as_ref();
        if now.is_some_and(|now| now.create_revision <= version.revision()) {
            return Err(format!(
                "it existed at version {version}, put by another client, and what it was is not known"
            ));
        }
        Ok((version, None))
    }
}
