//! Decoding: from a tree of keys to a struct, driven by the struct's types.
//!
//! | type | plain value |
//! |---|---|
//! | `String`, `PathBuf`, `char`, newtypes | as it stands; one line end is dropped |
//! | integers, floats | `42`, `1.5`; spaces around are dropped; exact range; no `4.0`, `1_000`, `0x10`, `inf` |
//! | `bool` | `true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`, in any case |
//! | `Duration` | `30s`, `1m 30s`; never without a unit |
//! | unit enums | the variant's name, as serde calls it |
//! | `Option` | `None` while there is no key |
//! | `Vec` | `80,443`, or JSON if it starts with `[`, or keys `name/0`, `name/1`, … |
//! | structs | keys below, or one JSON object |
//! | maps | keys below, percent-decoded, or one JSON object |

mod access;
mod checks;
mod claim;
mod deserializer;
mod fault;
mod map;
mod probe;
mod refused;
mod scope;
mod text;
mod tree;
mod value;

pub use checks::{Checks, unchecked};
pub use fault::Fault;
pub use map::Map;
pub use probe::{
    Probe, ViaClone, ViaConfig, ViaDisplay, ViaFromStr, ViaKey, ViaNothing, ViaSerde, ViaSerialize,
    ViaWriteConfig, ViaWriteKey, config, write_config,
};
pub use scope::{Default, Leaf, Scope, json, plain, toml};

pub(crate) use claim::{claim, mended};
pub(crate) use probe::WriteKey;
pub(crate) use tree::{Keys, is_sound};

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use self::{
    fault::Place,
    refused::Refused,
    tree::Branch,
    value::{Node, Value},
};
use super::shape::{CoordConfig, Field, Form, Unknown};
use crate::{client::KeyValue, key::Prefix};

/// A key below the bound prefix that no field reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownKey {
    /// The key; bytes that are no UTF-8 are replaced. Of what is below a secret field, whose entries'
    /// names are secret too, it is the field's key and `/…`.
    pub key: String,
    /// The key of a field that may be meant.
    pub did_you_mean: Option<String>,
}

/// A key that is read, but perhaps not as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The key.
    pub key: String,
    /// What is odd about it. Never shows the value.
    pub reason: String,
}

/// What a decoding has to say beside faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Unknown {
        unknown: UnknownKey,
        policy: Unknown,
        /// How much of what is shown is the key: the rest is a member of the document in it.
        key_len: usize,
    },
    Warning(Warning),
}

impl Note {
    fn key(&self) -> &str {
        match self {
            Self::Unknown {
                unknown, key_len, ..
            } => &unknown.key[..*key_len],
            Self::Warning(warning) => &warning.key,
        }
    }
}

/// What one decoding found.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    /// The struct, or every fault.
    pub(crate) value: Result<T, Vec<Fault>>,
    pub(crate) notes: Vec<Note>,
}

/// Each key that differs from what it was, with what that was.
pub(crate) type Dirty = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The value in use, and all that differs since it was made.
#[derive(Debug)]
pub(crate) struct Earlier<'a, T> {
    pub(crate) value: &'a T,
    pub(crate) notes: &'a [Note],
    pub(crate) dirty: &'a Dirty,
}

/// Reads a whole struct from the keys below `prefix`; the outcome is the same with `earlier` and
/// without. Without, the defaults that are not needed now are checked too, so that a wrong one is not
/// first seen when a key is deleted.
pub(crate) fn decode<T: CoordConfig>(
    prefix: &Prefix,
    keys: &Keys,
    earlier: Option<Earlier<'_, T>>,
) -> Decoded<T> {
    let cx = Decoding {
        prefix,
        first: earlier.is_none(),
        trial: Cell::new(false),
        tried: RefCell::default(),
        past: earlier.as_ref().map(|it| (it.dirty, it.notes)),
        policy: Cell::new(Unknown::Warn),
        faults: RefCell::default(),
        notes: RefCell::default(),
    };
    let root = match T::SHAPE.form() {
        Form::Document(_) => Branch::document(keys, prefix),
        Form::Keys | Form::Value => Branch::root(keys, prefix),
    };
    let value = scope::root(root, earlier.map(|it| it.value), &cx);
    let faults = cx.faults.into_inner();
    Decoded {
        value: match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => Err(faults),
        },
        notes: cx.notes.into_inner(),
    }
}

/// There is a key at `path` below `prefix`, or below it.
pub(crate) fn present(prefix: &Prefix, keys: &Keys, path: &str) -> bool {
    !Branch::root(keys, prefix).at(path).is_absent()
}

/// Reads one stored value alone, as a field of type `T` would.
pub(crate) fn single<T: Leaf>(value: &[u8]) -> Result<T, Refused> {
    let (prefix, kv) = (
        Prefix::default(),
        KeyValue {
            value: value.to_vec(),
            ..KeyValue::default()
        },
    );
    let cx = Decoding {
        prefix: &prefix,
        first: false,
        trial: Cell::new(false),
        tried: RefCell::default(),
        past: None,
        policy: Cell::new(Unknown::Ignore),
        faults: RefCell::default(),
        notes: RefCell::default(),
    };
    T::deserialize(Value {
        node: Node::Keys(Branch::value(&kv)),
        place: &Place::ROOT,
        cx: &cx,
        revision: 0,
    })
}

/// What one decoding knows and collects.
#[derive(Debug)]
pub(crate) struct Decoding<'a> {
    prefix: &'a Prefix,
    first: bool,
    /// What is not there is looked at for its defaults alone.
    trial: Cell<bool>,
    /// The structs and the maps that were, by their fields: a struct may contain itself.
    tried: RefCell<BTreeSet<(Absent, *const Field)>>,
    past: Option<(&'a Dirty, &'a [Note])>,
    /// Of the struct whose field is read now.
    policy: Cell<Unknown>,
    faults: RefCell<Vec<Fault>>,
    notes: RefCell<Vec<Note>>,
}

/// What is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Absent {
    Struct,
    Entry,
}

/// How much was found so far.
#[derive(Clone, Copy, Debug)]
struct Mark {
    faults: usize,
    notes: usize,
}

impl Decoding<'_> {
    fn fault(&self, place: &Place<'_>, mod_revision: i64, reason: impl Into<String>) {
        self.faults.borrow_mut().push(Fault {
            field: place.path(),
            key: place.key(self.prefix),
            mod_revision,
            reason: reason.into(),
        });
    }

    fn stranger(&self, key: &[u8], did_you_mean: Option<String>) {
        let key = String::from_utf8_lossy(key).into_owned();
        self.unknown(key.len(), UnknownKey { key, did_you_mean });
    }

    /// A member of the document at `place` that no field reads.
    /// `name` is its path in the document: `log.level`.
    fn strange_member(&self, place: &Place<'_>, name: &str, did_you_mean: Option<String>) {
        let whole = place.key(self.prefix);
        let key = format!("{whole} (member `{name}`)");
        self.unknown(whole.len(), UnknownKey { key, did_you_mean });
    }

    fn unknown(&self, key_len: usize, unknown: UnknownKey) {
        self.notes.borrow_mut().push(Note::Unknown {
            unknown,
            policy: self.policy.get(),
            key_len,
        });
    }

    fn warn(&self, place: &Place<'_>, reason: impl Into<String>) {
        self.notes.borrow_mut().push(Note::Warning(Warning {
            key: place.key(self.prefix),
            reason: reason.into(),
        }));
    }

    fn mark(&self) -> Mark {
        Mark {
            faults: self.faults.borrow().len(),
            notes: self.notes.borrow().len(),
        }
    }

    /// Everything since `since` was about a secret at `place`: nothing of it is told but that there
    /// was a fault. Not even a path inside: the key of an entry may be secret too.
    fn conceal(&self, since: Mark, place: &Place<'_>) {
        self.notes.borrow_mut().truncate(since.notes);
        let mut faults = self.faults.borrow_mut();
        let field = place.path();
        let Some(found) = faults.get(since.faults) else {
            return;
        };
        if faults.len() == since.faults + 1 && found.reason == MISSING && found.field == field {
            return;
        }
        let lead = match found.reason.starts_with(WRONG_DEFAULT) {
            true => WRONG_DEFAULT,
            false => "",
        };
        let withheld = Fault {
            key: place.key(self.prefix),
            field,
            mod_revision: found.mod_revision,
            reason: format!("{lead}invalid (secret: the reason is withheld)"),
        };
        faults.truncate(since.faults);
        faults.push(withheld);
    }

    /// Reads what is not there, once, for the faults of its defaults: those are not to be seen first
    /// when it comes.
    fn try_absent(&self, what: Absent, fields: *const Field, read: impl FnOnce()) {
        if !self.first || !self.tried.borrow_mut().insert((what, fields)) {
            return;
        }
        let mark = self.mark();
        let (nested, policy) = (self.trial.replace(true), self.policy.get());
        read();
        self.trial.set(nested);
        self.policy.set(policy);
        self.notes.borrow_mut().truncate(mark.notes);
        let mut faults = self.faults.borrow_mut();
        let of_defaults = faults.split_off(mark.faults).into_iter();
        faults.extend(of_defaults.filter(|it| it.reason.starts_with(WRONG_DEFAULT)));
    }

    /// This very key differs from what it was.
    fn touched(&self, key: &str) -> bool {
        self.past
            .is_some_and(|(dirty, _)| dirty.contains_key(key.as_bytes()))
    }

    /// The notes of an earlier decoding about keys that start with `lead` and are not looked at again.
    fn keep_notes(&self, lead: &str, keep: impl Fn(&str) -> bool) {
        let Some((_, notes)) = self.past else { return };
        let kept = notes
            .iter()
            .filter(|note| note.key().strip_prefix(lead).is_some_and(&keep));
        self.notes.borrow_mut().extend(kept.cloned());
    }
}

/// The one reason that shows nothing, even of a secret.
const MISSING: &str = "the key is missing and has no default";

/// What a reason begins with that is about a default.
const WRONG_DEFAULT: &str = "the default is wrong: ";

/// The key that `name` is a slip of, if there is one.
fn nearest<'k>(name: &str, keys: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let close = |distance: usize, key: &str| distance <= name.len().max(key.len()).div_ceil(3);
    // The distance is at least the difference in length: a name of a mebibyte is not compared.
    let length = name.chars().count();
    keys.filter(|key| close(length.abs_diff(key.chars().count()), key))
        .map(|key| (strsim::damerau_levenshtein(name, key), key))
        .filter(|(distance, key)| close(*distance, key))
        .min()
        .map(|(_, key)| key)
}

#[cfg(test)]
mod derived;
#[cfg(test)]
pub(super) mod tests;
