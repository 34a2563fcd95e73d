//! [`Template`]: key templates: `orders/{order.id:04}`.
//!
//! `format_args!` cannot take `{self.id}`, so a hole is parsed here, into any Rust expression. All its
//! tokens carry the literal's span.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, Ident, LitStr, ext::IdentExt as _};

use crate::errors::Errors;

/// The longest key, in bytes: what etcd is asked to hold at most, checked again at run time.
const MAX_KEY: usize = 1024;

/// A key template that is a possible key, whatever its holes are filled with.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Debug)]
pub(crate) enum Piece {
    Text(String),
    /// An expression and its format, `04` of `{id:04}`.
    Hole {
        expr: Expr,
        format: String,
    },
}

impl Template {
    /// Parses a literal; every fault is an error under it. `raw`: it may have a `!`.
    pub(crate) fn parse(errors: &Errors, literal: &LitStr, raw: bool) -> Option<Self> {
        match pieces(literal).and_then(|pieces| check(literal, &pieces, raw).map(|()| pieces)) {
            Ok(pieces) => Some(Self { pieces }),
            Err(error) => {
                errors.push(error);
                None
            }
        }
    }

    /// The expressions of the holes.
    pub(crate) fn holes(&self) -> impl Iterator<Item = &Expr> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Hole { expr, .. } => Some(expr),
            Piece::Text(_) => None,
        })
    }

    /// The elements of a `&[Part<'_>]`, with `part` as the path to `Part`.
    pub(crate) fn parts(&self, part: &TokenStream) -> Vec<TokenStream> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => quote!(#part::Lit(#text)),
                Piece::Hole { expr, format } => {
                    let format = match format.as_str() {
                        "" => "{}".to_owned(),
                        format => format!("{{:{format}}}"),
                    };
                    quote!(#part::Hole(::core::format_args!(#format, #expr)))
                }
            })
            .collect()
    }
}

fn pieces(literal: &LitStr) -> syn::Result<Vec<Piece>> {
    let fault = |message: String| syn::Error::new(literal.span(), message);
    let template = literal.value();
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        text.push_str(before);
        if brace.starts_with("{{") || brace.starts_with("}}") {
            text.push_str(&brace[..1]);
            rest = &brace[2..];
            continue;
        }
        if brace.starts_with('}') {
            return Err(fault(
                "a `}` without its `{` in the key: a brace that is meant is written `}}`".into(),
            ));
        }
        let end = closing(brace).ok_or_else(|| {
            fault("a `{` without its `}` in the key: a brace that is meant is written `{{`".into())
        })?;
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(hole(literal, &brace[1..end])?);
        rest = &brace[end + 1..];
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Where the `}` is that closes the `{` at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn hole(literal: &LitStr, hole: &str) -> syn::Result<Piece> {
    let fault = |message: String| syn::Error::new(literal.span(), message);
    let (expr, format) = split_format(hole);
    if expr.trim().is_empty() {
        return Err(fault(format!(
            "the hole `{{{hole}}}` names nothing: write an argument into it, as in `{{order_id}}`"
        )));
    }
    let tokens = LitStr::new(expr, literal.span());
    let expr = tokens.parse::<Expr>().map_err(|error| {
        fault(match tokens.parse_with(Ident::parse_any) {
            Ok(keyword) => format!("`{keyword}` is a keyword: write `{{r#{keyword}}}`"),
            Err(_) => format!("`{{{hole}}}` is no expression: {error}"),
        })
    })?;
    Ok(Piece::Hole {
        expr,
        format: format.to_owned(),
    })
}

/// `order.id:04` into expression and format, at a `:` that stands in no bracket and in no `::`.
fn split_format(hole: &str) -> (&str, &str) {
    let bytes = hole.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b':' if bytes.get(at + 1) == Some(&b':') => at += 1,
            b':' if depth == 0 => return (&hole[..at], &hole[at + 1..]),
            _ => {}
        }
        at += 1;
    }
    (hole, "")
}

/// What the key would be, whatever the holes hold: never empty and without a `/` of their own.
fn check(literal: &LitStr, pieces: &[Piece], raw: bool) -> syn::Result<()> {
    let fault = |message: &str| Err(syn::Error::new(literal.span(), message));
    let texts = || {
        pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Hole { .. } => None,
        })
    };
    let shape: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Hole { .. } => "x",
        })
        .collect();
    if shape.is_empty() {
        return fault("the key is empty: name what is locked, as in \"orders/{order_id}\"");
    }
    if !raw && texts().any(|text| text.contains('!')) {
        return fault("a key has no `!` in its text: it ends the lock's name on etcd");
    }
    if texts().any(|text| text.chars().any(char::is_control)) {
        return fault("a key has no control character in its text");
    }
    let relative = shape.strip_prefix('/').unwrap_or(&shape);
    if relative.split('/').any(str::is_empty) {
        return fault("the key has an empty segment: no `//` in it, and no `/` at its end");
    }
    if shape.len() > MAX_KEY {
        return fault("the key is longer than 1024 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;
    use quote::ToTokens as _;

    use super::*;

    fn parse(template: &str) -> Result<Vec<String>, String> {
        let literal = LitStr::new(template, Span::call_site());
        let pieces =
            pieces(&literal).and_then(|pieces| check(&literal, &pieces, false).map(|()| pieces));
        match pieces {
            Ok(pieces) => Ok(pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Hole { expr, format } => {
                        let expr = expr.to_token_stream().to_string().replace(' ', "");
                        format!("<{expr}|{format}>")
                    }
                })
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn holes_are_any_expressions_with_any_format() {
        for (template, pieces) in [
            ("jobs", vec!["jobs"]),
            ("{id}", vec!["<id|>"]),
            ("a/{order.id:04}/b", vec!["a/", "<order.id|04>", "/b"]),
            ("{self.id}{n:>3}", vec!["<self.id|>", "<n|>3>"]),
            ("{a::B}", vec!["<a::B|>"]),
            (
                "{self}{r#type}{true}",
                vec!["<self|>", "<r#type|>", "<true|>"],
            ),
            ("{f::<u8>(x):?}", vec!["<f::<u8>(x)|?>"]),
            ("{ids[0]}", vec!["<ids[0]|>"]),
            ("{Point{x:1}.x:02}", vec!["<Point{x:1}.x|02>"]),
            ("{{{id}}}", vec!["{", "<id|>", "}"]),
            ("größe/{ключ}", vec!["größe/", "<ключ|>"]),
        ] {
            let pieces: Vec<_> = pieces.into_iter().map(String::from).collect();
            assert_eq!(parse(template), Ok(pieces), "{template}");
        }
    }

    #[test]
    fn impossible_templates_say_what_is_wrong() {
        for (template, says) in [
            ("", "empty"),
            ("a/{id", "without its `}`"),
            ("a/id}", "without its `{`"),
            ("a/{}", "names nothing"),
            ("a/{:04}", "names nothing"),
            ("a/{1 +}", "no expression"),
            ("a/{type}", "write `{r#type}`"),
            ("a!/{id}", "`!`"),
            ("a//{id}", "empty segment"),
            ("a/", "empty segment"),
            ("a\n", "control character"),
        ] {
            let error = parse(template).expect_err(template);
            assert!(error.contains(says), "{template}: {error}");
        }
        assert!(parse(&"x".repeat(MAX_KEY + 1)).is_err());
    }
}
