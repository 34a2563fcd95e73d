//! From the struct's tokens to the [`Model`].

use proc_macro2::Span;
use quote::ToTokens;
use syn::{Ident, Token, ext::IdentExt};

use super::{
    model::{Check, Default, Field, Key, Kind, Model, Read},
    words::{self, Case, flag, format, literal, path, skip, text, value},
};
use crate::{crate_path::CratePath, errors::Errors, once::Once};

pub(crate) fn parse(errors: &Errors, input: syn::DeriveInput) -> Model {
    let mut prefix = Once::none("prefix");
    let mut rename_all = Once::<syn::LitStr>::none("rename_all");
    let mut document = Once::none("document");
    let mut unknown = Once::none("unknown");
    let mut validate = Vec::new();
    let mut write = Once::none("write");
    let mut krate = Once::<syn::Path>::none("crate");
    words::each(errors, &input.attrs, |word, input| {
        match word.to_string().as_str() {
            "prefix" => prefix.set(errors, word.span(), text(word, input)?),
            "rename_all" => rename_all.set(errors, word.span(), text(word, input)?),
            "document" if !input.peek(Token![=]) => {
                document.set(errors, word.span(), super::model::Format::Json);
            }
            "document" => document.set(errors, word.span(), format(word, input)?),
            "unknown" => unknown.set(errors, word.span(), words::unknown_keys(word, input)?),
            "validate" => validate.push(path(word, "function", input)?),
            "write" => write.set(errors, word.span(), flag(word, input)?),
            "crate" => krate.set(errors, word.span(), value(input)?),
            other => {
                let (valid, elsewhere) = (words::CONTAINER, words::FIELD);
                errors.at(word, words::unknown(other, valid, elsewhere, "a field"));
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
    let case = match rename_all.take() {
        Some(name) => Case::parse(errors, &name),
        // Serde judges its own words.
        None => {
            words::of_serde(&input.attrs, "rename_all").and_then(|name| Case::of(&name.value()))
        }
    };
    Model {
        fields: fields(errors, &input.ident, input.data, case),
        ident: input.ident,
        generics: input.generics,
        krate: CratePath::new(errors, krate.get()),
        prefix: prefix.take(),
        document: document.take(),
        unknown: unknown.take(),
        validate,
        write: write.get().is_some(),
    }
}

fn fields(errors: &Errors, name: &Ident, data: syn::Data, case: Option<Case>) -> Vec<Field> {
    let hint = match data {
        syn::Data::Struct(syn::DataStruct {
            fields: syn::Fields::Named(named),
            ..
        }) => {
            return named
                .named
                .into_iter()
                .filter_map(|field| self::field(errors, field, case))
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

/// The words of one field.
struct Words {
    key: Once<syn::LitStr>,
    aliases: Vec<syn::LitStr>,
    alias: Option<Span>,
    default: Once<Default>,
    nested: Once<()>,
    flatten: Once<()>,
    map: Once<()>,
    codec: Once<super::model::Format>,
    with: Once<syn::Path>,
    secret: Once<()>,
    skip: Once<()>,
    validate: Option<Span>,
    range: Once<()>,
    checks: Vec<Check>,
}

fn field(errors: &Errors, field: syn::Field, case: Option<Case>) -> Option<Field> {
    let ident = field.ident?;
    let words = read(errors, &field.attrs);
    let optional = is_option(&field.ty);
    if let (Some(word), true, None) = (words.default.span(), optional, words.skip.span()) {
        errors.push(syn::Error::new(
            word,
            "`default` on an `Option`: without its key it is `None`. Drop the `Option` or the \
             `default`",
        ));
    }
    words.conflicts(errors);
    // Any other lifetime is an error already: one of the struct's, or one that is missing.
    if let syn::Type::Reference(reference) = &field.ty
        && words.skip.span().is_none()
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
    let of_literal = |literal: syn::LitStr| Key {
        text: literal.value(),
        tokens: literal.into_token_stream(),
    };
    let given = words.key.take();
    let key = match given.or_else(|| words::of_serde(&field.attrs, "rename")) {
        Some(literal) => of_literal(literal),
        None => Key {
            text: case.map_or_else(|| name.clone(), |case| case.apply(&name)),
            tokens: ident.to_token_stream(),
        },
    };
    let default = words.default.take().unwrap_or(Default::None);
    let kind = if words.skip.get().is_some() {
        Kind::Skip(default)
    } else if words.flatten.get().is_some() {
        Kind::Flat
    } else if words.map.get().is_some() {
        Kind::Map {
            structs: words.nested.get().is_some(),
        }
    } else if words.nested.get().is_some() {
        Kind::Nested
    } else {
        let read = match (words.codec.take(), words.with.take()) {
            (_, Some(path)) => Read::With(path),
            (Some(format), None) => Read::Codec(format),
            (None, None) => Read::Plain,
        };
        Kind::Leaf(default, read)
    };
    Some(Field {
        doc: words::doc(&field.attrs),
        optional,
        key,
        aliases: words.aliases.into_iter().map(of_literal).collect(),
        secret: words.secret.get().is_some(),
        checks: words.checks,
        kind,
        ty: field.ty,
        name,
        ident,
    })
}

fn read(errors: &Errors, attributes: &[syn::Attribute]) -> Words {
    let mut words = Words {
        key: Once::none("key"),
        aliases: Vec::new(),
        alias: None,
        default: Once::none("default"),
        nested: Once::none("nested"),
        flatten: Once::none("flatten"),
        map: Once::none("map"),
        codec: Once::none("codec"),
        with: Once::none("with"),
        secret: Once::none("secret"),
        skip: Once::none("skip"),
        validate: None,
        range: Once::none("range"),
        checks: Vec::new(),
    };
    words::each(errors, attributes, |word, input| {
        let span = word.span();
        match word.to_string().as_str() {
            "key" => words.key.set(errors, span, text(word, input)?),
            "alias" => {
                words.aliases.push(text(word, input)?);
                words.alias.get_or_insert(span);
            }
            "default" if !input.peek(Token![=]) => {
                words.default.set(errors, span, Default::Own(span));
            }
            "default" => words
                .default
                .set(errors, span, given_default(value(input)?)),
            "nested" => words.nested.set(errors, span, flag(word, input)?),
            "flatten" => words.flatten.set(errors, span, flag(word, input)?),
            "map" => words.map.set(errors, span, flag(word, input)?),
            "codec" => words.codec.set(errors, span, format(word, input)?),
            "with" => words.with.set(errors, span, path(word, "module", input)?),
            "secret" => words.secret.set(errors, span, flag(word, input)?),
            "skip" => words.skip.set(errors, span, flag(word, input)?),
            "validate" => {
                let check = Check::That(path(word, "function", input)?);
                words.checks.push(check);
                words.validate.get_or_insert(span);
            }
            "range" => {
                let check = Check::Range(range(value(input)?)?);
                words.range.set(errors, span, ());
                words.checks.push(check);
            }
            other => {
                let (valid, elsewhere) = (words::FIELD, words::CONTAINER);
                let message = match other {
                    "rename" => "unknown attribute `rename`: it is called `key`".to_owned(),
                    "document" => "`document` belongs on the struct; one field is a document with \
                         `codec = json`"
                        .to_owned(),
                    _ => words::unknown(other, valid, elsewhere, "the struct"),
                };
                errors.at(word, message);
                skip(input)?;
            }
        }
        Ok(())
    });
    words
}

impl Words {
    fn span(&self, word: &str) -> Option<Span> {
        match word {
            "key" => self.key.span(),
            "alias" => self.alias,
            "default" => self.default.span(),
            "nested" => self.nested.span(),
            "flatten" => self.flatten.span(),
            "map" => self.map.span(),
            "codec" => self.codec.span(),
            "with" => self.with.span(),
            "secret" => self.secret.span(),
            "validate" => self.validate,
            "range" => self.range.span(),
            _ => None,
        }
    }

    /// Words that exclude each other: one error for each that is too much.
    fn conflicts(&self, errors: &Errors) {
        // The first that is given decides about the rest.
        const RULES: &[(&str, &[(&str, &str)])] = &[
            (
                "flatten",
                &[
                    ("key", "a flattened struct has no key of its own"),
                    ("alias", "a flattened struct has no key of its own"),
                    (
                        "default",
                        "give the defaults in the flattened struct's own fields",
                    ),
                    ("secret", "say it on the flattened struct's own fields"),
                    ("range", "say it on the flattened struct's own fields"),
                    ("validate", "say it on the flattened struct"),
                    (
                        "nested",
                        "either the fields have a key above them or they have none",
                    ),
                    ("map", "the entries of a map need a key above them"),
                    ("codec", "what is flattened is no value of its own"),
                    ("with", "what is flattened is no value of its own"),
                ],
            ),
            (
                "map",
                &[
                    ("default", "without keys it is an empty map"),
                    (
                        "range",
                        "say it on the fields of the map's struct, or write a `validate`",
                    ),
                    (
                        "codec",
                        "a map is read from a key for each entry; drop one of the two",
                    ),
                    (
                        "with",
                        "a map is read from a key for each entry; drop one of the two",
                    ),
                ],
            ),
            (
                "nested",
                &[
                    (
                        "default",
                        "give the defaults in the nested struct's own fields",
                    ),
                    ("secret", "say it on the nested struct's own fields"),
                    ("range", "say it on the nested struct's own fields"),
                    ("codec", "say `document` on the nested struct"),
                    ("with", "a config struct reads itself; drop one of the two"),
                ],
            ),
            (
                "with",
                &[("codec", "the module says how the value is read")],
            ),
        ];
        if self.skip.span().is_some() {
            for word in words::FIELD.iter().filter(|it| **it != "default") {
                self.refuse(errors, word, "skip", "the field has no key and is not read");
            }
            return;
        }
        for (word, excluded) in RULES {
            if self.span(word).is_some() {
                for (other, why) in *excluded {
                    self.refuse(errors, other, word, why);
                }
                return;
            }
        }
    }

    fn refuse(&self, errors: &Errors, word: &str, with: &str, why: &str) {
        if let Some(span) = self.span(word) {
            errors.push(syn::Error::new(
                span,
                format!("`{word}` with `{with}`: {why}"),
            ));
        }
    }
}

fn range(value: syn::Expr) -> syn::Result<syn::ExprRange> {
    match value {
        syn::Expr::Range(range) if range.start.is_some() || range.end.is_some() => Ok(range),
        syn::Expr::Paren(paren) => range(*paren.expr),
        other => Err(syn::Error::new_spanned(
            other,
            "`range` is a range: write `range = 1..=10`, or an open one such as `1..`",
        )),
    }
}

/// A string literal is text to be decoded; anything else is the value itself.
fn given_default(value: syn::Expr) -> Default {
    match literal(value) {
        Ok(text) => Default::Text(text),
        Err(value) => Default::Value(value),
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
