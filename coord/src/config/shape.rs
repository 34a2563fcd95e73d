//! [`CoordConfig`]: what a struct says of its fields, and how it is made from keys.

use std::sync::Arc;

use super::decode::Scope;

/// A struct that is bound to etcd keys. Derive it; the derive's documentation names its attributes.
///
/// Containers of such a struct are config too: `Option` (`None` while no key exists below it), `Box`
/// and `Arc`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a config struct",
    label = "does not derive `CoordConfig`",
    note = "write `#[derive(coord::CoordConfig)]` on it; if it is one value that derives `serde::Deserialize`, leave `nested` out"
)]
pub trait CoordConfig: Sized + Send + Sync + 'static {
    /// The prefix that the struct itself names, with its placeholders.
    const PREFIX: Option<&'static str> = None;

    /// What stands below a key of this type.
    #[doc(hidden)]
    const SHAPE: Shape;

    /// The fields, in the order in which they are declared.
    const FIELDS: &'static [Field] = Self::SHAPE.fields();

    /// Reads every field, recording every fault; `None` if there was one.
    #[doc(hidden)]
    fn decode(scope: &Scope<'_>) -> Option<Self>;
}

impl<T: CoordConfig> CoordConfig for Option<T> {
    const SHAPE: Shape = T::SHAPE;

    fn decode(scope: &Scope<'_>) -> Option<Self> {
        if scope.is_absent() {
            Some(None)
        } else {
            T::decode(scope).map(Some)
        }
    }
}

impl<T: CoordConfig> CoordConfig for Box<T> {
    const SHAPE: Shape = T::SHAPE;

    fn decode(scope: &Scope<'_>) -> Option<Self> {
        T::decode(scope).map(Box::new)
    }
}

impl<T: CoordConfig> CoordConfig for Arc<T> {
    const SHAPE: Shape = T::SHAPE;

    fn decode(scope: &Scope<'_>) -> Option<Self> {
        T::decode(scope).map(Arc::new)
    }
}

/// What stands below a key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Shape {
    /// One key per field.
    Struct(&'static [Field]),
}

impl Shape {
    /// The fields of a struct.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Struct(fields) => fields,
        }
    }
}

/// One field of a config struct.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    key: &'static str,
    secret: bool,
    nested: Option<fn() -> Shape>,
}

impl Field {
    #[doc(hidden)]
    #[must_use]
    pub const fn leaf(name: &'static str, key: &'static str) -> Self {
        Self {
            name,
            key,
            secret: false,
            nested: None,
        }
    }

    /// The shape is behind a function so that a type may contain itself.
    #[doc(hidden)]
    #[must_use]
    pub const fn nested<T: CoordConfig>(name: &'static str, key: &'static str) -> Self {
        Self {
            name,
            key,
            secret: false,
            nested: Some(shape_of::<T>),
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The field's name in Rust.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its key below the struct's prefix; may have several segments.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// True if its value is never shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// The fields below it, if it is a config struct itself.
    pub(crate) fn below(&self) -> Option<&'static [Field]> {
        self.nested.map(|shape| shape().fields())
    }
}

fn shape_of<T: CoordConfig>() -> Shape {
    T::SHAPE
}

/// The path of the field that the key `path` (below the prefix) belongs to: `db.port`. A nested
/// struct's own path when the key holds the whole struct as one document, and when no field inside
/// reads the key: it may be the one that makes an optional struct be there.
pub(crate) fn field_of(fields: &[Field], path: &str) -> Option<String> {
    fields.iter().find_map(|field| {
        let rest = path.strip_prefix(field.key)?;
        match (rest.strip_prefix('/'), field.below()) {
            (None, _) => rest.is_empty().then(|| field.name.to_owned()),
            (Some(_), None) => Some(field.name.to_owned()),
            (Some(rest), Some(below)) => Some(match field_of(below, rest) {
                Some(inner) => format!("{}.{inner}", field.name),
                None => field.name.to_owned(),
            }),
        }
    })
}
