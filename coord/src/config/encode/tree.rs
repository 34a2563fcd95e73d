//! [`Tree`]: a value as JSON that every reader of ours takes for the same value again.

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::{Map as Members, Number, Value as Json};

use super::{NotPlain, Result, finite, name};

/// Writes JSON; unlike `serde_json` itself it writes nothing that is read as another value. A number
/// that is not finite is refused instead of becoming `null`, and one beyond 64 bits is its digits as
/// a text, because as a number most readers round it.
#[derive(Debug)]
pub struct Tree;

macro_rules! numbers {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Result<Json> {
            Ok(value.into())
        }
    )*};
}

impl Serializer for Tree {
    type Ok = Json;
    type Error = NotPlain;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    numbers! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
    }

    fn serialize_i128(self, value: i128) -> Result<Json> {
        Ok(i64::try_from(value).map_or_else(|_| value.to_string().into(), Json::from))
    }

    fn serialize_u128(self, value: u128) -> Result<Json> {
        Ok(u64::try_from(value).map_or_else(|_| value.to_string().into(), Json::from))
    }

    /// `0.1` rather than `0.10000000149011612`, where both are read as the same.
    fn serialize_f32(self, value: f32) -> Result<Json> {
        let wide = f64::from(value);
        #[expect(clippy::cast_possible_truncation, reason = "as a reader does")]
        let short = format!("{value:?}")
            .parse()
            .ok()
            .filter(|short| *short as f32 == value);
        self.serialize_f64(short.unwrap_or(wide))
    }

    fn serialize_f64(self, value: f64) -> Result<Json> {
        let number = Number::from_f64(value);
        finite(number.is_some(), || Json::from(number))
    }

    fn serialize_char(self, value: char) -> Result<Json> {
        Ok(value.to_string().into())
    }

    fn serialize_str(self, value: &str) -> Result<Json> {
        Ok(value.into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Json> {
        Ok(value.into())
    }

    fn serialize_none(self) -> Result<Json> {
        Ok(Json::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Json> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Json> {
        Ok(Json::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Json> {
        Ok(Json::Null)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Json> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Json> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Json> {
        value
            .serialize(self)
            .map(|json| tagged(Some(variant), json))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Items> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _len: usize) -> Result<Items> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Items> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Items> {
        Ok(Items {
            variant: Some(variant),
            ..Items::default()
        })
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries> {
        Ok(Entries::default())
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Entries> {
        Ok(Entries::default())
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Entries> {
        Ok(Entries {
            variant: Some(variant),
            ..Entries::default()
        })
    }
}

fn tagged(variant: Option<&str>, json: Json) -> Json {
    match variant {
        Some(variant) => Json::Object(Members::from_iter([(variant.to_owned(), json)])),
        None => json,
    }
}

/// A list so far.
#[derive(Debug, Default)]
pub struct Items {
    variant: Option<&'static str>,
    items: Vec<Json>,
}

macro_rules! lists {
    ($($list:ident $method:ident)*) => {$(
        impl $list for Items {
            type Ok = Json;
            type Error = NotPlain;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.items.push(value.serialize(Tree)?);
                Ok(())
            }

            fn end(self) -> Result<Json> {
                Ok(tagged(self.variant, Json::Array(self.items)))
            }
        }
    )*};
}

lists! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

/// An object so far.
#[derive(Debug, Default)]
pub struct Entries {
    variant: Option<&'static str>,
    members: Members<String, Json>,
    /// The key whose value comes next.
    key: Option<String>,
}

macro_rules! structs {
    ($($structure:ident)*) => {$(
        impl $structure for Entries {
            type Ok = Json;
            type Error = NotPlain;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<()> {
                self.members.insert(name.to_owned(), value.serialize(Tree)?);
                Ok(())
            }

            fn end(self) -> Result<Json> {
                Ok(tagged(self.variant, Json::Object(self.members)))
            }
        }
    )*};
}

structs! {
    SerializeStruct
    SerializeStructVariant
}

impl SerializeMap for Entries {
    type Ok = Json;
    type Error = NotPlain;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        let name = name(key).map_err(|reason| {
            NotPlain::Refused(format!("a key of the map has no text form: {reason}"))
        })?;
        self.key = Some(name);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let name = self.key.take().unwrap_or_default();
        if self.members.contains_key(&name) {
            let reason = "two keys of the map have the same text form";
            return Err(NotPlain::Refused(reason.to_owned()));
        }
        self.members.insert(name, value.serialize(Tree)?);
        Ok(())
    }

    fn end(self) -> Result<Json> {
        Ok(Json::Object(self.members))
    }
}
