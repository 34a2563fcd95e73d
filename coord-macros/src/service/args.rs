//! What stands in the attribute.

use std::{net::SocketAddr, time::Duration};

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Expr, ExprArray, ExprLit, Ident, Lit, LitStr, Path, Token,
    ext::IdentExt as _,
    parenthesized,
    parse::{ParseStream, Parser as _},
    spanned::Spanned as _,
    token::Paren,
};

use crate::{crate_path::CratePath, errors::Errors, nearest, once::Once};

const WORDS: &[&str] = &[
    "name",
    "version",
    "endpoints",
    "listen",
    "ttl",
    "instance_id",
    "drain",
    "shutdown_timeout",
    "runtime",
    "before",
    "crate",
];
const INSTANCE_ID_WORDS: &[&str] = &["max"];
const RUNTIME_WORDS: &[&str] = &["flavor", "worker_threads"];

/// The attribute, complete even where it was wrong: then an error is recorded. Values are the
/// expressions that the expansion passes on.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) name: Option<TokenStream>,
    pub(super) version: Option<TokenStream>,
    pub(super) endpoints: Option<TokenStream>,
    pub(super) listen: Option<TokenStream>,
    pub(super) ttl: Option<TokenStream>,
    pub(super) drain: Option<TokenStream>,
    pub(super) shutdown_timeout: Option<TokenStream>,
    pub(super) before: Option<TokenStream>,
    /// The largest id.
    pub(super) instance_id: Option<TokenStream>,
    pub(super) flavor: Flavor,
    pub(super) worker_threads: Option<TokenStream>,
    pub(super) coord: CratePath,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flavor {
    MultiThread,
    CurrentThread,
}

/// The words, each at most once.
struct Words {
    name: Once<TokenStream>,
    version: Once<TokenStream>,
    endpoints: Once<TokenStream>,
    listen: Once<TokenStream>,
    ttl: Once<TokenStream>,
    drain: Once<TokenStream>,
    shutdown_timeout: Once<TokenStream>,
    before: Once<TokenStream>,
    instance_id: Once<()>,
    max: Once<TokenStream>,
    runtime: Once<()>,
    flavor: Once<Flavor>,
    worker_threads: Once<TokenStream>,
    krate: Once<Path>,
}

impl Args {
    pub(super) fn parse(errors: &Errors, attribute: TokenStream) -> Self {
        let mut words = Words {
            name: Once::none("name"),
            version: Once::none("version"),
            endpoints: Once::none("endpoints"),
            listen: Once::none("listen"),
            ttl: Once::none("ttl"),
            drain: Once::none("drain"),
            shutdown_timeout: Once::none("shutdown_timeout"),
            before: Once::none("before"),
            instance_id: Once::none("instance_id"),
            max: Once::none("max"),
            runtime: Once::none("runtime"),
            flavor: Once::none("flavor"),
            worker_threads: Once::none("worker_threads"),
            krate: Once::none("crate"),
        };
        let parser = |input: ParseStream<'_>| list(input, |input| word(errors, input, &mut words));
        errors.ok(parser.parse2(attribute));
        let flavor = words.flavor.get().copied().unwrap_or(Flavor::MultiThread);
        if let (Flavor::CurrentThread, Some(span)) = (flavor, words.worker_threads.span()) {
            let message = "a `current_thread` runtime has no worker threads";
            errors.push(syn::Error::new(span, message));
        }
        Self {
            name: words.name.take(),
            version: words.version.take(),
            endpoints: words.endpoints.take(),
            listen: words.listen.take(),
            ttl: words.ttl.take(),
            drain: words.drain.take(),
            shutdown_timeout: words.shutdown_timeout.take(),
            before: words.before.take(),
            // Also if `max` is missing or wrong: one error is enough.
            instance_id: words
                .instance_id
                .get()
                .map(|()| words.max.take().unwrap_or_else(|| quote!(0))),
            flavor,
            worker_threads: words.worker_threads.take(),
            coord: CratePath::new(errors, words.krate.get()),
        }
    }
}

/// `item` until the end, with commas between.
fn list(
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

fn word(errors: &Errors, input: ParseStream<'_>, words: &mut Words) -> syn::Result<()> {
    if input.peek(LitStr) {
        let stray: LitStr = input.parse()?;
        errors.at(&stray, format!("write `name = {:?}`", stray.value()));
        return Ok(());
    }
    let word = input.call(Ident::parse_any)?;
    let span = word.span();
    match word.to_string().as_str() {
        "name" => set(errors, span, &mut words.name, name(errors, value(input)?)),
        "version" => set(errors, span, &mut words.version, plain(value(input)?)),
        "endpoints" => set(
            errors,
            span,
            &mut words.endpoints,
            endpoints(errors, value(input)?),
        ),
        "listen" => set(
            errors,
            span,
            &mut words.listen,
            listen(errors, value(input)?),
        ),
        "ttl" => set(
            errors,
            span,
            &mut words.ttl,
            duration(errors, value(input)?, true),
        ),
        "drain" => set(
            errors,
            span,
            &mut words.drain,
            duration(errors, value(input)?, false),
        ),
        "shutdown_timeout" => {
            let limit = duration(errors, value(input)?, false);
            set(errors, span, &mut words.shutdown_timeout, limit);
        }
        "before" => set(errors, span, &mut words.before, plain(value(input)?)),
        "instance_id" => {
            words.instance_id.set(errors, span, ());
            let mut empty = true;
            let given = nested(errors, &word, input, "instance_id(max = 1023)", |input| {
                empty = false;
                instance_id(errors, input, words)
            })?;
            if given && empty {
                errors.at(
                    &word,
                    "say how large an id may be: `instance_id(max = 1023)`",
                );
            }
        }
        "runtime" => {
            words.runtime.set(errors, span, ());
            nested(
                errors,
                &word,
                input,
                "runtime(worker_threads = 4)",
                |input| runtime(errors, input, words),
            )?;
        }
        "crate" => {
            input.parse::<Token![=]>()?;
            let path = input.call(Path::parse_mod_style)?;
            words.krate.set(errors, span, path);
        }
        other => {
            errors.at(&word, nearest::unknown("word", other, WORDS));
            skip(input)?;
        }
    }
    Ok(())
}

fn instance_id(errors: &Errors, input: ParseStream<'_>, words: &mut Words) -> syn::Result<()> {
    let word = input.call(Ident::parse_any)?;
    match word.to_string().as_str() {
        "max" => {
            let max = number::<u32>(errors, value(input)?);
            set(errors, word.span(), &mut words.max, max);
        }
        other => {
            errors.at(&word, nearest::unknown("word", other, INSTANCE_ID_WORDS));
            skip(input)?;
        }
    }
    Ok(())
}

fn runtime(errors: &Errors, input: ParseStream<'_>, words: &mut Words) -> syn::Result<()> {
    let word = input.call(Ident::parse_any)?;
    match word.to_string().as_str() {
        "flavor" => {
            let flavor = flavor(errors, &value(input)?);
            set(errors, word.span(), &mut words.flavor, flavor);
        }
        "worker_threads" => {
            let threads = number::<std::num::NonZeroUsize>(errors, value(input)?);
            set(errors, word.span(), &mut words.worker_threads, threads);
        }
        other => {
            errors.at(&word, nearest::unknown("word", other, RUNTIME_WORDS));
            skip(input)?;
        }
    }
    Ok(())
}

fn set<T>(errors: &Errors, span: Span, word: &mut Once<T>, value: Option<T>) {
    if let Some(value) = value {
        word.set(errors, span, value);
    }
}

fn value(input: ParseStream<'_>) -> syn::Result<Expr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// The words in a word's parentheses. False: there are none, and an error says so.
fn nested(
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
fn skip(input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![=]) {
        value(input)?;
    } else if input.peek(Paren) {
        let inner;
        parenthesized!(inner in input);
        inner.parse::<TokenStream>()?;
    }
    Ok(())
}

fn plain(expr: Expr) -> Option<TokenStream> {
    Some(quote!(#expr))
}

fn string(expr: &Expr) -> Option<&LitStr> {
    match expr {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Some(text),
        _ => None,
    }
}

/// A literal that is no string, where a string belongs.
fn other_literal(errors: &Errors, expr: &Expr, example: &str) -> bool {
    let wrong = matches!(expr, Expr::Lit(_)) && string(expr).is_none();
    if wrong {
        errors.at(expr, format!("expected a string, as in `{example}`"));
    }
    wrong
}

fn name(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    if other_literal(errors, &expr, "name = \"user-service\"") {
        return None;
    }
    if let Some(text) = string(&expr) {
        let name = text.value();
        let odd = |c: char| c == '/' || c.is_control();
        if name.is_empty() || name.len() > 255 || name.contains(odd) {
            let message = "a service's name is 1 to 255 bytes without `/` or control characters";
            errors.at(text, message);
            return None;
        }
    }
    plain(expr)
}

fn endpoints(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    match &expr {
        Expr::Array(ExprArray { elems, .. }) if elems.is_empty() => {
            errors.at(
                &expr,
                "at least one endpoint is needed, or leave the word out",
            );
            None
        }
        Expr::Lit(_) => {
            errors.at(&expr, "write a list: `endpoints = [\"http://etcd:2379\"]`");
            None
        }
        _ => plain(expr),
    }
}

fn listen(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    if other_literal(errors, &expr, "listen = \"0.0.0.0:50051\"") {
        return None;
    }
    if let Some(text) = string(&expr)
        && text.value().parse::<SocketAddr>().is_err()
    {
        let message = format!(
            "{:?} is no address to listen on: write an IP address and a port, as in \
             \"0.0.0.0:50051\" or \"[::]:50051\" (port 0: any free one)",
            text.value()
        );
        errors.at(text, message);
        return None;
    }
    plain(expr)
}

fn duration(errors: &Errors, expr: Expr, whole_seconds: bool) -> Option<TokenStream> {
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

/// A number; a literal that does not fit is an error.
fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
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

fn flavor(errors: &Errors, expr: &Expr) -> Option<Flavor> {
    const FLAVORS: &[&str] = &["multi_thread", "current_thread"];
    let word = match expr {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    };
    match word.as_deref() {
        Some("multi_thread") => Some(Flavor::MultiThread),
        Some("current_thread") => Some(Flavor::CurrentThread),
        Some(other) => {
            errors.at(expr, nearest::unknown("flavor", other, FLAVORS));
            None
        }
        None => {
            let message = match string(expr).map(LitStr::value) {
                Some(text) if FLAVORS.contains(&text.as_str()) => {
                    format!("write it without quotes: `flavor = {text}`")
                }
                _ => "expected `multi_thread` or `current_thread`".to_owned(),
            };
            errors.push(syn::Error::new(expr.span(), message));
            None
        }
    }
}
