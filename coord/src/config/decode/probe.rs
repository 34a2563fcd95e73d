//! [`Probe`]: what a type can do, found without a bound: `(&&Probe::<T>::new()).read()` takes the first
//! of two traits that has `T`. One `&` less, and it silently takes the second.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    fault::Place,
    refused::{Refused, Result},
    scope::{Leaf, Scope, accept},
    value::{Node, Scalar, Value},
};
use crate::config::{
    encode,
    encoder::WriteVia,
    shape::{CoordConfig, Shape, WriteConfig},
};

/// Asks what `T` can do.
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    /// Nothing but the type.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "written by macros alone")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> fmt::Debug for Probe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// A place that holds a struct, or an entry of a map.
#[derive(Debug)]
pub struct Entry<'e> {
    pub(super) scope: &'e Scope<'e>,
    pub(super) node: Node<'e>,
    pub(super) place: &'e Place<'e>,
    pub(super) revision: i64,
}

/// How a nested struct, or the value of an entry, is read; with what it was before.
pub(crate) type ReadVia<T> = fn(&Entry<'_>, Option<&T>) -> Option<T>;
/// How the key of an entry is read.
pub(crate) type ReadKey<K> = fn(Value<'_>) -> Result<K>;
/// How the key of an entry is written.
pub(crate) type WriteKey<K> = fn(&K) -> std::result::Result<String, String>;
/// How a map is cloned, if it can be.
pub(crate) type Cloner<M> = Option<fn(&M) -> M>;

/// How a config struct is read.
#[must_use]
pub const fn config<T: CoordConfig>() -> ReadVia<T> {
    |entry, old| entry.structure(old)
}

/// How a config struct is written.
#[must_use]
pub const fn write_config<T: WriteConfig>() -> WriteVia<T> {
    |into, value| {
        into.structure(value);
        Ok(())
    }
}

/// How one value is read.
fn serde<T: Leaf>() -> ReadVia<T> {
    |entry, _| {
        let cx = entry.scope.cx;
        let value = Value {
            node: entry.node,
            place: entry.place,
            cx,
            revision: entry.revision,
        };
        accept(cx, T::deserialize(value), "")
    }
}

/// Config structs.
pub trait ViaConfig {
    /// The type.
    type Of;
    /// How it is read.
    fn read(&self) -> ReadVia<Self::Of>;
    /// What stands below it.
    fn shape(&self) -> Shape;
}

impl<T: CoordConfig> ViaConfig for &Probe<T> {
    type Of = T;

    fn read(&self) -> ReadVia<T> {
        config::<T>()
    }

    fn shape(&self) -> Shape {
        T::SHAPE
    }
}

/// Else: single values, if serde can read them.
pub trait ViaSerde {
    /// The type.
    type Of;
    /// How it is read.
    fn read(&self) -> ReadVia<Self::Of>
    where
        Self::Of: Leaf;
    /// What stands below it.
    fn shape(&self) -> Shape;
}

impl<T> ViaSerde for Probe<T> {
    type Of = T;

    fn read(&self) -> ReadVia<T>
    where
        T: Leaf,
    {
        serde::<T>()
    }

    fn shape(&self) -> Shape {
        Shape::value()
    }
}

/// Config structs that can be saved.
pub trait ViaWriteConfig {
    /// The type.
    type Of;
    /// How it is written.
    fn write(&self) -> WriteVia<Self::Of>;
}

impl<T: WriteConfig> ViaWriteConfig for &Probe<T> {
    type Of = T;

    fn write(&self) -> WriteVia<T> {
        write_config::<T>()
    }
}

/// Else: single values, if serde can write them.
pub trait ViaSerialize {
    /// The type.
    type Of;
    /// How it is written.
    fn write(&self) -> WriteVia<Self::Of>
    where
        Self::Of: Serialize;
}

impl<T> ViaSerialize for Probe<T> {
    type Of = T;

    fn write(&self) -> WriteVia<T>
    where
        T: Serialize,
    {
        |into, value| into.entry(value)
    }
}

/// Keys that serde can read.
pub trait ViaKey {
    /// The type.
    type Of;
    /// How it is read.
    fn read_key(&self) -> ReadKey<Self::Of>;
}

impl<K: DeserializeOwned> ViaKey for &Probe<K> {
    type Of = K;

    fn read_key(&self) -> ReadKey<K> {
        |value| K::deserialize(value)
    }
}

/// A key of a map: it can be read from a text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a config map",
    label = "cannot be read from a segment of a key",
    note = "derive `serde::Deserialize` for it, or implement `FromStr`"
)]
pub trait ParseKey: Sized {
    /// From a segment.
    fn parse_key(text: &str) -> std::result::Result<Self, String>;
}

#[diagnostic::do_not_recommend]
impl<K: FromStr<Err: fmt::Display>> ParseKey for K {
    fn parse_key(text: &str) -> std::result::Result<Self, String> {
        text.parse().map_err(|error: K::Err| error.to_string())
    }
}

/// Else: keys that parse.
pub trait ViaFromStr {
    /// The type.
    type Of;
    /// How it is read.
    fn read_key(&self) -> ReadKey<Self::Of>
    where
        Self::Of: ParseKey;
}

impl<K> ViaFromStr for Probe<K> {
    type Of = K;

    fn read_key(&self) -> ReadKey<K>
    where
        K: ParseKey,
    {
        |value| match value.scalar()? {
            Scalar::Text(text) => K::parse_key(text).map_err(Refused::new),
            Scalar::Json(_) => Err(Refused::missing()),
        }
    }
}

/// Keys that serde can write.
pub trait ViaWriteKey {
    /// The type.
    type Of;
    /// How it is written.
    fn write_key(&self) -> WriteKey<Self::Of>;
}

impl<K: Serialize> ViaWriteKey for &Probe<K> {
    type Of = K;

    fn write_key(&self) -> WriteKey<K> {
        |key| encode::name(key)
    }
}

/// Else: keys that can be shown.
pub trait ViaDisplay {
    /// The type.
    type Of;
    /// How it is written.
    fn write_key(&self) -> WriteKey<Self::Of>
    where
        Self::Of: fmt::Display;
}

impl<K> ViaDisplay for Probe<K> {
    type Of = K;

    fn write_key(&self) -> WriteKey<K>
    where
        K: fmt::Display,
    {
        |key| Ok(key.to_string())
    }
}

/// Maps that can be cloned.
pub trait ViaClone {
    /// The type.
    type Of;
    /// How it is cloned.
    fn cloner(&self) -> Cloner<Self::Of>;
}

impl<M: Clone> ViaClone for &Probe<M> {
    type Of = M;

    fn cloner(&self) -> Cloner<M> {
        Some(M::clone)
    }
}

/// Else: they are read anew.
pub trait ViaNothing {
    /// The type.
    type Of;
    /// No way.
    fn cloner(&self) -> Cloner<Self::Of>;
}

impl<M> ViaNothing for Probe<M> {
    type Of = M;

    fn cloner(&self) -> Cloner<M> {
        None
    }
}
