//! From the struct's tokens to the [`Model`].

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Ident, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

use super::model::{Default, Field, Key, Kind, Model};
use crate::{crate_path::CratePath, errors::Errors, nearest, once::Once};

const CONTAINER_WORDS: &[&str] = &["prefix", "crate"];
const FIELD_WORDS: &[&str] = &["key", "default", "nested", "secret"];

pub(crate) fn parse(errors: &Errors, input: syn::DeriveInput) -> Model {
    let mut prefix = Once::none("prefix");
    let mut krate = Once::<syn::Path>::none("crate");
    words(errors, &input.attrs, |word, input| {
        match word.to_string().as_str() {
            "prefix" => prefix.set(errors, word.span(), text(word, input)?),
            "crate" => krate.set(errors, word.span(), value(input)?),
            other => {
                errors.at(
                    word,
                    unknown(other, CONTAINER_WORDS, FIELD_WORDS, "a field"),
                );
                skip(input)?;
            }
        }
        Ok(())
    });
    for lifetime in input.generics.lifetimes() {
        errors.at(
            lifetime,
            "a config struct owns its values: it is replaced while readers hold the one before; \
             use owned types such as `String`",
        );
    }
    Model {
        fields: fields(errors, &input.ident, input.data),
        ident: input.ident,
        generics: input.generics,
        krate: CratePath::new(errors, krate.get()),
        prefix: prefix.take(),
    }
}

fn fields(errors: &Errors, name: &Ident, data: syn::Data) -> Vec<Field> {
    let hint = match data {
        syn::Data::Struct(syn::DataStruct {
            fields: syn::Fields::Named(named),
            ..
        }) => {
            return named
                .named
                .into_iter()
                .filter_map(|field| self::field(errors, field))
                .collect();
        }
        syn::Data::Struct(_) => {
            "`CoordConfig` needs named fields: each names a key. If this is one value, derive \
             `serde::Deserialize` and use it as the type of a field"
        }
        syn::Data::Enum(_) => {
            "`CoordConfig` is for structs. An enum is one value: derive `serde::Deserialize` and \
             use it as the type of a field"
        }
        syn::Data::Union(_) => "`CoordConfig` is for structs, not for unions",
    };
    errors.at(name, hint);
    Vec::new()
}

fn field(errors: &Errors, field: syn::Field) -> Option<Field> {
    let ident = field.ident?;
    let mut key = Once::<syn::LitStr>::none("key");
    let mut default = Once::none("default");
    let mut nested = Once::none("nested");
    let mut secret = Once::none("secret");
    words(errors, &field.attrs, |word, input| {
        match word.to_string().as_str() {
            "key" => key.set(errors, word.span(), text(word, input)?),
            "default" if !input.peek(Token![=]) => {
                default.set(errors, word.span(), Default::Own(word.span()));
            }
            "default" => default.set(errors, word.span(), given_default(value(input)?)),
            "nested" => nested.set(errors, word.span(), flag(word, input)?),
            "secret" => secret.set(errors, word.span(), flag(word, input)?),
            other => {
                errors.at(
                    word,
                    unknown(other, FIELD_WORDS, CONTAINER_WORDS, "the struct"),
                );
                skip(input)?;
            }
        }
        Ok(())
    });
    if let (Some(word), true) = (default.span(), is_option(&field.ty)) {
        errors.push(syn::Error::new(
            word,
            "`default` on an `Option`: without its key it is `None`. Drop the `Option` or the \
             `default`",
        ));
    }
    if nested.get().is_some() {
        if let Some(word) = default.span() {
            errors.push(syn::Error::new(
                word,
                "`default` with `nested`: give the defaults in the nested struct's own fields",
            ));
        }
        if let Some(word) = secret.span() {
            errors.push(syn::Error::new(
                word,
                "`secret` with `nested`: say it on the nested struct's own fields",
            ));
        }
    }
    // Any other lifetime is an error already: one of the struct's, or one that is missing.
    if let syn::Type::Reference(reference) = &field.ty
        && reference
            .lifetime
            .as_ref()
            .is_some_and(|it| it.ident == "static")
    {
        errors.at(
            &field.ty,
            "a config value is read at run time: use an owned type such as `String`",
        );
    }
    let name = ident.unraw().to_string();
    Some(Field {
        key: match key.take() {
            Some(literal) => Key {
                text: literal.value(),
                tokens: literal.into_token_stream(),
            },
            None => Key {
                text: name.clone(),
                tokens: ident.to_token_stream(),
            },
        },
        secret: secret.get().is_some(),
        kind: match nested.get() {
            Some(()) => Kind::Nested,
            None => Kind::Leaf(default.take().unwrap_or(Default::None)),
        },
        ty: field.ty,
        name,
        ident,
    })
}

/// A string literal is text to be decoded; anything else is the value itself.
fn given_default(value: syn::Expr) -> Default {
    match literal(value) {
        Ok(text) => Default::Text(text),
        Err(value) => Default::Value(value),
    }
}

fn literal(value: syn::Expr) -> Result<syn::LitStr, Box<syn::Expr>> {
    match value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            attrs,
        }) if attrs.is_empty() => Ok(text),
        value => Err(Box::new(value)),
    }
}

/// Every word of every `#[coord(…)]`, with the rest of its attribute to read its value from.
fn words(
    errors: &Errors,
    attributes: &[syn::Attribute],
    mut read: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
) {
    for attribute in attributes.iter().filter(|it| it.path().is_ident("coord")) {
        errors.ok(attribute.parse_args_with(|input: ParseStream<'_>| {
            while !input.is_empty() {
                read(&input.call(Ident::parse_any)?, input)?;
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        }));
    }
}

fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn text(word: &Ident, input: ParseStream<'_>) -> syn::Result<syn::LitStr> {
    literal(value(input)?).map_err(|value| {
        let message = format!("`{word}` is text: write `{word} = \"…\"`");
        syn::Error::new_spanned(value, message)
    })
}

fn flag(word: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    let message = format!("`{word}` takes no value: write `#[coord({word})]`");
    let mut rest = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        rest.extend([input.parse::<TokenTree>()?]);
    }
    Err(syn::Error::new_spanned(rest, message))
}

fn skip(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

/// A word that belongs elsewhere is told where; any other gets the nearest valid one.
fn unknown(word: &str, valid: &[&str], elsewhere: &[&str], place: &str) -> String {
    if elsewhere.contains(&word) {
        format!("`{word}` belongs on {place}, not here")
    } else {
        nearest::unknown("attribute", word, valid)
    }
}

/// By its name alone: an alias of `Option` is not seen, and does no harm.
fn is_option(ty: &syn::Type) -> bool {
    match ty {
        syn::Type::Group(group) => is_option(&group.elem),
        syn::Type::Paren(paren) => is_option(&paren.elem),
        syn::Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "Option"),
        _ => false,
    }
}
