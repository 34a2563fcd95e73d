//! What each rule, word and description does, and the way back.

use super::*;

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
    let code = field("code");
    assert!(code.is_secret() && code.default().is_none());
    assert!(format!("{code:?}").contains("default: None"), "{code:?}");
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
        "#etcdctl put -- '/config/{env}/house/rooms' '1000'",
        "#etcdctl put -- '/config/{env}/house/motto' 'it'\\''s'",
        "# String, secret",
        "#etcdctl put -- '/config/{env}/house/code' ''",
        "# String, required",
        "#etcdctl put -- '/config/{env}/house/db/host' ''",
        "#etcdctl put -- '/config/{env}/house/routes/{key}/timeout' '1s'",
        "#etcdctl put -- '/config/{env}/house/routes/{key}/headers/{key}' ''",
        "#etcdctl put -- '/config/{env}/house/log/level' ''",
        "#etcdctl put -- '/config/{env}/house/annex/rooms' '1000'",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2") && text.lines().all(|line| line.starts_with('#')));
    assert!(
        Whole::template().contains("# one document, Json\n#etcdctl put -- '/config/{prefix}' ''")
    );
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
    bytes: Raw,
    wide: Vec<u128>,
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

/// Writes a number, not a text.
mod opposite {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i8>, D::Error> {
        Ok(Option::<i8>::deserialize(from)?.map(|it| !it))
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<i8>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|it| !it).serialize(to)
    }
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
    #[coord(with = hex)]
    mask: u32,
    #[coord(with = opposite)]
    turned: Option<i8>,
    wide: i128,
    bytes: Raw,
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
    "[a-c/%é. \n]{1,3}"
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
        (mask, turned, wide, bytes) in any::<(u32, Option<i8>, i128, Vec<u8>)>(),
        inner in proptest::option::of(inner()),
        inners in proptest::collection::btree_map(name(), inner(), 0..3),
    ) -> Packed {
        Packed { text, span, mask, turned, wide, bytes: Raw(bytes), inner, inners }
    }
}

prop_compose! {
    fn everything()(
        (text, name, number) in (text(), proptest::option::of(text()), any::<i64>()),
        millis in 0..1_000_000u64,
        list in proptest::collection::vec(text(), 0..3),
        (x, y_of, documented, mask) in any::<(i32, Option<u8>, bool, u32)>(),
        (bytes, wide) in any::<(Vec<u8>, Vec<u128>)>(),
        (inner, maybe) in (inner(), proptest::option::of(inner().prop_map(Box::new))),
        boxed in proptest::option::of(packed()),
        scalars in proptest::collection::btree_map(name(), any::<u8>().prop_map(Some), 0..3),
        structs in proptest::collection::hash_map(name(), inner(), 0..3),
        by_number in proptest::collection::btree_map(any::<u16>(), text(), 0..3),
        (flat_x, y) in (any::<Option<u8>>(), any::<bool>()),
    ) -> Everything {
        let point = Point { x, y: y_of, tags: list.clone() };
        Everything {
            text, name, number, timeout: Duration::from_millis(millis), list,
            document: documented.then(|| point.clone()), table: point, mask, bytes: Raw(bytes), wide,
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

/// Wrong defaults where nothing is yet: a struct that may not be there, the entries of a map, in a
/// document too; and a struct that holds itself.
#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct Dormant {
    #[coord(nested)]
    maybe: Option<Latent>,
    #[coord(map)]
    entries: BTreeMap<String, Entries>,
    #[coord(flatten)]
    flat: Option<Loose>,
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
#[expect(dead_code, reason = "only its defaults are looked at")]
struct Latent {
    required: u8,
    #[coord(default = "soon")]
    timeout: Duration,
    #[coord(default = "secret!", secret)]
    code: u8,
    #[coord(default = unreachable!("not there"))]
    computed: u8,
    #[coord(nested)]
    again: Option<Box<Latent>>,
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, validate = never)]
#[expect(dead_code, reason = "only its defaults are looked at")]
struct Entries {
    #[coord(default = "7", range = 8..)]
    size: u8,
    #[coord(map)]
    below: BTreeMap<String, Entries>,
}

fn never(_: &Entries) -> Result<(), &'static str> {
    Err("what is not there is not checked as a whole")
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
#[expect(dead_code, reason = "only its defaults are looked at")]
struct Loose {
    level: String,
    #[coord(default = "x")]
    lines: u8,
}

#[test]
fn a_wrong_default_is_found_where_nothing_is_yet() {
    let expected = [
        "`/p/maybe/timeout` (field `maybe.timeout`): the default is wrong: expected a duration",
        "`/p/maybe/code` (field `maybe.code`): the default is wrong: invalid (secret",
        "`/p/entries/{key}/size` (field `entries.{key}.size`): the default is wrong: expected a value in `8..`",
        "`entries.{key}.below.{key}.size`): the default is wrong",
        "`/p/lines` (field `flat.lines`): the default is wrong: expected u8",
    ];
    refused::<Dormant>(&[], &expected);
    let some = [
        ("entries/a/size", "9"),
        ("maybe/required", "1"),
        ("maybe/computed", "1"),
    ];
    let expected = [
        "`maybe.timeout`): the default is wrong",
        "`maybe.code`): the default is wrong",
        // Of the one inside that is not there.
        "`maybe.again.timeout`): the default is wrong",
        "`maybe.again.code`): the default is wrong",
        "`entries.a.size`): the default is wrong",
        "`entries.a.below.{key}.size`): the default is wrong",
        "`flat.lines`): the default is wrong",
    ];
    refused::<Dormant>(&some, &expected);
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, document, unknown = deny)]
struct StrictDocument {
    #[coord(key = "log/level", default = "x")]
    #[expect(dead_code, reason = "only decoded")]
    level: String,
}

#[test]
fn members_are_known_at_every_depth() {
    #[derive(Debug, crate::CoordConfig)]
    #[coord(crate = crate, document)]
    #[expect(dead_code, reason = "only decoded")]
    struct Lenient {
        #[coord(key = "log/level", default = "x")]
        level: String,
        #[coord(key = "log/deep/level", default = "x")]
        deep: String,
        #[coord(default)]
        any: BTreeMap<String, u8>,
    }
    let told = |text: &str| odd::<Lenient>(&document(text)).unknown;
    for (text, member, near) in [
        (
            r#"{"log":{"levle":"debug"}}"#,
            "log.levle",
            Some("log.level"),
        ),
        (r#"{"log":{"deep":{"x":1}}}"#, "log.deep.x", None),
        (r#"{"log":"debug"}"#, "log", None),
        (r#"{"lag":{"level":"debug"}}"#, "lag", None),
        (r#"{"ayn":{}}"#, "ayn", Some("any")),
    ] {
        let unknown = told(text);
        assert_eq!(unknown.len(), 1, "{text}: {unknown:?}");
        assert_eq!(unknown[0].key, format!("/p (member `{member}`)"), "{text}");
        assert_eq!(unknown[0].did_you_mean.as_deref(), near, "{text}");
    }
    for text in [
        "{}",
        r#"{"log":{"level":"a"},"any":{"b":1}}"#,
        r#"{"log":null}"#,
    ] {
        assert_eq!(told(text), [], "{text}");
    }
    let mut reloader = crate::config::reloader::Reloader::<StrictDocument>::new(prefix());
    let update = crate::watch::Update {
        revision: 7,
        cause: crate::watch::Cause::Listed,
        changes: Vec::new(),
    };
    let outcome = reloader
        .apply(&document(r#"{"log":{"levle":"debug"}}"#), &update)
        .outcome;
    assert!(
        matches!(outcome, crate::config::reloader::Outcome::Refused(_)),
        "{outcome:?}"
    );
}

#[derive(crate::CoordConfig)]
#[coord(crate = crate, prefix = "x")]
#[expect(dead_code, reason = "only described")]
struct Multi {
    #[coord(default = "it's\ntouch /tmp/owned")]
    motto: String,
    #[coord(default = -1)]
    least: i8,
}

/// A script that does nothing, and, without its `#`s, what is said.
#[test]
fn every_line_of_a_template_is_a_comment() {
    let text = Multi::template();
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    assert!(
        text.contains("#etcdctl put -- '/config/x/motto' 'it'\\''s\n#touch /tmp/owned'\n"),
        "{text}"
    );
    assert!(
        text.contains("#etcdctl put -- '/config/x/least' '-1'\n"),
        "{text}"
    );
}
