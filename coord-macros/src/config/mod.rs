//! `#[derive(CoordConfig)]`.

mod bounds;
mod check;
mod expand;
mod model;
mod parse;
mod words;

use proc_macro2::TokenStream;

use crate::errors::Errors;

pub(crate) fn derive(input: syn::DeriveInput) -> TokenStream {
    let errors = Errors::new();
    let model = parse::parse(&errors, input);
    check::check(&errors, &model);
    match errors.check() {
        None => expand::expand(&model),
        // The type still is a config struct: one mistake must not make every use of it an error.
        Some(messages) => {
            let stub = expand::stub(&model);
            quote::quote!(#messages #stub)
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    fn derive(input: proc_macro2::TokenStream) -> String {
        super::derive(syn::parse2(input).expect("a struct")).to_string()
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let told = derive(quote! {
            #[coord(prefix = "/a//b", prefx = "c")]
            struct App {
                #[coord(key = "/x", nestd)]
                a: u8,
                #[coord(default = 1)]
                b: Option<u8>,
                #[coord(key = "b")]
                c: u8,
            }
        });
        for part in [
            "empty segment",
            "unknown attribute `prefx`: did you mean `prefix`?",
            "unknown attribute `nestd`: did you mean `nested`?",
            "leading `/`",
            "`default` on an `Option`",
            "the key `b` is the field `b`'s already",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
    }
}
