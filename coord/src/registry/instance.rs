//! [`Instance`]: one running instance of a service, as its record says. [`InstanceHealth`]: whether it
//! can be used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::key::{Key, Prefix};

/// The weight of an instance that says nothing of it.
pub(super) const WEIGHT: u32 = 100;

/// How an instance is. Only [`Healthy`](Self::Healthy) ones are found by who looks for a server.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstanceHealth {
    /// It runs, and is not ready yet.
    Starting,
    /// It takes requests.
    #[default]
    Healthy,
    /// It cannot serve, by its own word or by its health check's.
    Unhealthy,
    /// Taken out by somebody, for as long as they like.
    Maintenance,
    /// It is leaving: it finishes what it has begun.
    Draining,
    /// Its check has had no result yet; or the record says something that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for InstanceHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Maintenance => "maintenance",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
        })
    }
}

/// One running instance of a service, as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The service's name.
    pub service: String,
    /// Unique to one registration: a restarted process has a new one.
    pub instance: String,
    /// What its owner calls it: see [`InstanceSpec::instance`](crate::InstanceSpec::instance).
    pub name: Option<String>,
    /// `host:port`.
    pub address: String,
    /// More addresses, by name: `http`, `metrics`.
    pub endpoints: BTreeMap<String, String>,
    /// The service's version, if the record names one.
    pub version: Option<String>,
    /// The zone, if the record is in one.
    pub zone: Option<String>,
    /// Its share of the requests, relative to the others': never zero.
    pub weight: u32,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// What else its owner says of it. Of a Go record: what is not text there, is here as JSON.
    pub metadata: BTreeMap<String, String>,
    /// The instance id, if the service has one.
    pub id: Option<u32>,
    /// Healthy, unless the record says otherwise.
    pub health: InstanceHealth,
    /// When its coordinator was connected, at the start of most programs, by its own clock.
    pub started_at: Option<SystemTime>,
    /// When it was registered for others to find, by its own clock. Being registered again after a lost
    /// lease does not change it.
    pub registered_at: Option<SystemTime>,
    /// The name of the machine that it runs on.
    pub host: Option<String>,
    /// The process's number on that machine.
    pub pid: Option<u32>,
    /// The revision at which the record was created: of two records with one address the one with
    /// the higher counts.
    pub created: i64,
    /// The record's, by which instances are in order.
    pub(super) key: Key,
    /// Under which the record lives; 0: none.
    pub(super) lease: i64,
}

/// The keys of one coordinator's instances: UUIDs that begin alike, so that one range holds its records
/// of a service. Another coordinator that draws the same beginning is heard of, and harms nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family([u8; 6]);

impl Family {
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    /// A fresh key: 74 of its bits are its own.
    pub(super) fn instance(self) -> String {
        let mut bytes = rand::random::<uuid::Bytes>();
        bytes[..self.0.len()].copy_from_slice(&self.0);
        uuid::Builder::from_custom_bytes(bytes)
            .into_uuid()
            .to_string()
    }

    /// The interval of the keys of its instances below `prefix`.
    pub(super) fn interval(self, prefix: &Prefix) -> (Vec<u8>, Vec<u8>) {
        let mut bytes = uuid::Bytes::default();
        bytes[..self.0.len()].copy_from_slice(&self.0);
        let uuid = Uuid::from_bytes(bytes).to_string();
        // Six bytes are the first two groups.
        let end = uuid.match_indices('-').nth(1).map_or(0, |(at, _)| at);
        prefix.family(&uuid[..end])
    }
}

impl Instance {
    /// What a record says that has only an address.
    pub(crate) fn bare(service: &str, instance: &str, address: &str) -> Self {
        Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            name: None,
            address: address.to_owned(),
            endpoints: BTreeMap::new(),
            version: None,
            zone: None,
            weight: WEIGHT,
            tags: BTreeSet::new(),
            metadata: BTreeMap::new(),
            id: None,
            health: InstanceHealth::Healthy,
            started_at: None,
            registered_at: None,
            host: None,
            pid: None,
            created: 0,
            key: Key::found(b""),
            lease: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    #[test]
    fn the_range_of_a_family_holds_its_instances_and_no_others() {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        let prefix = layout.life_cycles("s").expect("valid");
        let family = Family([0x0f, 0xff, 0x10, 0, 0xab, 0xff]);
        let (from, end) = family.interval(&prefix);
        let holds = |prefix: &Prefix, instance: &str| {
            let key = prefix.key(instance);
            from.as_slice() <= key.as_bytes() && key.as_bytes() < end.as_slice()
        };
        for _ in 0..100 {
            let (one, other) = (family.instance(), family.instance());
            assert!(one.starts_with("0fff1000-abff-8"), "{one}");
            assert_ne!(one, other);
            assert!(holds(&prefix, &one));
        }
        for other in [0x0f_u8, 0x10, 0xff] {
            let bytes = [0x0f, 0xff, 0x10, 1, 0xab, other];
            assert!(!holds(&prefix, &Family(bytes).instance()));
        }
        let elsewhere = layout.life_cycles("s2").expect("valid");
        assert!(!holds(&elsewhere, &family.instance()));
    }
}
