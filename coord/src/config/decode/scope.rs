//! [`Scope`]: what a derived `decode` reads its fields from.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    Absent, Decoding, MISSING, WRONG_DEFAULT,
    checks::Checks,
    fault::{Place, shown},
    map::Map,
    nearest,
    probe::{Cloner, Entry, ReadKey, ReadVia},
    refused::Refused,
    text,
    tree::Branch,
    value::{BOTH, NO_OBJECT, Node, Value},
};
use crate::config::{
    document::{Available, Format},
    shape::{CoordConfig, Field, Form, Unknown, flat},
};

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

/// How a field that is one value is read.
pub(crate) type Read<T> = fn(Value<'_>) -> Result<T, Refused>;

/// As its type says.
#[must_use]
pub const fn plain<T: Leaf>() -> Read<T> {
    |value| T::deserialize(value)
}

/// As a document.
#[must_use]
pub const fn json<T: Leaf>() -> Read<T> {
    |value| value.document_of(Format::Json)
}

/// As a document. `F`: see [`toml_format`](crate::config::document::toml_format).
#[must_use]
pub const fn toml<T: Leaf, F: Available>() -> Read<T> {
    |value| value.document_of(Format::Toml)
}

/// The place of one struct while it is decoded.
#[derive(Debug)]
pub struct Scope<'s> {
    source: Source<'s>,
    place: &'s Place<'s>,
    pub(super) cx: &'s Decoding<'s>,
    revision: i64,
    policy: Unknown,
    /// The struct is one of several at this place: it is there if one of its own fields is.
    flat: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source<'s> {
    Keys(Branch<'s>),
    /// `None`: not there, or `null`.
    Document(Option<&'s Json>),
}

/// Where a field was found: the first of its keys that is there, or else the main one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'s> {
    pub(super) node: Node<'s>,
    pub(super) revision: i64,
    key: &'static str,
}

/// Reads the outermost struct, which is at `branch` or below.
pub(super) fn root<T: CoordConfig>(
    branch: Branch<'_>,
    old: Option<&T>,
    cx: &Decoding<'_>,
) -> Option<T> {
    let scope = Scope {
        source: Source::Keys(branch),
        place: &Place::ROOT,
        cx,
        revision: 0,
        policy: T::SHAPE.policy(),
        flat: false,
    };
    match T::SHAPE.form() {
        Form::Keys | Form::Value => T::decode(&scope, old),
        Form::Document(_) => {
            let revision = branch.own.map_or(0, |kv| kv.mod_revision);
            Entry::new(&scope, Node::Keys(branch), &Place::ROOT, revision).structure(None)
        }
    }
}

impl<'s> Scope<'s> {
    /// Reads a field that is one value.
    #[must_use]
    pub fn leaf<T>(
        &self,
        field: &Field,
        default: Default<T>,
        read: Read<T>,
        check: fn(&T, &mut Checks),
    ) -> Option<T> {
        self.field(field, |found, place| {
            let value = Value {
                node: found.node,
                place,
                cx: self.cx,
                revision: found.revision,
            };
            let stored = |text| Value {
                node: Node::Text(text),
                revision: 0,
                ..value
            };
            let absent = matches!(found.node, Node::Keys(branch) if branch.is_absent());
            match default {
                Default::Value(_) if absent && self.cx.trial.get() => return None,
                Default::Value(make) if absent => {
                    return self.checked(place, 0, None, WRONG_DEFAULT, make(), check);
                }
                Default::Text(text) if absent || self.cx.first => {
                    let made = accept(self.cx, read(stored(text)), WRONG_DEFAULT).and_then(|it| {
                        self.checked(place, 0, Some(text), WRONG_DEFAULT, it, check)
                    });
                    if absent || made.is_none() {
                        return made;
                    }
                }
                _ => {}
            }
            let made = accept(self.cx, read(value), "")?;
            let text = value.shown();
            self.checked(place, found.revision, text.as_deref(), "", made, check)
        })
    }

    /// Reads a field that is a struct of its own: from the keys below its key, or from one document.
    #[must_use]
    pub fn nested<T>(
        &self,
        field: &Field,
        old: Option<&T>,
        read: ReadVia<T>,
        check: fn(&T, &mut Checks),
    ) -> Option<T> {
        self.field(field, |found, place| {
            // Which of several keys was read before is not known.
            let old = old.filter(|_| field.aliases().is_empty());
            let entry = Entry::new(self, found.node, place, found.revision);
            let made = read(&entry, old)?;
            self.checked(place, found.revision, None, "", made, check)
        })
    }

    /// Reads a field that is a map.
    #[must_use]
    pub fn map<M: Map>(
        &self,
        field: &Field,
        old: Option<&M>,
        key: ReadKey<M::Key>,
        read: ReadVia<M::Value>,
        clone: Cloner<M>,
        check: fn(&M, &mut Checks),
    ) -> Option<M> {
        self.field(field, |found, place| {
            let old = old.filter(|_| field.aliases().is_empty());
            let made = self.entries(found, place, old, key, read, clone)?;
            if made.entries().next().is_none() {
                self.cx.try_absent(Absent::Entry, field, || {
                    let place = place.segment("{key}");
                    read(
                        &Entry::new(self, Node::Keys(Branch::ABSENT), &place, 0),
                        None,
                    );
                });
            }
            self.checked(place, found.revision, None, "", made, check)
        })
    }

    /// Reads a struct whose fields stand as if they were this one's.
    #[must_use]
    pub fn flat<T: CoordConfig>(&self, field: &Field, old: Option<&T>) -> Option<T> {
        let place = self.place_of(field, "");
        let scope = Scope {
            place: &place,
            flat: true,
            ..*self
        };
        T::decode(&scope, old)
    }

    /// The struct as a whole.
    #[must_use]
    pub fn whole<T>(
        &self,
        made: impl FnOnce() -> Option<T>,
        check: fn(&T, &mut Checks),
    ) -> Option<T> {
        self.checked(self.place, self.revision, None, "", made()?, check)
    }

    /// Looks at the defaults of a struct that is not there.
    pub(crate) fn try_absent<T: CoordConfig>(&self) {
        self.cx.try_absent(Absent::Struct, T::FIELDS.as_ptr(), || {
            T::decode(self, None);
        });
    }

    /// Nothing is stored here, of a struct with these fields.
    pub(crate) fn is_absent(&self, fields: &'static [Field]) -> bool {
        let absent = |node| match node {
            Node::Keys(branch) => branch.is_absent(),
            _ => false,
        };
        match self.source {
            _ if self.flat => flat(fields)
                .flat_map(Field::keys)
                .all(|key| absent(self.node(key).0)),
            Source::Keys(branch) => branch.is_absent(),
            Source::Document(json) => json.is_none(),
        }
    }

    fn field<T>(
        &self,
        field: &Field,
        read: impl FnOnce(Found<'s>, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        self.cx.policy.set(self.policy);
        let mark = self.cx.mark();
        let found = self.find(field);
        let place = self.place_of(field, found.key);
        let made = read(found, &place);
        if field.is_secret() {
            self.cx.conceal(mark, &place);
        }
        made
    }

    fn find(&self, field: &Field) -> Found<'s> {
        let mut found: Option<Found<'s>> = None;
        for key in field.keys() {
            let (node, revision) = self.node(key);
            if matches!(node, Node::Keys(branch) if branch.is_absent()) {
                continue;
            }
            match found {
                None => {
                    found = Some(Found {
                        node,
                        revision,
                        key,
                    });
                }
                Some(first) => {
                    let reason = format!("not read: the same field has the key `{}`", first.key);
                    self.cx.warn(&self.place_of(field, key), reason);
                }
            }
        }
        found.unwrap_or_else(|| {
            let (node, revision) = self.node(field.key());
            Found {
                node,
                revision,
                key: field.key(),
            }
        })
    }

    /// Inside a document the key is the document's.
    fn place_of(&self, field: &Field, key: &'static str) -> Place<'s> {
        match self.source {
            Source::Keys(_) => self.place.field(field.name(), key),
            Source::Document(_) => self.place.member(field.name()),
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

    fn checked<T>(
        &self,
        place: &Place<'_>,
        revision: i64,
        text: Option<&str>,
        lead: &str,
        value: T,
        check: fn(&T, &mut Checks),
    ) -> Option<T> {
        let mut checks = Checks {
            found: text.map(shown),
            faults: Vec::new(),
        };
        check(&value, &mut checks);
        if checks.faults.is_empty() {
            return Some(value);
        }
        for fault in checks.faults {
            self.cx.fault(place, revision, format!("{lead}{fault}"));
        }
        None
    }
}

impl<'e> Entry<'e> {
    pub(super) fn new(
        scope: &'e Scope<'e>,
        node: Node<'e>,
        place: &'e Place<'e>,
        revision: i64,
    ) -> Self {
        Self {
            scope,
            node,
            place,
            revision,
        }
    }

    /// Reads a struct: from the keys below, or from one document.
    pub(super) fn structure<T: CoordConfig>(&self, old: Option<&T>) -> Option<T> {
        let cx = self.scope.cx;
        let format = match T::SHAPE.form() {
            Form::Document(format) => Some(format),
            Form::Keys | Form::Value => None,
        };
        let branch = match self.node {
            Node::Json(json) => return self.object(json),
            Node::Text(_) | Node::Item(_) => Branch::ABSENT,
            Node::Keys(branch) => branch,
        };
        let Some(own) = branch.own else {
            let source = match (self.scope.source, format) {
                (Source::Keys(_), None) => Source::Keys(branch),
                _ => Source::Document(None),
            };
            // What was made from a document says nothing of the keys.
            let old = old.filter(|_| !cx.touched(&self.place.key(cx.prefix)));
            return T::decode(&self.scope_of::<T>(source), old);
        };
        let json = match format {
            None if branch.has_below() => Err(BOTH.to_owned()),
            None => text::of(&own.value)
                .and_then(|text| Format::Json.read(text))
                .map_err(|reason| format!("{NO_OBJECT}: {reason}")),
            Some(format) => text::of(&own.value).and_then(|text| format.read(text)),
        };
        match json {
            Ok(json) => self.object(&json),
            Err(reason) => {
                cx.fault(self.place, self.revision, reason);
                None
            }
        }
    }

    fn object<T: CoordConfig>(&self, json: &Json) -> Option<T> {
        let cx = self.scope.cx;
        match json {
            Json::Null => T::decode(&self.scope_of::<T>(Source::Document(None)), None),
            Json::Object(members) => {
                let keys: Vec<_> = flat(T::FIELDS).flat_map(Field::keys).collect();
                cx.policy.set(T::SHAPE.policy());
                self.strange_members("", members, &keys);
                T::decode(&self.scope_of::<T>(Source::Document(Some(json))), None)
            }
            _ => {
                cx.fault(self.place, self.revision, NO_OBJECT);
                None
            }
        }
    }

    /// Tells the members that no field reads; `path` leads to them, and `keys` are those of the fields
    /// that are below it.
    fn strange_members<'k>(
        &self,
        path: &str,
        members: &serde_json::Map<String, Json>,
        keys: &[&'k str],
    ) {
        for (name, json) in members {
            if keys.contains(&name.as_str()) {
                continue;
            }
            let below = |key: &&'k str| key.strip_prefix(name.as_str())?.strip_prefix('/');
            let inner: Vec<&'k str> = keys.iter().filter_map(below).collect();
            match json {
                Json::Object(members) if !inner.is_empty() => {
                    self.strange_members(&format!("{path}{name}."), members, &inner);
                }
                Json::Null if !inner.is_empty() => {}
                _ => {
                    let hint = nearest(name, keys.iter().copied());
                    let hint = hint.map(|near| format!("{path}{}", near.replace('/', ".")));
                    let cx = self.scope.cx;
                    cx.strange_member(self.place, &format!("{path}{name}"), hint);
                }
            }
        }
    }

    fn scope_of<'d, T: CoordConfig>(&'d self, source: Source<'d>) -> Scope<'d> {
        Scope {
            source,
            place: self.place,
            cx: self.scope.cx,
            revision: self.revision,
            policy: T::SHAPE.policy(),
            flat: false,
        }
    }
}

/// The value, or its fault recorded.
pub(super) fn accept<T>(cx: &Decoding<'_>, result: Result<T, Refused>, lead: &str) -> Option<T> {
    result
        .map_err(|refused| {
            let mut fault = refused.into_fault();
            if fault.reason != MISSING {
                fault.reason.insert_str(0, lead);
            }
            cx.faults.borrow_mut().push(fault);
        })
        .ok()
}
