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
        let mut denied = self.denied(keys, &notes);
        if !fields.is_empty() {
            denied.extend(self.wiped(keys, update));
        }
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

    /// All keys gone at once: rather an accident than a change. What is deleted key by key, or
    /// followed by another write, is meant.
    fn wiped(&self, keys: &Keys, update: &Update) -> Option<Fault> {
        self.good.as_ref().filter(|_| keys.is_empty())?;
        let gone = update.changes.iter().filter(|it| it.old.is_some());
        let gone: BTreeSet<_> = gone.map(|it| &it.key).collect();
        (gone.len() > 1).then(|| Fault {
            field: String::new(),
            key: self.prefix.as_str().to_owned(),
            mod_revision: 0,
            reason: format!(
                "all {} keys were deleted at once, which is taken for an accident: if it is meant, \
                 write any key here, and delete that one too if it is not wanted",
                gone.len()
            ),
        })
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
        let sound = is_sound(path);
        let (path, whole) = match (String::from_utf8_lossy(path), sound) {
            (path, true) => (path.into_owned(), true),
            (path, false) => mended(&path),
        };
        let claim = claim(T::SHAPE, &path, &|_| false);
        let (policy, near) = if sound {
            let hints = self.nobodys.len() < HINTS;
            match claim.unknown(&path, hints) {
                Some(found) => found,
                None => return,
            }
        } else {
            let near = (whole && claim.reads()).then(|| path.clone());
            // Not even a struct that ignores keys is to miss one that was nearly right.
            match T::SHAPE.policy() {
                Unknown::Ignore => (Unknown::Warn, near),
                policy => (policy, near),
            }
        };
        if policy != Unknown::Ignore {
            let name = |path: &str| self.prefix.key(path).as_str().to_owned();
            let unknown = match claim.secret(&path) {
                Some(secret) => UnknownKey {
                    key: format!("{}/…", name(secret)),
                    did_you_mean: None,
                },
                None => UnknownKey {
                    key: String::from_utf8_lossy(key).into_owned(),
                    did_you_mean: near.as_deref().map(name),
                },
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
            Note::Unknown {
                unknown,
                policy: Unknown::Deny,
                ..
            } => Some(denied(unknown, 0)),
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
                Note::Unknown {
                    policy: Unknown::Ignore,
                    ..
                } => {}
                Note::Unknown { unknown, .. } => odd.unknown.push(unknown.clone()),
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
mod tests;
