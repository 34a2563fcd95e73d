//! From the [`Model`] to the `impl`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{parse_quote, spanned::Spanned};

use super::model::{Default, Kind, Model};

pub(crate) fn expand(model: &Model) -> TokenStream {
    let krate = &model.krate;
    let private = quote!(#krate::private::config);
    let prefix = model.prefix.as_ref().map(|prefix| {
        quote! {
            const PREFIX: ::core::option::Option<&'static ::core::primitive::str> =
                ::core::option::Option::Some(#prefix);
        }
    });
    // Not call-site: a default's expression must not see them. Not plain: a pattern `scope` would
    // mean a constant of the user's that is called so.
    let scope = syn::Ident::new("__coord_scope", Span::mixed_site());
    let fields = syn::Ident::new("__coord_fields", Span::mixed_site());
    let locals: Vec<_> = (0..model.fields.len())
        .map(|index| format_ident!("__coord_field_{index}", span = Span::mixed_site()))
        .collect();

    let shape = model.fields.iter().map(|field| {
        let (name, key, ty) = (&field.name, &field.key.text, &field.ty);
        let secret = field.secret.then(|| quote!(.secret()));
        match field.kind {
            Kind::Leaf(_) => quote!(#private::Field::leaf(#name, #key) #secret),
            Kind::Nested => quote!(#private::Field::nested::<#ty>(#name, #key)),
        }
    });
    let reads = model.fields.iter().enumerate().map(|(index, field)| {
        let (local, ty) = (&locals[index], &field.ty);
        let field_ref = quote!(&#fields[#index]);
        match &field.kind {
            Kind::Nested => quote!(let #local = #scope.nested::<#ty>(#field_ref);),
            Kind::Leaf(default) => {
                let default = self::default(&private, ty, default);
                quote!(let #local = #scope.leaf::<#ty>(#field_ref, #default);)
            }
        }
    });
    let idents = model.fields.iter().map(|field| &field.ident);

    let body = quote! {
        #prefix

        const SHAPE: #private::Shape = #private::Shape::Struct(const { &[#(#shape),*] });

        fn decode(#scope: &#private::Scope<'_>) -> ::core::option::Option<Self> {
            let #fields = <Self as #krate::CoordConfig>::FIELDS;
            // Every field is read before the first that failed ends it.
            #(#reads)*
            ::core::option::Option::Some(Self { #(#idents: #locals?),* })
        }
    };
    implement(model, &body)
}

/// An `impl` that stands in for the real one after an error.
pub(crate) fn stub(model: &Model) -> TokenStream {
    if model.generics.lifetimes().next().is_some() {
        // No `impl` of a `'static` trait can be made for it.
        return TokenStream::new();
    }
    let krate = &model.krate;
    let private = quote!(#krate::private::config);
    let body = quote! {
        const SHAPE: #private::Shape = #private::Shape::Struct(&[]);

        fn decode(_: &#private::Scope<'_>) -> ::core::option::Option<Self> {
            ::core::option::Option::None
        }
    };
    implement(model, &body)
}

fn default(private: &TokenStream, ty: &syn::Type, default: &Default) -> TokenStream {
    match default {
        Default::None => quote!(#private::Default::None),
        Default::Own(span) => {
            let own = quote_spanned! {span.resolved_at(Span::mixed_site())=>
                <#ty as ::core::default::Default>::default
            };
            quote!(#private::Default::Value::<#ty>(#own))
        }
        Default::Text(text) => quote!(#private::Default::Text(#text)),
        Default::Value(value) => {
            let make = quote_spanned!(value.span().resolved_at(Span::mixed_site())=> || #value);
            quote!(#private::Default::Value::<#ty>(#make))
        }
    }
}

/// The `impl` with `body`. A type parameter of a plain field must be readable; a nested type that has
/// one must be a config struct, unless it is this very type, which would go round in circles.
fn implement(model: &Model, body: &TokenStream) -> TokenStream {
    let (krate, ident) = (&model.krate, &model.ident);
    let mut generics = model.generics.clone();
    let params: Vec<_> = generics
        .type_params()
        .map(|param| param.ident.clone())
        .collect();
    let bounds = &mut generics.make_where_clause().predicates;
    for param in &params {
        bounds.push(parse_quote!(#param: ::core::marker::Send + ::core::marker::Sync + 'static));
    }
    for field in &model.fields {
        let ty = &field.ty;
        let used = params
            .iter()
            .filter(|param| mentions(ty.to_token_stream(), param));
        match field.kind {
            Kind::Leaf(_) => used.for_each(|param| {
                bounds.push(parse_quote!(#param: #krate::private::config::Leaf));
            }),
            Kind::Nested if used.count() > 0 && !mentions(ty.to_token_stream(), ident) => {
                bounds.push(parse_quote!(#ty: #krate::CoordConfig));
            }
            Kind::Nested => {}
        }
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::CoordConfig for #ident #ty_generics #where_clause {
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
