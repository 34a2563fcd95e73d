//! What the derive knows of a struct.

use proc_macro2::{Span, TokenStream};

use crate::crate_path::CratePath;

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) ident: syn::Ident,
    pub(crate) generics: syn::Generics,
    pub(crate) krate: CratePath,
    pub(crate) prefix: Option<syn::LitStr>,
    /// The whole struct is one value.
    pub(crate) document: Option<Format>,
    pub(crate) unknown: Option<Unknown>,
    pub(crate) validate: Vec<syn::Path>,
    pub(crate) write: bool,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) ident: syn::Ident,
    pub(crate) ty: syn::Type,
    /// The name without `r#`.
    pub(crate) name: String,
    pub(crate) doc: String,
    /// It is an `Option`, by its name alone: an alias is not seen, and does no harm.
    pub(crate) optional: bool,
    pub(crate) key: Key,
    pub(crate) aliases: Vec<Key>,
    pub(crate) secret: bool,
    pub(crate) checks: Vec<Check>,
    pub(crate) kind: Kind,
}

impl Field {
    /// It has a key: it is one of `FIELDS`.
    pub(crate) fn is_read(&self) -> bool {
        !matches!(self.kind, Kind::Skip(_))
    }

    /// The keys that are its own.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let own = !matches!(self.kind, Kind::Skip(_) | Kind::Flat);
        std::iter::once(&self.key)
            .chain(&self.aliases)
            .filter(move |_| own)
    }
}

/// A field's key, and where to point when it is wrong.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) tokens: TokenStream,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Leaf(Default, Read),
    Nested,
    /// `structs`: the values are said to be config structs; otherwise they are looked at.
    Map {
        structs: bool,
    },
    Flat,
    Skip(Default),
}

#[derive(Debug)]
pub(crate) enum Default {
    None,
    /// The type's own.
    Own(Span),
    /// As if this text were stored.
    Text(syn::LitStr),
    Value(Box<syn::Expr>),
}

#[derive(Debug)]
pub(crate) enum Read {
    Plain,
    Codec(Format),
    With(syn::Path),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Json,
    /// With the place of its word: whether coord has it is found there.
    Toml(Span),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Unknown {
    Warn,
    Deny,
    Ignore,
}

#[derive(Debug)]
pub(crate) enum Check {
    That(syn::Path),
    Range(syn::ExprRange),
}
