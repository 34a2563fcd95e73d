//! What stands in an attribute: words with values, with words of their own, or alone.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Expr, ExprLit, Ident, Lit, LitStr, Token, parenthesized, parse::ParseStream, token::Paren,
};

use crate::{errors::Errors, once::Once};

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
