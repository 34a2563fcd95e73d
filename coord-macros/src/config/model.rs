//! What the derive knows of a struct.

use proc_macro2::{Span, TokenStream};

use crate::crate_path::CratePath;

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) ident: syn::Ident,
    pub(crate) generics: syn::Generics,
    pub(crate) krate: CratePath,
    pub(crate) prefix: Option<syn::LitStr>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) ident: syn::Ident,
    pub(crate) ty: syn::Type,
    /// The name without `r#`.
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) secret: bool,
    pub(crate) kind: Kind,
}

/// A field's key, and where to point when it is wrong.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) tokens: TokenStream,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Leaf(Default),
    Nested,
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
