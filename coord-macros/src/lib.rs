//! The macros of `coord`. Their documentation stands where users find it: on the re-exports in `coord`.
//!
//! Each macro is parse → model → check → expand, in a folder of its own; the expansion is a few calls
//! into `coord::private` around the user's own tokens.

// Library code says why it cannot fail (`expect`); tests and tools may `unwrap`.
#![warn(clippy::unwrap_used)]

mod config;
mod crate_path;
mod errors;
mod locked;
mod nearest;
mod once;
mod runtime;
mod service;
mod template;
mod test;
mod words;

use proc_macro::TokenStream;

/// See `coord::CoordConfig`.
#[proc_macro_derive(CoordConfig, attributes(coord))]
pub fn derive_config(input: TokenStream) -> TokenStream {
    config::derive(syn::parse_macro_input!(input)).into()
}

/// See `coord::locked`.
#[proc_macro_attribute]
pub fn locked(attribute: TokenStream, item: TokenStream) -> TokenStream {
    locked::locked(attribute.into(), item.into()).into()
}

/// See `coord::service`.
#[proc_macro_attribute]
pub fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    service::service(attribute.into(), item.into()).into()
}

/// See `coord::test`.
#[proc_macro_attribute]
pub fn test(attribute: TokenStream, item: TokenStream) -> TokenStream {
    test::test(attribute.into(), item.into()).into()
}
