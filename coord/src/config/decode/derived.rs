//! What each attribute of the derive does, without etcd.

mod rules;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    str::FromStr,
    time::Duration,
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::tests::{Raw, map, odd, prefix};
use crate::config::{
    CoordConfig, WriteConfig,
    decode::{Keys, decode},
    encoder::keys_of,
    shape::Field,
};

fn read<T: CoordConfig>(keys: &[(&str, &str)]) -> Result<T, Vec<String>> {
    bound(&map(keys))
}

fn bound<T: CoordConfig>(keys: &Keys) -> Result<T, Vec<String>> {
    decode::<T>(&prefix(), keys, None)
        .value
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// Everything that is said of the keys beside faults: unknown keys with their hint, and warnings.
fn noted<T: CoordConfig>(keys: &[(&str, &str)]) -> Vec<(String, String)> {
    let odd = odd::<T>(&map(keys));
    let unknown = odd
        .unknown
        .into_iter()
        .map(|it| (it.key, it.did_you_mean.unwrap_or_default()));
    let warnings = odd.warnings.into_iter().map(|it| (it.key, it.reason));
    unknown.chain(warnings).collect()
}

#[track_caller]
fn refused<T: CoordConfig>(keys: &[(&str, &str)], reasons: &[&str]) {
    let Err(faults) = read::<T>(keys) else {
        panic!("{keys:?} was taken")
    };
    assert_eq!(faults.len(), reasons.len(), "{faults:#?}");
    for (fault, reason) in faults.iter().zip(reasons) {
        assert!(fault.contains(reason), "{fault}\n{reason}");
    }
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, rename_all = "kebab-case")]
struct Named {
    max_size: u8,
    #[coord(key = "other/name")]
    by_key: u8,
}

#[derive(Debug, PartialEq, crate::CoordConfig, Deserialize)]
#[coord(crate = crate)]
#[serde(rename_all = "camelCase")]
struct NamedBySerde {
    max_size: u8,
    #[serde(rename(deserialize = "min"), default)]
    min_size: u8,
    #[serde(rename = "lost")]
    #[coord(key = "found")]
    of_both: u8,
}

#[test]
fn names_come_from_key_then_serde_then_the_case() {
    let named = read::<Named>(&[("max-size", "1"), ("other/name", "2")]);
    let expected = Named {
        max_size: 1,
        by_key: 2,
    };
    assert_eq!(named, Ok(expected));
    let named = read::<NamedBySerde>(&[("maxSize", "1"), ("min", "2"), ("found", "3")]);
    let expected = NamedBySerde {
        max_size: 1,
        min_size: 2,
        of_both: 3,
    };
    assert_eq!(named, Ok(expected));
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Moved {
    #[coord(alias = "old_port", alias = "older/port")]
    port: u16,
    #[coord(nested, alias = "database")]
    db: Option<Db>,
    #[coord(map, alias = "quotas")]
    limits: BTreeMap<String, u8>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, write)]
struct Db {
    host: String,
    #[coord(default = 5432)]
    port: u16,
}

#[test]
fn an_alias_is_read_while_its_key_is_absent() {
    let port = |keys: &[(&str, &str)]| read::<Moved>(keys).map(|it| it.port);
    assert_eq!(port(&[("older/port", "1")]), Ok(1));
    let two = [("older/port", "1"), ("old_port", "2")];
    assert_eq!(port(&two), Ok(2));
    let three = [("older/port", "1"), ("old_port", "2"), ("port", "3")];
    assert_eq!(port(&three), Ok(3));
    assert_eq!(noted::<Moved>(&[("old_port", "2")]), []);
    let noted = noted::<Moved>(&three);
    let keys: Vec<_> = noted.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["/p/old_port", "/p/older/port"]);
    assert!(noted[0].1.contains("has the key `port`"), "{noted:?}");
    // Of a value that is not read, nothing is refused.
    assert_eq!(port(&[("old_port", "x"), ("port", "3")]), Ok(3));
    refused::<Moved>(
        &[("old_port", "x")],
        &["`/p/old_port` (field `port`, revision 7)"],
    );
    refused::<Moved>(&[], &["`/p/port` (field `port`): the key is missing"]);
    let moved = read::<Moved>(&[("port", "1"), ("database/host", "h"), ("quotas/a", "1")]);
    let expected = Moved {
        port: 1,
        db: Some(Db {
            host: "h".into(),
            port: 5432,
        }),
        limits: BTreeMap::from([("a".into(), 1)]),
    };
    assert_eq!(moved, Ok(expected));
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Outer {
    name: String,
    #[coord(flatten)]
    log: Log,
    #[coord(flatten)]
    trace: Option<Trace>,
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Log {
    #[coord(default = "5s")]
    flush: Duration,
    #[coord(key = "log/level")]
    level: String,
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Trace {
    sampler: String,
    ratio: Option<u8>,
}

#[test]
fn a_flattened_struct_adds_no_segment_and_loses_no_type() {
    let outer = read::<Outer>(&[("name", "n"), ("flush", "1m"), ("log/level", "012")]);
    let expected = Outer {
        name: "n".into(),
        log: Log {
            flush: Duration::from_secs(60),
            level: "012".into(),
        },
        trace: None,
    };
    assert_eq!(outer, Ok(expected));
    let base = [("name", "n"), ("log/level", "x")];
    let traced = read::<Outer>(&[&base[..], &[("sampler", "s")]].concat()).map(|it| it.trace);
    let expected = Trace {
        sampler: "s".into(),
        ratio: None,
    };
    assert_eq!(traced, Ok(Some(expected)));
    // One of its keys is there, so all that must be must.
    refused::<Outer>(
        &[&base[..], &[("ratio", "1")]].concat(),
        &["`/p/sampler` (field `trace.sampler`): the key is missing"],
    );
    refused::<Outer>(
        &[("name", "n"), ("flush", "5")],
        &[
            "`/p/flush` (field `log.flush`, revision 7)",
            "(field `log.level`)",
        ],
    );
    assert_eq!(
        noted::<Outer>(&[&base[..], &[("sampel", "s"), ("log/levle", "x")]].concat()),
        [
            ("/p/log/levle".to_owned(), "/p/log/level".to_owned()),
            ("/p/sampel".to_owned(), "/p/sampler".to_owned()),
        ]
    );
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pair(u8, u8);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (a, b) = text.split_once('x').ok_or("no pair")?;
        let number = |text: &str| text.parse().map_err(|_| "no number".to_owned());
        Ok(Self(number(a)?, number(b)?))
    }
}

impl Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.0, self.1)
    }
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Maps {
    #[coord(map)]
    limits: HashMap<String, u32>,
    #[coord(map)]
    routes: BTreeMap<String, Route>,
    #[coord(map)]
    weights: BTreeMap<u8, Vec<u8>>,
    #[coord(map)]
    sizes: BTreeMap<Pair, Duration>,
    #[coord(map, nested)]
    shards: BTreeMap<String, Box<Route>>,
    #[coord(map, secret)]
    tokens: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Route {
    url: String,
    #[coord(default = "1s")]
    timeout: Duration,
    #[coord(map)]
    headers: BTreeMap<String, String>,
}

fn route(url: &str) -> Route {
    Route {
        url: url.into(),
        timeout: Duration::from_secs(1),
        headers: BTreeMap::new(),
    }
}

#[test]
fn a_map_has_one_entry_for_each_segment() {
    let maps = read::<Maps>(&[
        ("limits/a", "1"),
        ("limits/a%2Fb", "2"),
        ("limits/größe", "3"),
        ("limits/100%", "4"),
        ("routes/eu/url", "u"),
        ("routes/eu/headers/x", "y"),
        ("routes/us", r#"{"url":"v","timeout":"2s"}"#),
        ("weights/7", "1,2"),
        ("sizes/2x3", "5s"),
        ("shards/a/url", "s"),
        ("tokens/t", "1"),
    ])
    .expect("all good");
    let limits = [("a", 1), ("a/b", 2), ("größe", 3), ("100%", 4)];
    let limits = limits.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(maps.limits, HashMap::from(limits));
    let eu = Route {
        headers: BTreeMap::from([("x".into(), "y".into())]),
        ..route("u")
    };
    let us = Route {
        timeout: Duration::from_secs(2),
        ..route("v")
    };
    let routes = [("eu".into(), eu), ("us".into(), us)];
    assert_eq!(maps.routes, BTreeMap::from(routes));
    assert_eq!(maps.weights, BTreeMap::from([(7, vec![1, 2])]));
    let sizes = BTreeMap::from([(Pair(2, 3), Duration::from_secs(5))]);
    assert_eq!(maps.sizes, sizes);
    assert_eq!(maps.shards["a"].url, "s");
    let whole = read::<Maps>(&[("limits", r#"{"a/b": 1, "c%2F": 2}"#), ("routes", "null")]);
    let whole = whole.expect("one document");
    assert_eq!(whole.limits.len(), 2);
    assert_eq!((whole.limits["a/b"], whole.limits["c%2F"]), (1, 2));
    assert!(read::<Maps>(&[]).is_ok_and(|maps| maps.routes.is_empty()));
}

#[test]
fn the_faults_of_a_map_name_the_entry() {
    refused::<Maps>(
        &[
            ("limits/a", "x"),
            ("limits/b", "-1"),
            ("limits/c/d", "1"),
            ("routes/eu/timeout", "1s"),
            ("routes/us/url", "u"),
            ("weights/300", "1"),
            ("weights/x", "1"),
            ("sizes/2", "5s"),
        ],
        &[
            "`/p/limits/a` (field `limits.a`, revision 7): expected u32, found `x`",
            "`/p/limits/b` (field `limits.b`, revision 7): expected u32",
            "`/p/limits/c` (field `limits.c`): expected one value",
            "`/p/routes/eu/url` (field `routes.eu.url`): the key is missing",
            "`/p/weights/300` (field `weights.300`, revision 7): the key of this entry: expected u8",
            "`/p/weights/x` (field `weights.x`, revision 7): the key of this entry: expected u8",
            "`/p/sizes/2` (field `sizes.2`, revision 7): the key of this entry: no pair",
        ],
    );
    refused::<Maps>(
        &[("limits/a%2fb", "1"), ("limits/a%2Fb", "2")],
        &["the same entry"],
    );
    refused::<Maps>(
        &[("weights/1", "1"), ("weights/01", "2")],
        &["the same entry"],
    );
    refused::<Maps>(
        &[("limits/%ff", "1")],
        &["no text when it is percent-decoded"],
    );
    refused::<Maps>(
        &[("limits", "{}"), ("limits/a", "1")],
        &["keep one of the two"],
    );
    refused::<Maps>(&[("limits", "7")], &["JSON object"]);
    assert_eq!(
        noted::<Maps>(&[
            ("routes/eu/url", "u"),
            ("routes/eu/ulr", "u"),
            ("limits/a//b", "1")
        ]),
        [
            ("/p/limits/a//b".to_owned(), "/p/limits/a/b".to_owned()),
            ("/p/routes/eu/ulr".to_owned(), "/p/routes/eu/url".to_owned()),
        ]
    );
}

#[test]
fn of_a_secret_map_not_even_the_keys_are_shown() {
    for keys in [
        &[("tokens/hunter2", "x")][..],
        &[("tokens/a", "hunter2"), ("tokens/hunter2", "1")],
        &[("tokens", r#"{"hunter2": "x"}"#)],
        &[("tokens/hunter2/hunter2", "1")],
    ] {
        let faults = read::<Maps>(keys).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with("`/p/tokens` (field `tokens`"),
            "{faults:?}"
        );
        assert!(!faults[0].contains("hunter2"), "{faults:?}");
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u32::from_str_radix(digits, 16).map_err(D::Error::custom)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
    pub(super) fn serialize<S: Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:#x}"))
    }
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, write)]
struct Coded {
    #[coord(codec = json)]
    text: Option<String>,
    #[coord(codec = toml, default = "x = 1")]
    point: Point,
    #[coord(with = hex, default = "0xff")]
    mask: u32,
    #[coord(skip)]
    cache: Vec<u8>,
    #[coord(skip, default = 7)]
    seven: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: Option<u8>,
    #[serde(default)]
    tags: Vec<String>,
}

#[test]
fn codecs_and_modules_read_one_value() {
    let coded = read::<Coded>(&[
        ("text", r#""dark""#),
        ("point", "x = 2\ntags = [\"a\"]\n"),
        ("mask", "0x10"),
    ]);
    let point = |x, tags: &[&str]| Point {
        x,
        y: None,
        tags: tags.iter().copied().map(str::to_owned).collect(),
    };
    let expected = Coded {
        text: Some("dark".into()),
        point: point(2, &["a"]),
        mask: 16,
        cache: vec![],
        seven: 7,
    };
    assert_eq!(coded, Ok(expected));
    let defaults = read::<Coded>(&[]).expect("defaults");
    assert_eq!(
        (defaults.text, defaults.point, defaults.mask),
        (None, point(1, &[]), 255)
    );
    assert_eq!(
        read::<Coded>(&[("text", "null")]).map(|it| it.text),
        Ok(None)
    );
    refused::<Coded>(
        &[
            ("text", "dark"),
            ("point", "x = \"hunter2\" 1"),
            ("mask", "zz"),
        ],
        &["no JSON", "no TOML", "invalid digit"],
    );
    refused::<Coded>(&[("point", "x = 1.5")], &["(field `point.x`, revision 7)"]);
    // A skipped field has no key: this one is nobody's.
    assert_eq!(noted::<Coded>(&[("seven", "1")])[0].0, "/p/seven");
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, document, write)]
struct Whole {
    name: String,
    #[coord(default = "5s")]
    timeout: Duration,
    #[coord(nested)]
    db: Option<Db>,
    #[coord(map)]
    limits: BTreeMap<String, u8>,
    #[coord(key = "log/level", default)]
    level: String,
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Holder {
    #[coord(nested)]
    part: Option<Part>,
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, document = toml, unknown = deny)]
struct Part {
    size: u8,
    #[coord(default)]
    tags: Vec<String>,
}

/// The one key that a document is in.
fn document<V: AsRef<[u8]>>(text: V) -> Keys {
    let mut keys = map(&[("x", text)]);
    let mut kv = keys.pop_first().expect("one").1;
    kv.key = b"/p".to_vec();
    Keys::from([(kv.key.clone(), kv)])
}

#[test]
fn a_document_is_one_key() {
    let text =
        r#"{"name":"n","timeout":"1m","db":{"host":"h"},"limits":{"a/b":1},"log":{"level":"x"}}"#;
    let expected = Whole {
        name: "n".into(),
        timeout: Duration::from_secs(60),
        db: Some(Db {
            host: "h".into(),
            port: 5432,
        }),
        limits: BTreeMap::from([("a/b".into(), 1)]),
        level: "x".into(),
    };
    assert_eq!(bound::<Whole>(&document(text)), Ok(expected));
    let faults = bound::<Whole>(&document(
        r#"{"timeout":5,"db":{"port":1},"limits":{"a":300}}"#,
    ));
    let faults = faults.unwrap_err();
    let starts = [
        "`/p` (field `name`, revision 7): the key is missing",
        "`/p` (field `timeout`, revision 7): ",
        "`/p` (field `db.host`, revision 7): the key is missing",
        "`/p` (field `limits.a`, revision 7): ",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
    for (text, says) in [
        ("{", "no JSON"),
        ("[]", "JSON object"),
        ("\u{1}", "no JSON"),
    ] {
        let faults = bound::<Whole>(&document(text)).unwrap_err();
        assert!(faults[0].contains(says), "{faults:?}");
    }
    let missing = bound::<Whole>(&Keys::new()).unwrap_err();
    assert_eq!(missing.len(), 1, "{missing:?}");
    let odd = odd::<Whole>(&document(
        r#"{"name":"n","nmae":1,"db":{"host":"h","prot":1}}"#,
    ));
    let unknown: Vec<_> = odd.unknown.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(unknown, ["/p (member `nmae`)", "/p (member `prot`)"]);
}

#[test]
fn a_nested_document_is_its_one_key() {
    let part = read::<Holder>(&[("part", "size = 3")]).map(|it| it.part);
    let expected = Part {
        size: 3,
        tags: vec![],
    };
    assert_eq!(part, Ok(Some(expected)));
    assert_eq!(read::<Holder>(&[]).map(|it| it.part), Ok(None));
    refused::<Holder>(&[("part", r#"{"size":3}"#)], &["no TOML"]);
    // A secret in a document that cannot be read is not shown.
    let faults = read::<Holder>(&[("part", "size = hunter2")]).unwrap_err();
    assert!(!faults[0].contains("hunter2"), "{faults:?}");
    assert_eq!(noted::<Holder>(&[("part/size", "3")])[0].0, "/p/part/size");
}
