//! The parts of a list, a struct, a map or an enum, as serde asks for them.

use std::{collections::HashSet, vec};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
    },
};

use super::{
    fault::Place,
    refused::{Refused, Result},
    value::{Node, Value},
};
use crate::key::decode_segment;

/// The items of a list: with their segment when each has a key of its own.
pub(super) struct Items<'a> {
    list: Value<'a>,
    items: std::iter::Enumerate<vec::IntoIter<(Option<&'a str>, Node<'a>)>>,
}

impl<'a> Items<'a> {
    pub(super) fn new(list: Value<'a>, items: Vec<(Option<&'a str>, Node<'a>)>) -> Self {
        Self {
            list,
            items: items.into_iter().enumerate(),
        }
    }

    /// How many were not taken.
    pub(super) fn left(&self) -> usize {
        self.items.len()
    }
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
pub(super) struct Members<'a> {
    whole: Value<'a>,
    /// The names are a map's keys: percent-encoded where they are segments.
    map: bool,
    members: vec::IntoIter<(&'a str, Node<'a>)>,
    next: Option<(&'a str, Node<'a>)>,
    /// The names so far, if two segments may be the same name.
    names: Option<HashSet<String>>,
}

impl<'a> Members<'a> {
    pub(super) fn new(whole: Value<'a>, map: bool, members: Vec<(&'a str, Node<'a>)>) -> Self {
        let encoded =
            |(name, node): &(&str, Node<'_>)| matches!(node, Node::Keys(_)) && name.contains('%');
        Self {
            whole,
            map,
            names: (map && members.iter().any(encoded)).then(HashSet::new),
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
        let text = match node {
            Node::Keys(_) if self.map => decode_segment(name),
            _ => Some(name.into()),
        };
        let text = text.ok_or_else(|| Refused::new(NO_TEXT));
        let key = self
            .whole
            .at(Node::Item(text.as_deref().unwrap_or(name)), &place);
        let result = match &text {
            Ok(name)
                if !self
                    .names
                    .as_mut()
                    .is_none_or(|it| it.insert(name.to_string())) =>
            {
                Err(Refused::new(SAME_ENTRY))
            }
            Ok(_) => seed.deserialize(key),
            Err(_) => Err(Refused::new(NO_TEXT)),
        };
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

/// Of a segment that is decoded to the name of another one.
pub(super) const SAME_ENTRY: &str = "another key stands for the same entry: keep one of the two";

/// Of a map's key.
pub(super) const NO_TEXT: &str = "the key of this entry is no text when it is percent-decoded";

/// A variant with its content.
pub(super) struct Variant<'a> {
    whole: Value<'a>,
    name: &'a str,
    node: Node<'a>,
}

impl<'a> Variant<'a> {
    pub(super) fn new(whole: Value<'a>, name: &'a str, node: Node<'a>) -> Self {
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
