//! [`Discover`]: reads a service's instances, all of them or some.

use std::{collections::HashSet, future::IntoFuture, pin::Pin, sync::Arc};

use semver::{Version, VersionReq};

use super::{
    instance::{Instance, InstanceHealth},
    read,
    set::Resolved,
};
use crate::{
    client::{CallError, KeyValue, Range, Reason, Span},
    engine::Engine,
    error::{Context, Error, Result},
    key::Prefix,
};

const DISCOVER: &str = "discover instances";

/// How many records one page of a list has.
pub(super) const PAGE: i64 = 1_000;

/// Which instances are looked for. Made by [`Registry::discover`](crate::Registry::discover); `await`
/// it for a `Vec<Instance>`, in the order of their records' keys.
///
/// Of two healthy ones with one address the younger counts: the other is a crashed one whose record has
/// not run out yet. A record that cannot be read is left out, counted and said in the log.
///
/// # Errors
/// [`Invalid`](Error::Invalid) for a name that cannot be a service's, or a version requirement that is
/// none; [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) after the retries that the
/// options allow; [`Denied`](Error::Denied); [`Closed`](Error::Closed).
///
/// # Cancel safety
/// Safe.
#[derive(Clone, Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Discover {
    engine: Engine,
    service: String,
    version: Option<String>,
    zone: Option<String>,
    tags: Vec<String>,
    /// `None`: any.
    healths: Option<Vec<InstanceHealth>>,
}

impl Discover {
    pub(super) fn new(engine: Engine, service: &str) -> Self {
        Self {
            engine,
            service: service.to_owned(),
            version: None,
            zone: None,
            tags: Vec::new(),
            healths: Some(vec![InstanceHealth::Healthy]),
        }
    }

    /// Only those whose version satisfies this requirement, in Cargo's notation: `1.4` (1.4.0 and up,
    /// below 2.0.0), `=1.4.2`, `>=1.2, <3`, `~1.4`. A pre-release (`2.0.0-rc.1`) satisfies only a
    /// requirement that names one of the same version. An instance with no version, or with one that is
    /// none (`1.4`, `v1.4.0` are read as `1.4.0`), satisfies no requirement.
    pub fn version(mut self, requirement: impl Into<String>) -> Self {
        self.version = Some(requirement.into());
        self
    }

    /// Only those in this zone.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Only those with this tag; with all of them, if there are several.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Those with one of these healths, instead of the healthy ones alone. What is not healthy is known
    /// by its life-cycle record, which plain Go clients do not write. Two with one address are both
    /// listed, unless both are healthy and nothing else is asked for.
    pub fn health(mut self, healths: impl IntoIterator<Item = InstanceHealth>) -> Self {
        self.healths = Some(healths.into_iter().collect());
        self
    }

    /// Those with any health, as [`health`](Self::health).
    pub fn any_health(mut self) -> Self {
        self.healths = None;
        self
    }

    async fn find(self) -> Result<Vec<Instance>> {
        self.engine.check_open(DISCOVER)?;
        let parse = |text| requirement(text).map_err(|fault| Error::invalid(DISCOVER, fault));
        let version = self.version.as_deref().map(parse).transpose()?;
        let mut found = match self.healths.as_deref() {
            Some([InstanceHealth::Healthy]) => self.youngest().await?,
            _ => self.all().await?,
        };
        found.retain(|instance| {
            let suits = |requirement: &VersionReq| satisfies(instance, requirement);
            self.healths
                .as_ref()
                .is_none_or(|all| all.contains(&instance.health))
                && version.as_ref().is_none_or(suits)
                && (self.zone.is_none() || self.zone == instance.zone)
                && self.tags.iter().all(|tag| instance.tags.contains(tag))
        });
        Ok(found)
    }

    /// Of the routable ones one for each address.
    async fn youngest(&self) -> Result<Vec<Instance>> {
        let mut resolved = Resolved::default();
        for instance in self.routable().await? {
            let key = instance.key.clone();
            resolved.change(key.as_bytes(), Some(Arc::new(instance)));
        }
        Ok(resolved.into_instances())
    }

    async fn routable(&self) -> Result<Vec<Instance>> {
        let prefix = self.engine.layout.instances(&self.service)?;
        let mut found = self.list(&prefix).await?;
        found.retain(|instance| instance.health == InstanceHealth::Healthy);
        Ok(found)
    }

    /// Those with a life-cycle record, then the routable ones without.
    async fn all(&self) -> Result<Vec<Instance>> {
        let prefix = self.engine.layout.life_cycles(&self.service)?;
        let mut found = self.list(&prefix).await?;
        let routable = self.routable().await?;
        let known: HashSet<String> = found.iter().map(|i| i.instance.clone()).collect();
        found.extend(
            routable
                .into_iter()
                .filter(|i| !known.contains(&i.instance)),
        );
        Ok(found)
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<Instance>> {
        let records = loop {
            match pages(&self.engine, prefix).await {
                // Between two pages: there is a newer revision to list.
                Err(error) if error.reason == Reason::Compacted => {}
                listed => break listed,
            }
        };
        let records =
            records.map_err(|error| error.into_error(Context::new(DISCOVER).key(&self.service)))?;
        let readable = |kv: &KeyValue| read(&self.service, prefix, kv);
        Ok(records.iter().filter_map(readable).collect())
    }
}

impl IntoFuture for Discover {
    type Output = Result<Vec<Instance>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.find())
    }
}

/// All records below `prefix` at one revision.
async fn pages(engine: &Engine, prefix: &Prefix) -> Result<Vec<KeyValue>, CallError> {
    let mut records: Vec<KeyValue> = Vec::new();
    let mut range = Range::new(Span::prefix(prefix));
    range.limit = PAGE;
    loop {
        let reply = engine.read(range.clone()).await?;
        if range.revision == 0 {
            range.revision = reply.header.revision;
        }
        records.extend(reply.kvs);
        match records.last() {
            Some(last) if reply.more => {
                let after = [last.key.as_slice(), &[0]].concat();
                range.span = Span::Interval(after, prefix.end());
            }
            _ => return Ok(records),
        }
    }
}

/// A version requirement; the error is for people.
pub(crate) fn requirement(text: &str) -> Result<VersionReq, String> {
    VersionReq::parse(text).map_err(|error| format!("{text:?} is no version requirement: {error}"))
}

/// Whether the instance's version is one, and satisfies the requirement.
pub(crate) fn satisfies(instance: &Instance, requirement: &VersionReq) -> bool {
    let version = instance.version.as_deref().and_then(lenient);
    version.is_some_and(|version| requirement.matches(&version))
}

/// A version as services write it: `v1.4` is 1.4.0.
fn lenient(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let missing = 2_usize.checked_sub(numbers.matches('.').count())?;
    Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_services_write_them() {
        for (text, read) in [
            ("1.4.2", "1.4.2"),
            ("1.4", "1.4.0"),
            ("v1", "1.0.0"),
            ("v1.4-rc.1+build", "1.4.0-rc.1+build"),
        ] {
            assert_eq!(lenient(text), Version::parse(read).ok(), "{text}");
        }
        for bad in ["", "v", "latest", "1.2.3.4", "1..2", "-1"] {
            assert_eq!(lenient(bad), None, "{bad}");
        }
    }
}
