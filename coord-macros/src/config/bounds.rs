//! The `impl` around a body, and the bounds of its type parameters.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse_quote;

use super::model::{Kind, Model};

/// Which trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Write,
}

/// The `impl` with `body`. A type parameter of a plain field must be readable; a nested type that has
/// one must be a config struct, unless it is this very type, which would go round in circles.
pub(crate) fn implement(model: &Model, way: Way, body: &TokenStream) -> TokenStream {
    let (krate, ident) = (&model.krate, &model.ident);
    let (implemented, value) = match way {
        Way::Read => (
            quote!(#krate::CoordConfig),
            quote!(#krate::private::config::Leaf),
        ),
        Way::Write => (
            quote!(#krate::config::WriteConfig),
            quote!(#krate::private::config::Serialize),
        ),
    };
    let mut generics = model.generics.clone();
    let params: Vec<_> = generics
        .type_params()
        .map(|param| param.ident.clone())
        .collect();
    let bounds = &mut generics.make_where_clause().predicates;
    for param in &params {
        bounds.push(parse_quote!(#param: ::core::marker::Send + ::core::marker::Sync + 'static));
    }
    if way == Way::Write && !params.is_empty() {
        bounds.push(parse_quote!(Self: #krate::CoordConfig));
    }
    for field in &model.fields {
        let ty = &field.ty;
        let used: Vec<_> = params
            .iter()
            .filter(|param| mentions(ty.to_token_stream(), param))
            .collect();
        let recursive = mentions(ty.to_token_stream(), ident);
        match &field.kind {
            Kind::Leaf(..) | Kind::Map { structs: false } => {
                for param in used {
                    bounds.push(parse_quote!(#param: #value));
                }
            }
            Kind::Nested | Kind::Flat if !used.is_empty() && !recursive => {
                bounds.push(parse_quote!(#ty: #implemented));
            }
            Kind::Map { structs: true } if !used.is_empty() && !recursive => {
                bounds.push(parse_quote! {
                    <#ty as #krate::private::config::Map>::Value: #implemented
                });
            }
            _ => {}
        }
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics #implemented for #ident #ty_generics #where_clause {
            #body
        }
    }
}

fn mentions(tokens: TokenStream, ident: &syn::Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(found) => found == *ident,
        TokenTree::Group(group) => mentions(group.stream(), ident),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
