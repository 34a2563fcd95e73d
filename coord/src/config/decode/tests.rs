//! Every row of the decoding table, in both directions where there are two.

mod both_ways;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    num::NonZeroU8,
    path::PathBuf,
    time::Duration,
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::*;
use crate::{
    client::KeyValue,
    config::{
        encode::{encode, encode_some},
        reloader::{Odd, Reloader},
        shape::Field,
    },
    key::Layout,
    watch::{Cause, Update},
};

pub(crate) fn prefix() -> Prefix {
    Layout::new("", "config/", "coord/", "coord/")
        .config("test", "/p")
        .expect("a valid prefix")
}

/// The keys below `/p/`, each written at revision 7.
pub(crate) fn map<V: AsRef<[u8]>>(keys: &[(&str, V)]) -> BTreeMap<Vec<u8>, KeyValue> {
    keys.iter()
        .map(|(key, value)| {
            let key = format!("/p/{key}").into_bytes();
            let kv = KeyValue {
                key: key.clone(),
                value: value.as_ref().to_vec(),
                mod_revision: 7,
                ..KeyValue::default()
            };
            (key, kv)
        })
        .collect()
}

/// What the status would say of the keys.
pub(crate) fn odd<T: CoordConfig>(keys: &Keys) -> Odd {
    let update = Update {
        revision: 7,
        cause: Cause::Listed,
        changes: Vec::new(),
    };
    let reload = Reloader::<T>::new(prefix()).apply(keys, &update);
    reload.odd.expect("the first time")
}

/// A config with one field of type `T`.
struct One<T>(T);

impl<T: Leaf + Send + Sync + 'static> crate::CoordConfig for One<T> {
    const SHAPE: crate::config::shape::Shape =
        crate::config::shape::Shape::keys(const { &[Field::leaf("v", "v")] });

    fn decode(scope: &Scope<'_>, _: Option<&Self>) -> Option<Self> {
        scope
            .leaf(&Self::FIELDS[0], Default::None, plain(), unchecked)
            .map(Self)
    }
}

fn read<T: DeserializeOwned + Send + Sync + 'static>(keys: &[(&str, &str)]) -> Result<T, String> {
    let decoded = decode::<One<T>>(&prefix(), &map(keys), None);
    decoded.value.map(|one| one.0).map_err(|faults| {
        assert_eq!(faults.len(), 1, "{faults:#?}");
        let fault = &faults[0];
        assert!(fault.key.starts_with("/p/v"), "{fault:?}");
        format!("{}: {}", fault.field, fault.reason)
    })
}

fn one<T: DeserializeOwned + Send + Sync + 'static>(value: &str) -> Result<T, String> {
    read(&[("v", value)])
}

/// Refused, and for the reason that is said.
#[track_caller]
fn refused<T: DeserializeOwned + Send + Sync + 'static>(keys: &[(&str, &str)], reason: &str) {
    match read::<T>(keys) {
        Ok(_) => panic!("{keys:?} was taken"),
        Err(found) => assert!(found.contains(reason), "{keys:?}: {found}"),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Fast,
    VerySlow,
    Custom { rate: u8 },
    Pair(u8, u8),
    Only(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    #[serde(default)]
    y: Option<i32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Name(String);

/// As `serde_bytes` writes and reads it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = Raw;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw(bytes.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = from.next_element()? {
                    bytes.push(byte);
                }
                Ok(Raw(bytes))
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}

#[test]
fn text_stands_as_it_is() {
    for plain in [
        "dark", "012345", "123", "\"dark\"", "null", " a b ", "", "a,b", "[1]", "{}",
    ] {
        assert_eq!(one::<String>(plain).as_deref(), Ok(plain));
        assert_eq!(one::<Option<String>>(plain), Ok(Some(plain.to_owned())));
        assert_eq!(one::<Name>(plain), Ok(Name(plain.to_owned())));
        assert_eq!(one::<PathBuf>(plain), Ok(plain.into()));
    }
    assert_eq!(one::<char>("ä"), Ok('ä'));
    assert_eq!(one::<char>(" "), Ok(' '));
    refused::<char>(&[("v", "ab")], "a character");
    refused::<char>(&[("v", "")], "a character");
}

#[test]
fn one_line_end_is_dropped() {
    for (stored, text) in [
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        ("a\r", "a\r"),
        ("\n", ""),
        ("a\nb\n", "a\nb"),
    ] {
        assert_eq!(one::<String>(stored).as_deref(), Ok(text), "{stored:?}");
    }
}

#[test]
fn text_is_utf8() {
    let decoded = decode::<One<String>>(&prefix(), &map(&[("v", b"a\xff")]), None);
    let faults = decoded.value.map(|one| one.0).unwrap_err();
    assert!(faults[0].reason.contains("UTF-8"), "{faults:?}");
    assert_eq!(faults[0].mod_revision, 7);
}

#[test]
fn integers_are_strict() {
    assert_eq!(one::<u16>(" 42\n"), Ok(42));
    assert_eq!(one::<i8>("-128"), Ok(-128));
    assert_eq!(one::<u128>(&u128::MAX.to_string()), Ok(u128::MAX));
    assert_eq!(one::<i128>(&i128::MIN.to_string()), Ok(i128::MIN));
    assert_eq!(one::<NonZeroU8>("1").map(u8::from), Ok(1));
    refused::<NonZeroU8>(&[("v", "0")], "nonzero");
    refused::<u16>(
        &[("v", "70000")],
        "expected u16, found `70000`: number too large",
    );
    for bad in [
        "4.0", "1_000", "0x10", "-1", "", " ", "1 2", "one", "null", "\"1\"",
    ] {
        refused::<u16>(&[("v", bad)], "v: expected u16");
        refused::<Option<u16>>(&[("v", bad)], "v: expected u16");
    }
}

#[test]
fn floats_are_finite() {
    assert_eq!(one::<f64>("1.5"), Ok(1.5));
    assert_eq!(one::<f64>(" 1e3\n"), Ok(1000.0));
    assert_eq!(one::<f32>("-3"), Ok(-3.0));
    for bad in ["NaN", "inf", "-infinity", "1e999", "", "1,5"] {
        refused::<f64>(&[("v", bad)], "v: expected");
    }
    refused::<f32>(&[("v", "1e39")], "finite");
}

#[test]
fn bools_are_words() {
    for (words, value) in [
        (["true", "TRUE", "1", "yes", "On", " y"], true),
        (["false", "False", "0", "no", "OFF\n", "n"], false),
    ] {
        for word in &words[..5] {
            assert_eq!(one::<bool>(word), Ok(value), "{word:?}");
        }
        refused::<bool>(&[("v", words[5])], "expected true or false");
    }
    refused::<bool>(&[("v", "")], "expected true or false");
}

#[test]
fn enums_are_names() {
    assert_eq!(one::<Mode>("very_slow\n"), Ok(Mode::VerySlow));
    refused::<Mode>(
        &[("v", "turbo")],
        "unknown variant `turbo`, expected one of `fast`",
    );
    refused::<Mode>(&[("v", "Fast")], "unknown variant");
    refused::<Mode>(&[("v", "")], "empty value");
    refused::<Mode>(&[("v", "custom")], "v: invalid type");
    let custom = Mode::Custom { rate: 3 };
    assert_eq!(one::<Mode>(r#"{"custom":{"rate":3}}"#), Ok(custom));
    assert_eq!(one::<Mode>(r#"{"pair":[1,2]}"#), Ok(Mode::Pair(1, 2)));
    refused::<Mode>(&[("v", r#"{"custom":{"rate":300}}"#)], "v.custom.rate: ");
    refused::<Mode>(&[("v", r#"{"pair":[1,2,3]}"#)], "1 more");
    let by_keys = read::<Mode>(&[("v/custom/rate", "3")]);
    assert_eq!(by_keys, Ok(Mode::Custom { rate: 3 }));
    assert_eq!(read::<Mode>(&[("v/only", "x")]), Ok(Mode::Only("x".into())));
    refused::<Mode>(&[("v/custom/rate", "3"), ("v/only", "x")], "several");
}

#[test]
fn durations_have_a_unit() {
    let (half, long) = (Duration::from_millis(500), Duration::from_secs(90));
    assert_eq!(one::<Duration>("500ms"), Ok(half));
    assert_eq!(one::<Duration>(" 1m 30s\n"), Ok(long));
    assert_eq!(one::<Duration>(r#"{"secs":90,"nanos":0}"#), Ok(long));
    assert_eq!(one::<Option<Duration>>("1m30s"), Ok(Some(long)));
    assert_eq!(one::<Vec<Duration>>("500ms, 90s"), Ok(vec![half, long]));
    assert_eq!(
        one::<Vec<Duration>>(r#"["500ms", {"secs":90,"nanos":0}]"#),
        Ok(vec![half, long])
    );
    let by_key = HashMap::from([("a".to_owned(), half)]);
    assert_eq!(
        read::<HashMap<String, Duration>>(&[("v/a", "500ms")]),
        Ok(by_key)
    );
    refused::<Duration>(&[("v", "30")], "needs a unit: `30s`");
    refused::<Duration>(&[("v", "")], "expected a duration");
    refused::<Duration>(&[("v", "fast")], "expected a duration");
    refused::<Vec<Duration>>(&[("v", "1s,2")], "v[1]: a duration needs a unit");
}

#[test]
fn an_option_is_none_without_a_key() {
    assert_eq!(read::<Option<u8>>(&[]), Ok(None));
    assert_eq!(one::<Option<u8>>("1"), Ok(Some(1)));
    assert_eq!(one::<Option<Vec<u8>>>(""), Ok(Some(vec![])));
    assert_eq!(one::<Vec<Option<u8>>>("[1,null]"), Ok(vec![Some(1), None]));
    refused::<u8>(&[], "v: the key is missing");
    refused::<Vec<u8>>(&[], "v: the key is missing");
}

#[test]
fn lists_have_three_forms() {
    assert_eq!(one::<Vec<u16>>("80, 443"), Ok(vec![80, 443]));
    assert_eq!(one::<Vec<u16>>(" [80, 443]\n"), Ok(vec![80, 443]));
    assert_eq!(one::<Vec<u16>>(""), Ok(vec![]));
    assert_eq!(one::<Vec<u16>>("[]"), Ok(vec![]));
    let words = vec!["a,b".to_owned(), "c".to_owned()];
    assert_eq!(one::<Vec<String>>(r#"["a,b","c"]"#), Ok(words));
    assert_eq!(one::<BTreeSet<u8>>("2,1,2"), Ok(BTreeSet::from([1, 2])));
    let numeric = read::<Vec<String>>(&[("v/10", "c"), ("v/0", "a"), ("v/2", "b")]);
    assert_eq!(numeric, Ok(vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(
        read::<Vec<Point>>(&[("v/0/x", "1"), ("v/1", r#"{"x":2,"y":3}"#)]),
        Ok(vec![Point { x: 1, y: None }, Point { x: 2, y: Some(3) }])
    );
    assert_eq!(
        one::<Vec<Vec<u8>>>("[[1],[2,3]]"),
        Ok(vec![vec![1], vec![2, 3]])
    );
    assert_eq!(one::<[u8; 2]>("1,2"), Ok([1, 2]));
    refused::<[u8; 2]>(&[("v", "1,2,3")], "1 more");
    refused::<[u8; 2]>(&[("v", "1")], "v: invalid length");
    refused::<Vec<u16>>(&[("v", "80,x")], "v[1]: expected u16");
    refused::<Vec<u16>>(&[("v", "80,")], "v[1]: expected u16");
    refused::<Vec<u16>>(&[("v", r#"[80,"443"]"#)], "v[1]: invalid type");
    refused::<Vec<u16>>(&[("v", "[80")], "no JSON");
    refused::<Vec<u16>>(&[("v/a", "80")], "`a` is none");
    refused::<Vec<u16>>(&[("v/01", "80")], "`01` is none");
    refused::<Vec<u16>>(&[("v/0", "80"), ("v/1", "x")], "v.1: expected u16");
    refused::<Vec<u16>>(&[("v", "80"), ("v/0", "80")], "keep one of the two");
    refused::<Vec<Vec<u8>>>(&[("v", "1,2")], "list inside a list");
}

#[test]
fn structs_are_keys_or_one_object() {
    let point = || Ok(Point { x: 1, y: Some(2) });
    assert_eq!(read::<Point>(&[("v/x", "1"), ("v/y", "2")]), point());
    assert_eq!(one::<Point>(r#" {"x":1,"y":2}"#), point());
    refused::<Point>(&[("v/y", "2")], "v.x: the key is missing");
    refused::<Point>(&[("v/x", "one")], "v.x: expected i32");
    refused::<Point>(
        &[("v", r#"{"x":1.0}"#)],
        "v.x: invalid type: floating point",
    );
    refused::<Point>(&[("v", "1")], "or a JSON object");
    refused::<Point>(&[("v", "{")], "no JSON");
    refused::<Point>(&[("v", r#"{"x":1}"#), ("v/y", "2")], "keep one of the two");
    refused::<Point>(&[], "v: the key is missing");
    assert_eq!(read::<Option<Point>>(&[]), Ok(None));
    assert_eq!(read::<Option<Point>>(&[("v", "null\n")]).ok(), None);
    let map = read::<BTreeMap<u8, Point>>(&[("v/1/x", "1"), ("v/1/y", "2")]);
    assert_eq!(map, Ok(BTreeMap::from([(1, Point { x: 1, y: Some(2) })])));
    refused::<BTreeMap<u8, u8>>(&[("v/x", "1")], "v.x: expected u8");
}

#[test]
fn string_like_types_read_themselves() {
    assert_eq!(
        one::<IpAddr>("::1\n"),
        Ok(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))
    );
    refused::<IpAddr>(&[("v", "::x")], "IP address");
}

#[test]
fn types_that_take_anything_get_json_or_text() {
    use serde_json::{Value, json};
    assert_eq!(one::<Value>("{\"a\":[1]}"), Ok(json!({"a": [1]})));
    assert_eq!(one::<Value>("dark"), Ok(json!("dark")));
    assert_eq!(read::<Value>(&[("v/a/b", "1")]), Ok(json!({"a": {"b": 1}})));
}

#[test]
fn a_scalar_owns_no_keys_below_it() {
    let keys = map(&[("v", "1"), ("v/x", "2")]);
    let decoded = decode::<One<u8>>(&prefix(), &keys, None);
    assert_eq!(decoded.value.map(|one| one.0), Ok(1));
    let unknown = odd::<One<u8>>(&keys).unknown;
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].key, "/p/v/x");
    refused::<u8>(&[("v/x", "1")], "only keys below it");
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct App {
    name: String,
    #[coord(default = 10)]
    limit: u32,
    #[coord(default = "5s")]
    timeout: Duration,
    #[coord(default)]
    tags: Vec<String>,
    #[coord(key = "log/level", default = "fast")]
    level: Mode,
    r#type: Option<String>,
    #[coord(nested)]
    db: Db,
    #[coord(nested)]
    cache: Option<Box<Db>>,
}

#[derive(Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Db {
    host: String,
    #[coord(default = "5432")]
    port: u16,
    #[coord(secret)]
    password: Option<u64>,
}

fn app(keys: &[(&str, &str)]) -> Decoded<App> {
    decode(&prefix(), &map(keys), None)
}

fn faults(keys: &[(&str, &str)]) -> Vec<String> {
    let faults = app(keys).value.expect_err("a fault");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_stand_for_missing_keys() {
    let decoded = app(&[("name", "shop"), ("db/host", "h")]);
    let app = decoded.value.expect("only defaults are missing");
    let expected = App {
        name: "shop".into(),
        limit: 10,
        timeout: Duration::from_secs(5),
        tags: vec![],
        level: Mode::Fast,
        r#type: None,
        db: Db {
            host: "h".into(),
            port: 5432,
            password: None,
        },
        cache: None,
    };
    assert_eq!(app, expected);
    assert!(decoded.notes.is_empty());
}

#[test]
fn an_optional_struct_is_there_with_its_first_key() {
    let with = |keys: &[(&str, &str)]| {
        let keys = [&[("name", "n"), ("db/host", "h")], keys].concat();
        app(&keys).value
    };
    let cache = with(&[("cache/host", "c")]).expect("complete").cache;
    assert_eq!(cache.map(|cache| cache.host), Some("c".to_owned()));
    let document = with(&[("cache", r#"{"host":"c","port":1}"#)]);
    assert_eq!(
        document.expect("complete").cache.map(|cache| cache.port),
        Some(1)
    );
    assert_eq!(with(&[("cache", "null")]).expect("complete").cache, None);
    let faults = with(&[("cache/port", "1")]).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(
        (faults[0].field.as_str(), faults[0].key.as_str()),
        ("cache.host", "/p/cache/host")
    );
    let faults = with(&[("cache", "7")]).unwrap_err();
    assert!(faults[0].reason.contains("JSON object"), "{faults:?}");
    let faults = with(&[("cache", "{}"), ("cache/host", "h")]).unwrap_err();
    assert!(
        faults[0].reason.contains("keep one of the two"),
        "{faults:?}"
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let found = faults(&[
        ("limit", "many"),
        ("timeout", "5"),
        ("log/level", "x"),
        ("db/port", "70000"),
    ]);
    let expected = [
        "`/p/name` (field `name`): the key is missing and has no default",
        "`/p/limit` (field `limit`, revision 7): expected u32, found `many`",
        "`/p/timeout` (field `timeout`, revision 7): a duration needs a unit",
        "`/p/log/level` (field `level`, revision 7): unknown variant `x`",
        "`/p/db/host` (field `db.host`): the key is missing",
        "`/p/db/port` (field `db.port`, revision 7): expected u16, found `70000`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn faults_in_a_document_name_its_key_and_the_member() {
    let found = faults(&[("name", "n"), ("db", r#"{"port":"x"}"#)]);
    assert!(
        found[0].starts_with("`/p/db` (field `db.host`"),
        "{found:?}"
    );
    assert!(
        found[1].contains("field `db.port`, revision 7"),
        "{found:?}"
    );
}

#[test]
fn a_secret_is_never_shown() {
    for keys in [
        &[("name", "n"), ("db/host", "h"), ("db/password", "hunter2")][..],
        &[
            ("name", "n"),
            ("db", r#"{"host":"h","password":"hunter2"}"#),
        ],
        &[
            ("name", "n"),
            ("db", r#"{"host":"h","password":{"hunter2":1}}"#),
        ],
    ] {
        let found = faults(keys);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("db.password") && found[0].contains("secret"),
            "{found:?}"
        );
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_long_value_is_cut_and_stays_on_one_line() {
    let found = faults(&[
        ("name", "n"),
        ("db/host", "h"),
        ("limit", &"x\n".repeat(500)),
    ]);
    assert!(
        found[0].len() < 250 && !found[0].contains('\n'),
        "{found:?}"
    );
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct BadDefault {
    #[coord(default = "soon")]
    #[expect(dead_code, reason = "only its default is looked at")]
    timeout: Duration,
}

/// Not first when the key is deleted.
#[test]
fn a_wrong_default_is_found_at_the_start() {
    let keys = map(&[("timeout", "5s")]);
    let faults = decode::<BadDefault>(&prefix(), &keys, None)
        .value
        .unwrap_err();
    assert!(
        faults[0].reason.starts_with("the default is wrong: "),
        "{faults:?}"
    );
    let value = BadDefault {
        timeout: Duration::ZERO,
    };
    let bound = Earlier {
        value: &value,
        notes: &[],
        dirty: &Dirty::new(),
    };
    let decoded = decode::<BadDefault>(&prefix(), &keys, Some(bound));
    assert!(decoded.value.is_ok());
}

#[test]
fn unknown_keys_are_told_with_the_nearest_field() {
    let keys = map(&[
        ("name", "n"),
        ("nmae", "n"),
        ("timeout/", "1s"),
        ("log", "x"),
        ("log/levle", "x"),
        ("db/hots", "h"),
        ("db/host", "h"),
        ("cache", r#"{"host":"h","prot":1}"#),
        ("zzzzzzzz/a", "1"),
        ("zzzzzzzz/b", "1"),
    ]);
    let decoded = decode::<App>(&prefix(), &keys, None);
    assert!(
        decoded.value.is_ok(),
        "an unknown key refuses nothing: {:?}",
        decoded.value
    );
    let odd = odd::<App>(&keys);
    let found: Vec<_> = odd
        .unknown
        .iter()
        .map(|it| (it.key.as_str(), it.did_you_mean.as_deref()))
        .collect();
    for expected in [
        ("/p/nmae", Some("/p/name")),
        ("/p/timeout/", Some("/p/timeout")),
        ("/p/log", None),
        ("/p/log/levle", Some("/p/log/level")),
        ("/p/db/hots", Some("/p/db/host")),
        ("/p/cache (member `prot`)", Some("port")),
        ("/p/zzzzzzzz/a", None),
        ("/p/zzzzzzzz/b", None),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:#?}");
    }
}

#[test]
fn keys_that_are_no_text_are_unknown() {
    let mut map = map(&[("name", "n"), ("db/host", "h")]);
    let key = b"/p/\xff".to_vec();
    let kv = KeyValue {
        key: key.clone(),
        ..KeyValue::default()
    };
    map.insert(key, kv);
    let decoded = decode::<App>(&prefix(), &map, None);
    assert!(decoded.value.is_ok());
    assert_eq!(odd::<App>(&map).unknown.len(), 1);
}

/// A key may have half a million segments; reading them one inside the other would end the process.
#[test]
fn a_very_deep_key_is_nobodys() {
    #[derive(Debug, crate::CoordConfig)]
    #[coord(crate = crate)]
    struct Tree {
        #[coord(default)]
        #[expect(dead_code, reason = "only decoded")]
        any: HashMap<String, serde_json::Value>,
        #[coord(nested)]
        child: Option<Box<Tree>>,
    }
    for segment in ["any", "child"] {
        let deep = vec![segment; 200_000].join("/");
        let keys = map(&[(deep.as_str(), "1")]);
        let decoded = decode::<Tree>(&prefix(), &keys, None);
        assert!(decoded.value.is_ok());
        assert_eq!(odd::<Tree>(&keys).unknown.len(), 1);
        // As deep as it may be.
        let deep = vec![segment; 127].join("/");
        let decoded = decode::<Tree>(&prefix(), &map(&[(deep.as_str(), "1")]), None);
        assert_eq!(decoded.value.is_ok(), segment == "any");
    }
}

/// Two segments that are one name when they are decoded: which of the two is meant cannot be known.
#[test]
fn one_entry_has_one_key() {
    let keys = [("v/a", "1"), ("v/%61", "2"), ("v/b", "3")];
    refused::<HashMap<String, u8>>(&keys, "v.a: another key stands for the same entry");
    let both = read::<BTreeMap<String, u8>>(&[("v/a", "1"), ("v/%62", "2")]);
    assert_eq!(both, Ok(BTreeMap::from([("a".into(), 1), ("b".into(), 2)])));
    // A struct's fields are not decoded.
    let point = read::<Point>(&[("v/x", "1"), ("v/%78", "2"), ("v/%58", "3")]);
    assert_eq!(point, Ok(Point { x: 1, y: None }));
}
