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

mod access;
mod deserializer;
mod fault;
mod refused;
mod scope;
mod text;
mod tree;
mod value;

pub use fault::Fault;
pub use scope::{Default, Leaf, Scope};

use std::{cell::RefCell, collections::BTreeMap};

use self::{
    fault::Place,
    refused::Refused,
    tree::Branch,
    value::{Node, Value},
};
use super::shape::{CoordConfig, Field};
use crate::{client::KeyValue, key::Prefix};

/// A key below the bound prefix that no field reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownKey {
    /// The key; bytes that are no UTF-8 are replaced.
    pub key: String,
    /// The key of a field that may be meant.
    pub did_you_mean: Option<String>,
}

/// What one decoding found.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    /// The struct, or every fault.
    pub(crate) value: Result<T, Vec<Fault>>,
    pub(crate) unknown: Vec<UnknownKey>,
}

/// Reads a whole struct from the keys below `prefix`. `first`: also check the defaults that are not
/// needed now, so that a wrong one is not first seen when a key is deleted.
pub(crate) fn decode<T: CoordConfig>(
    prefix: &Prefix,
    map: &BTreeMap<Vec<u8>, KeyValue>,
    first: bool,
) -> Decoded<T> {
    let cx = Decoding {
        prefix,
        first,
        faults: RefCell::default(),
        unknown: RefCell::default(),
    };
    let (entries, odd) = tree::entries(prefix, map);
    odd.iter()
        .for_each(|entry| cx.stranger(&entry.kv.key, None));
    let root = Branch::root(&entries);
    let value = T::decode(&Scope::root(root, &cx));
    let all: Vec<_> = T::FIELDS.iter().map(|field| (field.key(), field)).collect();
    cx.strangers(root, &all, &Place::ROOT);
    let faults = cx.faults.into_inner();
    Decoded {
        value: match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => Err(faults),
        },
        unknown: cx.unknown.into_inner(),
    }
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
        faults: RefCell::default(),
        unknown: RefCell::default(),
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
    faults: RefCell<Vec<Fault>>,
    unknown: RefCell<Vec<UnknownKey>>,
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
        self.unknown.borrow_mut().push(UnknownKey {
            key: String::from_utf8_lossy(key).into_owned(),
            did_you_mean,
        });
    }

    /// Keys that no field claims. `fields`: those below `place`, each with what is left of its key.
    fn strangers(&self, branch: Branch<'_>, fields: &[(&str, &Field)], place: &Place<'_>) {
        for (segment, child) in branch.children() {
            let name = String::from_utf8_lossy(segment);
            let here = place.segment(&name);
            let mut deeper = Vec::new();
            let mut claimed = false;
            for (key, field) in fields {
                match key
                    .strip_prefix(&*name)
                    .map(|rest| rest.strip_prefix('/').ok_or(rest))
                {
                    Some(Ok(rest)) => deeper.push((rest, *field)),
                    Some(Err("")) => {
                        claimed = true;
                        let below = field.below().unwrap_or_default();
                        if !below.is_empty() {
                            let below: Vec<_> = below.iter().map(|f| (f.key(), f)).collect();
                            self.strangers(child, &below, &here);
                        }
                    }
                    _ => {}
                }
            }
            if claimed {
                continue;
            }
            if deeper.is_empty() {
                let nearest = nearest(&name, fields.iter().map(|(key, _)| *key))
                    .map(|key| place.segment(key).key(self.prefix));
                child
                    .keys()
                    .for_each(|kv| self.stranger(&kv.key, nearest.clone()));
            } else {
                if let Some(own) = child.own {
                    self.stranger(&own.key, None);
                }
                self.strangers(child, &deeper, &here);
            }
        }
    }
}

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
pub(super) mod tests;
