//! What a record looks like on etcd: JSON that Go's `naming/endpoints` resolver reads too.
//!
//! `Op`, `Addr` and `Metadata` are Go's; what only coord needs stands in one `Coord` object, which Go
//! ignores. `Metadata` holds the user's metadata beside version, zone and weight, which are read from
//! a plain Go record too. Such a record, without `Coord`, counts as healthy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::instance::{Instance, InstanceHealth, WEIGHT};
use crate::{
    client::KeyValue,
    key::{Key, Prefix},
};

/// What stands in `Metadata` beside the user's.
pub(super) const RESERVED: [&str; 3] = ["version", "zone", "weight"];

/// The most bytes of one record. etcd takes requests of 1.5 MiB as it comes, and a change puts two
/// records: one that it refuses could never be marked as leaving either.
const MAX_BYTES: usize = 512 * 1024;

/// The content of a record that is about to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) name: Option<String>,
    pub(super) address: String,
    pub(super) endpoints: BTreeMap<String, String>,
    pub(super) version: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) weight: u32,
    pub(super) tags: BTreeSet<String>,
    pub(super) metadata: BTreeMap<String, String>,
    /// The id and its fencing token.
    pub(super) id: Option<(u32, i64)>,
    pub(super) module: Option<String>,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) started_ms: u64,
    pub(super) registered_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    /// 0: Go's "add".
    #[serde(default)]
    op: u8,
    addr: String,
    /// Anything, for Go.
    #[serde(default)]
    metadata: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    coord: Option<Coord>,
}

#[derive(Serialize, Deserialize)]
struct Coord {
    v: u32,
    status: InstanceHealth,
    #[serde(default)]
    uuid: String,
    /// The service's.
    #[serde(default)]
    name: String,
    /// What the user calls the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    endpoints: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Milliseconds since the Unix epoch; 0: unknown.
    #[serde(default)]
    started: u64,
    #[serde(default)]
    registered: u64,
    /// In life-cycle records alone: the number of the link that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl Record {
    /// The value of the routable record, or with `seq` that of the life-cycle record.
    pub(super) fn encode(&self, health: InstanceHealth, seq: Option<u64>) -> Vec<u8> {
        let text = |(key, value): (&String, &String)| (key.clone(), value.as_str().into());
        let mut metadata: Map<String, Value> = self.metadata.iter().map(text).collect();
        let [version, zone, weight] = RESERVED;
        let own = [(version, &self.version), (zone, &self.zone)];
        for (key, value) in own {
            if let Some(value) = value {
                metadata.insert(key.into(), value.as_str().into());
            }
        }
        metadata.insert(weight.into(), self.weight.into());
        let wire = Wire {
            op: 0,
            addr: self.address.clone(),
            metadata: Value::Object(metadata),
            coord: Some(Coord {
                v: 1,
                status: health,
                uuid: self.instance.clone(),
                name: self.service.clone(),
                instance: self.name.clone(),
                id: self.id.map(|(id, _)| id),
                epoch: self.id.map(|(_, epoch)| epoch),
                endpoints: self.endpoints.clone(),
                tags: self.tags.clone(),
                module: self.module.clone(),
                host: Some(self.host.clone()),
                pid: Some(self.pid),
                started: self.started_ms,
                registered: self.registered_ms,
                seq,
            }),
        };
        serde_json::to_vec(&wire).expect("strings and numbers are JSON")
    }

    /// Why it can never be written.
    pub(super) fn fault(&self) -> Option<String> {
        let bytes = self
            .encode(InstanceHealth::Maintenance, Some(u64::MAX))
            .len();
        (bytes > MAX_BYTES)
            .then(|| format!("the record has {bytes} bytes; etcd takes no more than {MAX_BYTES}"))
    }
}

/// The number of the link that wrote this life-cycle record.
pub(super) fn seq_of(value: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Wire>(value).ok()?.coord?.seq
}

/// Reads a record below `prefix`; the error says what is wrong with it.
pub(super) fn decode(service: &str, prefix: &Prefix, kv: &KeyValue) -> Result<Instance, String> {
    let below = prefix.strip(&kv.key).ok_or("it is not below the service")?;
    let below = std::str::from_utf8(below).map_err(|_| "its key is not UTF-8")?;
    let wire: Wire = serde_json::from_slice(&kv.value).map_err(|error| error.to_string())?;
    if wire.addr.is_empty() {
        return Err("it has no address".into());
    }
    let (mut version, mut zone, mut weight) = (None, None, WEIGHT);
    let mut metadata = BTreeMap::new();
    if let Value::Object(all) = wire.metadata {
        for (key, value) in all {
            let text = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match key.as_str() {
                "version" => version = Some(text),
                "zone" => zone = Some(text),
                // What is no weight says nothing.
                "weight" => {
                    weight = text
                        .parse()
                        .ok()
                        .filter(|&weight| weight > 0)
                        .unwrap_or(WEIGHT)
                }
                _ => drop(metadata.insert(key, text)),
            }
        }
    }
    // Go users choose what stands below the service; ours is `<zone>/<instance>`, or `<instance>`
    // among the life-cycle records.
    let instance = match below.split_once('/') {
        Some((of, instance)) => {
            zone = (of != "-").then(|| of.to_owned());
            instance
        }
        None => below,
    };
    let mut read = Instance {
        version,
        zone,
        weight,
        metadata,
        created: kv.create_revision,
        key: Key::found(&kv.key),
        lease: kv.lease,
        ..Instance::bare(service, instance, &wire.addr)
    };
    if let Some(coord) = wire.coord {
        read.name = coord.instance;
        read.endpoints = coord.endpoints;
        read.tags = coord.tags;
        read.id = coord.id;
        read.health = coord.status;
        read.started_at = time(coord.started);
        read.registered_at = time(coord.registered);
        read.host = coord.host;
        read.pid = coord.pid;
    }
    Ok(read)
}

fn time(ms: u64) -> Option<SystemTime> {
    let since = Some(Duration::from_millis(ms)).filter(|since| !since.is_zero())?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        all.iter().map(own).collect()
    }

    fn record() -> Record {
        Record {
            service: "s".into(),
            instance: "u".into(),
            name: Some("s-0".into()),
            address: "10.0.0.5:50051".into(),
            endpoints: pairs(&[("http", "10.0.0.5:80")]),
            version: Some("1.4.0".into()),
            zone: Some("b".into()),
            weight: 7,
            tags: ["blue".to_owned()].into(),
            metadata: pairs(&[("team", "id")]),
            id: Some((17, 88)),
            module: None,
            host: "node7".into(),
            pid: 41,
            started_ms: 5,
            registered_ms: 6,
        }
    }

    fn prefix() -> Prefix {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        layout.instances("s").expect("valid")
    }

    fn read(key: &str, value: &[u8]) -> Result<Instance, String> {
        let kv = KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: 3,
            lease: 9,
            ..KeyValue::default()
        };
        decode("s", &prefix(), &kv)
    }

    #[test]
    fn what_is_written_is_read() {
        let value = record().encode(InstanceHealth::Healthy, None);
        let ms = |ms| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let written = Instance {
            service: "s".into(),
            instance: "u".into(),
            name: Some("s-0".into()),
            address: "10.0.0.5:50051".into(),
            endpoints: pairs(&[("http", "10.0.0.5:80")]),
            version: Some("1.4.0".into()),
            zone: Some("b".into()),
            weight: 7,
            tags: ["blue".to_owned()].into(),
            metadata: pairs(&[("team", "id")]),
            id: Some(17),
            health: InstanceHealth::Healthy,
            started_at: ms(5),
            registered_at: ms(6),
            host: Some("node7".into()),
            pid: Some(41),
            created: 3,
            key: Key::found(b"coord/svc/s/b/u"),
            lease: 9,
        };
        assert_eq!(read("coord/svc/s/b/u", &value), Ok(written.clone()));
        // The life-cycle record, whose key has no zone.
        let key = "coord/svc/s/u";
        let written = Instance {
            key: Key::found(key.as_bytes()),
            ..written
        };
        assert_eq!(read(key, &value), Ok(written));
        let numbered = record().encode(InstanceHealth::Starting, Some(7));
        assert_eq!(seq_of(&numbered), Some(7));
    }

    /// Go matches names without regard to case: only the one of ours may stand beside its three.
    #[test]
    fn go_reads_the_top_level() {
        let value: Value =
            serde_json::from_slice(&record().encode(InstanceHealth::Healthy, None)).expect("JSON");
        let names: Vec<_> = value.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["Addr", "Coord", "Metadata", "Op"]);
        assert_eq!(value["Op"], 0);
        let metadata = serde_json::json!(
            {"version": "1.4.0", "zone": "b", "weight": 7, "team": "id"}
        );
        assert_eq!(value["Metadata"], metadata);
    }

    #[test]
    fn a_plain_go_record_is_healthy() {
        let go = br#"{"Op":0,"Addr":"1.2.3.4:5","Metadata":null}"#;
        let instance = read("coord/svc/s/anything", go).expect("valid");
        assert_eq!(instance.health, InstanceHealth::Healthy);
        assert_eq!(
            (instance.instance.as_str(), instance.weight),
            ("anything", WEIGHT)
        );
        for odd in ["7", "[]", r#""text""#] {
            let odd = format!(r#"{{"Addr":"a:1","Metadata":{odd}}}"#);
            assert_eq!(
                read("coord/svc/s/u", odd.as_bytes())
                    .expect("valid")
                    .metadata,
                pairs(&[])
            );
        }
        let rich =
            br#"{"Addr":"a:1","Metadata":{"version":"2.0.0","weight":"5","zone":"c","x":[1]}}"#;
        let instance = read("coord/svc/s/u", rich).expect("valid");
        assert_eq!(instance.version.as_deref(), Some("2.0.0"));
        assert_eq!((instance.weight, instance.zone.as_deref()), (5, Some("c")));
        assert_eq!(instance.metadata, pairs(&[("x", "[1]")]));
    }

    #[test]
    fn newer_records_are_read_and_bad_ones_are_not() {
        let newer = br#"{"Addr":"a:1","Coord":{"v":2,"status":"resting","more":[]}}"#;
        let read_newer = read("coord/svc/s/b/u", newer).expect("valid");
        assert_eq!(read_newer.health, InstanceHealth::Unknown);
        assert_eq!(read_newer.zone.as_deref(), Some("b"));
        for weight in ["0", "-1", r#""much""#] {
            let value = format!(r#"{{"Addr":"a:1","Metadata":{{"weight":{weight}}}}}"#);
            let odd = read("coord/svc/s/b/u", value.as_bytes()).expect("valid");
            assert_eq!(odd.weight, WEIGHT);
        }
        for bad in ["", "{", "{}", r#"{"Addr":""}"#, r#"{"Addr":7}"#] {
            assert!(read("coord/svc/s/-/u", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
