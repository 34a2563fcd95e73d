//! [`Value`]: a serde deserializer over a place in the key tree, driven by the type that is wanted.

use std::{fmt, vec};

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::MapDeserializer,
    },
};
use serde_json::Value as Json;

use super::{
    Decoding,
    fault::{Fault, Place, shown},
    text,
    tree::Branch,
};

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
pub(crate) struct Value<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) place: &'a Place<'a>,
    pub(crate) cx: &'a Decoding<'a>,
    /// The revision of the key that it comes from.
    pub(crate) revision: i64,
}

/// Why a value was refused. The innermost value that an error passes gives it its place.
#[derive(Debug)]
pub(crate) struct Refused {
    fault: Box<Fault>,
    located: bool,
    /// A field of the struct that the error is about, when serde itself found it missing.
    member: Option<&'static str>,
    /// The reason holds no value.
    pub(crate) missing: bool,
}

impl Refused {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            fault: Box::new(Fault {
                field: String::new(),
                key: String::new(),
                mod_revision: 0,
                reason: reason.into(),
            }),
            located: false,
            member: None,
            missing: false,
        }
    }

    pub(crate) fn missing() -> Self {
        Self {
            missing: true,
            ..Self::new("the key is missing and has no default")
        }
    }

    /// The fault. Everything but a bare "missing" has been located.
    pub(crate) fn into_fault(self) -> Fault {
        *self.fault
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.reason)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            member: Some(field),
            ..Self::missing()
        }
    }
}

type Result<T, E = Refused> = std::result::Result<T, E>;

/// A single value: what scalars are read from.
enum Scalar<'a> {
    Text(&'a str),
    Json(&'a Json),
}

impl<'a> Value<'a> {
    /// Gives an error its place, unless a value further in has.
    pub(crate) fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|mut refused| {
            if !refused.located {
                let inner = refused.member.map(|name| match self.node {
                    Node::Keys(branch) if branch.own.is_none() => self.place.segment(name),
                    _ => self.place.member(name),
                });
                let place = inner.as_ref().unwrap_or(self.place);
                refused.fault.field = place.path();
                refused.fault.key = place.key(self.cx.prefix);
                refused.fault.mod_revision = self.revision;
                refused.located = true;
            }
            refused
        })
    }

    fn scalar(&self) -> Result<Scalar<'a>> {
        match self.node {
            Node::Text(text) | Node::Item(text) => Ok(Scalar::Text(text)),
            Node::Json(json) => Ok(Scalar::Json(json)),
            Node::Keys(branch) => match branch.own {
                Some(kv) => {
                    branch
                        .keys_below()
                        .for_each(|kv| self.cx.stranger(&kv.key, None));
                    text::of(&kv.value).map(Scalar::Text).map_err(Refused::new)
                }
                None if branch.has_below() => Err(Refused::new(
                    "expected one value at this key, but there are only keys below it",
                )),
                None => Err(Refused::missing()),
            },
        }
    }

    fn read<'de, V: Visitor<'de>>(
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
    fn visit_json<'de, V: Visitor<'de>>(&self, json: &Json, visitor: V) -> Result<V::Value> {
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
        let items: Vec<_> = items.collect();
        let mut items = Items {
            list: *self,
            items: items.into_iter().enumerate(),
        };
        let value = visitor.visit_seq(&mut items)?;
        match items.items.len() {
            0 => Ok(value),
            more => Err(Refused::new(format!(
                "the list has {more} more items than fit"
            ))),
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

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
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

    fn structure<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let from_text = |text: &str, visitor: V| {
            if text.trim_start().starts_with('{') {
                self.document(text, |json| self.visit_json(json, visitor))
            } else {
                Err(Refused::new(
                    "expected keys below this one, or a JSON object as its value",
                ))
            }
        };
        match self.node {
            Node::Json(json) => self.visit_json(json, visitor),
            Node::Text(text) | Node::Item(text) => from_text(text, visitor),
            Node::Keys(branch) => match self.one_form(branch)? {
                Some(text) => from_text(text, visitor),
                None => visitor.visit_map(Members::new(
                    self,
                    self.named(branch)
                        .into_iter()
                        .map(|(name, child)| (name, Node::Keys(child)))
                        .collect(),
                )),
            },
        }
    }

    fn variant<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
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

    fn at(self, node: Node<'a>, place: &'a Place<'a>) -> Self {
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
pub(crate) const BOTH: &str =
    "there is a value at this key and there are keys below it: keep one of the two";

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.read(visitor, |visitor, text| {
                let value = text::number::<$type>(text, stringify!($type)).map_err(Refused::new)?;
                visitor.$visit(value)
            })
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Refused;

    numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.read(visitor, |visitor, text| {
            let value = text::number::<f32>(text, "f32")
                .and_then(|value| text::finite(value, text))
                .map_err(Refused::new)?;
            visitor.visit_f32(value)
        })
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.read(visitor, |visitor, text| {
            let value = text::number::<f64>(text, "f64")
                .and_then(|value| text::finite(value, text))
                .map_err(Refused::new)?;
            visitor.visit_f64(value)
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.read(visitor, |visitor, text| {
            visitor.visit_bool(text::boolean(text).map_err(Refused::new)?)
        })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.read(visitor, |visitor, text| visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let Node::Keys(Branch { own: Some(kv), .. }) = self.node {
            return self.locate(visitor.visit_bytes(&kv.value));
        }
        self.read(visitor, |visitor, text| {
            visitor.visit_bytes(text.as_bytes())
        })
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.read(visitor, |visitor, text| match text.trim() {
            "" | "null" => visitor.visit_unit(),
            _ => Err(Refused::new(format!(
                "expected nothing, found {}",
                shown(text)
            ))),
        })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let absent = match self.node {
            Node::Keys(branch) => branch.is_absent(),
            // `null` as plain text is a string like any other.
            Node::Text(_) | Node::Item(_) => false,
            Node::Json(json) => json.is_null(),
        };
        let result = if absent {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        };
        self.locate(result)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        let result = visitor.visit_newtype_struct(self);
        self.locate(result)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let result = self.list(visitor);
        self.locate(result)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let result = self.structure(visitor);
        self.locate(result)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        // What serde makes of `std::time::Duration`, wherever it stands: in an Option, a Vec, a map.
        if (name, fields) == ("Duration", &["secs", "nanos"]) {
            let text = match self.node {
                Node::Keys(branch) if branch.has_below() => None,
                _ => match self.scalar() {
                    Ok(Scalar::Text(text)) if !text.trim_start().starts_with('{') => Some(text),
                    Ok(Scalar::Json(Json::String(text))) => Some(text.as_str()),
                    Ok(_) => None,
                    Err(refused) => return self.locate(Err(refused)),
                },
            };
            if let Some(text) = text {
                let result = text::duration(text)
                    .map_err(Refused::new)
                    .and_then(|value| {
                        let parts = [
                            ("secs", value.as_secs()),
                            ("nanos", value.subsec_nanos().into()),
                        ];
                        visitor.visit_map(MapDeserializer::new(parts.into_iter()))
                    });
                return self.locate(result);
            }
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let result = self.variant(visitor);
        self.locate(result)
    }

    /// For types that take anything (`serde_json::Value`, untagged enums): JSON if it is JSON, else
    /// text. The only place where the value decides.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let Node::Keys(branch) = self.node
            && branch.own.is_none()
            && branch.has_below()
        {
            return self.deserialize_map(visitor);
        }
        self.read(visitor, |visitor, text| match serde_json::from_str(text) {
            Ok(json) => self.visit_json(&json, visitor),
            Err(_) => visitor.visit_str(text),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let Node::Keys(branch) = self.node {
            branch.keys().for_each(|kv| self.cx.stranger(&kv.key, None));
        }
        visitor.visit_unit()
    }
}

/// The items of a list: with their segment when each has a key of its own.
struct Items<'a> {
    list: Value<'a>,
    items: std::iter::Enumerate<vec::IntoIter<(Option<&'a str>, Node<'a>)>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some((index, (segment, node))) = self.items.next() else {
            return Ok(None);
        };
        let place = match segment {
            Some(segment) => self.list.place.segment(segment),
            None => self.list.place.item(index),
        };
        let item = self.list.at(node, &place);
        let result = seed.deserialize(item);
        item.locate(result).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The members of a struct or map.
struct Members<'a> {
    whole: Value<'a>,
    members: vec::IntoIter<(&'a str, Node<'a>)>,
    next: Option<(&'a str, Node<'a>)>,
}

impl<'a> Members<'a> {
    fn new(whole: Value<'a>, members: Vec<(&'a str, Node<'a>)>) -> Self {
        Self {
            whole,
            members: members.into_iter(),
            next: None,
        }
    }

    fn place(&self, name: &'a str, node: Node<'a>) -> Place<'a> {
        match node {
            Node::Keys(_) => self.whole.place.segment(name),
            Node::Text(_) | Node::Item(_) | Node::Json(_) => self.whole.place.member(name),
        }
    }
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.next = self.members.next();
        let Some((name, node)) = self.next else {
            return Ok(None);
        };
        let place = self.place(name, node);
        let key = self.whole.at(Node::Item(name), &place);
        let result = seed.deserialize(key);
        key.locate(result).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let (name, node) = self
            .next
            .take()
            .ok_or_else(|| Refused::new("a member's value was read before its name"))?;
        let place = self.place(name, node);
        let value = self.whole.at(node, &place);
        let result = seed.deserialize(value);
        value.locate(result)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}

/// A variant with its content.
struct Variant<'a> {
    whole: Value<'a>,
    name: &'a str,
    node: Node<'a>,
}

impl<'a> Variant<'a> {
    fn new(whole: Value<'a>, name: &'a str, node: Node<'a>) -> Self {
        Self { whole, name, node }
    }

    fn content<T>(self, read: impl FnOnce(Value<'_>) -> Result<T>) -> Result<T> {
        let place = match self.node {
            Node::Keys(_) => self.whole.place.segment(self.name),
            Node::Text(_) | Node::Item(_) | Node::Json(_) => self.whole.place.member(self.name),
        };
        let content = self.whole.at(self.node, &place);
        let result = read(content);
        content.locate(result)
    }
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let name = seed.deserialize(self.name.into_deserializer())?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<()> {
        self.content(|content| serde::Deserialize::deserialize(content))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.content(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        self.content(|content| content.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.content(|content| content.deserialize_map(visitor))
    }
}
