//! The words of `#[coord(…)]`, and what serde's attributes say of names.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Ident, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

use super::model::{Format, Unknown};
use crate::{errors::Errors, nearest};

pub(super) const CONTAINER: &[&str] = &[
    "prefix",
    "rename_all",
    "document",
    "unknown",
    "validate",
    "write",
    "crate",
];
pub(super) const FIELD: &[&str] = &[
    "key", "alias", "default", "nested", "flatten", "map", "codec", "with", "secret", "validate",
    "range", "skip",
];

/// Every word of every `#[coord(…)]`, with the rest of its attribute to read its value from.
pub(super) fn each(
    errors: &Errors,
    attributes: &[syn::Attribute],
    mut read: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
) {
    for attribute in attributes.iter().filter(|it| it.path().is_ident("coord")) {
        errors.ok(attribute.parse_args_with(|input: ParseStream<'_>| {
            while !input.is_empty() {
                let word = input.call(Ident::parse_any)?;
                // The words after a bad one are read too.
                if let Err(error) = read(&word, input) {
                    errors.push(error);
                    skip(input)?;
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        }));
    }
}

pub(super) fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

pub(super) fn text(word: &Ident, input: ParseStream<'_>) -> syn::Result<syn::LitStr> {
    literal(value(input)?).map_err(|value| {
        let message = format!("`{word}` is text: write `{word} = \"…\"`");
        syn::Error::new_spanned(value, message)
    })
}

pub(super) fn literal(value: syn::Expr) -> Result<syn::LitStr, Box<syn::Expr>> {
    match value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            attrs,
        }) if attrs.is_empty() => Ok(text),
        value => Err(Box::new(value)),
    }
}

pub(super) fn flag(word: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
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

/// The path of a function or a module.
pub(super) fn path(word: &Ident, what: &str, input: ParseStream<'_>) -> syn::Result<syn::Path> {
    match value::<syn::Expr>(input)? {
        syn::Expr::Path(syn::ExprPath {
            path, qself: None, ..
        }) => Ok(path),
        other => {
            let message = format!("`{word}` names a {what}: write its path, without quotes");
            Err(syn::Error::new_spanned(other, message))
        }
    }
}

/// One of a closed set, bare or as text.
fn choice(word: &Ident, input: ParseStream<'_>, valid: &[&str]) -> syn::Result<Ident> {
    input.parse::<Token![=]>()?;
    let fault = |span, given: &str| {
        let valid = valid.join("` or `");
        syn::Error::new(span, format!("`{word}` is `{valid}`, not `{given}`"))
    };
    let given = if input.peek(syn::LitStr) {
        let text = input.parse::<syn::LitStr>()?;
        text.parse::<Ident>()
            .map_err(|_| fault(text.span(), &text.value()))?
    } else {
        input.call(Ident::parse_any)?
    };
    if valid.iter().any(|valid| given == valid) {
        Ok(given)
    } else {
        Err(fault(given.span(), &given.to_string()))
    }
}

pub(super) fn format(word: &Ident, input: ParseStream<'_>) -> syn::Result<Format> {
    let given = choice(word, input, &["json", "toml"])?;
    Ok(match given == "toml" {
        true => Format::Toml(given.span()),
        false => Format::Json,
    })
}

pub(super) fn unknown_keys(word: &Ident, input: ParseStream<'_>) -> syn::Result<Unknown> {
    let given = choice(word, input, &["warn", "deny", "ignore"])?;
    Ok(match given.to_string().as_str() {
        "deny" => Unknown::Deny,
        "ignore" => Unknown::Ignore,
        _ => Unknown::Warn,
    })
}

pub(super) fn skip(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

/// A word that belongs elsewhere is told where; any other gets the nearest valid one.
pub(super) fn unknown(word: &str, valid: &[&str], elsewhere: &[&str], place: &str) -> String {
    if elsewhere.contains(&word) {
        format!("`{word}` belongs on {place}, not here")
    } else {
        nearest::unknown("attribute", word, valid)
    }
}

/// What `#[serde(name = "…")]` or `#[serde(name(deserialize = "…"))]` says. Whatever else serde's
/// attributes hold is serde's to judge.
pub(super) fn of_serde(attributes: &[syn::Attribute], name: &str) -> Option<syn::LitStr> {
    let mut found = None;
    for attribute in attributes.iter().filter(|it| it.path().is_ident("serde")) {
        let _ = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident(name) && meta.input.peek(Token![=]) {
                found = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident(name) {
                meta.parse_nested_meta(|inner| {
                    let text: syn::LitStr = inner.value()?.parse()?;
                    if inner.path.is_ident("deserialize") {
                        found = Some(text);
                    }
                    Ok(())
                })?;
            } else {
                skip(meta.input)?;
            }
            Ok(())
        });
    }
    found
}

/// The documentation, a line each, without the space that `///` leaves.
pub(super) fn doc(attributes: &[syn::Attribute]) -> String {
    let lines: Vec<_> = attributes
        .iter()
        .filter(|it| it.path().is_ident("doc"))
        .filter_map(|it| literal(it.meta.require_name_value().ok()?.value.clone()).ok())
        .map(|line| {
            let line = line.value();
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

/// How a field's name becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    const ALL: &[(&str, Self)] = &[
        ("lowercase", Self::Lower),
        ("UPPERCASE", Self::Upper),
        ("PascalCase", Self::Pascal),
        ("camelCase", Self::Camel),
        ("snake_case", Self::Snake),
        ("SCREAMING_SNAKE_CASE", Self::ScreamingSnake),
        ("kebab-case", Self::Kebab),
        ("SCREAMING-KEBAB-CASE", Self::ScreamingKebab),
    ];

    pub(super) fn parse(errors: &Errors, name: &syn::LitStr) -> Option<Self> {
        let found = Self::of(&name.value());
        if found.is_none() {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
            errors.at(name, nearest::unknown("case", &name.value(), &names));
        }
        found
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, case)| *case)
    }

    /// `name` is a field's: `max_size`.
    pub(super) fn apply(self, name: &str) -> String {
        let capital = |word: &str| {
            let mut chars = word.chars();
            chars
                .next()
                .map(|first| first.to_uppercase().chain(chars).collect::<String>())
                .unwrap_or_default()
        };
        let pascal = || name.split('_').map(capital).collect::<String>();
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_uppercase(),
            Self::Pascal => pascal(),
            Self::Camel => {
                let pascal = pascal();
                let mut chars = pascal.chars();
                chars
                    .next()
                    .map(|first| first.to_lowercase().chain(chars).collect())
                    .unwrap_or_default()
            }
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_uppercase().replace('_', "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_serdes() {
        for (case, expected) in [
            ("lowercase", "max_size"),
            ("UPPERCASE", "MAX_SIZE"),
            ("PascalCase", "MaxSize"),
            ("camelCase", "maxSize"),
            ("snake_case", "max_size"),
            ("SCREAMING_SNAKE_CASE", "MAX_SIZE"),
            ("kebab-case", "max-size"),
            ("SCREAMING-KEBAB-CASE", "MAX-SIZE"),
        ] {
            let errors = Errors::new();
            let literal = syn::LitStr::new(case, proc_macro2::Span::call_site());
            let found = Case::parse(&errors, &literal).map(|case| case.apply("max_size"));
            assert_eq!(found.as_deref(), Some(expected));
            assert!(errors.check().is_none());
        }
    }

    #[test]
    fn names_of_serde_are_found_among_other_words() {
        let field: syn::Field = syn::parse_quote! {
            #[serde(default = "f", rename(serialize = "x", deserialize = "y"), skip_serializing_if = "g")]
            name: u8
        };
        assert_eq!(
            of_serde(&field.attrs, "rename")
                .map(|it| it.value())
                .as_deref(),
            Some("y")
        );
        let field: syn::Field = syn::parse_quote!(#[serde(flatten, rename = "z")] name: u8);
        assert_eq!(
            of_serde(&field.attrs, "rename")
                .map(|it| it.value())
                .as_deref(),
            Some("z")
        );
    }
}
