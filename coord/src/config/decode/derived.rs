//! What each attribute of the derive does, without etcd.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    str::FromStr,
    time::Duration,
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::tests::{map, odd, prefix};
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
fn document(text: &str) -> Keys {
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

fn even(value: &u32) -> Result<(), String> {
    match value % 2 {
        0 => Ok(()),
        _ => Err(format!("{value} is odd")),
    }
}

fn not_both(it: &Checked) -> Result<(), &'static str> {
    match (it.even, it.size) {
        (Some(_), Some(_)) => Err("`even` and `size` exclude each other"),
        _ => Ok(()),
    }
}

const MOST: u8 = 9;

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, validate = not_both)]
struct Checked {
    #[coord(range = 1..=MOST)]
    level: u8,
    #[coord(default = "3s", range = Duration::from_secs(1)..)]
    timeout: Duration,
    #[coord(range = ..0.5)]
    ratio: Option<f64>,
    #[coord(default, range = 'a'..='f')]
    letters: Vec<char>,
    #[coord(codec = json)]
    even: Option<Even>,
    size: Option<u8>,
    #[coord(secret, default = 2, validate = even)]
    pin: u32,
}

#[derive(Debug, PartialEq, Clone, Copy, Deserialize)]
struct Even(u32);

#[test]
fn what_breaks_a_rule_is_refused() {
    assert!(read::<Checked>(&[("level", "9"), ("letters", "a,f"), ("ratio", "0.4")]).is_ok());
    refused::<Checked>(
        &[
            ("level", "0"),
            ("timeout", "999ms"),
            ("ratio", "0.5"),
            ("letters", "a,g"),
            ("pin", "31337"),
        ],
        &[
            "(field `level`, revision 7): expected a value in `1..=MOST`, found `0`",
            "(field `timeout`, revision 7): expected a value in `Duration::from_secs(1)..`",
            "expected a value in `..0.5`, found `0.5`",
            "expected a value in `'a'..='f'`, found `a,g`",
            "(field `pin`, revision 7): invalid (secret: the reason is withheld)",
        ],
    );
    refused::<Checked>(
        &[("level", "1"), ("even", "2"), ("size", "1")],
        &["`/p`: `even` and `size` exclude each other"],
    );
    // The whole is looked at only when every field is good.
    refused::<Checked>(&[("even", "2"), ("size", "1")], &["the key is missing"]);
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct OddDefaults {
    #[coord(default = 0, range = 1..)]
    #[expect(dead_code, reason = "only its default is looked at")]
    a: u8,
    #[coord(default = "3", validate = even)]
    #[expect(dead_code, reason = "only its default is looked at")]
    b: u32,
}

#[test]
fn a_default_obeys_the_rules_too() {
    refused::<OddDefaults>(
        &[],
        &[
            "the default is wrong: expected a value in `1..`",
            "the default is wrong: 3 is odd",
        ],
    );
    refused::<OddDefaults>(
        &[("a", "1"), ("b", "2")],
        &["the default is wrong: 3 is odd"],
    );
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, unknown = ignore)]
struct Lenient {
    #[coord(default)]
    #[expect(dead_code, reason = "only decoded")]
    a: u8,
    #[coord(nested)]
    strict: Strict,
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, unknown = deny)]
struct Strict {
    #[coord(default)]
    #[expect(dead_code, reason = "only decoded")]
    size: u8,
}

#[test]
fn each_struct_says_what_becomes_of_unknown_keys() {
    assert_eq!(noted::<Lenient>(&[("whatever", "1"), ("b/c", "1")]), []);
    // A slip is told all the same.
    assert_eq!(noted::<Lenient>(&[("a//", "1")])[0].1, "/p/a");
    use crate::config::reloader::{Outcome, Reloader};
    let refused = |keys: &[(&str, &str)]| {
        let update = crate::watch::Update {
            revision: 8,
            cause: crate::watch::Cause::Listed,
            changes: Vec::new(),
        };
        let reload = Reloader::<Lenient>::new(prefix()).apply(&map(keys), &update);
        match reload.outcome {
            Outcome::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let by_key = refused(&[("strict/sise", "1")]);
    assert!(
        by_key.contains(
            "`/p/strict/sise` (revision 7): no field reads this key: is `/p/strict/size` meant?"
        ),
        "{by_key}"
    );
    let by_value = refused(&[("strict", r#"{"sise":1}"#)]);
    assert!(by_value.contains("member `sise`"), "{by_value}");
}

/// The size of the house.
///
/// In rooms.
#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, prefix = "{env}/house")]
#[expect(dead_code, reason = "only its description is looked at")]
struct Described {
    /// How many rooms.
    ///
    /// At least one.
    #[coord(default = 1_000, range = 1..)]
    rooms: u32,
    #[coord(alias = "adress")]
    address: Option<std::net::IpAddr>,
    #[coord(default = "it's")]
    motto: String,
    #[coord(secret, default = "hunter2")]
    code: String,
    #[coord(nested)]
    db: Db,
    #[coord(map)]
    routes: HashMap<String, Route>,
    #[coord(flatten)]
    log: Log,
    #[coord(nested)]
    annex: Option<Box<Described>>,
    #[coord(skip)]
    seen: u8,
}

#[test]
fn a_struct_describes_itself() {
    let field = |name: &str| -> &'static Field {
        let found = Described::FIELDS.iter().find(|field| field.name() == name);
        found.expect("a field")
    };
    let names: Vec<_> = Described::FIELDS.iter().map(Field::name).collect();
    let expected = [
        "rooms", "address", "motto", "code", "db", "routes", "log", "annex",
    ];
    assert_eq!(names, expected);
    let rooms = field("rooms");
    assert_eq!(rooms.doc(), "How many rooms.\n\nAt least one.");
    assert_eq!((rooms.type_name(), rooms.default()), ("u32", Some("1_000")));
    assert!(!rooms.is_required() && !rooms.is_secret());
    let address = field("address");
    assert_eq!(address.type_name(), "Option<std::net::IpAddr>");
    assert_eq!(address.aliases(), ["adress"]);
    assert!(!address.is_required());
    assert_eq!(field("motto").default(), Some("it's"));
    assert!(field("code").is_secret() && field("code").default().is_none());
    assert!(field("routes").is_map());
    let below: Vec<_> = field("routes").fields().iter().map(Field::name).collect();
    assert_eq!(below, ["url", "timeout", "headers"]);
    assert!(field("db").fields()[0].is_required());
    assert_eq!(
        (field("log").key(), field("log").fields()[1].key()),
        ("", "log/level")
    );
}

#[test]
fn a_template_seeds_a_prefix() {
    let text = Described::template();
    for line in [
        "# How many rooms.",
        "# u32, default 1_000",
        "#etcdctl put '/config/{env}/house/rooms' '1000'",
        "#etcdctl put '/config/{env}/house/motto' 'it'\\''s'",
        "# String, secret",
        "#etcdctl put '/config/{env}/house/code' ''",
        "# String, required",
        "#etcdctl put '/config/{env}/house/db/host' ''",
        "#etcdctl put '/config/{env}/house/routes/{key}/timeout' '1s'",
        "#etcdctl put '/config/{env}/house/routes/{key}/headers/{key}' ''",
        "#etcdctl put '/config/{env}/house/log/level' ''",
        "#etcdctl put '/config/{env}/house/annex/rooms' '1000'",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2") && text.lines().all(|line| line.starts_with('#')));
    assert!(Whole::template().contains("# one document, Json\n#etcdctl put '/config/{prefix}' ''"));
}

/// Everything that a struct can hold, to be written and read again.
#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, write)]
struct Everything {
    text: String,
    name: Option<String>,
    number: i64,
    #[coord(default = "5s")]
    timeout: Duration,
    list: Vec<String>,
    #[coord(codec = json)]
    document: Option<Point>,
    #[coord(codec = toml)]
    table: Point,
    #[coord(with = hex)]
    mask: u32,
    #[coord(nested)]
    inner: Inner,
    #[coord(nested)]
    maybe: Option<Box<Inner>>,
    #[coord(nested)]
    boxed: Option<Packed>,
    #[coord(map)]
    scalars: BTreeMap<String, Option<u8>>,
    #[coord(map)]
    structs: HashMap<String, Inner>,
    #[coord(map)]
    by_number: BTreeMap<u16, String>,
    #[coord(flatten)]
    flat: Flat,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, write)]
struct Inner {
    a: Option<String>,
    #[coord(map)]
    b: BTreeMap<String, u8>,
    #[coord(key = "c/d")]
    c: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, write, document)]
struct Packed {
    text: Option<String>,
    #[coord(default)]
    span: Duration,
    #[coord(nested)]
    inner: Option<Inner>,
    #[coord(map)]
    inners: BTreeMap<String, Inner>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, write)]
struct Flat {
    #[coord(key = "flat/x")]
    x: Option<u8>,
    y: bool,
}

fn text() -> impl Strategy<Value = String> {
    "(?s)[a-c/%é\n\" ]{0,4}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-c/%é. ]{1,3}"
}

prop_compose! {
    fn inner()(
        a in proptest::option::of(text()),
        b in proptest::collection::btree_map(name(), any::<u8>(), 0..3),
        c in proptest::option::of((0..1_000_000u64).prop_map(Duration::from_millis)),
    ) -> Inner {
        Inner { a, b, c }
    }
}

prop_compose! {
    fn packed()(
        text in proptest::option::of(text()),
        span in (0..1_000_000u64).prop_map(Duration::from_millis),
        inner in proptest::option::of(inner()),
        inners in proptest::collection::btree_map(name(), inner(), 0..3),
    ) -> Packed {
        Packed { text, span, inner, inners }
    }
}

prop_compose! {
    fn everything()(
        (text, name, number) in (text(), proptest::option::of(text()), any::<i64>()),
        millis in 0..1_000_000u64,
        list in proptest::collection::vec(text(), 0..3),
        (x, documented, mask) in (any::<i32>(), any::<bool>(), any::<u32>()),
        (inner, maybe) in (inner(), proptest::option::of(inner().prop_map(Box::new))),
        boxed in proptest::option::of(packed()),
        scalars in proptest::collection::btree_map(name(), any::<u8>().prop_map(Some), 0..3),
        structs in proptest::collection::hash_map(name(), inner(), 0..3),
        by_number in proptest::collection::btree_map(any::<u16>(), text(), 0..3),
        (flat_x, y) in (any::<Option<u8>>(), any::<bool>()),
    ) -> Everything {
        let point = Point { x, tags: list.clone() };
        Everything {
            text, name, number, timeout: Duration::from_millis(millis), list,
            document: documented.then(|| point.clone()), table: point, mask,
            inner, maybe, boxed, scalars, structs, by_number,
            flat: Flat { x: flat_x, y },
        }
    }
}

fn written<T: WriteConfig>(value: &T) -> Keys {
    let keys = keys_of(value).expect("it can be written");
    let pairs: Vec<_> = keys
        .iter()
        .map(|(path, text)| (path.as_str(), text))
        .collect();
    map(&pairs)
}

proptest! {
    /// What is saved is what is bound.
    #[test]
    fn a_saved_struct_is_read_as_it_was(value in everything()) {
        prop_assert_eq!(bound::<Everything>(&written(&value)), Ok(value.clone()));
        let keys = written(&value);
        prop_assert!(odd::<Everything>(&keys).unknown.is_empty());
    }

    #[test]
    fn a_saved_document_is_read_as_it_was(value in packed()) {
        let keys = keys_of(&value).expect("it can be written");
        prop_assert_eq!(keys.len(), 1);
        prop_assert_eq!(bound::<Packed>(&document(&keys[""])), Ok(value));
    }
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, write)]
struct Unwritable {
    #[coord(map)]
    by_text: BTreeMap<String, u8>,
    number: f64,
    #[coord(secret)]
    secret: f64,
}

#[test]
fn what_cannot_be_written_is_told_at_once() {
    let faults = keys_of(&Unwritable {
        by_text: BTreeMap::from([(String::new(), 1)]),
        number: f64::NAN,
        secret: f64::INFINITY,
    });
    let faults = faults.unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(
        faults[0].starts_with("`by_text`: a key of the map is empty"),
        "{faults:?}"
    );
    assert!(faults[1].contains("must be finite"), "{faults:?}");
    assert!(faults[2].contains("withheld"), "{faults:?}");
}
