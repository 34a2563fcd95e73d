//! The way back: a value as the text that decodes to it again.

mod tree;

use std::{fmt, time::Duration};

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible, SerializeStruct},
};
use serde_json::Value as Json;

pub(crate) use self::tree::Tree;

/// What is stored for `value`: plain for what is one word or number, JSON for the rest; bytes as they
/// are.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    encode_some(value)?.ok_or_else(|| NotPlain::Absent.to_string())
}

/// The same; nothing for a `None`, which is a key that is not there.
pub(crate) fn encode_some<T: Serialize + ?Sized>(value: &T) -> Result<Option<Vec<u8>>, String> {
    stored(value.serialize(Plain), || value.serialize(Tree))
}

/// What a key of its own holds for a value.
pub(super) fn stored<E: fmt::Display>(
    plain: Result<String>,
    structured: impl FnOnce() -> Result<Json, E>,
) -> Result<Option<Vec<u8>>, String> {
    match plain {
        Ok(mut text) => {
            // Reading drops one line end, so a text that ends in one gets another.
            if text.ends_with('\n') {
                text.push('\n');
            }
            Ok(Some(text.into_bytes()))
        }
        Err(NotPlain::Bytes(bytes)) => Ok(Some(bytes)),
        Err(NotPlain::Absent) => Ok(None),
        Err(NotPlain::Structured) => structured()
            .map(|json| Some(json.to_string().into_bytes()))
            .map_err(|error| error.to_string()),
        Err(NotPlain::Refused(reason)) => Err(reason),
    }
}

/// The value as a part of a document; `null` for a `None`. A duration is what it is in a key of its
/// own: `1m 30s`.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Json, String> {
    member(value.serialize(Plain), value.serialize(Tree))
}

/// What a member of a document holds for a value.
pub(super) fn member<E: fmt::Display>(
    plain: Result<String>,
    structured: Result<Json, E>,
) -> Result<Json, String> {
    match (plain, structured) {
        // A plain value that serde writes as a structure: a duration, and nothing else.
        (Ok(text), Ok(Json::Object(_))) => Ok(Json::String(text)),
        (Err(NotPlain::Refused(reason)), _) => Err(reason),
        (_, json) => json.map_err(|error| error.to_string()),
    }
}

/// A value as the name of an entry in a map: one word if it is one, else JSON.
pub(crate) fn name<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    match value.serialize(Plain) {
        Ok(text) => Ok(text),
        Err(NotPlain::Structured) => match value.serialize(Tree) {
            Ok(json) => Ok(json.to_string()),
            Err(error) => Err(error.to_string()),
        },
        Err(NotPlain::Bytes(bytes)) => {
            String::from_utf8(bytes).map_err(|_| "the bytes are no UTF-8".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Writes single values, and says of everything else that it is none.
#[derive(Debug)]
pub struct Plain;

/// Why a value has no plain text.
#[derive(Debug)]
pub enum NotPlain {
    /// It is `None`.
    Absent,
    /// It is made of several values.
    Structured,
    /// It is bytes, of which any are a value.
    Bytes(Vec<u8>),
    /// No text would be read back as it.
    Refused(String),
}

impl fmt::Display for NotPlain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no text for `None`: delete the key instead"),
            Self::Structured => f.write_str("it is not one plain value"),
            Self::Bytes(_) => f.write_str("it is bytes, not text"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for NotPlain {}

impl ser::Error for NotPlain {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Refused(reason.to_string())
    }
}

type Result<T, E = NotPlain> = std::result::Result<T, E>;

macro_rules! display {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Result<String> {
            Ok(value.to_string())
        }
    )*};
}

impl Serializer for Plain {
    type Ok = String;
    type Error = NotPlain;
    type SerializeSeq = Impossible<String, NotPlain>;
    type SerializeTuple = Impossible<String, NotPlain>;
    type SerializeTupleStruct = Impossible<String, NotPlain>;
    type SerializeTupleVariant = Impossible<String, NotPlain>;
    type SerializeMap = Impossible<String, NotPlain>;
    type SerializeStruct = Span;
    type SerializeStructVariant = Impossible<String, NotPlain>;

    display! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
    }

    fn serialize_f32(self, value: f32) -> Result<String> {
        finite(value.is_finite(), || format!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Result<String> {
        finite(value.is_finite(), || format!("{value:?}"))
    }

    fn serialize_char(self, value: char) -> Result<String> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<String> {
        Ok(value.to_owned())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<String> {
        Err(NotPlain::Bytes(value.to_owned()))
    }

    fn serialize_none(self) -> Result<String> {
        Err(NotPlain::Absent)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<String> {
        Ok("null".to_owned())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<String> {
        Ok(String::new())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<String> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<String> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<String> {
        Err(NotPlain::Structured)
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq> {
        Err(NotPlain::Structured)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple> {
        Err(NotPlain::Structured)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct> {
        Err(NotPlain::Structured)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        Err(NotPlain::Structured)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap> {
        Err(NotPlain::Structured)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Span> {
        match (name, len) {
            ("Duration", 2) => Ok(Span::default()),
            _ => Err(NotPlain::Structured),
        }
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant> {
        Err(NotPlain::Structured)
    }
}

fn finite<T>(finite: bool, value: impl FnOnce() -> T) -> Result<T> {
    if finite {
        Ok(value())
    } else {
        let reason = "a number in config must be finite";
        Err(NotPlain::Refused(reason.to_owned()))
    }
}

/// What serde makes of `std::time::Duration`: two whole numbers, seconds and nanoseconds.
#[derive(Debug, Default)]
pub struct Span {
    secs: Option<u64>,
    nanos: Option<u32>,
}

impl SerializeStruct for Span {
    type Ok = String;
    type Error = NotPlain;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        let text = value.serialize(Plain)?;
        match name {
            "secs" => self.secs = text.parse().ok(),
            "nanos" => self.nanos = text.parse().ok(),
            _ => return Err(NotPlain::Structured),
        }
        Ok(())
    }

    fn end(self) -> Result<String> {
        let (Some(secs), Some(nanos @ 0..1_000_000_000)) = (self.secs, self.nanos) else {
            return Err(NotPlain::Structured);
        };
        Ok(humantime::format_duration(Duration::new(secs, nanos)).to_string())
    }
}
