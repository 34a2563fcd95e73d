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
            .filter_map(|key| std::str::from_utf8(self.prefix.strip(key)?).ok())
            .filter_map(|path| field_of(T::FIELDS, path))
            .map(Arc::from)
            .collect();
        fields.sort();
        fields.dedup();
        fields
    }
}
