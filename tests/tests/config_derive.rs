//! What the derive's attributes do while etcd changes under them.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use coord::{Config, CoordConfig, Coordinator, Error};
use coord_tests::{Backend, on_both};
use etcd_client::{Client, Txn, TxnOp};

on_both! {
    entries_come_and_go_and_keep_their_last_good_values,
    an_alias_gives_way_to_its_key,
    a_document_is_followed_as_one_key,
    an_unknown_key_is_refused_where_it_is_denied,
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "/gateway")]
struct Gateway {
    #[coord(map)]
    routes: HashMap<String, Route>,
    #[coord(map)]
    weights: BTreeMap<u16, u32>,
    #[coord(flatten)]
    log: Option<Log>,
    #[coord(alias = "listen", default = "127.0.0.1")]
    address: std::net::IpAddr,
}

#[derive(Clone, CoordConfig, Debug, PartialEq)]
#[coord(validate = not_too_slow)]
struct Route {
    url: String,
    #[coord(default = "1s", range = Duration::from_millis(1)..)]
    timeout: Duration,
    #[coord(default = 1)]
    attempts: u32,
}

fn not_too_slow(route: &Route) -> Result<(), &'static str> {
    if route.timeout * route.attempts <= Duration::from_secs(60) {
        Ok(())
    } else {
        Err("all attempts together take longer than a minute")
    }
}

#[derive(CoordConfig, Debug, PartialEq)]
struct Log {
    level: String,
}

struct Bench {
    _server: Backend,
    coordinator: Coordinator,
    raw: Client,
}

impl Bench {
    async fn new(server: Backend) -> Self {
        Self {
            coordinator: Coordinator::connect(server.options()).await.unwrap(),
            raw: server.client().await,
            _server: server,
        }
    }

    /// One transaction; `None` deletes.
    async fn write(&mut self, keys: &[(&str, Option<&str>)]) -> i64 {
        let ops = keys.iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(*key, *value, None),
            None => TxnOp::delete(*key, None),
        });
        let txn = Txn::new().and_then(ops.collect::<Vec<_>>());
        let reply = self.raw.txn(txn).await.unwrap();
        reply.header().unwrap().revision()
    }

    /// The same, and it was looked at.
    async fn change<T>(&mut self, config: &Config<T>, keys: &[(&str, Option<&str>)]) {
        let revision = self.write(keys).await;
        config.wait_for_revision(revision).await.unwrap();
    }

    async fn bind<T: CoordConfig>(&self) -> Config<T> {
        self.coordinator.config().start().await.unwrap()
    }
}

async fn entries_come_and_go_and_keep_their_last_good_values(server: Backend) {
    let mut bench = Bench::new(server).await;
    bench
        .write(&[
            ("/gateway/routes/eu/url", Some("http://eu")),
            ("/gateway/routes/a%2Fb", Some(r#"{"url":"http://ab"}"#)),
            ("/gateway/weights/10", Some("1")),
        ])
        .await;
    let config = bench.bind::<Gateway>().await;
    let first = config.load();
    assert_eq!(first.routes["a/b"].url, "http://ab");
    assert_eq!((first.weights[&10], &first.log), (1, &None));

    bench
        .change(
            &config,
            &[
                ("/gateway/routes/us/url", Some("http://us")),
                ("/gateway/routes/eu/attempts", Some("3")),
                ("/gateway/weights/10", None),
                ("/gateway/weights/20", Some("2")),
                ("/gateway/level", Some("debug")),
            ],
        )
        .await;
    let second = config.load();
    assert_eq!(second.routes.len(), 3);
    assert_eq!(second.routes["eu"].attempts, 3);
    assert_eq!(second.weights, BTreeMap::from([(20, 2)]));
    assert_eq!(second.log.as_ref().unwrap().level, "debug");

    // Nothing of a change with one bad entry is taken, and the fault names the entry.
    bench
        .change(
            &config,
            &[
                ("/gateway/routes/us/timeout", Some("0s")),
                ("/gateway/routes/eu/timeout", Some("59s")),
                ("/gateway/weights/x", Some("3")),
                ("/gateway/level", Some("info")),
            ],
        )
        .await;
    let refusal = config.status().refusal.unwrap();
    let mut found: Vec<_> = refusal
        .faults
        .iter()
        .map(|it| (it.field.as_str(), it.key.as_str()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("routes.eu", "/gateway/routes/eu"),
            ("routes.us.timeout", "/gateway/routes/us/timeout"),
            ("weights.x", "/gateway/weights/x"),
        ]
    );
    assert_eq!(config.load().log.as_ref().unwrap().level, "debug");

    bench
        .change(
            &config,
            &[
                ("/gateway/routes/us/url", None),
                ("/gateway/routes/us/timeout", None),
                ("/gateway/routes/eu/timeout", None),
                ("/gateway/weights/x", None),
            ],
        )
        .await;
    let last = config.load();
    assert_eq!(config.status().refusal, None);
    assert_eq!((last.routes.len(), last.routes["eu"].attempts), (2, 3));
    assert_eq!(last.log.as_ref().unwrap().level, "info");
}

async fn an_alias_gives_way_to_its_key(server: Backend) {
    let mut bench = Bench::new(server).await;
    bench.write(&[("/gateway/listen", Some("10.0.0.1"))]).await;
    let config = bench.bind::<Gateway>().await;
    assert_eq!(config.load().address.to_string(), "10.0.0.1");
    let moved = [("/gateway/address", Some("10.0.0.2"))];
    bench.change(&config, &moved).await;
    assert_eq!(config.load().address.to_string(), "10.0.0.2");
    let warnings = config.status().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].key, "/gateway/listen");
    // What is not read changes nothing, and refuses nothing.
    let before = config.status().applied_revision;
    bench
        .change(&config, &[("/gateway/listen", Some("nonsense"))])
        .await;
    let status = config.status();
    assert_eq!((status.applied_revision, status.refusal), (before, None));
    bench.change(&config, &[("/gateway/listen", None)]).await;
    bench.change(&config, &[("/gateway/address", None)]).await;
    assert_eq!(config.load().address.to_string(), "127.0.0.1");
    assert_eq!(config.status().warnings, []);
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "/mailer", document)]
struct Mailer {
    host: String,
    #[coord(default = 25)]
    port: u16,
}

async fn a_document_is_followed_as_one_key(server: Backend) {
    let mut bench = Bench::new(server).await;
    // Another struct's keys are not its business.
    bench
        .write(&[
            ("/mailer", Some(r#"{"host":"a"}"#)),
            ("/mailer/host", Some("b")),
        ])
        .await;
    let config = bench.bind::<Mailer>().await;
    assert_eq!(config.status().prefix, "/mailer");
    assert_eq!((config.load().host.as_str(), config.load().port), ("a", 25));
    let applied = config.status().applied_revision;
    bench
        .change(&config, &[("/mailer", Some("{ \"host\": \"a\" }\n"))])
        .await;
    assert_eq!(
        config.status().applied_revision,
        applied,
        "the same written otherwise"
    );
    bench
        .change(&config, &[("/mailer", Some(r#"{"port":587}"#))])
        .await;
    let refusal = config.status().refusal.unwrap();
    assert_eq!(
        (
            refusal.faults[0].field.as_str(),
            refusal.faults[0].key.as_str()
        ),
        ("host", "/mailer")
    );
    bench
        .change(
            &config,
            &[("/mailer", Some(r#"{"host":"c","port":587,"x":1}"#))],
        )
        .await;
    assert_eq!(
        (config.load().host.as_str(), config.load().port),
        ("c", 587)
    );
    assert_eq!(config.status().unknown[0].key, "/mailer (member `x`)");
}

#[derive(CoordConfig, Debug)]
#[coord(prefix = "/strict", unknown = deny)]
struct Strict {
    #[coord(default = 1)]
    size: u8,
}

async fn an_unknown_key_is_refused_where_it_is_denied(server: Backend) {
    let mut bench = Bench::new(server).await;
    bench.write(&[("/strict/sise", Some("2"))]).await;
    let failed = bench.coordinator.config::<Strict>().start().await;
    let Err(Error::Invalid { faults, .. }) = failed else {
        panic!("{failed:?}")
    };
    assert!(faults[0].contains("is `/strict/size` meant?"), "{faults:?}");
    bench.write(&[("/strict/sise", None)]).await;
    let config = bench.bind::<Strict>().await;
    let keys = [("/strict/size", Some("3")), ("/strict//size", Some("4"))];
    bench.change(&config, &keys).await;
    assert_eq!(config.load().size, 1);
    assert_eq!(
        config.status().refusal.unwrap().faults[0].key,
        "/strict//size"
    );
    bench.change(&config, &[("/strict//size", None)]).await;
    assert_eq!((config.load().size, config.status().refusal), (3, None));
}
