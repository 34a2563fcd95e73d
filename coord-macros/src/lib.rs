//! The macros of `coord`. Their documentation stands where users find it: on the re-exports in `coord`.
//!
//! Each macro is parse → model → check → expand, in a folder of its own; the expansion is a few calls
//! into `coord::private` around the user's own tokens.

mod crate_path;
mod errors;
mod nearest;
mod once;
mod service;

use proc_macro::TokenStream;

/// See `coord::service`.
#[proc_macro_attribute]
pub fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    service::service(attribute.into(), item.into()).into()
}
