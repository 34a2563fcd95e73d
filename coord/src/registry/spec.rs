//! [`InstanceSpec`]: what is registered. [`InstanceUpdate`]: what changes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    check::Check,
    instance::{InstanceHealth, WEIGHT},
    record::{RESERVED, Record},
};
use crate::{
    error::{Context, Error, Result},
    options::ttl_fault,
};

/// What is registered. See [`Registry::register`](crate::Registry::register).
///
/// ```
/// use coord::InstanceSpec;
///
/// let spec = InstanceSpec::new("user-service", "10.0.0.5:50051")
///     .instance("user-service-0")
///     .version("1.4.0")
///     .zone("a")
///     .weight(200)
///     .tag("blue")
///     .metadata("team", "identity")
///     .endpoint("http", "10.0.0.5:8080");
/// # drop(spec);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct InstanceSpec {
    pub(super) service: String,
    name: Option<String>,
    address: String,
    endpoints: BTreeMap<String, String>,
    version: Option<String>,
    pub(super) zone: Option<String>,
    weight: u32,
    tags: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    pub(super) ttl: Option<Duration>,
    pub(super) watchdog: Option<Duration>,
    id: Option<(u32, i64)>,
    pub(super) check: Option<Check>,
}

impl InstanceSpec {
    /// An instance of `service` that is reached at `address`, as `host:port`.
    pub fn new(service: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            name: None,
            address: address.into(),
            endpoints: BTreeMap::new(),
            version: None,
            zone: None,
            weight: WEIGHT,
            tags: BTreeSet::new(),
            metadata: BTreeMap::new(),
            ttl: None,
            watchdog: None,
            id: None,
            check: None,
        }
    }

    /// What you call this instance: a pod's name, for example. It stands in the record, and
    /// [`Registry::update`](crate::Registry::update) and its like take it. It need not be unique: two
    /// with one name both stand, since their keys differ, and a warning names them.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The service's version. Who looks for some versions only finds it if it is one as in `1.4.0`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Where it runs: a data centre, a rack.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Its share of the requests, relative to the others'. Default: 100. Zero is refused: an instance
    /// that is to get no requests has another [health](InstanceHealth).
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Adds a tag, by which others can choose.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds several tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Adds something else that others may want to know. The names `version`, `zone` and `weight` are
    /// refused: they have methods of their own.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds another address, as `host:port`, by the name of what is served there: `http`, `metrics`.
    pub fn endpoint(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        self.endpoints.insert(name.into(), address.into());
        self
    }

    /// How long the instance stays listed after a crash. Whole seconds. Default:
    /// [`RegistryOptions::ttl`](crate::RegistryOptions::ttl).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Keeps it registered only while the runtime that [`register`](crate::Registry::register) is
    /// called on runs tasks: if it has run none for `limit`, the lease is no longer renewed, and the
    /// instance expires as a crashed one does, at most a TTL later. When the runtime runs tasks again,
    /// the instance is registered again. A runtime that is blocked for less than `limit` loses nothing.
    ///
    /// Default: nothing is watched, and the registration outlives that runtime. A service
    /// ([`Service`](crate::Service)) is watched unless it says otherwise.
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = Some(limit);
        self
    }

    /// A check of whether it can serve, called on this runtime every
    /// [`health_check_interval`](crate::RegistryOptions::health_check_interval) for as long as the
    /// instance is registered. An error, a panic, and no result within the interval mean
    /// [`Unhealthy`](InstanceHealth::Unhealthy): others do not find it until the check succeeds again.
    /// Before the first result it is [`Unknown`](InstanceHealth::Unknown), and not found either.
    ///
    /// [`RegistryOptions::health_check`](crate::RegistryOptions::health_check) turns all of them off.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// use coord::InstanceSpec;
    ///
    /// # struct Database;
    /// # impl Database { async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) } }
    /// # let database = std::sync::Arc::new(Database);
    /// let spec = InstanceSpec::new("user-service", "10.0.0.5:50051").health_check(move || {
    ///     let database = database.clone();
    ///     async move { database.ping().await }
    /// });
    /// let registration = coordinator.registry().register(spec).await?;
    /// # registration.deregister().await
    /// # }
    /// ```
    pub fn health_check<F, R, E>(self, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.check(Check::new(check, None))
    }

    /// As [`health_check`](Self::health_check), this often. More than zero.
    pub fn health_check_every<F, R, E>(self, interval: Duration, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.check(Check::new(check, Some(interval)))
    }

    fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// The instance id that it holds, and its fencing token.
    pub(crate) fn id(mut self, id: u32, fencing_token: i64) -> Self {
        self.id = Some((id, fencing_token));
        self
    }

    /// Everything about it that can never work.
    pub(crate) fn faults(&self, ttl: Duration) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(address_fault(&self.address));
        for (name, address) in &self.endpoints {
            faults.extend(text_fault("an endpoint's name", name));
            faults
                .extend(address_fault(address).map(|fault| format!("endpoint {name:?}: {fault}")));
        }
        let texts = [
            ("the instance's name", &self.name),
            ("the version", &self.version),
        ];
        for (what, text) in texts {
            faults.extend(text.as_ref().and_then(|text| text_fault(what, text)));
        }
        if self.zone.as_deref() == Some("-") {
            faults.push("`-` stands for no zone and cannot be one".into());
        }
        faults.extend(self.tags.iter().filter_map(|tag| text_fault("a tag", tag)));
        faults.extend(self.metadata.keys().filter_map(|key| metadata_fault(key)));
        faults.extend(weight_fault(self.weight));
        faults.extend(ttl_fault("the TTL", ttl));
        if self.watchdog == Some(Duration::ZERO) {
            faults.push("the watchdog's limit must be more than zero".into());
        }
        faults.extend(self.check.as_ref().and_then(Check::fault));
        faults.extend(self.clone().record().fault());
        faults
    }

    /// What its records say of it; the rest of [`Record`] is the caller's to fill.
    pub(super) fn record(self) -> Record {
        Record {
            service: self.service,
            name: self.name,
            address: self.address,
            endpoints: self.endpoints,
            version: self.version,
            zone: self.zone,
            weight: self.weight,
            tags: self.tags,
            metadata: self.metadata,
            id: self.id,
            ..Record::default()
        }
    }
}

/// What changes of a registered instance; the rest stays. See
/// [`Registration::update`](crate::Registration::update).
///
/// ```
/// use coord::{InstanceHealth, InstanceUpdate};
///
/// let update = InstanceUpdate::new()
///     .health(InstanceHealth::Maintenance)
///     .weight(50)
///     .metadata("reason", "disk")
///     .remove_metadata("team");
/// # drop(update);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct InstanceUpdate {
    pub(super) health: Option<InstanceHealth>,
    weight: Option<u32>,
    /// `None`: removed.
    metadata: BTreeMap<String, Option<String>>,
}

impl InstanceUpdate {
    /// Nothing changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How it is. Anything but [`Healthy`](InstanceHealth::Healthy) takes it out of what others find,
    /// and stands until another update; [`Healthy`](InstanceHealth::Healthy) leaves it to the health
    /// check, if there is one.
    pub fn health(mut self, health: InstanceHealth) -> Self {
        self.health = Some(health);
        self
    }

    /// As [`InstanceSpec::weight`].
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Sets one entry of the metadata.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes one entry of the metadata.
    pub fn remove_metadata(mut self, key: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), None);
        self
    }

    pub(super) fn check(&self, operation: &'static str, key: &str) -> Result<()> {
        let mut faults: Vec<String> = self.weight.and_then(weight_fault).into_iter().collect();
        faults.extend(self.metadata.keys().filter_map(|key| metadata_fault(key)));
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid {
                context: Context::new(operation).key(key),
                faults,
            }),
        }
    }

    /// Changes `record`.
    pub(super) fn apply(self, record: &mut Record) {
        record.weight = self.weight.unwrap_or(record.weight);
        for (key, value) in self.metadata {
            match value {
                Some(value) => drop(record.metadata.insert(key, value)),
                None => drop(record.metadata.remove(&key)),
            }
        }
    }
}

fn weight_fault(weight: u32) -> Option<String> {
    (weight == 0).then(|| {
        "a weight of zero means nothing: to take no requests, set another health".to_owned()
    })
}

fn metadata_fault(key: &str) -> Option<String> {
    if RESERVED.contains(&key) {
        return Some(format!("metadata {key:?}: it has a method of its own"));
    }
    text_fault("a metadata key", key)
}

fn text_fault(what: &str, text: &str) -> Option<String> {
    (text.is_empty() || text.contains(char::is_control))
        .then(|| format!("{what} is {text:?}: it must not be empty or hold control characters"))
}

fn address_fault(address: &str) -> Option<String> {
    if !is_address(address) {
        return Some(format!("the address {address:?} is not `host:port`"));
    }
    let ip = address.parse().map(|address: SocketAddr| address.ip());
    ip.is_ok_and(|ip| ip.is_unspecified())
        .then(|| format!("nobody can connect to {address}: name an address of this machine"))
}

fn is_address(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/[]@:".contains(c);
        // An IPv6 address, and nothing else, stands in brackets.
        let ip = |host: &str| {
            Some(
                host.strip_prefix('[')?
                    .strip_suffix(']')?
                    .parse::<Ipv6Addr>(),
            )
        };
        let host = match ip(host) {
            Some(ip) => ip.is_ok(),
            None => !host.is_empty() && !host.contains(odd),
        };
        // A sign is no digit.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        host && digits && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["10.0.0.5:50051", "[::1]:80", "db.internal:5432"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "10.0.0.5",
            ":80",
            "a:0",
            "a:b",
            "a b:80",
            "::1:80",
            "http://a:80",
            "a:80\n",
            "[a]:80",
            "[]:80",
            "[10.0.0.1]:80",
            "a[b:80",
            "me@a:80",
            "a:+80",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn every_fault_of_a_spec_is_told_at_once() {
        let spec = InstanceSpec::new("s", "h")
            .instance("")
            .version("1\n")
            .zone("-")
            .weight(0)
            .tag("")
            .metadata("weight", "7")
            .endpoint("http", "0.0.0.0:1");
        let faults = spec.faults(Duration::from_millis(1));
        assert_eq!(faults.len(), 9, "{faults:#?}");
        let good = InstanceSpec::new("s", "h:1").zone("a").weight(1);
        assert!(good.faults(Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let spec = InstanceSpec::new("s", "h:1")
            .metadata("a", "1")
            .metadata("b", "2");
        let mut record = spec.record();
        let before = record.clone();
        InstanceUpdate::new().apply(&mut record);
        assert_eq!(record, before);
        let update = InstanceUpdate::new()
            .weight(3)
            .metadata("c", "3")
            .remove_metadata("a");
        update.apply(&mut record);
        assert_eq!(record.weight, 3);
        let keys: Vec<_> = record.metadata.keys().map(String::as_str).collect();
        assert_eq!(keys, ["b", "c"]);
        for bad in [
            InstanceUpdate::new().weight(0),
            InstanceUpdate::new().metadata("zone", "b"),
            InstanceUpdate::new().remove_metadata(""),
        ] {
            assert!(matches!(
                bad.check("update instance", "s"),
                Err(Error::Invalid { .. })
            ));
        }
    }
}
