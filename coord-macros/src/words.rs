//! What stands in an attribute: words with values, with words of their own, or alone.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Expr, ExprLit, Ident, Lit, LitStr, Token, ext::IdentExt as _, parenthesized,
    parse::ParseStream, token::Paren,
};

use crate::{errors::Errors, nearest, once::Once};

/// `item` until the end, with commas between.
pub(crate) fn list(
    input: ParseStream<'_>,
    mut item: impl FnMut(ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    while !input.is_empty() {
        item(input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

/// Sets a word whose value was good.
pub(crate) fn set<T>(errors: &Errors, span: Span, word: &mut Once<T>, value: Option<T>) {
    if let Some(value) = value {
        word.set(errors, span, value);
    }
}

/// What follows a word: `= value`.
pub(crate) fn value(input: ParseStream<'_>) -> syn::Result<Expr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// The words in a word's parentheses. False: there are none, and an error says so.
pub(crate) fn nested(
    errors: &Errors,
    word: &Ident,
    input: ParseStream<'_>,
    example: &str,
    item: impl FnMut(ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<bool> {
    if !input.peek(Paren) {
        errors.at(
            word,
            format!("`{word}` takes words of its own: `{example}`"),
        );
        skip(input)?;
        return Ok(false);
    }
    let inner;
    parenthesized!(inner in input);
    list(&inner, item)?;
    Ok(true)
}

/// A word that stands alone: a value behind it is an error.
pub(crate) fn alone(
    errors: &Errors,
    word: &Ident,
    input: ParseStream<'_>,
) -> syn::Result<Option<()>> {
    if !input.peek(Token![=]) {
        return Ok(Some(()));
    }
    let message = format!("`{word}` takes no value: write `{word}`");
    errors.at(value(input)?, message);
    Ok(None)
}

/// What follows a word: `= choice`, one of a closed set.
pub(crate) fn choice<T: Copy>(
    errors: &Errors,
    word: &Ident,
    input: ParseStream<'_>,
    choices: &[(&'static str, T)],
) -> syn::Result<Option<T>> {
    input.parse::<Token![=]>()?;
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    // A keyword is no expression.
    if !input.peek(Ident::peek_any) {
        let given: Expr = input.parse()?;
        let text = string(&given).map(LitStr::value);
        let message = match text.filter(|text| names.contains(&text.as_str())) {
            Some(text) => format!("write it without quotes: `{word} = {text}`"),
            None => format!("`{word}` is one of `{}`", names.join("`, `")),
        };
        errors.at(given, message);
        return Ok(None);
    }
    let given = input.call(Ident::parse_any)?;
    let found = choices.iter().find(|(name, _)| given == name);
    if found.is_none() {
        let what = format!("value of `{word}`");
        errors.at(&given, nearest::unknown(&what, &given.to_string(), &names));
    }
    Ok(found.map(|(_, choice)| *choice))
}

/// What follows a word that is not known.
pub(crate) fn skip(input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![=]) {
        value(input)?;
    } else if input.peek(Paren) {
        let inner;
        parenthesized!(inner in input);
        inner.parse::<TokenStream>()?;
    }
    Ok(())
}

/// Any expression, as it stands.
pub(crate) fn plain(expr: Expr) -> Option<TokenStream> {
    Some(quote!(#expr))
}

/// A string, or an expression that becomes one.
pub(crate) fn text(errors: &Errors, expr: Expr, example: &str) -> Option<TokenStream> {
    if matches!(expr, Expr::Lit(_)) && string(&expr).is_none() {
        errors.at(expr, format!("expected a string, as in `{example}`"));
        return None;
    }
    plain(expr)
}

/// The string, if it is a literal one.
pub(crate) fn string(expr: &Expr) -> Option<&LitStr> {
    match expr {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Some(text),
        _ => None,
    }
}

/// A number; a literal that does not fit is an error.
pub(crate) fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    errors: &Errors,
    expr: Expr,
) -> Option<TokenStream> {
    if let Expr::Lit(ExprLit { lit, .. }) = &expr {
        match lit {
            Lit::Int(int) => {
                if let Err(error) = int.base10_parse::<T>() {
                    errors.push(syn::Error::new(int.span(), error));
                    return None;
                }
            }
            _ => {
                errors.at(&expr, "expected a number");
                return None;
            }
        }
    }
    plain(expr)
}

/// A duration with its unit, or an expression of type `Duration`.
pub(crate) fn duration(errors: &Errors, expr: Expr, whole_seconds: bool) -> Option<TokenStream> {
    if let Expr::Lit(literal) = &expr
        && string(&expr).is_none()
    {
        let message = "a duration has a unit: write \"10s\", or an expression of type `Duration`";
        errors.at(literal, message);
        return None;
    }
    let Some(text) = string(&expr) else {
        return plain(expr);
    };
    let duration = match humantime::parse_duration(&text.value()) {
        Ok(duration) => duration,
        Err(error) => {
            let message = format!("{:?} is no duration like \"10s\": {error}", text.value());
            errors.at(text, message);
            return None;
        }
    };
    if whole_seconds && (duration == Duration::ZERO || duration.subsec_nanos() != 0) {
        errors.at(text, "a TTL is a whole number of seconds above zero");
        return None;
    }
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    Some(quote!(::core::time::Duration::new(#seconds, #nanos)))
}
