//! The expansion: a few calls around the user's own tokens.
//!
//! Locals have mixed-site spans, so that they meet none of the user's names. The body stands once, in
//! an `async move` block: `?` and `return` leave that block, and the lock is released after it.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{AttrStyle, Block, Type, spanned::Spanned as _, visit_mut::VisitMut};

use super::{
    args::{Args, Wait},
    function::{Function, Shape},
};
use crate::template::Template;

pub(super) fn expand(args: &Args, template: &Template, function: &Function) -> TokenStream {
    let item = &function.item;
    let (visibility, signature) = (&item.vis, &item.sig);
    let defaultness = &item.modifiers.defaultness;
    let (inner, attributes): (Vec<_>, Vec<_>) = item
        .attrs
        .iter()
        .partition(|attribute| matches!(attribute.style, AttrStyle::Inner(_)));
    let body = match &function.shape {
        Shape::Async => {
            let body = body(args, template, function, &item.block);
            quote!({ #(#inner)* #body })
        }
        Shape::Boxed(future) => {
            let body = body(args, template, function, &future.block);
            let attributes = &future.attrs;
            quote!({
                #(#inner)*
                ::std::boxed::Box::pin(#(#attributes)* async move { #body })
            })
        }
    };
    quote!(#(#attributes)* #visibility #defaultness #signature #body)
}

fn body(args: &Args, template: &Template, function: &Function, block: &Block) -> TokenStream {
    let local = |name: &str| Ident::new(name, Span::mixed_site());
    let (returns, key, held, instead) = (
        local("returns"),
        local("key"),
        local("held"),
        local("instead"),
    );
    let coord = &args.coord;
    let private = quote!(#coord::private::locked);

    let returned = without_impl_trait(function.returns.clone());
    let span = function.returns.span().resolved_at(Span::mixed_site());
    let returns_type = quote_spanned!(span=> #private::returns::<#returned>());
    let parts = template.parts(&quote!(#private::Part));
    let request = request(args, &private, &key);
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
    quote! {
        let #returns = #returns_type;
        // A statement of its own: what it formats may not be held across an await.
        let #key = #private::key(&[#(#parts),*]);
        let #held = match #private::enter(#returns, #request, #via).await {
            ::core::result::Result::Ok(#held) => #held,
            ::core::result::Result::Err(#instead) => return #instead,
        };
        #guard
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
    }
}

fn request(args: &Args, private: &TokenStream, key: &Ident) -> TokenStream {
    let wait = match &args.wait {
        None => TokenStream::new(),
        Some(Wait::Try) => quote!(.or_busy()),
        Some(Wait::Forever) => quote!(.forever()),
        Some(Wait::For(limit)) => {
            let (seconds, nanos) = (limit.as_secs(), limit.subsec_nanos());
            quote!(.wait(::core::time::Duration::new(#seconds, #nanos)))
        }
        Some(Wait::Expr(expr)) => quote!(.wait(#expr)),
    };
    quote!(#private::Request::new(#key) #wait)
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
