//! [`Scope`]: what a derived `decode` reads its fields from.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    Decoding,
    fault::Place,
    nearest,
    refused::Refused,
    text,
    tree::Branch,
    value::{BOTH, Node, Value},
};
use crate::config::shape::{CoordConfig, Field};

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
    pub(super) fn root(keys: Branch<'s>, cx: &'s Decoding<'s>) -> Self {
        Self {
            source: Source::Keys(keys),
            place: &Place::ROOT,
            cx,
            revision: 0,
        }
    }

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
