//! [`Encoder`]: a whole struct as the keys that a config struct reads again.

use std::{collections::BTreeMap, fmt::Display, mem};

use serde::Serialize;
use serde_json::{Map as Members, Value as Json};

use super::{
    decode::{Map, WriteKey},
    document::Format,
    encode::{self, NotPlain, Plain},
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
    Keys(BTreeMap<String, String>),
    Document(Members<String, Json>),
}

/// The keys of `value` by their paths below its prefix (the empty path for a struct that is one
/// document); or everything that cannot be written.
pub(crate) fn keys_of<T: WriteConfig>(value: &T) -> Result<BTreeMap<String, String>, Vec<String>> {
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

/// One value, in the form that its place wants.
enum Encoded {
    Text(String),
    Json(Json),
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
        self.field(field, |it| match (encode::json(value)?, &it.out) {
            (Json::Null, _) => Ok(()),
            (json, Out::Keys(_)) => {
                let text = format.write(&json)?;
                it.insert(Encoded::Text(text));
                Ok(())
            }
            (json, Out::Document(_)) => {
                it.insert(Encoded::Json(json));
                Ok(())
            }
        });
    }

    /// A field that a module of the user's writes: `plain` and `structured` call the same function.
    pub fn with<E: Display>(
        &mut self,
        field: &Field,
        plain: impl FnOnce(Plain) -> Result<String, NotPlain>,
        structured: impl FnOnce(serde_json::value::Serializer) -> Result<Json, E>,
    ) {
        self.field(field, |it| {
            let value = match plain(Plain) {
                Ok(text) => Encoded::Text(text),
                Err(NotPlain::Absent) => return Ok(()),
                Err(NotPlain::Refused(reason)) => return Err(reason),
                Err(NotPlain::Structured) => Encoded::Json(
                    structured(serde_json::value::Serializer).map_err(|error| error.to_string())?,
                ),
            };
            it.insert(value);
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
        let value = match &self.out {
            Out::Keys(_) => encode::encode_some(value)?.map(Encoded::Text),
            Out::Document(_) => Some(encode::json(value)?)
                .filter(|json| !json.is_null())
                .map(Encoded::Json),
        };
        if let Some(value) = value {
            self.insert(value);
        }
        Ok(())
    }

    /// The value of an entry: it is there, whatever it is.
    pub(crate) fn entry<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), String> {
        let value = match &self.out {
            Out::Keys(_) => Encoded::Text(encode::encode(value)?),
            Out::Document(_) => Encoded::Json(encode::json(value)?),
        };
        self.insert(value);
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
                        Ok(text) => self.insert(Encoded::Text(text)),
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
                    self.insert(Encoded::Text("{}".to_owned()));
                }
            }
            (Out::Document(_), _) => {
                self.insert(Encoded::Json(Json::Object(Members::new())));
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
        let path = self.path.join("/");
        self.faults.push(format!("`{path}`: {reason}"));
    }

    fn insert(&mut self, value: Encoded) {
        match &mut self.out {
            Out::Keys(keys) => {
                let text = match value {
                    Encoded::Text(text) => text,
                    Encoded::Json(json) => json.to_string(),
                };
                keys.insert(self.path.join("/"), text);
            }
            Out::Document(members) => {
                let json = match value {
                    Encoded::Text(text) => Json::String(text),
                    Encoded::Json(json) => json,
                };
                member(members, &self.path, json);
            }
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
