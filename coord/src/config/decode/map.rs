//! [`Map`]: the types that have one entry for each segment below their key, and how they are read:
//! anew, or from the map before with only the changed entries read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, Hash},
};

use serde_json::Value as Json;

use super::{
    access::{NO_TEXT, SAME_ENTRY},
    fault::Place,
    probe::{Cloner, Entry, ReadKey, ReadVia},
    scope::{Found, Scope},
    text,
    tree::{Branch, is_sound},
    value::{BOTH, NO_OBJECT, Node, Value},
};
use crate::{config::document::Format, key::decode_segment};

/// A map of config values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a map of config values",
    label = "`map` is for `HashMap` and `BTreeMap`"
)]
pub trait Map: Sized {
    /// What a segment is read as.
    type Key;
    /// What stands at it, or below.
    type Value;

    /// A map without entries.
    fn empty() -> Self;
    /// False if there was such an entry.
    fn put(&mut self, key: Self::Key, value: Self::Value) -> bool;
    /// The entry.
    fn entry(&self, key: &Self::Key) -> Option<&Self::Value>;
    /// Without the entry.
    fn take(&mut self, key: &Self::Key);
    /// All entries.
    fn entries(&self) -> impl Iterator<Item = (&Self::Key, &Self::Value)>;
}

macro_rules! maps {
    ($($map:ident [$($param:ident: $($bound:tt)*),*] [$($key:tt)*];)*) => {$(
        impl<K: $($key)*, V, $($param: $($bound)*)*> Map for $map<K, V, $($param)*> {
            type Key = K;
            type Value = V;

            fn empty() -> Self {
                Self::default()
            }

            fn put(&mut self, key: K, value: V) -> bool {
                self.insert(key, value).is_none()
            }

            fn entry(&self, key: &K) -> Option<&V> {
                self.get(key)
            }

            fn take(&mut self, key: &K) {
                self.remove(key);
            }

            fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
                self.iter()
            }
        }
    )*};
}

maps! {
    BTreeMap [] [Ord];
    HashMap [S: BuildHasher + Default] [Eq + Hash];
}

impl Scope<'_> {
    /// Reads a field that is a map.
    pub(super) fn entries<M: Map>(
        &self,
        found: Found<'_>,
        place: &Place<'_>,
        old: Option<&M>,
        key: ReadKey<M::Key>,
        read: ReadVia<M::Value>,
        clone: Cloner<M>,
    ) -> Option<M> {
        let reader = Reader {
            scope: self,
            place,
            key,
            read,
        };
        match found.node {
            Node::Json(json) => reader.members(json, found.revision),
            Node::Text(_) | Node::Item(_) => Some(M::empty()),
            Node::Keys(branch) => match branch.own {
                Some(_) if branch.has_below() => {
                    self.cx.fault(place, found.revision, BOTH);
                    None
                }
                Some(own) => {
                    let json = text::of(&own.value).and_then(|text| Format::Json.read(text));
                    match json {
                        Ok(json) => reader.members(&json, found.revision),
                        Err(reason) => {
                            let reason = format!("{NO_OBJECT}: {reason}");
                            self.cx.fault(place, found.revision, reason);
                            None
                        }
                    }
                }
                None => old
                    .and_then(|old| reader.changed(old, branch, clone))
                    .unwrap_or_else(|| reader.all(branch)),
            },
        }
    }
}

struct Reader<'r, M: Map> {
    scope: &'r Scope<'r>,
    place: &'r Place<'r>,
    key: ReadKey<M::Key>,
    read: ReadVia<M::Value>,
}

impl<M: Map> Reader<'_, M> {
    fn members(&self, json: &Json, revision: i64) -> Option<M> {
        let members = match json {
            Json::Null => return Some(M::empty()),
            Json::Object(members) => members,
            _ => {
                self.scope.cx.fault(self.place, revision, NO_OBJECT);
                return None;
            }
        };
        let mut map = Some(M::empty());
        for (name, json) in members {
            let place = self.place.member(name);
            let entry = Entry::new(self.scope, Node::Json(json), &place, revision);
            let read = self
                .name(&place, revision, Ok(name))
                .and_then(|key| Some((key, (self.read)(&entry, None)?)));
            self.add(&mut map, &place, revision, read);
        }
        map
    }

    fn all(&self, branch: Branch<'_>) -> Option<M> {
        let mut map = Some(M::empty());
        for (segment, child) in branch.children() {
            self.child(&mut map, segment, child, None);
        }
        map
    }

    /// The map before with only the entries read that changed; `None` if that cannot be told from it.
    fn changed(&self, old: &M, branch: Branch<'_>, clone: Cloner<M>) -> Option<Option<M>> {
        let cx = self.scope.cx;
        let (dirty, _) = cx.past?;
        let here = self.place.key(cx.prefix);
        let clone = clone?;
        if cx.touched(&here) {
            return None;
        }
        let lead = format!("{here}/").into_bytes();
        let mut segments = BTreeSet::new();
        let below = dirty
            .range(lead.clone()..)
            .map_while(|(key, _)| key.strip_prefix(lead.as_slice()));
        for tail in below {
            let end = tail.iter().position(|byte| *byte == b'/');
            // A segment that is no text never was an entry.
            segments.insert(std::str::from_utf8(&tail[..end.unwrap_or(tail.len())]).ok()?);
        }
        let mut map = clone(old);
        let mut before = Vec::new();
        for segment in &segments {
            let child = branch.at(segment);
            let name = decode_segment(segment);
            let Some(Ok(key)) = name.map(|name| self.parse(self.place, &name)) else {
                // Never was an entry; if it is there now, reading it says why it cannot be one.
                continue;
            };
            // Present and unchanged, present and another value before, or gone since.
            let own = [&lead, segment.as_bytes()].concat();
            let was = child.keys().any(|kv| !dirty.contains_key(&kv.key))
                || dirty
                    .range(own.clone()..)
                    .map_while(|(key, old)| Some((key.strip_prefix(own.as_slice())?, key, old)))
                    // One that nobody reads was no part of an entry: that may stand under another
                    // spelling of the same name.
                    .any(|(rest, key, old)| {
                        old.is_some()
                            && matches!(rest, [] | [b'/', ..])
                            && cx.prefix.strip(key).is_some_and(is_sound)
                    });
            if was {
                before.push((*segment, old.entry(&key)));
                map.take(&key);
            }
        }
        let lead = format!("{here}/");
        cx.keep_notes(&lead, |tail| {
            tail.split('/')
                .next()
                .is_some_and(|it| !segments.contains(it))
        });
        let mut map = Some(map);
        for segment in segments {
            let child = branch.at(segment);
            if !child.is_absent() {
                let old = before
                    .iter()
                    .find(|(name, _)| *name == segment)
                    .and_then(|(_, value)| *value);
                self.child(&mut map, segment.as_bytes(), child, old);
            }
        }
        Some(map)
    }

    fn child(
        &self,
        map: &mut Option<M>,
        segment: &[u8],
        child: Branch<'_>,
        old: Option<&M::Value>,
    ) {
        let Ok(segment) = std::str::from_utf8(segment) else {
            child
                .keys()
                .for_each(|kv| self.scope.cx.stranger(&kv.key, None));
            return;
        };
        let place = self.place.segment(segment);
        let revision = child.own.map_or(0, |kv| kv.mod_revision);
        let entry = Entry::new(self.scope, Node::Keys(child), &place, revision);
        let name = decode_segment(segment);
        let name = name.as_deref().ok_or(NO_TEXT);
        let key = self.name(&place, revision, name);
        let value = (self.read)(&entry, old);
        self.add(map, &place, revision, key.zip(value));
    }

    fn parse(&self, place: &Place<'_>, name: &str) -> Result<M::Key, String> {
        let value = Value {
            node: Node::Item(name),
            place,
            cx: self.scope.cx,
            revision: 0,
        };
        (self.key)(value).map_err(|refused| refused.to_string())
    }

    fn name(&self, place: &Place<'_>, revision: i64, name: Result<&str, &str>) -> Option<M::Key> {
        let key = name
            .map_err(str::to_owned)
            .and_then(|name| self.parse(place, name));
        key.map_err(|reason| {
            let reason = format!("the key of this entry: {reason}");
            self.scope.cx.fault(place, revision, reason);
        })
        .ok()
    }

    fn add(
        &self,
        map: &mut Option<M>,
        place: &Place<'_>,
        revision: i64,
        entry: Option<(M::Key, M::Value)>,
    ) {
        match (map.as_mut(), entry) {
            (Some(into), Some((key, value))) => {
                if !into.put(key, value) {
                    self.scope.cx.fault(place, revision, SAME_ENTRY);
                    *map = None;
                }
            }
            _ => *map = None,
        }
    }
}
