//! [`Reloader`]: the write side: from a watched key map to the value that readers see.
//!
//! # Invariants
//! 1. A struct is always made from the whole map, never merged into the one before: a deleted key
//!    falls back to its default.
//! 2. A fault anywhere leaves the old value in place, however many other fields were good.
//! 3. Changes since the last *good* value are kept, so that a refused change and its repair are
//!    reported as one, and a refused change that is taken back as none.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    decode::{self, Decoded, Fault, UnknownKey},
    shape::{CoordConfig, field_of},
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
    pub(crate) unknown: Option<Vec<UnknownKey>>,
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

/// Turns updates into values. Knows no task and no channel.
#[derive(Debug)]
pub(crate) struct Reloader {
    prefix: Prefix,
    /// There is a value in use.
    bound: bool,
    /// Each key that differs from the value in use, with what it was then.
    dirty: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Reloader {
    pub(crate) fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            bound: false,
            dirty: BTreeMap::new(),
        }
    }

    /// `map` is what the keys are after `update`.
    pub(crate) fn apply<T: CoordConfig>(
        &mut self,
        map: &BTreeMap<Vec<u8>, KeyValue>,
        update: &Update,
    ) -> Reload<T> {
        for change in &update.changes {
            self.note(change);
        }
        if self.bound && update.changes.is_empty() {
            return Reload {
                outcome: Outcome::Same,
                unknown: None,
            };
        }
        // The types' own code runs here: a panic in it must not end the watch.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            decode::decode::<T>(&self.prefix, map, !self.bound)
        }))
        .unwrap_or_else(|_| Decoded {
            value: Err(vec![Fault {
                field: String::new(),
                key: self.prefix.as_str().to_owned(),
                mod_revision: update.revision,
                reason: "reading the keys panicked; the panic's message is on stderr".to_owned(),
            }]),
            unknown: Vec::new(),
        });
        let outcome = match decoded.value {
            Err(faults) => Outcome::Refused(Refusal {
                revision: update.revision,
                faults,
            }),
            Ok(value) => {
                let fields = self.changed_fields::<T>();
                self.dirty.clear();
                if std::mem::replace(&mut self.bound, true) && fields.is_empty() {
                    discard(value);
                    Outcome::Same
                } else {
                    Outcome::New(Arc::new(value), fields)
                }
            }
        };
        Reload {
            outcome,
            unknown: Some(decoded.unknown),
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

    fn changed_fields<T: CoordConfig>(&self) -> Vec<Arc<str>> {
        let mut fields: Vec<Arc<str>> = self
            .dirty
            .keys()
            .filter_map(|key| Some(String::from_utf8_lossy(self.prefix.strip(key)?)))
            .filter_map(|path| field_of(T::FIELDS, &path))
            .map(Arc::from)
            .collect();
        fields.sort();
        fields.dedup();
        fields
    }
}

/// Drops a value of the user's type: a panic in that must not end the watch.
pub(super) fn discard<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::decode::tests::prefix, *};
    use crate::watch::Cause;

    #[derive(Clone, Debug, PartialEq, crate::CoordConfig)]
    #[coord(crate = crate)]
    struct App {
        name: String,
        #[coord(default = 10)]
        limit: u8,
        #[coord(nested)]
        db: Option<Db>,
        #[coord(nested)]
        tuning: Option<Tuning>,
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
    struct Followed {
        map: BTreeMap<Vec<u8>, KeyValue>,
        revision: i64,
        reloader: Reloader,
    }

    impl Followed {
        fn new() -> Self {
            Self {
                map: BTreeMap::new(),
                revision: 1,
                reloader: Reloader::new(prefix()),
            }
        }

        /// One transaction; `None` deletes.
        fn write(&mut self, keys: &[(&str, Option<&str>)]) -> Outcome<App> {
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
            self.reloader.apply(&self.map, &update).outcome
        }
    }

    #[track_caller]
    fn new(outcome: Outcome<App>) -> (Arc<App>, Vec<Arc<str>>) {
        match outcome {
            Outcome::New(value, fields) => (value, fields),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(outcome: Outcome<App>) -> Refusal {
        match outcome {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_transaction_is_one_value_with_all_its_fields() {
        let mut store = Followed::new();
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
        let mut store = Followed::new();
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
        let mut store = Followed::new();
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
        let mut store = Followed::new();
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
        let mut store = Followed::new();
        new(store.write(&[("name", Some("a"))]));
        refused(store.write(&[("limit", Some("many"))]));
        assert!(matches!(store.write(&[("limit", None)]), Outcome::Same));
    }

    #[test]
    fn the_first_value_must_be_whole() {
        let mut store = Followed::new();
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
        let mut store = Followed::new();
        let _ = store.write(&[("value", Some("panic"))]);
        let update = Update {
            revision: 2,
            cause: Cause::Listed,
            changes: Vec::new(),
        };
        let outcome = store.reloader.apply::<Fragile>(&store.map, &update).outcome;
        let Outcome::Refused(refusal) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(refusal.faults[0].reason.contains("panicked"), "{refusal}");
    }

    proptest! {
        /// After any history the value in use is what a first bind would make of the keys, or, while
        /// that fails, what it was before.
        #[test]
        fn following_equals_binding_anew(
            history in proptest::collection::vec(
                proptest::collection::vec(
                    (0..7usize, proptest::option::of("[0-9a]{1,3}")), 1..4), 1..12)
        ) {
            // The last is no field's, but a key below an optional struct makes that one be there.
            const KEYS: [&str; 7] = [
                "name", "limit", "db/host", "db/ports", "db/ports/0", "tuning/depth", "tuning/depht",
            ];
            let mut store = Followed::new();
            let mut in_use: Option<Arc<App>> = None;
            for transaction in history {
                let mut keys = BTreeMap::new();
                for (key, value) in &transaction {
                    keys.insert(KEYS[*key], value.as_deref());
                }
                let keys: Vec<_> = keys.into_iter().collect();
                let outcome = store.write(&keys);
                let anew = decode::decode::<App>(&prefix(), &store.map, false).value;
                match (outcome, anew) {
                    (Outcome::New(value, fields), Ok(anew)) => {
                        prop_assert_eq!(&*value, &anew);
                        prop_assert!(in_use.is_none() || !fields.is_empty());
                        in_use = Some(value);
                    }
                    (Outcome::Same, Ok(anew)) => {
                        prop_assert_eq!(in_use.as_deref(), Some(&anew));
                    }
                    (Outcome::Refused(_), Err(_)) => {}
                    (Outcome::Same, Err(_)) if keys.iter().all(|(_, value)| value.is_none()) => {}
                    (outcome, anew) => prop_assert!(false, "{outcome:?} but {anew:?}"),
                }
            }
        }
    }
}
