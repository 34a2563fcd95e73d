//! The expansion: the user's function inside the real test, and one call.
//!
//! Locals have mixed-site spans, so that they meet none of the user's names. Each check of a type is
//! a call of its own with that type's span: one error, under it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{ItemFn, Visibility, spanned::Spanned as _};

use super::{
    args::Args,
    function::{Function, makes_a_test},
};

pub(super) fn expand(args: &Args, function: &Function) -> TokenStream {
    let (coord, runtime) = (&args.coord, &args.runtime);
    let private = quote!(#coord::private::testing);
    let ItemFn {
        attrs, vis, sig, ..
    } = &function.item;
    let (name, output) = (&sig.ident, &sig.output);
    let inner = ItemFn {
        attrs: Vec::new(),
        vis: Visibility::Inherited,
        ..function.item.clone()
    };

    let run = match function.should_panic {
        false => quote!(#private::run),
        true => quote!(#private::run_to_panic),
    };
    let test = Ident::new("test", Span::mixed_site());
    let made = function.arguments.iter().map(|ty| {
        let span = ty.span().resolved_at(Span::mixed_site());
        let argument = quote_spanned!(span=> #private::argument::<#ty>());
        quote!(#argument.get(#test).await?)
    });
    let names: Vec<_> = (0..function.arguments.len())
        .map(|n| format_ident!("argument{n}", span = Span::mixed_site()))
        .collect();
    quote! {
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() #output {
            // It is async because the attribute says so, not because it must await something.
            #[allow(clippy::unused_async)]
            #inner
            #run(#private::Runtime::new() #runtime, async |#test: &#private::Test| {
                #(let #names = #made;)*
                ::core::result::Result::Ok(#name(#(#names),*).await)
            })
        }
    }
}

/// The function alone, where something is wrong: it still stands, and is no test.
pub(super) fn without_test(item: &ItemFn) -> TokenStream {
    let mut item = item.clone();
    // They would have errors of their own for what is wrong.
    item.attrs.retain(|attribute| !makes_a_test(attribute));
    quote!(#[allow(unused)] #item)
}
