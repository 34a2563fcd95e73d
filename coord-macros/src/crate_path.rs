//! `crate = ::path`: where the expansion finds `coord`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use crate::errors::Errors;

/// The path to `coord` in the user's crate. Absolute, so that no local name can shadow it.
#[derive(Clone, Debug)]
pub(crate) struct CratePath(TokenStream);

impl CratePath {
    /// `::coord`, or the path that the user gave.
    pub(crate) fn new(errors: &Errors, given: Option<&syn::Path>) -> Self {
        match given {
            None => Self(quote!(::coord)),
            Some(path) => {
                let first = path
                    .segments
                    .first()
                    .map(|segment| segment.ident.to_string());
                if path.leading_colon.is_none() && first.as_deref() != Some("crate") {
                    errors.at(
                        path,
                        format!(
                            "the path must be absolute: write `crate = ::{}`",
                            path.to_token_stream().to_string().replace(' ', "")
                        ),
                    );
                }
                Self(path.to_token_stream())
            }
        }
    }
}

impl ToTokens for CratePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.0.to_tokens(tokens);
    }
}
