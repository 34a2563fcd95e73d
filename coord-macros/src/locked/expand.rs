//! The expansion: a few calls around the user's own tokens.
//!
//! Locals have mixed-site spans, so that they meet none of the user's names. The body stands once, in
//! an `async move` block: `?` and `return` leave that block, and the lock is released after it.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{AttrStyle, Block, Type, spanned::Spanned as _, visit_mut::VisitMut};

use super::{
    args::Args,
    function::{Function, Shape},
};
use crate::template::Template;

pub(super) fn expand(args: &Args, keys: &[Template], function: &Function) -> TokenStream {
    let item = &function.item;
    let (visibility, signature) = (&item.vis, &item.sig);
    let defaultness = &item.modifiers.defaultness;
    let (inner, attributes): (Vec<_>, Vec<_>) = item
        .attrs
        .iter()
        .partition(|attribute| matches!(attribute.style, AttrStyle::Inner(_)));
    let body = match &function.shape {
        Shape::Async => {
            let body = body(args, keys, function, &item.block);
            quote!({ #(#inner)* #body })
        }
        Shape::Boxed(future) => {
            let body = body(args, keys, function, &future.block);
            let attributes = &future.attrs;
            quote!({
                #(#inner)*
                ::std::boxed::Box::pin(#(#attributes)* async move { #body })
            })
        }
    };
    quote!(#(#attributes)* #visibility #defaultness #signature #body)
}

fn body(args: &Args, keys: &[Template], function: &Function, block: &Block) -> TokenStream {
    let local = |name: &str| Ident::new(name, Span::mixed_site());
    let (returns, names, held, instead) = (
        local("returns"),
        local("names"),
        local("held"),
        local("instead"),
    );
    let coord = &args.coord;
    let private = quote!(#coord::private::locked);

    let returns_token = returns_token(args, function, &private);
    let names_of = keys.iter().map(|template| {
        let parts = template.parts(&quote!(#private::Part));
        quote!(#private::key(&[#(#parts),*]))
    });
    let (values, how) = builder(args, &private);
    let via = match &args.via {
        None => quote!(::core::option::Option::None),
        // The whole call carries the expression's place: there a wrong type is reported.
        Some(via) => {
            let span = via.span().resolved_at(Span::mixed_site());
            quote_spanned!(span=> #private::via(&#via))
        }
    };
    let guard = args
        .guard
        .as_ref()
        .map(|name| quote!(let #name: &#coord::Held = &#held;));
    let block = block.to_token_stream();
    let moved = function.moved(&block);
    let block = without_unused_braces(block);
    let run = quote! {
        #returns.run(&#held, async move {
            // Tells the compiler the block's type, for `Err(Box::new(error))` and its like.
            if false {
                return #returns.pin();
            }
            // `_unused` arguments too are to be dropped before the lock is released: naming them moves
            // them into the block. The lint is about people who do so.
            #(#[allow(clippy::used_underscore_binding)] let _ = &#moved;)*
            #block
        })
        .await
    };
    let run = match args.lingers {
        false => run,
        true => {
            let output = local("output");
            quote!(let #output = #run; #returns.leave(#held, #output).await)
        }
    };
    quote! {
        let #returns = #returns_token;
        // A statement of its own: what it formats may not be held across an await.
        let #names = [#(#names_of),*];
        #values
        let #held = match #private::enter(#returns, #names, #how, #via).await {
            ::core::result::Result::Ok(#held) => #held,
            ::core::result::Result::Err(#instead) => return #instead,
        };
        #guard
        #run
    }
}

/// What the function can return without a body: the one place with bounds on its type.
fn returns_token(args: &Args, function: &Function, private: &TokenStream) -> TokenStream {
    let returned = without_impl_trait(function.returns.clone());
    let span = function.returns.span().resolved_at(Span::mixed_site());
    let token = match &args.map_err {
        None => quote_spanned!(span=> #private::returns::<#returned>()),
        Some(map) => {
            let error = Ident::new("error", Span::mixed_site());
            // Where the expression stands: there a wrong one is reported.
            let by = Ident::new("by", map.span().resolved_at(Span::mixed_site()));
            let mapped = quote_spanned!(by.span()=> #by(#error));
            quote_spanned! {span=>
                #private::returns_by::<#returned>(
                    |#error| {
                        let #by = #map;
                        ::core::result::Result::Err(#mapped)
                    },
                    ::core::result::Result::is_ok,
                )
            }
        }
    };
    match args.skips {
        false => token,
        true => quote_spanned!(span=> #token.or_skip(#private::skip::<#returned>())),
    }
}

/// What the words' values are, and what they are given to.
fn builder(args: &Args, private: &TokenStream) -> (TokenStream, TokenStream) {
    let lock = Ident::new("lock", Span::mixed_site());
    let mut values = TokenStream::new();
    let mut how = lock.to_token_stream();
    for call in &args.calls {
        let method = &call.method;
        let value = Ident::new(&format!("{method}_value"), Span::mixed_site());
        if let Some((expr, ty)) = &call.argument {
            values.extend(quote!(let #value: #ty = #expr;));
        }
        how = match &call.argument {
            None => quote!(#private::LockBuilder::#method(#how)),
            Some(_) => quote!(#private::LockBuilder::#method(#how, #value)),
        };
    }
    (values, quote!(move |#lock| #how))
}

/// A type that may stand in a body: there an `impl Trait` is inferred.
fn without_impl_trait(mut ty: Type) -> Type {
    struct Infer;
    impl VisitMut for Infer {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            if matches!(ty, Type::ImplTrait(_)) {
                *ty = syn::parse_quote!(_);
            } else {
                syn::visit_mut::visit_type_mut(self, ty);
            }
        }
    }
    Infer.visit_type_mut(&mut ty);
    ty
}

/// The user's block with braces of the expansion's: `unused_braces` looks at where they come from.
fn without_unused_braces(block: TokenStream) -> TokenStream {
    block
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let mut braces = Group::new(Delimiter::Brace, group.stream());
                braces.set_span(group.span().resolved_at(Span::mixed_site()));
                TokenTree::Group(braces)
            }
            other => other,
        })
        .collect()
}
