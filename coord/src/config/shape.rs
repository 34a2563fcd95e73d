//! [`CoordConfig`]: what a struct says of its fields, and how it is made from keys.

use std::{fmt, sync::Arc};

use super::{decode::Scope, document::Format, encoder::Encoder, seed};

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

    /// The fields, in the order in which they are declared; without those that have no key.
    const FIELDS: &'static [Field] = Self::SHAPE.fields();

    /// Reads every field, recording every fault; `None` if there was one. `old` was made from keys of
    /// which all but the changed ones are as they were: what is costly may be taken from it.
    #[doc(hidden)]
    fn decode(scope: &Scope<'_>, old: Option<&Self>) -> Option<Self>;

    /// A shell script to seed the prefix with: for each key its documentation, type and default, and
    /// the `etcdctl put` that sets it, all commented out. Placeholders stand as they are; a relative
    /// prefix is shown below `/config/`.
    ///
    /// ```
    /// # use coord::CoordConfig;
    /// #[derive(CoordConfig)]
    /// #[coord(prefix = "shop")]
    /// struct Shop {
    ///     /// How many may be open at once.
    ///     #[coord(default = 100)]
    ///     max_connections: u32,
    /// }
    /// let script = Shop::template();
    /// assert!(script.contains("# How many may be open at once."));
    /// assert!(script.contains("# u32, default 100"));
    /// assert!(script.contains("#etcdctl put -- '/config/shop/max_connections' '100'"));
    /// ```
    #[must_use]
    fn template() -> String {
        seed::template(Self::PREFIX.unwrap_or("{prefix}"), Self::SHAPE)
    }
}

/// A config struct that can also be saved: `#[coord(write)]` with the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be saved",
    label = "does not say `#[coord(write)]`",
    note = "write `#[coord(write)]` on the struct, beside its `#[derive(CoordConfig)]`"
)]
pub trait WriteConfig: CoordConfig {
    /// Puts every field into `into`.
    #[doc(hidden)]
    fn encode(&self, into: &mut Encoder);

    /// There is something to write: `None` is the absence of all keys.
    #[doc(hidden)]
    fn is_there(&self) -> bool {
        true
    }
}

impl<T: CoordConfig> CoordConfig for Option<T> {
    const SHAPE: Shape = T::SHAPE;

    fn decode(scope: &Scope<'_>, old: Option<&Self>) -> Option<Self> {
        if scope.is_absent(T::FIELDS) {
            scope.try_absent::<T>();
            Some(None)
        } else {
            T::decode(scope, old.and_then(Option::as_ref)).map(Some)
        }
    }
}

impl<T: WriteConfig> WriteConfig for Option<T> {
    fn encode(&self, into: &mut Encoder) {
        if let Some(value) = self {
            value.encode(into);
        }
    }

    fn is_there(&self) -> bool {
        self.as_ref().is_some_and(T::is_there)
    }
}

macro_rules! pointers {
    ($($pointer:ident)*) => {$(
        impl<T: CoordConfig> CoordConfig for $pointer<T> {
            const SHAPE: Shape = T::SHAPE;

            fn decode(scope: &Scope<'_>, old: Option<&Self>) -> Option<Self> {
                T::decode(scope, old.map(|old| &**old)).map($pointer::new)
            }
        }

        impl<T: WriteConfig> WriteConfig for $pointer<T> {
            fn encode(&self, into: &mut Encoder) {
                T::encode(self, into);
            }

            fn is_there(&self) -> bool {
                T::is_there(self)
            }
        }
    )*};
}

pointers!(Box Arc);

/// What stands below a key.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    form: Form,
    fields: &'static [Field],
    unknown: Unknown,
}

/// How a value is spread over keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One value that serde reads.
    Value,
    /// One key per field.
    Keys,
    /// All fields in one key.
    Document(Format),
}

/// What becomes of a change that leaves a key which no field reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Told by the status and, once, by the log.
    #[default]
    Warn,
    /// The change is refused.
    Deny,
    /// Not looked at.
    Ignore,
}

#[doc(hidden)]
impl Shape {
    #[must_use]
    pub const fn value() -> Self {
        Self {
            form: Form::Value,
            fields: &[],
            unknown: Unknown::Warn,
        }
    }

    #[must_use]
    pub const fn keys(fields: &'static [Field]) -> Self {
        Self {
            form: Form::Keys,
            fields,
            unknown: Unknown::Warn,
        }
    }

    #[must_use]
    pub const fn document(mut self, format: Format) -> Self {
        self.form = Form::Document(format);
        self
    }

    #[must_use]
    pub const fn unknown(mut self, unknown: Unknown) -> Self {
        self.unknown = unknown;
        self
    }

    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        self.fields
    }

    pub(crate) const fn form(self) -> Form {
        self.form
    }

    pub(crate) const fn policy(self) -> Unknown {
        self.unknown
    }
}

/// One field of a config struct.
#[derive(Clone, Copy)]
pub struct Field {
    name: &'static str,
    key: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    secret: bool,
    type_name: &'static str,
    doc: &'static str,
    default: Option<Fallback>,
    optional: bool,
}

/// Shows no default of a secret.
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field")
            .field("name", &self.name)
            .field("key", &self.key)
            .field("type_name", &self.type_name)
            .field("default", &self.default())
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

/// Shapes are behind functions so that a type may contain itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Leaf,
    Nested(fn() -> Shape),
    /// One entry per segment below the key, each of this shape.
    Map(fn() -> Shape),
    /// The fields of another struct, as if they stood here.
    Flat(Shape),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// As it would be stored.
    Text(&'static str),
    /// In Rust.
    Code(&'static str),
}

/// What the derive writes.
#[doc(hidden)]
impl Field {
    const fn new(name: &'static str, key: &'static str, kind: Kind) -> Self {
        Self {
            name,
            key,
            aliases: &[],
            kind,
            secret: false,
            type_name: "",
            doc: "",
            default: None,
            optional: false,
        }
    }

    #[must_use]
    pub const fn leaf(name: &'static str, key: &'static str) -> Self {
        Self::new(name, key, Kind::Leaf)
    }

    #[must_use]
    pub const fn nested(name: &'static str, key: &'static str, shape: fn() -> Shape) -> Self {
        Self::new(name, key, Kind::Nested(shape))
    }

    #[must_use]
    pub const fn map(name: &'static str, key: &'static str, value: fn() -> Shape) -> Self {
        Self::new(name, key, Kind::Map(value))
    }

    #[must_use]
    pub const fn flat<T: CoordConfig>(name: &'static str) -> Self {
        Self::new(name, "", Kind::Flat(T::SHAPE))
    }

    #[must_use]
    pub const fn about(mut self, type_name: &'static str, doc: &'static str) -> Self {
        self.type_name = type_name;
        self.doc = doc;
        self
    }

    #[must_use]
    pub const fn or_else(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    #[must_use]
    pub const fn default_text(mut self, text: &'static str) -> Self {
        self.default = Some(Fallback::Text(text));
        self
    }

    #[must_use]
    pub const fn default_code(mut self, code: &'static str) -> Self {
        self.default = Some(Fallback::Code(code));
        self
    }

    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

impl Field {
    /// The field's name in Rust.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its key below the struct's prefix; may have several segments. Empty for a flattened struct,
    /// whose fields stand as if they were the outer one's.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// The keys that are read, in this order, while the main one is absent.
    #[must_use]
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// Its type, as the struct writes it.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Its documentation.
    #[must_use]
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// What it is without its key: text as it would be stored, or the expression that the struct
    /// writes. `None` without one, and for a secret.
    #[must_use]
    pub const fn default(&self) -> Option<&'static str> {
        match self.default {
            Some(Fallback::Text(text) | Fallback::Code(text)) if !self.secret => Some(text),
            _ => None,
        }
    }

    /// True if it must have its key: it has no default and is neither an `Option` nor a map. Of a
    /// nested struct its own fields tell.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        matches!(self.kind, Kind::Leaf) && self.default.is_none() && !self.optional
    }

    /// True if its value is never shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// True if it has one entry for each segment below its key.
    #[must_use]
    pub const fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    /// The fields below it: of a nested or flattened struct, or of each entry of a map of structs.
    #[must_use]
    pub fn fields(&self) -> &'static [Field] {
        match self.kind {
            Kind::Leaf => &[],
            Kind::Nested(shape) | Kind::Map(shape) => shape().fields(),
            Kind::Flat(shape) => shape.fields(),
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn fallback(&self) -> Option<Fallback> {
        self.default
    }

    /// The main key, then the aliases.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.key).chain(self.aliases.iter().copied())
    }
}

/// The fields that have a key, those of flattened structs among them, each with the path to it.
pub(crate) fn flat(fields: &'static [Field]) -> Box<dyn Iterator<Item = &'static Field>> {
    Box::new(fields.iter().flat_map(|field| match field.kind {
        Kind::Flat(inner) => flat(inner.fields()),
        _ => Box::new(std::iter::once(field)),
    }))
}
