//! [`Encoder`]: a whole struct as the keys that a config struct reads again.

use std::{collections::BTreeMap, fmt::Display, mem};

use serde::Serialize;
use serde_json::{Map as Members, Value as Json};

use super::{
    decode::{Map, WriteKey},
    document::Format,
    encode::{self, NotPlain, Plain, Tree},
    shape::{Field, Form, WriteConfig},
};
use crate::key::encode_segment;

/// Collects what a struct writes.
#[derive(Debug)]
pub struct Encoder {
    out: Out,
    /// The segments to the place that is written now; in a document the names of its members.
    path: Vec<String>,
    faults: Vec<String>,
}

#[derive(Debug)]
enum Out {
    /// By path below the bound prefix.
    Keys(BTreeMap<String, Vec<u8>>),
    Document(Members<String, Json>),
}

/// The keys of `value` by their paths below its prefix (the empty path for a struct that is one
/// document); or everything that cannot be written.
pub(crate) fn keys_of<T: WriteConfig>(value: &T) -> Result<BTreeMap<String, Vec<u8>>, Vec<String>> {
    let mut encoder = Encoder {
        out: Out::Keys(BTreeMap::new()),
        path: Vec::new(),
        faults: Vec::new(),
    };
    encoder.structure(value);
    match encoder.out {
        Out::Keys(keys) if encoder.faults.is_empty() => Ok(keys),
        _ => Err(encoder.faults),
    }
}

/// How the value of a map's entry is written: [`Probe`](super::decode::Probe) finds it.
pub(crate) type WriteVia<V> = fn(&mut Encoder, &V) -> Result<(), String>;

impl Encoder {
    /// A field that is one value.
    pub fn leaf<T: Serialize + ?Sized>(&mut self, field: &Field, value: &T) {
        self.field(field, |it| it.value(value));
    }

    /// A field that is a document of its own.
    pub fn document<T: Serialize + ?Sized>(&mut self, field: &Field, format: Format, value: &T) {
        self.field(field, |it| {
            let json = encode::json(value)?;
            if !json.is_null() {
                match &mut it.out {
                    Out::Keys(_) => it.store(format.write(&json)?),
                    Out::Document(_) => it.insert(json),
                }
            }
            Ok(())
        });
    }

    /// A field that a module of the user's writes: `plain` and `structured` call the same function.
    pub fn with<E: Display>(
        &mut self,
        field: &Field,
        plain: impl FnOnce(Plain) -> Result<String, NotPlain>,
        structured: impl FnOnce(Tree) -> Result<Json, E>,
    ) {
        self.field(field, |it| {
            let plain = plain(Plain);
            match it.out {
                Out::Keys(_) => {
                    if let Some(bytes) = encode::stored(plain, || structured(Tree))? {
                        it.store(bytes);
                    }
                }
                Out::Document(_) => {
                    let json = encode::member(plain, structured(Tree))?;
                    if !json.is_null() {
                        it.insert(json);
                    }
                }
            }
            Ok(())
        });
    }

    /// A field that is a struct of its own.
    pub fn nested<T: WriteConfig>(&mut self, field: &Field, value: &T) {
        self.field(field, |it| {
            if value.is_there() {
                it.structure(value);
            }
            Ok(())
        });
    }

    /// A map: one entry for each segment below its key.
    pub fn map<M: Map>(
        &mut self,
        field: &Field,
        map: &M,
        key: WriteKey<M::Key>,
        write: WriteVia<M::Value>,
    ) {
        self.field(field, |it| {
            map.entries().try_for_each(|(name, value)| {
                let name = key(name)
                    .map_err(|reason| format!("a key of the map has no text form: {reason}"))?;
                if name.is_empty() {
                    return Err("a key of the map is empty".to_owned());
                }
                it.path.push(match it.out {
                    Out::Keys(_) => encode_segment(&name),
                    Out::Document(_) => name,
                });
                let written = write(it, value);
                it.path.pop();
                written
            })
        });
    }

    /// One value at this place. A `None` leaves no key.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), String> {
        match self.out {
            Out::Keys(_) => {
                if let Some(bytes) = encode::encode_some(value)? {
                    self.store(bytes);
                }
            }
            Out::Document(_) => {
                let json = encode::json(value)?;
                if !json.is_null() {
                    self.insert(json);
                }
            }
        }
        Ok(())
    }

    /// The value of an entry: it is there, whatever it is.
    pub(crate) fn entry<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), String> {
        match self.out {
            Out::Keys(_) => self.store(encode::encode(value)?),
            Out::Document(_) => self.insert(encode::json(value)?),
        }
        Ok(())
    }

    /// A struct at this place.
    pub(crate) fn structure<T: WriteConfig>(&mut self, value: &T) {
        match (&mut self.out, T::SHAPE.form()) {
            (Out::Keys(_), Form::Document(format)) => {
                let path = mem::take(&mut self.path);
                let keys = mem::replace(&mut self.out, Out::Document(Members::new()));
                value.encode(self);
                self.path = path;
                if let Out::Document(members) = mem::replace(&mut self.out, keys) {
                    match format.write(&Json::Object(members)) {
                        Ok(text) => self.store(text),
                        Err(reason) => self.refuse(&reason),
                    }
                }
            }
            (Out::Keys(keys), _) => {
                let before = keys.len();
                value.encode(self);
                // It is there, though none of its fields is: an empty object says so.
                if matches!(&self.out, Out::Keys(keys) if keys.len() == before)
                    && !self.path.is_empty()
                {
                    self.store("{}");
                }
            }
            (Out::Document(_), _) => {
                self.insert(Json::Object(Members::new()));
                value.encode(self);
            }
        }
    }

    fn field(&mut self, field: &Field, write: impl FnOnce(&mut Self) -> Result<(), String>) {
        let depth = self.path.len();
        self.path.extend(field.key().split('/').map(str::to_owned));
        let faults = self.faults.len();
        let written = write(self);
        self.path.truncate(depth + field.key().split('/').count());
        if let Err(reason) = written {
            self.refuse(&reason);
        }
        if field.is_secret() && self.faults.len() > faults {
            self.faults.truncate(faults);
            self.refuse("it cannot be written (secret: the reason is withheld)");
        }
        self.path.truncate(depth);
    }

    fn refuse(&mut self, reason: &str) {
        // The whole struct, if it is one document: its key is in the error already.
        self.faults.push(match self.path.as_slice() {
            [] => reason.to_owned(),
            path => format!("`{}`: {reason}", path.join("/")),
        });
    }

    /// Of a key.
    fn store(&mut self, value: impl Into<Vec<u8>>) {
        if let Out::Keys(keys) = &mut self.out {
            keys.insert(self.path.join("/"), value.into());
        }
    }

    /// Of a document.
    fn insert(&mut self, json: Json) {
        if let Out::Document(members) = &mut self.out {
            member(members, &self.path, json);
        }
    }
}

fn member(members: &mut Members<String, Json>, path: &[String], json: Json) {
    match path {
        [] => {
            // The outermost: it is there already.
        }
        [name] => {
            members.insert(name.clone(), json);
        }
        [name, rest @ ..] => {
            let inner = members
                .entry(name.clone())
                .or_insert_with(|| Json::Object(Members::new()));
            if let Json::Object(inner) = inner {
                member(inner, rest, json);
            }
        }
    }
}
