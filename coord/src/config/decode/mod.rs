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

mod fault;
mod text;
mod tree;
mod value;

pub use fault::Fault;

use std::{cell::RefCell, collections::BTreeMap};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use self::{
    fault::Place,
    tree::Branch,
    value::{BOTH, Node, Refused, Value},
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
    let value = T::decode(&Scope {
        source: Source::Keys(root),
        place: &Place::ROOT,
        cx: &cx,
        revision: 0,
    });
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
    keys.map(|key| (strsim::damerau_levenshtein(name, key), key))
        .filter(|(distance, key)| *distance <= name.len().max(key.len()).div_ceil(3))
        .min()
        .map(|(_, key)| key)
}

/// A type that one key can hold: everything that serde can read.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a config value",
    label = "serde cannot read this type",
    note = "derive `serde::Deserialize` for it; if it derives `CoordConfig`, say `#[coord(nested)]`"
)]
pub trait Leaf: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Leaf for T {}

/// What a field is when it has no key.
#[derive(Debug)]
pub enum Default<T> {
    /// It must have one, unless it is an `Option`.
    None,
    /// As if this text were stored.
    Text(&'static str),
    /// The value of an expression.
    Value(fn() -> T),
}

/// The place of one struct while it is decoded.
#[derive(Debug)]
pub struct Scope<'s> {
    source: Source<'s>,
    place: &'s Place<'s>,
    cx: &'s Decoding<'s>,
    revision: i64,
}

#[derive(Clone, Copy, Debug)]
enum Source<'s> {
    Keys(Branch<'s>),
    /// `None`: not there, or `null`.
    Document(Option<&'s Json>),
}

impl<'s> Scope<'s> {
    /// Reads a field that is one value.
    #[must_use]
    pub fn leaf<T: Leaf>(&self, field: &Field, default: Default<T>) -> Option<T> {
        let place = self.place.field(field.name(), field.key());
        let (node, revision) = self.node(field.key());
        let value = Value {
            node,
            place: &place,
            cx: self.cx,
            revision,
        };
        let text = |text| Value {
            node: Node::Text(text),
            revision: 0,
            ..value
        };
        let absent = matches!(node, Node::Keys(branch) if branch.is_absent());
        match default {
            Default::Value(make) if absent => return Some(make()),
            Default::Text(plain) if absent || self.cx.first => {
                let result = T::deserialize(text(plain));
                let default = self.accept(field, &place, result, "the default is wrong: ");
                if absent || default.is_none() {
                    return default;
                }
            }
            _ => {}
        }
        self.accept(field, &place, T::deserialize(value), "")
    }

    /// Reads a field that is a struct of its own: from the keys below its key, or from one JSON
    /// object.
    #[must_use]
    pub fn nested<T: CoordConfig>(&self, field: &Field) -> Option<T> {
        let place = self.place.field(field.name(), field.key());
        let scope = |source, revision| Scope {
            source,
            place: &place,
            cx: self.cx,
            revision,
        };
        let (node, revision) = self.node(field.key());
        let branch = match node {
            Node::Json(json) => return self.document::<T>(&scope, json, &place, revision),
            Node::Text(_) | Node::Item(_) => Branch::ABSENT,
            Node::Keys(branch) => branch,
        };
        let Some(own) = branch.own else {
            let source = match self.source {
                Source::Keys(_) => Source::Keys(branch),
                Source::Document(_) => Source::Document(None),
            };
            return T::decode(&scope(source, revision));
        };
        let json = if branch.has_below() {
            Err(BOTH.to_owned())
        } else {
            text::of(&own.value).and_then(|text| {
                serde_json::from_str(text).map_err(|error| {
                    format!("expected keys below this one, or a JSON object as its value: {error}")
                })
            })
        };
        match json {
            Ok(json) => self.document(&scope, &json, &place, revision),
            Err(reason) => {
                self.cx.fault(&place, revision, reason);
                None
            }
        }
    }

    fn document<'d, T: CoordConfig>(
        &self,
        scope: &impl Fn(Source<'d>, i64) -> Scope<'d>,
        json: &'d Json,
        place: &Place<'_>,
        revision: i64,
    ) -> Option<T> {
        match json {
            Json::Null => T::decode(&scope(Source::Document(None), revision)),
            Json::Object(members) => {
                for name in members.keys() {
                    let keys = || T::FIELDS.iter().map(Field::key);
                    let first = |key: &'static str| key.split('/').next();
                    if !keys().any(|key| first(key) == Some(name)) {
                        let whole = place.key(self.cx.prefix);
                        self.cx.stranger(
                            format!("{whole} (member `{name}`)").as_bytes(),
                            nearest(name, keys()).map(str::to_owned),
                        );
                    }
                }
                T::decode(&scope(Source::Document(Some(json)), revision))
            }
            _ => {
                let reason = "expected keys below this one, or a JSON object as its value";
                self.cx.fault(place, revision, reason);
                None
            }
        }
    }

    /// Nothing is stored here.
    pub(crate) fn is_absent(&self) -> bool {
        match self.source {
            Source::Keys(branch) => branch.is_absent(),
            Source::Document(json) => json.is_none(),
        }
    }

    fn node(&self, key: &str) -> (Node<'s>, i64) {
        match self.source {
            Source::Keys(branch) => {
                let branch = branch.at(key);
                let revision = branch.own.map_or(0, |kv| kv.mod_revision);
                (Node::Keys(branch), revision)
            }
            Source::Document(json) => {
                let member = key
                    .split('/')
                    .try_fold(json, |json, name| Some(json?.get(name)))
                    .flatten();
                let node = member.map_or(Node::Keys(Branch::ABSENT), Node::Json);
                (node, self.revision)
            }
        }
    }

    fn accept<T>(
        &self,
        field: &Field,
        place: &Place<'_>,
        result: Result<T, Refused>,
        lead: &str,
    ) -> Option<T> {
        result
            .map_err(|refused| {
                let missing = refused.missing;
                let mut fault = refused.into_fault();
                if field.is_secret() && !missing {
                    // Not even the path inside: a map's key may be secret too.
                    fault.field = place.path();
                    fault.key = place.key(self.cx.prefix);
                    "invalid (secret: the reason is withheld)".clone_into(&mut fault.reason);
                }
                fault.reason.insert_str(0, lead);
                self.cx.faults.borrow_mut().push(fault);
            })
            .ok()
    }
}

#[cfg(test)]
pub(super) mod tests;
