//! [`Reloader`]: the write side: from a watched key map to the value that readers see.
//!
//! # Invariants
//! 1. A struct is always made from the whole map, never merged into the one before: a deleted key
//!    falls back to its default.
//! 2. A fault anywhere leaves the old value in place, however many other fields were good.
//! 3. Changes since the last *good* value are kept, so that a refused change and its repair are
//!    reported as one, and a refused change that is taken back as none.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    decode::{
        self, Decoded, Dirty, Earlier, Fault, Keys, Note, UnknownKey, Warning, claim, is_sound,
        mended,
    },
    document,
    shape::{CoordConfig, Form, Unknown},
    status::Refusal,
};
use crate::{
    client::KeyValue,
    key::Prefix,
    watch::{Change, Update},
};

/// What an update came to.
#[derive(Debug)]
pub(crate) struct Reload<T> {
    pub(crate) outcome: Outcome<T>,
    /// `None`: as before.
    pub(crate) odd: Option<Odd>,
}

#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// Nothing that a field reads differs from the value in use.
    Same,
    /// A new value, and the paths of the fields whose raw value differs.
    New(Arc<T>, Vec<Arc<str>>),
    /// The value in use stays.
    Refused(Refusal),
}

/// What the status says of the keys beside faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Odd {
    pub(crate) unknown: Vec<UnknownKey>,
    pub(crate) warnings: Vec<Warning>,
}

/// Turns updates into values. Knows no task and no channel.
#[derive(Debug)]
pub(crate) struct Reloader<T> {
    prefix: Prefix,
    good: Option<Good<T>>,
    /// Each key that differs from the value in use, with what it was then.
    dirty: Dirty,
    /// The keys that no field reads, by the shape alone.
    nobodys: BTreeMap<Vec<u8>, (UnknownKey, Unknown)>,
    /// What was told last: the notes, and whether `nobodys` is as it was then.
    told: Vec<Note>,
    news: bool,
}

/// The value in use, and what was noted when it was made.
#[derive(Debug)]
struct Good<T> {
    value: Arc<T>,
    notes: Vec<Note>,
}

/// The nearest field is looked for only so often: it takes longer than to decode the key.
const HINTS: usize = 100;

impl<T: CoordConfig> Reloader<T> {
    pub(crate) fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            good: None,
            dirty: Dirty::new(),
            nobodys: BTreeMap::new(),
            told: Vec::new(),
            news: true,
        }
    }

    /// `keys` is what the keys are after `update`.
    pub(crate) fn apply(&mut self, keys: &Keys, update: &Update) -> Reload<T> {
        for change in &update.changes {
            self.note(change);
        }
        if self.good.is_some() && update.changes.is_empty() {
            return Reload {
                outcome: Outcome::Same,
                odd: None,
            };
        }
        match &self.good {
            None => {
                self.nobodys.clear();
                keys.keys().for_each(|key| self.look(keys, key));
            }
            Some(_) => {
                let changed: BTreeSet<_> = update.changes.iter().map(|it| &it.key).collect();
                changed.into_iter().for_each(|key| self.look(keys, key));
            }
        }
        let changed = self.changed(keys);
        let (outcome, notes) = self.outcome(keys, update, changed);
        Reload {
            outcome,
            odd: self.odd(notes),
        }
    }

    fn outcome(
        &mut self,
        keys: &Keys,
        update: &Update,
        changed: Changed,
    ) -> (Outcome<T>, Vec<Note>) {
        let fields = changed.fields;
        let refused = |faults| {
            Outcome::Refused(Refusal {
                revision: update.revision,
                faults,
            })
        };
        let Decoded { value, notes } = match &self.good {
            // No field looks at what differs: decoding it would find the same once more.
            Some(good) if !changed.seen => {
                let notes = good.notes.clone();
                let denied = self.denied(keys, &notes);
                if denied.is_empty() {
                    self.dirty.clear();
                    return (Outcome::Same, notes);
                }
                return (refused(denied), notes);
            }
            good => {
                let earlier = good.as_ref().map(|good| Earlier {
                    value: &*good.value,
                    notes: &good.notes,
                    dirty: &self.dirty,
                });
                // The types' own code runs here: a panic in it must not end the watch.
                catch_unwind(AssertUnwindSafe(|| {
                    decode::decode::<T>(&self.prefix, keys, earlier)
                }))
                .unwrap_or_else(|_| Decoded {
                    value: Err(vec![Fault {
                        field: String::new(),
                        key: self.prefix.as_str().to_owned(),
                        mod_revision: update.revision,
                        reason: "reading the keys panicked; the panic's message is on stderr"
                            .to_owned(),
                    }]),
                    notes: good.as_ref().map(|it| it.notes.clone()).unwrap_or_default(),
                })
            }
        };
        let denied = self.denied(keys, &notes);
        match (value, &mut self.good) {
            (Err(mut faults), _) => {
                faults.extend(denied);
                (refused(faults), notes)
            }
            (Ok(value), _) if !denied.is_empty() => {
                discard(value);
                (refused(denied), notes)
            }
            (Ok(value), Some(good)) if fields.is_empty() => {
                discard(value);
                self.dirty.clear();
                good.notes.clone_from(&notes);
                (Outcome::Same, notes)
            }
            (Ok(value), good) => {
                let value = Arc::new(value);
                self.dirty.clear();
                *good = Some(Good {
                    value: value.clone(),
                    notes: notes.clone(),
                });
                (Outcome::New(value, fields), notes)
            }
        }
    }

    fn note(&mut self, change: &Change) {
        let raw = |kv: &Option<KeyValue>| kv.as_ref().map(|kv| kv.value.clone());
        let old = self
            .dirty
            .entry(change.key.clone())
            .or_insert_with(|| raw(&change.old));
        if *old == raw(&change.new) {
            self.dirty.remove(&change.key);
        }
    }

    /// Whether a field reads `key`, if it is there.
    fn look(&mut self, keys: &Keys, key: &[u8]) {
        self.news |= self.nobodys.remove(key).is_some();
        let Some(path) = self.prefix.strip(key).filter(|_| keys.contains_key(key)) else {
            return;
        };
        let path_text = String::from_utf8_lossy(path);
        let hints = self.nobodys.len() < HINTS;
        let (policy, near) = if is_sound(path) {
            let claim = claim(T::SHAPE, &path_text, &|_| false);
            match claim.unknown(&path_text, hints) {
                Some(found) => found,
                None => return,
            }
        } else {
            // Not even a struct that ignores keys is to miss one that was nearly right.
            let near = mended(T::SHAPE, &path_text);
            match T::SHAPE.policy() {
                Unknown::Ignore => (Unknown::Warn, near),
                policy => (policy, near),
            }
        };
        if policy != Unknown::Ignore {
            let unknown = UnknownKey {
                key: String::from_utf8_lossy(key).into_owned(),
                did_you_mean: near.map(|near| self.prefix.key(&near).as_str().to_owned()),
            };
            self.nobodys.insert(key.to_vec(), (unknown, policy));
            self.news = true;
        }
    }

    /// A fault for each key that must not be there.
    fn denied(&self, keys: &Keys, notes: &[Note]) -> Vec<Fault> {
        let denied = |unknown: &UnknownKey, mod_revision| Fault {
            field: String::new(),
            key: unknown.key.clone(),
            mod_revision,
            reason: match &unknown.did_you_mean {
                Some(near) => format!("no field reads this key: is `{near}` meant?"),
                None => "no field reads this key".to_owned(),
            },
        };
        let by_shape = self
            .nobodys
            .iter()
            .filter(|(_, (_, policy))| *policy == Unknown::Deny)
            .map(|(key, (unknown, _))| {
                denied(unknown, keys.get(key).map_or(0, |kv| kv.mod_revision))
            });
        let by_value = notes.iter().filter_map(|note| match note {
            Note::Unknown(unknown, Unknown::Deny) => Some(denied(unknown, 0)),
            _ => None,
        });
        by_shape.chain(by_value).collect()
    }

    /// What the status says now, if that is new.
    fn odd(&mut self, notes: Vec<Note>) -> Option<Odd> {
        if !std::mem::take(&mut self.news) && notes == self.told {
            return None;
        }
        let mut odd = Odd {
            unknown: self.nobodys.values().map(|(it, _)| it.clone()).collect(),
            warnings: Vec::new(),
        };
        for note in &notes {
            match note {
                Note::Unknown(_, Unknown::Ignore) => {}
                Note::Unknown(unknown, _) => odd.unknown.push(unknown.clone()),
                Note::Warning(warning) => odd.warnings.push(warning.clone()),
            }
        }
        odd.unknown.sort_by(|a, b| a.key.cmp(&b.key));
        odd.warnings.sort_by(|a, b| a.key.cmp(&b.key));
        self.told = notes;
        Some(odd)
    }

    fn changed(&self, keys: &Keys) -> Changed {
        let mut fields = BTreeSet::new();
        let mut seen = false;
        if let Form::Document(format) = T::SHAPE.form() {
            for (key, old) in &self.dirty {
                let new = keys.get(key).map(|kv| kv.value.as_slice());
                document::changed(format, T::FIELDS, old.as_deref(), new, &mut fields);
                // There may be something new that no field reads.
                seen = true;
            }
        } else {
            let present = |path: &str| decode::present(&self.prefix, keys, path);
            for key in self.dirty.keys() {
                if let Some(path) = self.prefix.strip(key).filter(|path| is_sound(path)) {
                    let path = String::from_utf8_lossy(path);
                    let claim = claim(T::SHAPE, &path, &present);
                    seen |= claim.is_seen();
                    fields.extend(claim.changes());
                }
            }
        }
        Changed {
            fields: fields.into_iter().map(Arc::from).collect(),
            seen,
        }
    }
}

/// What the dirty keys mean to the fields.
struct Changed {
    /// The paths of those whose raw value differs.
    fields: Vec<Arc<str>>,
    /// There is something to decode, even if no field is to differ.
    seen: bool,
}

/// Drops a value of the user's type: a panic in that must not end the watch.
pub(super) fn discard<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        fmt,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use proptest::prelude::*;

    use super::{
        super::decode::tests::{odd, prefix},
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
}
