//! What the derive's attributes do while etcd changes under them.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use coord::{Config, CoordConfig, Coordinator, Error, config::ConfigCenter};
use coord_tests::{Backend, on_both};
use etcd_client::{Client, Txn, TxnOp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

on_both! {
    entries_come_and_go_and_keep_their_last_good_values,
    an_alias_gives_way_to_its_key,
    a_document_is_followed_as_one_key,
    an_unknown_key_is_refused_where_it_is_denied,
    every_type_that_is_set_is_read_by_a_bound_struct,
    a_generic_struct_is_bound_with_its_types,
    prefixes_are_filled_with_what_the_coordinator_is_told,
}

/// One field for each kind of value.
#[derive(CoordConfig, Debug)]
#[coord(prefix = "table")]
struct Table {
    text: Option<String>,
    path: Option<PathBuf>,
    letter: Option<char>,
    number: Option<i64>,
    wide: Option<Vec<u128>>,
    float: Option<f32>,
    floats: Option<Vec<f64>>,
    on: Option<bool>,
    mode: Option<Mode>,
    span: Option<Duration>,
    spans: Option<Vec<Duration>>,
    list: Option<Vec<String>>,
    set: Option<BTreeSet<u16>>,
    lists: Option<Vec<Vec<i8>>>,
    map: Option<BTreeMap<String, Duration>>,
    plain: Option<Plain>,
    ip: Option<IpAddr>,
    size: Option<NonZeroU32>,
    bytes: Option<Bytes>,
    any: Option<serde_json::Value>,
    #[coord(codec = json)]
    quoted: Option<String>,
    #[coord(nested)]
    nested: Option<Route>,
    #[coord(map)]
    entries: BTreeMap<String, Route>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    VerySlow,
    Custom { rate: f32 },
    Pair(u8, Option<u8>),
    Only(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plain {
    name: String,
    more: Option<Box<Plain>>,
}

/// Any bytes, stored as they are.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Stored;
        impl de::Visitor<'_> for Stored {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_owned()))
            }
        }
        from.deserialize_bytes(Stored)
    }
}

struct Rows {
    config: Config<Table>,
    center: ConfigCenter,
}

impl Rows {
    async fn check<T>(&self, key: &str, field: fn(&Table) -> Option<&T>, values: &[T])
    where
        T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
    {
        let key = format!("table/{key}");
        for value in values {
            let version = self.center.set(&key, value).await.unwrap();
            self.config.wait_for_revision(version).await.unwrap();
            assert_eq!(self.config.status().refusal, None);
            assert_eq!(field(&self.config.load()), Some(value), "{key}");
        }
        let version = self.center.delete(&key).await.unwrap();
        self.config.wait_for_revision(version).await.unwrap();
        assert_eq!(field(&self.config.load()), None, "{key}");
    }
}

async fn every_type_that_is_set_is_read_by_a_bound_struct(server: Backend) {
    let mut bench = Bench::new(server).await;
    let rows = Rows {
        config: bench.bind().await,
        center: bench.coordinator.config_center(),
    };
    let texts = [
        "dark", "012345", "", " a ", "null", "[1]", "{}", "a\n", "a\r\n", "\n\n", "\"x\"", "ä\0",
    ];
    let texts = texts.map(str::to_owned);
    rows.check("text", |it| it.text.as_ref(), &texts).await;
    rows.check("path", |it| it.path.as_ref(), &["/a b".into(), "".into()])
        .await;
    rows.check("letter", |it| it.letter.as_ref(), &['a', ' ', '\n', 'ä'])
        .await;
    rows.check(
        "number",
        |it| it.number.as_ref(),
        &[0, -1, i64::MIN, i64::MAX],
    )
    .await;
    rows.check(
        "wide",
        |it| it.wide.as_ref(),
        &[vec![0, u128::MAX, 1 << 64], vec![]],
    )
    .await;
    rows.check(
        "float",
        |it| it.float.as_ref(),
        &[0.1, -0.0, f32::MAX, f32::MIN_POSITIVE],
    )
    .await;
    let floats = [vec![0.1, 1e300, 5e-324, 1.0], vec![-0.0, f64::MAX]];
    rows.check("floats", |it| it.floats.as_ref(), &floats).await;
    rows.check("on", |it| it.on.as_ref(), &[true, false]).await;
    let modes = [
        Mode::VerySlow,
        Mode::Custom { rate: 0.1 },
        Mode::Pair(1, None),
        Mode::Only("very_slow".into()),
    ];
    rows.check("mode", |it| it.mode.as_ref(), &modes).await;
    let spans = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::new(90_061, 7),
        Duration::MAX,
    ];
    rows.check("span", |it| it.span.as_ref(), &spans).await;
    rows.check("spans", |it| it.spans.as_ref(), &[spans.to_vec(), vec![]])
        .await;
    let lists = [
        texts.to_vec(),
        vec![],
        vec!["a,b".into()],
        vec![String::new()],
    ];
    rows.check("list", |it| it.list.as_ref(), &lists).await;
    rows.check(
        "set",
        |it| it.set.as_ref(),
        &[BTreeSet::from([443, 80]), BTreeSet::new()],
    )
    .await;
    rows.check(
        "lists",
        |it| it.lists.as_ref(),
        &[vec![vec![1], vec![], vec![-1]]],
    )
    .await;
    let map = |name: &String| (name.clone(), Duration::from_millis(5));
    rows.check(
        "map",
        |it| it.map.as_ref(),
        &[texts.iter().map(map).collect()],
    )
    .await;
    let plain = Plain {
        name: "a".into(),
        more: None,
    };
    let more = Plain {
        name: String::new(),
        more: Some(Box::new(plain.clone())),
    };
    rows.check("plain", |it| it.plain.as_ref(), &[plain, more])
        .await;
    rows.check("ip", |it| it.ip.as_ref(), &["::1".parse().unwrap()])
        .await;
    rows.check(
        "size",
        |it| it.size.as_ref(),
        &[NonZeroU32::MIN, NonZeroU32::MAX],
    )
    .await;
    let bytes = [
        Bytes(vec![]),
        Bytes(vec![0, 255, b'\n']),
        Bytes(b"[1]".to_vec()),
    ];
    rows.check("bytes", |it| it.bytes.as_ref(), &bytes).await;
    let any = [
        serde_json::json!({"a": [1, null, "x"]}),
        "dark".into(),
        serde_json::json!(1.5),
    ];
    rows.check("any", |it| it.any.as_ref(), &any).await;

    // Whole, and put by hand in its other forms.
    let center = &rows.center;
    bench
        .change(
            &rows.config,
            &[
                ("/config/table/quoted", Some("\"dark\"")),
                ("/config/table/entries/a%2Fb", Some("{\"url\":\"u\"}")),
            ],
        )
        .await;
    let version = center.set("table/nested/url", "v").await.unwrap();
    rows.config.wait_for_revision(version).await.unwrap();
    let table = rows.config.load();
    assert_eq!(table.quoted.as_deref(), Some("dark"));
    assert_eq!(
        (
            table.nested.as_ref().unwrap().url.as_str(),
            &*table.entries["a/b"].url
        ),
        ("v", "u")
    );
    bench.coordinator.close().await;
}

/// Its parameters are a value, a struct and the values of a map.
#[derive(CoordConfig, Debug)]
#[coord(prefix = "generic/{kind}", write)]
struct Generic<V, S> {
    value: V,
    #[coord(nested)]
    part: Option<S>,
    #[coord(map)]
    values: BTreeMap<u8, V>,
    #[coord(map, nested)]
    parts: HashMap<String, S>,
}

#[derive(Clone, CoordConfig, Debug, PartialEq)]
#[coord(write)]
struct Limit<N> {
    most: N,
}

async fn a_generic_struct_is_bound_with_its_types(server: Backend) {
    let mut bench = Bench::new(server).await;
    type Spans = Generic<Duration, Limit<u8>>;
    let builder = || bench.coordinator.config::<Spans>().var("kind", "spans");
    let saved = Generic {
        value: Duration::from_secs(90),
        part: Some(Limit { most: 7 }),
        values: BTreeMap::from([(1, Duration::from_millis(5))]),
        parts: HashMap::from([("a/b".to_owned(), Limit { most: 8 })]),
    };
    let version = builder().save(&saved).await.unwrap();
    let config = builder().start().await.unwrap();
    config.wait_for_revision(version).await.unwrap();
    let bound = config.load();
    assert_eq!((bound.value, &bound.part), (saved.value, &saved.part));
    assert_eq!((&bound.values, &bound.parts), (&saved.values, &saved.parts));
    let keys = [("/config/generic/spans/parts/a%2Fb/most", Some("256"))];
    bench.change(&config, &keys).await;
    let refusal = config.status().refusal.unwrap().to_string();
    assert!(refusal.contains("expected u8"), "{refusal}");

    // The same struct with other types is another config.
    bench
        .write(&[("/config/generic/names/value", Some("dark"))])
        .await;
    let names = bench
        .coordinator
        .config::<Generic<String, Limit<Option<String>>>>();
    let names = names.var("kind", "names").start().await.unwrap();
    let keys = [("/config/generic/names/parts/x", Some("{}"))];
    bench.change(&names, &keys).await;
    assert_eq!(names.load().value, "dark");
    assert_eq!(names.load().parts["x"], Limit { most: None });
    bench.coordinator.close().await;
}

/// Every placeholder that a service fills, the builder's value over the option's.
async fn prefixes_are_filled_with_what_the_coordinator_is_told(server: Backend) {
    #[derive(CoordConfig)]
    #[coord(prefix = "/{namespace}/{service}/{zone}/{version}")]
    struct Placed {
        at: String,
    }
    let mut options = server.options();
    options.namespace = "team/".into();
    options.vars.insert("zone".into(), "eu-1".into());
    options.vars.insert("version".into(), "1.4.0".into());
    let coordinator = Coordinator::connect(options).await.unwrap();
    let mut raw = server.client().await;
    for at in ["/team/shop/eu-1/1.4.0", "/team/shop/eu-1/2"] {
        raw.put(format!("{at}/at"), at, None).await.unwrap();
    }
    let shop = coordinator.module("shop");
    let config = shop.config::<Placed>().start().await.unwrap();
    assert_eq!(config.load().at, "/team/shop/eu-1/1.4.0");
    let other = shop.config::<Placed>().var("version", "2");
    assert_eq!(other.start().await.unwrap().load().at, "/team/shop/eu-1/2");
    coordinator.close().await;
    // All that have no value, in one error.
    let bare = server.coordinator().await;
    let Err(Error::Invalid { faults, .. }) = bare.config::<Placed>().start().await else {
        panic!("bound");
    };
    assert_eq!(faults.len(), 4, "{faults:?}");
    bare.close().await;
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
