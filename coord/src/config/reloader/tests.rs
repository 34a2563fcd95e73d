//! Histories of a prefix, and the values that they make.

use std::{
    collections::HashMap,
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::{
    super::{
        decode::tests::{odd, prefix},
        live::{Store, Writer},
    },
    *,
};
use crate::watch::Cause;

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct App {
    name: String,
    #[coord(default = 10, alias = "cap", alias = "max")]
    limit: u8,
    #[coord(nested)]
    db: Option<Db>,
    #[coord(nested)]
    tuning: Option<Tuning>,
    #[coord(map)]
    quotas: BTreeMap<String, Quota>,
    #[coord(map)]
    rates: HashMap<u8, u8>,
    #[coord(map, alias = "texts")]
    words: BTreeMap<String, String>,
    #[coord(flatten)]
    log: Option<Log>,
    #[coord(nested)]
    part: Option<Part>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, validate = not_nine)]
struct Quota {
    #[coord(default = 1)]
    most: u8,
    #[coord(map)]
    inner: BTreeMap<String, Tuning>,
    #[coord(nested)]
    part: Option<Part>,
}

fn not_nine(quota: &Quota) -> Result<(), &'static str> {
    if quota.most == 9 { Err("nine") } else { Ok(()) }
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Log {
    level: String,
    #[coord(map)]
    sizes: BTreeMap<String, u8>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate, document)]
struct Part {
    #[coord(default)]
    most: u8,
    #[coord(map)]
    sizes: BTreeMap<String, u8>,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Tuning {
    #[coord(default = 1)]
    depth: u8,
}

#[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
#[coord(crate = crate)]
struct Db {
    host: String,
    #[coord(default)]
    ports: Vec<u16>,
}

/// A store that is written by hand, and a reloader that follows it.
struct Followed<T> {
    map: BTreeMap<Vec<u8>, KeyValue>,
    revision: i64,
    reloader: Reloader<T>,
    odd: Odd,
}

impl<T: CoordConfig> Followed<T> {
    fn new() -> Self {
        Self {
            map: BTreeMap::new(),
            revision: 1,
            reloader: Reloader::new(prefix()),
            odd: Odd::default(),
        }
    }

    /// One transaction; `None` deletes.
    fn write(&mut self, keys: &[(&str, Option<&str>)]) -> Outcome<T> {
        self.revision += 1;
        let changes = keys
            .iter()
            .map(|(key, value)| {
                let key = format!("/p/{key}").into_bytes();
                let new = value.map(|value| KeyValue {
                    key: key.clone(),
                    value: value.into(),
                    mod_revision: self.revision,
                    ..KeyValue::default()
                });
                let old = match &new {
                    Some(kv) => self.map.insert(key.clone(), kv.clone()),
                    None => self.map.remove(&key),
                };
                Change { key, old, new }
            })
            .filter(|change| change.old.is_some() || change.new.is_some())
            .collect();
        let update = Update {
            revision: self.revision,
            cause: Cause::Events,
            changes,
        };
        let reload = self.reloader.apply(&self.map, &update);
        self.odd = reload.odd.unwrap_or(std::mem::take(&mut self.odd));
        reload.outcome
    }
}

#[track_caller]
fn new<T: fmt::Debug>(outcome: Outcome<T>) -> (Arc<T>, Vec<Arc<str>>) {
    match outcome {
        Outcome::New(value, fields) => (value, fields),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused<T: fmt::Debug>(outcome: Outcome<T>) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_transaction_is_one_value_with_all_its_fields() {
    let mut store = Followed::<App>::new();
    let (app, _) = new(store.write(&[("name", Some("a"))]));
    assert_eq!((app.limit, &app.db), (10, &None));
    let (app, fields) = new(store.write(&[
        ("limit", Some("20")),
        ("db/host", Some("h")),
        ("db/ports/1", Some("81")),
        ("db/ports/0", Some("80")),
    ]));
    assert_eq!(app.limit, 20);
    assert_eq!(
        app.db.as_ref().map(|db| db.ports.clone()),
        Some(vec![80, 81])
    );
    assert_eq!(fields, ["db.host", "db.ports", "limit"].map(Arc::from));
}

#[test]
fn a_deleted_key_is_its_default_again_or_a_refusal() {
    let mut store = Followed::<App>::new();
    new(store.write(&[
        ("name", Some("a")),
        ("limit", Some("20")),
        ("db/host", Some("h")),
    ]));
    let (app, fields) = new(store.write(&[("limit", None), ("db/host", None)]));
    assert_eq!((app.limit, &app.db), (10, &None));
    assert_eq!(fields, ["db.host", "limit"].map(Arc::from));
    let refusal = refused(store.write(&[("name", None)]));
    assert_eq!(refusal.faults[0].key, "/p/name");
    assert_eq!((refusal.revision, refusal.faults[0].mod_revision), (4, 0));
}

#[test]
fn the_same_value_again_is_no_change() {
    let mut store = Followed::<App>::new();
    new(store.write(&[("name", Some("a"))]));
    assert!(matches!(store.write(&[("name", Some("a"))]), Outcome::Same));
    assert!(matches!(
        store.write(&[("nobody/reads/this", Some("a"))]),
        Outcome::Same
    ));
    assert!(matches!(store.write(&[]), Outcome::Same));
}

#[test]
fn a_refused_change_and_its_repair_are_one_change() {
    let mut store = Followed::<App>::new();
    new(store.write(&[("name", Some("a"))]));
    let refusal = refused(store.write(&[("limit", Some("many")), ("name", Some("b"))]));
    assert_eq!(refusal.faults.len(), 1);
    assert_eq!(refusal.faults[0].mod_revision, 3);
    // Another good key does not make the bad one good.
    refused(store.write(&[("db/host", Some("h"))]));
    let (app, fields) = new(store.write(&[("limit", Some("30"))]));
    assert_eq!((app.name.as_str(), app.limit), ("b", 30));
    assert_eq!(fields, ["db.host", "limit", "name"].map(Arc::from));
}

#[test]
fn a_refused_change_that_is_taken_back_is_none() {
    let mut store = Followed::<App>::new();
    new(store.write(&[("name", Some("a"))]));
    refused(store.write(&[("limit", Some("many"))]));
    assert!(matches!(store.write(&[("limit", None)]), Outcome::Same));
}

#[test]
fn the_first_value_must_be_whole() {
    let mut store = Followed::<App>::new();
    let refusal = refused(store.write(&[("limit", Some("x")), ("db/ports", Some("1"))]));
    let fields: Vec<_> = refusal
        .faults
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(fields, ["name", "limit", "db.host"]);
}

#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "String")]
struct Panics;

impl TryFrom<String> for Panics {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        assert_ne!(text, "panic", "on purpose");
        Ok(Self)
    }
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct Fragile {
    #[expect(dead_code, reason = "only decoded")]
    value: Panics,
}

#[test]
fn a_panic_in_a_type_is_a_refusal() {
    let mut store = Followed::<App>::new();
    let _ = store.write(&[("value", Some("panic"))]);
    let update = Update {
        revision: 2,
        cause: Cause::Listed,
        changes: Vec::new(),
    };
    let mut reloader = Reloader::<Fragile>::new(prefix());
    let outcome = reloader.apply(&store.map, &update).outcome;
    let Outcome::Refused(refusal) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(refusal.faults[0].reason.contains("panicked"), "{refusal}");
}

/// Keys of every kind: plain ones and their aliases, lists, structs, maps, what is flattened,
/// documents, two spellings of one entry, and those that are no field's. A key below an optional
/// struct makes that one be there, whoever reads it.
const KEYS: [&str; 36] = [
    "name",
    "limit",
    "cap",
    "max",
    "db/host",
    "db/ports",
    "db/ports/0",
    "tuning/depth",
    "tuning/depht",
    "quotas",
    "quotas/a",
    "quotas/a/most",
    "quotas/a/inner/x/depth",
    "quotas/a/inner/x",
    "quotas/a/inner/y/depth",
    "quotas/a/inner",
    "quotas/a/part",
    "quotas/a/part/most",
    "quotas/b/most",
    "quotas/b/mots",
    "quotas/%62/most",
    "quotas/b//x",
    "rates",
    "rates/1",
    "rates/01",
    "rates/2",
    "rates/x",
    "words/a",
    "words/b",
    "texts/a",
    "level",
    "sizes/a",
    "sizes/b",
    "part",
    "part/most",
    "nobody/reads/this",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[0-9]{1,2}",
        1 => "[a\"]{1,3}",
        1 => proptest::sample::select(vec![
            "null", "{}", r#"{"most":1}"#, r#"{"a":{"most":2},"b":{"inner":{"x":{}}}}"#, r#"{"1":2}"#,
            r#"{"depth":1,"x":2}"#, r#"{"sizes":{"a":1},"y":1}"#, "[1]",
        ]).prop_map(str::to_owned),
    ]
}

proptest! {
    /// After any history the value in use is what a first bind would make of the keys, or, while
    /// that fails, what it was before; and the status says the same of the keys.
    #[test]
    fn following_equals_binding_anew(
        history in proptest::collection::vec(
            proptest::collection::vec(
                (0..KEYS.len(), proptest::option::weighted(0.7, value())), 1..4), 1..16)
    ) {
        let mut store = Followed::<App>::new();
        // Mostly good from the beginning, so that there is something to follow.
        let first = store.write(&[("name", Some("n")), ("quotas/a/most", Some("3"))]);
        let mut in_use: Option<Arc<App>> = Some(new(first).0);
        for transaction in history {
            let mut keys = BTreeMap::new();
            for (key, value) in &transaction {
                keys.insert(KEYS[*key], value.as_deref());
            }
            let keys: Vec<_> = keys.into_iter().collect();
            let outcome = store.write(&keys);
            let anew = decode::decode::<App>(&prefix(), &store.map, None).value;
            match (outcome, &anew) {
                (Outcome::New(value, fields), Ok(anew)) => {
                    prop_assert_eq!(&*value, anew);
                    prop_assert!(in_use.is_none() || !fields.is_empty());
                    in_use = Some(value);
                }
                (Outcome::Same, Ok(anew)) => {
                    prop_assert_eq!(in_use.as_deref(), Some(anew));
                }
                (Outcome::Refused(_), Err(_)) => {}
                // Nothing was there to delete.
                (Outcome::Same, Err(_)) if keys.iter().all(|(_, value)| value.is_none()) => {}
                (outcome, anew) => prop_assert!(false, "{outcome:?} but {anew:?}"),
            }
            if anew.is_ok() {
                prop_assert_eq!(&store.odd, &odd::<App>(&store.map));
            }
        }
    }

    /// The same of a struct that is one document.
    #[test]
    fn following_a_document_equals_binding_anew(
        history in proptest::collection::vec(proptest::option::weighted(0.8, value()), 1..8)
    ) {
        let mut keys = Keys::new();
        let mut reloader = Reloader::<Part>::new(prefix());
        let (mut in_use, mut told) = (None, Odd::default());
        for (at, value) in history.into_iter().enumerate() {
            let key = b"/p".to_vec();
            let new = value.map(|value| KeyValue {
                key: key.clone(),
                value: value.into(),
                ..KeyValue::default()
            });
            let old = match &new {
                Some(kv) => keys.insert(key.clone(), kv.clone()),
                None => keys.remove(&key),
            };
            let update = Update {
                revision: at as i64,
                cause: Cause::Events,
                changes: vec![Change { key, old, new }],
            };
            let reload = reloader.apply(&keys, &update);
            told = reload.odd.unwrap_or(told);
            match (reload.outcome, decode::decode::<Part>(&prefix(), &keys, None).value) {
                (Outcome::New(value, fields), Ok(anew)) => {
                    prop_assert_eq!(&*value, &anew);
                    prop_assert!(in_use.is_none() || !fields.is_empty());
                    in_use = Some(value);
                    prop_assert_eq!(&told, &odd::<Part>(&keys));
                }
                (Outcome::Same, Ok(anew)) => {
                    prop_assert_eq!(in_use.as_deref(), Some(&anew));
                    prop_assert_eq!(&told, &odd::<Part>(&keys));
                }
                (Outcome::Refused(_), Err(_)) => {}
                (outcome, anew) => prop_assert!(false, "{outcome:?} but {anew:?}"),
            }
        }
    }
}

#[test]
fn what_was_said_of_an_entry_goes_with_it() {
    let mut store = Followed::<App>::new();
    new(store.write(&[("name", Some("n"))]));
    for most in 1..4 {
        let entry = format!(r#"{{"most":{most},"x":2}}"#);
        new(store.write(&[("quotas/a", Some(&entry))]));
        assert_eq!(store.odd.unknown.len(), 1, "{:?}", store.odd);
    }
    new(store.write(&[("quotas/a", Some(r#"{"most":4}"#))]));
    assert_eq!(store.odd, Odd::default());
}

static READ: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(from = "u32")]
struct Counted(u32);

impl From<u32> for Counted {
    fn from(value: u32) -> Self {
        READ.fetch_add(1, Ordering::Relaxed);
        Self(value)
    }
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct Large {
    #[coord(map)]
    counted: HashMap<String, Counted>,
    #[coord(map)]
    nested: HashMap<String, Entry>,
}

#[derive(Clone, Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct Entry {
    #[expect(dead_code, reason = "only decoded")]
    count: Counted,
}

#[test]
fn of_a_large_map_only_what_changed_is_read() {
    const ENTRIES: usize = 5_000;
    let mut store = Followed::<Large>::new();
    let keys: Vec<_> = (0..ENTRIES)
        .flat_map(|at| {
            [
                format!("counted/key-{at}"),
                format!("nested/key-{at}/count"),
            ]
        })
        .collect();
    let first: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("1"))).collect();
    new(store.write(&first));
    assert_eq!(READ.swap(0, Ordering::Relaxed), 2 * ENTRIES);
    let (large, fields) = new(store.write(&[("counted/key-7", Some("2"))]));
    assert_eq!(
        (large.counted["key-7"].0, &*fields),
        (2, &["counted".into()][..])
    );
    assert_eq!(READ.swap(0, Ordering::Relaxed), 1);
    let changes = [("nested/key-7/count", Some("2")), ("counted/key-8", None)];
    let (large, _) = new(store.write(&changes));
    assert_eq!(
        (large.counted.len(), large.nested.len()),
        (ENTRIES - 1, ENTRIES)
    );
    assert_eq!(READ.swap(0, Ordering::Relaxed), 1);
    // What was refused is read again with what comes next, and no more.
    refused(store.write(&[("counted/key-9", Some("x"))]));
    new(store.write(&[("counted/key-9", Some("3")), ("counted/new", Some("4"))]));
    assert_eq!(READ.swap(0, Ordering::Relaxed), 2);
}

/// What stands below a secret field may be secret too: the names of a secret map's entries are.
#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct Tokens {
    #[coord(map, secret, alias = "keys")]
    tokens: BTreeMap<String, Tuning>,
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate, unknown = deny)]
struct Vault {
    #[coord(flatten)]
    tokens: Tokens,
}

#[test]
fn no_name_below_a_secret_field_is_told() {
    let strays = [
        "tokens/hunter2/depht",
        "tokens/hunter2//depth",
        "/tokens/hunter2",
        "tokens/hunter2/",
        "keys/hunter2/depht",
    ];
    for stray in strays {
        let mut store = Followed::<Tokens>::new();
        new(store.write(&[("tokens/hunter2/depth", Some("1")), (stray, Some("1"))]));
        assert_eq!(store.odd.unknown.len(), 1, "{stray}");
        let field = stray.trim_start_matches('/').split('/').next();
        let key = format!("/p/{}/…", field.expect("not empty"));
        assert_eq!(store.odd.unknown[0].key, key);
        assert!(!format!("{:?}", store.odd).contains("hunter2"), "{stray}");
        if !is_sound(stray.as_bytes()) {
            let refusal = refused(Followed::<Vault>::new().write(&[(stray, Some("1"))]));
            assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
        }
    }
}

#[test]
fn all_keys_gone_at_once_is_taken_for_an_accident() {
    #[derive(Debug, crate::CoordConfig)]
    #[coord(crate = crate)]
    struct Lenient {
        #[coord(default = 1)]
        a: u8,
        #[coord(default = 2)]
        b: u8,
    }
    let mut store = Followed::<Lenient>::new();
    let both = [("a", Some("7")), ("b", Some("8"))];
    let none = [("a", None), ("b", None)];
    new(store.write(&both));
    let refusal = refused(store.write(&none));
    assert!(
        refusal.to_string().contains("all 2 keys were deleted"),
        "{refusal}"
    );
    assert_eq!(refusal.faults[0].key, "/p/");
    // An update that says nothing new does not end it; another write does, whatever it is.
    assert!(matches!(store.write(&[]), Outcome::Same));
    let (value, fields) = new(store.write(&[("c", Some("1"))]));
    assert_eq!((value.a, value.b), (1, 2));
    assert_eq!(fields, ["a", "b"].map(Arc::from));
    // It was an accident.
    new(store.write(&both));
    refused(store.write(&[("a", None), ("b", None), ("c", None)]));
    assert!(matches!(store.write(&both), Outcome::Same));
    // One by one is meant.
    new(store.write(&[("a", None)]));
    let (value, _) = new(store.write(&[("b", None)]));
    assert_eq!((value.a, value.b), (1, 2));
    // What nobody reads is no loss.
    let mut store = Followed::<Lenient>::new();
    new(store.write(&[("x", Some("7")), ("y", Some("8"))]));
    assert!(matches!(
        store.write(&[("x", None), ("y", None)]),
        Outcome::Same
    ));
}

#[derive(Debug, crate::CoordConfig)]
#[coord(crate = crate)]
struct Pair {
    left: u64,
    right: u64,
}

/// A thousand readers look while ten thousand transactions, of which some are refused, become values:
/// each sees whole ones alone, and none that is older than the one that it saw before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_half_a_value() {
    const READERS: usize = 1_000;
    const SWAPS: u64 = 10_000;
    let mut store = Followed::<Pair>::new();
    let (first, _) = new(store.write(&[("left", Some("0")), ("right", Some("0"))]));
    let (writer, readers) = Writer::new("/p/".into(), first, store.revision);
    let reader = |store: Arc<Store<Pair>>| async move {
        let mut last = 0;
        while last < SWAPS {
            let (now, guard) = (store.value.load_full(), store.value.load());
            assert!(now.left == now.right && guard.left == guard.right);
            assert!(last <= now.left && now.left <= guard.left);
            last = now.left;
            tokio::task::yield_now().await;
        }
    };
    let reading: Vec<_> = (0..READERS)
        .map(|_| tokio::spawn(reader(readers.store.clone())))
        .collect();
    let swapping = tokio::task::spawn_blocking(move || {
        for number in 1..=SWAPS {
            let text = number.to_string();
            if number % 100 == 0 {
                let half = store.write(&[("left", Some(&text)), ("right", Some("x"))]);
                assert!(matches!(half, Outcome::Refused(_)));
            }
            let outcome = store.write(&[("left", Some(&text)), ("right", Some(&text))]);
            let update = Update {
                revision: store.revision,
                cause: Cause::Events,
                changes: Vec::new(),
            };
            writer.publish(&update, Reload { outcome, odd: None });
        }
        writer
    });
    for reading in reading {
        reading.await.expect("no reader saw half a value");
    }
    let writer = swapping.await.expect("every swap was made");
    assert_eq!(readers.steps.borrow().generation, SWAPS);
    drop(writer);
}
