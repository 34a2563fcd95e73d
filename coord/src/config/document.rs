//! [`Format`]: a document's text and what it holds.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::shape::{Field, Kind, flat};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JSON.
    Json,
    /// TOML; needs the feature `toml`.
    Toml,
}

/// TOML, where coord was built with it. `F` is always [`Toml`]: a bound on a type parameter is checked
/// where this is called, and the error stands under the user's word.
#[must_use]
pub const fn toml_format<F: Available>() -> Format {
    Format::Toml
}

/// The format that a feature brings.
#[derive(Debug)]
pub struct Toml;

/// A format that coord was built with.
#[diagnostic::on_unimplemented(
    message = "coord was built without TOML",
    label = "needs coord's feature `toml`",
    note = "in Cargo.toml: the dependency's `features = [\"toml\"]`"
)]
pub trait Available {}

#[cfg(feature = "toml")]
impl Available for Toml {}

impl Format {
    /// The document's text.
    pub(crate) fn write(self, json: &Json) -> Result<String, String> {
        match self {
            Self::Json => serde_json::to_string_pretty(json).map_err(|error| error.to_string()),
            #[cfg(feature = "toml")]
            Self::Toml => {
                toml::to_string_pretty(&to_toml(json)?).map_err(|error| error.to_string())
            }
            #[cfg(not(feature = "toml"))]
            Self::Toml => Err("coord was built without its feature `toml`".to_owned()),
        }
    }

    /// What the document holds. An error shows nothing of it: it may hold secrets.
    pub(crate) fn read(self, text: &str) -> Result<Json, String> {
        match self {
            Self::Json => {
                serde_json::from_str(text).map_err(|error| format!("the value is no JSON: {error}"))
            }
            #[cfg(feature = "toml")]
            Self::Toml => toml::from_str::<toml::Table>(text)
                .map_err(|error| {
                    let before = error.span().map_or(text, |span| &text[..span.start]);
                    let line = before.matches('\n').count() + 1;
                    format!("the value is no TOML: {} at line {line}", error.message())
                })
                .and_then(|table| from_toml(toml::Value::Table(table))),
            #[cfg(not(feature = "toml"))]
            Self::Toml => Err("coord was built without its feature `toml`".to_owned()),
        }
    }
}

/// What TOML can hold and its readers read again. It has no `null`: a member that is `None` is not
/// there. An error shows no value: it may be a secret.
#[cfg(feature = "toml")]
fn to_toml(json: &Json) -> Result<Json, String> {
    Ok(match json {
        Json::Null => return Err("a list in TOML cannot hold a `None`".to_owned()),
        Json::Number(number) if number.is_u64() && !number.is_i64() => {
            return Err(format!("a whole number in TOML is at most {}", i64::MAX));
        }
        Json::Array(items) => Json::Array(items.iter().map(to_toml).collect::<Result<_, _>>()?),
        Json::Object(members) => Json::Object(
            members
                .iter()
                .filter(|(_, json)| !json.is_null())
                .map(|(name, json)| Ok((name.clone(), to_toml(json)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(feature = "toml")]
fn from_toml(value: toml::Value) -> Result<Json, String> {
    Ok(match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Json::Number)
            .ok_or("a number in config must be finite")?,
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(at) => Json::String(at.to_string()),
        toml::Value::Array(items) => {
            Json::Array(items.into_iter().map(from_toml).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => Json::Object(
            table
                .into_iter()
                .map(|(name, value)| Ok((name, from_toml(value)?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

/// The paths of the fields whose member differs between two documents; of all, if one of the two
/// cannot be read.
pub(crate) fn changed(
    format: Format,
    fields: &'static [Field],
    old: Option<&[u8]>,
    new: Option<&[u8]>,
    into: &mut BTreeSet<String>,
) {
    let read = |value: Option<&[u8]>| match value {
        None => Some(Json::Null),
        Some(value) => format.read(std::str::from_utf8(value).ok()?).ok(),
    };
    match (read(old), read(new)) {
        (Some(old), Some(new)) => members(fields, "", &old, &new, into),
        _ => into.extend(flat(fields).map(|field| field.name().to_owned())),
    }
}

fn members(
    fields: &'static [Field],
    path: &str,
    old: &Json,
    new: &Json,
    into: &mut BTreeSet<String>,
) {
    for field in flat(fields) {
        let member = |json| {
            field.keys().find_map(|key| {
                key.split('/')
                    .try_fold(json, |json: &Json, name| json.get(name))
            })
        };
        let (old, new) = (member(old), member(new));
        if old == new {
            continue;
        }
        let path = format!("{path}{}", field.name());
        match (field.kind(), old, new) {
            (Kind::Nested(shape), Some(old @ Json::Object(_)), Some(new @ Json::Object(_))) => {
                let before = into.len();
                members(shape().fields(), &format!("{path}."), old, new, into);
                // A member that no field reads: it may be the one that is not allowed.
                if into.len() == before {
                    into.insert(path);
                }
            }
            _ => {
                into.insert(path);
            }
        }
    }
}

#[cfg(all(test, feature = "toml"))]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_as_toml_is_read_again_or_refused() {
        let held = [
            json!({"a": i64::MAX, "b": [1, [2]], "c": {"d": "x\n"}}),
            json!({"a": i64::MIN, "b": [], "c": [{"d": 1.5}, {}]}),
        ];
        for json in held {
            let text = Format::Toml.write(&json).expect("it can be held");
            assert_eq!(Format::Toml.read(&text), Ok(json), "{text}");
        }
        let text = Format::Toml.write(&json!({"a": null, "b": {"c": null}}));
        let read = text.and_then(|text| Format::Toml.read(&text));
        assert_eq!(read, Ok(json!({"b": {}})));
        let refused = [
            (json!({"a": u64::MAX}), "at most 9223372036854775807"),
            (json!({"a": [1, null]}), "cannot hold a `None`"),
        ];
        for (json, reason) in refused {
            let error = Format::Toml.write(&json).expect_err("it cannot be held");
            assert!(error.contains(reason), "{error}");
        }
    }
}
