//! What a record looks like on etcd: JSON that Go's `naming/endpoints` resolver reads too.
//!
//! `Op`, `Addr` and `Metadata` are Go's; everything of ours stands in one `Coord` object, which Go
//! ignores. A record without it was written by Go and counts as healthy.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{client::KeyValue, key::Prefix};

/// Whether an instance can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It runs, and is not ready yet.
    Starting,
    /// It takes requests.
    Healthy,
    /// It is leaving: it finishes what it has begun.
    Draining,
    /// What this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
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
    /// `host:port`.
    pub address: String,
    /// The service's version, if the record names one.
    pub version: Option<String>,
    /// The zone, if the record is in one.
    pub zone: Option<String>,
    /// The instance id, if the service has one.
    pub id: Option<u32>,
    /// Healthy, unless the record says otherwise.
    pub status: Status,
    /// When the process started, in milliseconds since the Unix epoch by its own clock; 0: unknown.
    pub started_ms: u64,
    /// The revision at which the record was created: of two records with one address the one with
    /// the higher counts.
    pub created: i64,
}

/// The content of a record that is about to be written.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) address: String,
    pub(super) version: Option<String>,
    /// The id and its fencing token.
    pub(super) id: Option<(u32, i64)>,
    pub(super) module: Option<String>,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) started_ms: u64,
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
    status: Status,
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(default)]
    host: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    started: u64,
    /// In life-cycle records alone: the number of the link that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl Record {
    /// The value of the routable record, or with `seq` that of the life-cycle record.
    pub(super) fn encode(&self, status: Status, seq: Option<u64>) -> Vec<u8> {
        let mut metadata = Map::new();
        if let Some(version) = &self.version {
            metadata.insert("version".into(), version.as_str().into());
        }
        let wire = Wire {
            op: 0,
            addr: self.address.clone(),
            metadata: Value::Object(metadata),
            coord: Some(Coord {
                v: 1,
                status,
                uuid: self.instance.clone(),
                name: self.service.clone(),
                version: self.version.clone(),
                id: self.id.map(|(id, _)| id),
                epoch: self.id.map(|(_, epoch)| epoch),
                module: self.module.clone(),
                host: self.host.clone(),
                pid: self.pid,
                started: self.started_ms,
                seq,
            }),
        };
        serde_json::to_vec(&wire).expect("strings and numbers are JSON")
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
    // Go users choose what stands below the service; ours is `<zone>/<instance>`.
    let (zone, instance) = below.split_once('/').unwrap_or(("-", below));
    let wire: Wire = serde_json::from_slice(&kv.value).map_err(|error| error.to_string())?;
    if wire.addr.is_empty() {
        return Err("it has no address".into());
    }
    let coord = wire.coord.as_ref();
    Ok(Instance {
        service: service.to_owned(),
        instance: instance.to_owned(),
        address: wire.addr.clone(),
        version: coord.and_then(|coord| coord.version.clone()),
        zone: (zone != "-").then(|| zone.to_owned()),
        id: coord.and_then(|coord| coord.id),
        status: coord.map_or(Status::Healthy, |coord| coord.status),
        started_ms: coord.map_or(0, |coord| coord.started),
        created: kv.create_revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    fn record() -> Record {
        Record {
            service: "s".into(),
            instance: "u".into(),
            address: "10.0.0.5:50051".into(),
            version: Some("1.4.0".into()),
            id: Some((17, 88)),
            module: None,
            host: "node7".into(),
            pid: 41,
            started_ms: 5,
        }
    }

    fn read(key: &str, value: &[u8]) -> Result<Instance, String> {
        let prefix = Layout::new("", "config/", "coord/", "coord/").instances("s");
        let kv = KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: 3,
            ..KeyValue::default()
        };
        decode("s", &prefix.expect("valid"), &kv)
    }

    #[test]
    fn what_is_written_is_read() {
        let value = record().encode(Status::Healthy, None);
        let instance = read("coord/svc/s/-/u", &value).expect("valid");
        assert_eq!(instance.address, "10.0.0.5:50051");
        assert_eq!(instance.version.as_deref(), Some("1.4.0"));
        assert_eq!((instance.id, instance.status), (Some(17), Status::Healthy));
        assert_eq!((instance.zone, instance.instance.as_str()), (None, "u"));
        assert_eq!(seq_of(&record().encode(Status::Starting, Some(7))), Some(7));
    }

    /// Go matches names without regard to case: only the one of ours may stand beside its three.
    #[test]
    fn go_reads_the_top_level() {
        let value: Value =
            serde_json::from_slice(&record().encode(Status::Healthy, None)).expect("JSON");
        let names: Vec<_> = value.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["Addr", "Coord", "Metadata", "Op"]);
        assert_eq!(value["Op"], 0);
        assert_eq!(value["Metadata"]["version"], "1.4.0");
    }

    #[test]
    fn a_plain_go_record_is_healthy() {
        let go = br#"{"Op":0,"Addr":"1.2.3.4:5","Metadata":null}"#;
        let instance = read("coord/svc/s/anything", go).expect("valid");
        assert_eq!(instance.status, Status::Healthy);
        assert_eq!(instance.instance, "anything");
    }

    #[test]
    fn newer_records_are_read_and_bad_ones_are_not() {
        let newer = br#"{"Addr":"a:1","Coord":{"v":2,"status":"resting","more":[]}}"#;
        let read_newer = read("coord/svc/s/b/u", newer).expect("valid");
        assert_eq!(read_newer.status, Status::Unknown);
        assert_eq!(read_newer.zone.as_deref(), Some("b"));
        for bad in ["", "{", "{}", r#"{"Addr":""}"#, r#"{"Addr":7}"#] {
            assert!(read("coord/svc/s/-/u", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
