//! `Value` as serde's `Deserializer`: each method reads what its type may look like.

use serde::de::{Deserializer, Visitor, value::MapDeserializer};
use serde_json::Value as Json;

use super::{
    fault::shown,
    refused::{Refused, Result},
    text,
    tree::Branch,
    value::{Node, Scalar, Value},
};

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
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.wide(visitor, "i128", |visitor, value| visitor.visit_i128(value))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.wide(visitor, "u128", |visitor, value| visitor.visit_u128(value))
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
        if let Node::Keys(Branch { own: Some(kv), .. }) = self.node
            && let [b'"', .., b'"'] = kv.value.trim_ascii_end()
        {
            let reason = "the value has quotes around it, and they are part of the text";
            self.cx.warn(self.place, reason);
        }
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
            self.strangers_below();
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
        let result = self.structure(visitor, true);
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
        let result = self.structure(visitor, false);
        self.locate(result)
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
