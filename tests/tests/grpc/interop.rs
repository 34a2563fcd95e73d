//! Go's etcd resolver (`go.etcd.io/etcd/client/v3/naming`) and coord read one another's records.
//!
//! There is no Go among what this project is built with. So what its resolver does stands here: with
//! the target `etcd:///coord/svc/NAME` it lists all keys below `coord/svc/NAME/`, watches them from
//! the next revision on, and decodes each value into `{ Op uint8; Addr string; Metadata any }`, as
//! Go's `encoding/json` does: a member counts for a field whose name it is without regard to case,
//! what has no field is left out, a missing one is zero. A put adds an address, a deletion removes it.

use std::{collections::BTreeMap, time::Duration};

use coord::{InstanceHealth, InstanceSpec, InstanceUpdate};
use coord_tests::{Backend, echo::EchoServer, on_both};
use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchStream};
use serde_json::{Value, json};

use crate::load::Load;

/// What Go has of an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
struct Endpoint {
    op: u8,
    addr: String,
    metadata: Value,
}

impl Endpoint {
    /// As `json.Unmarshal` fills it; the error is what makes the resolver leave it out.
    fn unmarshal(value: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let Value::Object(members) = value else {
            return Err("no object".into());
        };
        let mut endpoint = Self::default();
        // In the order of the text: of several members for one field the last one counts.
        for (name, value) in members {
            match name.to_lowercase().as_str() {
                "op" => {
                    endpoint.op = value
                        .as_u64()
                        .and_then(|op| op.try_into().ok())
                        .ok_or("op")?
                }
                "addr" => endpoint.addr = value.as_str().ok_or("addr")?.to_owned(),
                "metadata" => endpoint.metadata = value,
                _ => {}
            }
        }
        Ok(endpoint)
    }
}

/// What Go's resolver does with a target.
struct Resolver {
    endpoints: BTreeMap<String, Endpoint>,
    changes: WatchStream,
}

impl Resolver {
    async fn build(mut client: Client, target: &str) -> Self {
        let prefix = format!("{target}/");
        let options = GetOptions::new().with_prefix().with_serializable();
        let listed = client.get(&*prefix, Some(options)).await.unwrap();
        let read = |kv: &etcd_client::KeyValue| {
            let endpoint = Endpoint::unmarshal(kv.value()).ok()?;
            Some((kv.key_str().ok()?.to_owned(), endpoint))
        };
        let from = listed.header().unwrap().revision() + 1;
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        Self {
            endpoints: listed.kvs().iter().filter_map(read).collect(),
            changes: client.watch(prefix, Some(options)).await.unwrap(),
        }
    }

    async fn next(&mut self) {
        let message = self.changes.message().await.unwrap().unwrap();
        for event in message.events() {
            let kv = event.kv().unwrap();
            let key = kv.key_str().unwrap().to_owned();
            match event.event_type() {
                EventType::Put => {
                    if let Ok(endpoint) = Endpoint::unmarshal(kv.value()) {
                        self.endpoints.insert(key, endpoint);
                    }
                }
                EventType::Delete => drop(self.endpoints.remove(&key)),
            }
        }
    }

    /// Waits until the addresses are these.
    async fn until(&mut self, addresses: &[&str]) {
        self.until_it("has the addresses", |all| {
            let mut now: Vec<_> = all.iter().map(|one| one.addr.as_str()).collect();
            now.sort_unstable();
            now == addresses
        })
        .await;
    }

    async fn until_it(&mut self, what: &str, holds: impl Fn(&[&Endpoint]) -> bool) {
        let reached = async {
            while !holds(&self.endpoints.values().collect::<Vec<_>>()) {
                self.next().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(reached.is_ok(), "{what}: {:?}", self.endpoints);
    }
}

on_both! {
    a_record_is_what_go_reads_field_by_field,
    go_follows_an_instance_from_its_first_record_to_its_last,
    what_go_registers_is_balanced_over,
}

async fn a_record_is_what_go_reads_field_by_field(server: Backend) {
    let coordinator = server.coordinator().await;
    let spec = InstanceSpec::new("echo", "10.0.0.5:50051")
        .version("1.4.0")
        .zone("b")
        .weight(7)
        .tag("blue")
        .endpoint("http", "10.0.0.5:8080")
        .metadata("team", "id");
    let registration = coordinator.registry().register(spec).await.unwrap();
    let prefix = GetOptions::new().with_prefix();
    let mut client = server.client().await;
    let listed = client.get("coord/svc/echo/", Some(prefix)).await.unwrap();
    let [record] = listed.kvs() else {
        panic!("one record: {listed:?}");
    };
    // What Go's endpoints.Manager is asked to add has the target and a slash before it, too.
    let key = format!("coord/svc/echo/b/{}", registration.instance());
    assert_eq!(record.key_str().unwrap(), key);
    assert_ne!(record.lease(), 0, "it goes when its process does");

    // By hand, but for what nobody knows before.
    let value: Value = serde_json::from_slice(record.value()).unwrap();
    let own = &value["Coord"];
    let expected = json!({
        "Op": 0,
        "Addr": "10.0.0.5:50051",
        "Metadata": { "version": "1.4.0", "zone": "b", "weight": 7, "team": "id" },
        "Coord": {
            "v": 1,
            "status": "healthy",
            "uuid": registration.instance(),
            "name": "echo",
            "endpoints": { "http": "10.0.0.5:8080" },
            "tags": ["blue"],
            "host": own["host"],
            "pid": std::process::id(),
            "started": own["started"],
            "registered": own["registered"],
        },
    });
    assert_eq!(value, expected);
    // Go's order: of two members that fit one field the last would count, and there are none.
    let text = record.value_str().unwrap();
    assert!(
        text.starts_with(r#"{"Op":0,"Addr":"10.0.0.5:50051","Metadata":{"#),
        "{text}"
    );
    let read = Endpoint::unmarshal(record.value()).unwrap();
    assert_eq!(read.op, 0, "Go's Add");
    assert_eq!(read.addr, "10.0.0.5:50051");
    assert_eq!(read.metadata, expected["Metadata"]);
    coordinator.close().await;
}

async fn go_follows_an_instance_from_its_first_record_to_its_last(server: Backend) {
    let coordinator = server.coordinator().await;
    let registry = coordinator.registry();
    // A neighbour, whose name begins with the service's.
    let spec = InstanceSpec::new("echo-2", "10.0.0.9:1");
    let neighbour = registry.register(spec).await.unwrap();
    let spec = |host: u8| InstanceSpec::new("echo", format!("10.0.0.{host}:1"));
    let early = registry.register(spec(1)).await.unwrap();

    let mut go = Resolver::build(server.client().await, "coord/svc/echo").await;
    go.until(&["10.0.0.1:1"]).await;
    let late = registry.register(spec(2)).await.unwrap();
    go.until(&["10.0.0.1:1", "10.0.0.2:1"]).await;
    late.update(InstanceUpdate::new().weight(5)).await.unwrap();
    go.until_it("has the new weight", |all| {
        all.iter().any(|one| one.metadata["weight"] == 5)
    })
    .await;
    let update = InstanceUpdate::new().health(InstanceHealth::Maintenance);
    late.update(update).await.unwrap();
    go.until(&["10.0.0.1:1"]).await;
    let update = InstanceUpdate::new().health(InstanceHealth::Healthy);
    late.update(update).await.unwrap();
    go.until(&["10.0.0.1:1", "10.0.0.2:1"]).await;
    // Marked, then removed: Go knows no marks, and keeps it up to its end.
    early.deregister().await.unwrap();
    go.until(&["10.0.0.2:1"]).await;
    late.deregister().await.unwrap();
    go.until(&[]).await;
    drop(neighbour);
    coordinator.close().await;
}

/// As `endpoints.Manager` writes it, with `null` for no metadata, and as people do with `etcdctl`.
async fn what_go_registers_is_balanced_over(backend: Backend) {
    let mut client = backend.client().await;
    let metadata = [
        "",
        r#","Metadata":null"#,
        r#","Metadata":{"weight":50,"zone":"b"}"#,
        r#","Metadata":"anything""#,
    ];
    let mut servers = Vec::new();
    for (i, metadata) in metadata.iter().enumerate() {
        let server = EchoServer::start(&i.to_string()).await;
        let record = format!(r#"{{"Op":0,"Addr":"{}"{metadata}}}"#, server.address());
        // Go users choose the keys below the target, with slashes or without.
        let key = ["a", "b/c", "d", "e"][i];
        let key = format!("coord/svc/echo/{key}");
        client.put(key, record, None).await.unwrap();
        servers.push(server);
    }
    let coordinator = backend.coordinator().await;
    let channel = coordinator.channel("echo").await.unwrap();
    let load = Load::start(&channel);
    load.reaches(&["0", "1", "2", "3"]).await;
    // A deletion without a mark is a crash to coord, and this one has crashed.
    client.delete("coord/svc/echo/a", None).await.unwrap();
    servers[0].kill().await;
    load.reaches(&["1", "2", "3"]).await;
    let before = load.tally().by("0");
    load.reaches(&["1", "2", "3"]).await;
    assert_eq!(load.end().await.by("0"), before);
    coordinator.close().await;
}
