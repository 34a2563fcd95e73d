//! The expansion: the user's function inside the real `main`, and one call.
//!
//! Locals have mixed-site spans, so that they meet none of the user's names. Each check of a type is
//! a call of its own with that type's span: one error, under it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{ItemFn, Visibility, spanned::Spanned as _};

use super::{
    args::{Args, Arguments, Call},
    function::Function,
};

pub(super) fn expand(args: &Args, function: &Function) -> TokenStream {
    let coord = &args.coord;
    let private = quote!(#coord::private::service);
    let (item, name) = (inner(&function.item), &function.item.sig.ident);
    let visibility = &function.item.vis;
    let spec = spec(args, &private);

    let span = function.returns.span().resolved_at(Span::mixed_site());
    let returned = &function.returns;
    let returns = quote_spanned!(span=> #private::returns::<#returned>());

    let context = Ident::new("context", Span::mixed_site());
    let scope = match args.with_id {
        true => quote!(#private::WithId),
        false => quote!(#private::NoId),
    };
    let made = function.arguments.iter().map(|ty| {
        let span = ty.span().resolved_at(Span::mixed_site());
        let argument = quote_spanned!(span=> #private::argument::<#scope, #ty>());
        quote!(#argument.get(#context).await?)
    });
    let names: Vec<_> = (0..function.arguments.len())
        .map(|n| format_ident!("argument{n}", span = Span::mixed_site()))
        .collect();
    let launch = match function.item.sig.asyncness {
        Some(_) => quote!(launch),
        None => quote!(launch_sync),
    };
    quote! {
        #visibility fn #name() -> ::std::process::ExitCode {
            #item
            #private::#launch(
                #spec,
                #returns,
                async |#context: &#coord::Context| ::core::result::Result::Ok((#(#made,)*)),
                |(#(#names,)*)| #name(#(#names),*),
            )
        }
    }
}

/// The function alone, where something is wrong: it still stands, inside a `main` that does nothing,
/// so that nothing else is said of a `main` that is async or has arguments.
pub(super) fn without_service(item: &ItemFn) -> TokenStream {
    let (visibility, name, item) = (&item.vis, &item.sig.ident, inner(item));
    quote! {
        #visibility fn #name() {
            // Nobody calls it.
            #[allow(dead_code)]
            #item
        }
    }
}

fn inner(item: &ItemFn) -> TokenStream {
    let item = ItemFn {
        vis: Visibility::Inherited,
        ..item.clone()
    };
    match item.sig.asyncness {
        // It is async because the attribute says so, not because it must await something.
        Some(_) => quote!(#[allow(clippy::unused_async)] #item),
        // It is given its arguments, used up or not.
        None => quote!(#[allow(clippy::needless_pass_by_value)] #item),
    }
}

fn spec(args: &Args, private: &TokenStream) -> TokenStream {
    let given = args.calls.iter().map(|Call { method, arguments }| {
        let arguments = match arguments {
            Arguments::Are(arguments) => arguments.clone(),
            Arguments::Choice(ty, variant) => {
                let [ty, variant] = [ty, variant].map(|name| format_ident!("{name}"));
                quote!(#private::#ty::#variant)
            }
        };
        // At the value, so that a value of the wrong type is what an error points at.
        let method = Ident::new(method, arguments.span().resolved_at(Span::mixed_site()));
        quote!(.#method(#arguments))
    });
    let runtime = &args.runtime;
    // The user's crate is what these name: they are read where they stand.
    quote! {
        #private::Service::of_crate(
            ::core::option_env!("CARGO_BIN_NAME"),
            ::core::option_env!("CARGO_PKG_NAME"),
            ::core::option_env!("CARGO_PKG_VERSION"),
        )
        #(#given)* #runtime
    }
}
