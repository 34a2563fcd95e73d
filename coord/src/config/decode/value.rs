//! [`Value`]: a value that is not read yet: a place in the key tree, a part of a text or of a
//! document, and the forms that it may have there.

use std::{fmt::Display, str::FromStr};

use serde::de::{DeserializeOwned, IntoDeserializer, Visitor};
use serde_json::Value as Json;

use super::{
    Decoding,
    access::{Items, Members, Variant},
    fault::{Place, shown},
    refused::{Refused, Result},
    text,
    tree::Branch,
};
use crate::config::document::Format;

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node<'a> {
    Keys(Branch<'a>),
    /// As if it were stored at a key: a default.
    Text(&'a str),
    /// A part of a text: an item of a list, a segment of a key.
    Item(&'a str),
    /// Inside a document.
    Json(&'a Json),
}

/// A value that is not read yet, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) place: &'a Place<'a>,
    pub(crate) cx: &'a Decoding<'a>,
    /// The revision of the key that it comes from.
    pub(crate) revision: i64,
}

/// A single value: what scalars are read from.
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Json(&'a Json),
}

impl<'a> Value<'a> {
    /// Gives an error its place, unless a value further in has.
    pub(crate) fn locate<T>(&self, result: Result<T>) -> Result<T> {
        let place = |member| match (member, self.node) {
            (None, _) => *self.place,
            (Some(name), Node::Keys(branch)) if branch.own.is_none() => self.place.segment(name),
            (Some(name), _) => self.place.member(name),
        };
        result.map_err(|refused| refused.locate(place, self.cx.prefix, self.revision))
    }

    pub(super) fn scalar(&self) -> Result<Scalar<'a>> {
        match self.node {
            Node::Text(text) | Node::Item(text) => Ok(Scalar::Text(text)),
            Node::Json(json) => Ok(Scalar::Json(json)),
            Node::Keys(branch) => match branch.own {
                Some(kv) => {
                    self.strangers_below();
                    text::of(&kv.value).map(Scalar::Text).map_err(Refused::new)
                }
                None if branch.has_below() => Err(Refused::new(
                    "expected one value at this key, but there are only keys below it",
                )),
                None => Err(Refused::missing()),
            },
        }
    }

    /// What has a value owns no keys below it.
    pub(super) fn strangers_below(&self) {
        if let Node::Keys(branch) = self.node {
            let below = branch.keys_below();
            below.for_each(|kv| self.cx.stranger(&kv.key, None));
        }
    }

    /// A number beyond 64 bits: in a document it is a text.
    pub(super) fn wide<'de, V: Visitor<'de>, T: FromStr<Err: Display>>(
        self,
        visitor: V,
        name: &str,
        visit: impl FnOnce(V, T) -> Result<V::Value>,
    ) -> Result<V::Value> {
        let result = self.scalar().and_then(|scalar| {
            let text = match scalar {
                Scalar::Text(text) => text,
                Scalar::Json(Json::String(text)) => text,
                Scalar::Json(json) => return self.visit_json(json, visitor),
            };
            let value = text::number(text, name).map_err(Refused::new)?;
            visit(visitor, value)
        });
        self.locate(result)
    }

    pub(super) fn read<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        from_text: impl FnOnce(V, &str) -> Result<V::Value>,
    ) -> Result<V::Value> {
        let result = self.scalar().and_then(|scalar| match scalar {
            Scalar::Text(text) => from_text(visitor, text),
            Scalar::Json(json) => self.visit_json(json, visitor),
        });
        self.locate(result)
    }

    /// Shows `visitor` what the document holds; the visitor refuses what it does not want.
    pub(super) fn visit_json<'de, V: Visitor<'de>>(
        &self,
        json: &Json,
        visitor: V,
    ) -> Result<V::Value> {
        match json {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(*value),
            Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (.., Some(value)) => visitor.visit_f64(value),
                _ => Err(Refused::new("the number is too large")),
            },
            Json::String(text) => visitor.visit_str(text),
            Json::Array(items) => {
                self.visit_items(visitor, items.iter().map(|json| (None, Node::Json(json))))
            }
            Json::Object(members) => visitor.visit_map(Members::new(
                *self,
                false,
                members
                    .iter()
                    .map(|(name, json)| (name.as_str(), Node::Json(json)))
                    .collect(),
            )),
        }
    }

    /// Shows `visitor` a list, of which it must take every item: a tuple takes only as many as it has.
    fn visit_items<'de, 'i, V: Visitor<'de>>(
        &self,
        visitor: V,
        items: impl Iterator<Item = (Option<&'i str>, Node<'i>)>,
    ) -> Result<V::Value>
    where
        'a: 'i,
    {
        let mut items = Items::new(*self, items.collect());
        let value = visitor.visit_seq(&mut items)?;
        match items.left() {
            0 => Ok(value),
            more => Err(Refused::new(format!(
                "the list has {more} more items than fit"
            ))),
        }
    }

    /// The whole value is a document.
    pub(super) fn document_of<T: DeserializeOwned>(self, format: Format) -> Result<T> {
        let stored = match self.node {
            Node::Keys(Branch { own: Some(_), .. }) | Node::Text(_) => self.scalar(),
            _ => return T::deserialize(self),
        };
        let json = stored.and_then(|stored| match stored {
            Scalar::Text(text) => format.read(text).map_err(Refused::new),
            Scalar::Json(json) => Ok(json.clone()),
        });
        let json = self.locate(json)?;
        let node = Node::Json(&json);
        let value = Value { node, ..self };
        value.locate(T::deserialize(value))
    }

    /// What stands here, for an error, if it is one value.
    pub(super) fn shown(&self) -> Option<String> {
        match self.node {
            Node::Keys(branch) => text::of(&branch.own?.value).ok().map(str::to_owned),
            Node::Text(text) | Node::Item(text) => Some(text.to_owned()),
            Node::Json(json) => Some(json.to_string()),
        }
    }

    fn document<T>(&self, text: &str, then: impl FnOnce(&Json) -> Result<T>) -> Result<T> {
        let json = serde_json::from_str(text)
            .map_err(|error| Refused::new(format!("the value is no JSON: {error}")))?;
        then(&json)
    }

    /// The keys below, or the one value here; both at once are refused.
    fn one_form(&self, branch: Branch<'a>) -> Result<Option<&'a str>> {
        match branch.own {
            Some(_) if branch.has_below() => Err(Refused::new(BOTH)),
            Some(kv) => text::of(&kv.value).map(Some).map_err(Refused::new),
            None if branch.has_below() => Ok(None),
            None => Err(Refused::missing()),
        }
    }

    pub(super) fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let from_text = |text: &str, visitor: V| {
            if text.trim_start().starts_with('[') {
                self.document(text, |json| self.visit_json(json, visitor))
            } else {
                let items = text::items(text);
                self.visit_items(
                    visitor,
                    items.into_iter().map(|item| (None, Node::Item(item))),
                )
            }
        };
        match self.node {
            Node::Json(json) => self.visit_json(json, visitor),
            // Only a list's own text is split: `1,2` inside a list would be split a second time.
            Node::Item(text) if !text.trim_start().starts_with('[') => Err(Refused::new(
                "a list inside a list must be written as JSON: `[[1, 2], [3]]`",
            )),
            Node::Text(text) | Node::Item(text) => from_text(text, visitor),
            Node::Keys(branch) => match self.one_form(branch)? {
                Some(text) => from_text(text, visitor),
                None => self.visit_items(visitor, self.indexed(branch)?.into_iter()),
            },
        }
    }

    /// `hosts/0`, `hosts/2`, `hosts/10`: in the order of their numbers; gaps are fine.
    fn indexed(&self, branch: Branch<'a>) -> Result<Vec<(Option<&'a str>, Node<'a>)>> {
        let mut items = Vec::new();
        for (segment, child) in self.named(branch) {
            let index: u64 = segment
                .parse()
                .ok()
                .filter(|index: &u64| index.to_string() == segment)
                .ok_or_else(|| {
                    Refused::new(format!(
                        "the keys below a list are its indexes 0, 1, 2, …; {} is none",
                        shown(segment)
                    ))
                })?;
            items.push((index, (Some(segment), Node::Keys(child))));
        }
        items.sort_by_key(|(index, _)| *index);
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    /// The children whose names are names; others are keys that nobody reads.
    fn named(&self, branch: Branch<'a>) -> Vec<(&'a str, Branch<'a>)> {
        branch
            .children()
            .into_iter()
            .filter_map(|(segment, child)| match std::str::from_utf8(segment) {
                Ok(name) => Some((name, child)),
                Err(_) => {
                    child.keys().for_each(|kv| self.cx.stranger(&kv.key, None));
                    None
                }
            })
            .collect()
    }

    pub(super) fn structure<'de, V: Visitor<'de>>(self, visitor: V, map: bool) -> Result<V::Value> {
        let from_text = |text: &str, visitor: V| {
            if text.trim_start().starts_with('{') {
                self.document(text, |json| self.visit_json(json, visitor))
            } else {
                Err(Refused::new(NO_OBJECT))
            }
        };
        match self.node {
            Node::Json(json) => self.visit_json(json, visitor),
            Node::Text(text) | Node::Item(text) => from_text(text, visitor),
            Node::Keys(branch) => match self.one_form(branch)? {
                Some(text) => from_text(text, visitor),
                None => visitor.visit_map(Members::new(
                    self,
                    map,
                    self.named(branch)
                        .into_iter()
                        .map(|(name, child)| (name, Node::Keys(child)))
                        .collect(),
                )),
            },
        }
    }

    pub(super) fn variant<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let from_json = |json: &Json, visitor: V| match json {
            Json::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            _ => match json
                .as_object()
                .map(|members| (members.len(), members.iter().next()))
            {
                Some((1, Some((name, json)))) => {
                    visitor.visit_enum(Variant::new(self, name, Node::Json(json)))
                }
                _ => Err(Refused::new(
                    "expected a variant's name, or an object with the variant as its one member",
                )),
            },
        };
        let from_text = |text: &str, visitor: V| match text.trim() {
            "" => Err(Refused::new(
                "expected a variant's name, found an empty value",
            )),
            object if object.starts_with('{') => {
                self.document(object, |json| from_json(json, visitor))
            }
            name => visitor.visit_enum(name.into_deserializer()),
        };
        match self.node {
            Node::Json(json) => from_json(json, visitor),
            Node::Text(text) | Node::Item(text) => from_text(text, visitor),
            Node::Keys(branch) => match self.one_form(branch)? {
                Some(text) => from_text(text, visitor),
                None => match self.named(branch).as_slice() {
                    [(name, child)] => {
                        visitor.visit_enum(Variant::new(self, name, Node::Keys(*child)))
                    }
                    _ => Err(Refused::new(
                        "the keys below an enum are those of one variant; here are several",
                    )),
                },
            },
        }
    }

    pub(super) fn at(self, node: Node<'a>, place: &'a Place<'a>) -> Self {
        let revision = match node {
            Node::Keys(branch) => branch.own.map_or(0, |kv| kv.mod_revision),
            Node::Text(_) | Node::Item(_) | Node::Json(_) => self.revision,
        };
        Self {
            node,
            place,
            revision,
            ..self
        }
    }
}

/// A value and keys below it: which of the two is meant cannot be known.
pub(super) const BOTH: &str =
    "there is a value at this key and there are keys below it: keep one of the two";

/// What a struct or a map is made from.
pub(super) const NO_OBJECT: &str = "expected keys below this one, or a JSON object as its value";
