//! What stands in the attribute.

use std::net::SocketAddr;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Expr, ExprArray, Ident, LitStr, Path, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
};

use crate::{
    crate_path::CratePath,
    errors::Errors,
    nearest,
    once::Once,
    runtime::{self, Runtime},
    words::{duration, list, nested, number, plain, set, skip, string, value},
};

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
    pub(super) runtime: Runtime,
    pub(super) coord: CratePath,
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
    runtime: runtime::Words,
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
            runtime: runtime::Words::none(),
            krate: Once::none("crate"),
        };
        let parser = |input: ParseStream<'_>| list(input, |input| word(errors, input, &mut words));
        errors.ok(parser.parse2(attribute));
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
            runtime: words.runtime.check(errors),
            coord: CratePath::new(errors, words.krate.get()),
        }
    }
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
        "runtime" => words.runtime.parse(errors, &word, input)?,
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
