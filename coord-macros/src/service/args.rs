//! What stands in the attribute.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Expr, ExprArray, Ident, LitStr, Path, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    token::Paren,
};

use super::{addresses, instance_id};
use crate::{
    crate_path::CratePath,
    errors::Errors,
    nearest,
    once::Once,
    runtime::{self, Runtime},
    words::{choice, duration, list, nested, number, plain, skip, string, text, value},
};

const WORDS: &[&str] = &[
    "name",
    "version",
    "namespace",
    "endpoints",
    "listen",
    "advertise",
    "zone",
    "weight",
    "tags",
    "metadata",
    "ttl",
    "instance_id",
    "ready",
    "drain",
    "quiet",
    "shutdown_timeout",
    "watchdog",
    "etcd_down",
    "runtime",
    "before",
    "crate",
];

/// The attribute, complete even where it was wrong: then an error is recorded.
#[derive(Debug)]
pub(super) struct Args {
    /// What is called on the service.
    pub(super) calls: Vec<Call>,
    /// There is an instance id.
    pub(super) with_id: bool,
    pub(super) runtime: Runtime,
    pub(super) coord: CratePath,
}

/// A method of `Service` with its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) arguments: Arguments,
}

#[derive(Debug)]
pub(super) enum Arguments {
    /// The expressions.
    Are(TokenStream),
    /// One of an enum of `coord`: its type and its variant.
    Choice(&'static str, &'static str),
}

impl Call {
    pub(super) fn new(method: &'static str, arguments: TokenStream) -> Self {
        Self {
            method,
            arguments: Arguments::Are(arguments),
        }
    }

    pub(super) fn choice(method: &'static str, ty: &'static str, variant: &'static str) -> Self {
        Self {
            method,
            arguments: Arguments::Choice(ty, variant),
        }
    }
}

/// What has been read so far.
struct Words {
    /// Words that were there.
    seen: BTreeSet<String>,
    calls: Vec<Call>,
    /// The listeners' names, if they have any; where `listen` gives one without a name.
    listen: Option<Vec<String>>,
    /// The names that `advertise` gives.
    advertise: Vec<(String, Span)>,
    instance_id: Option<Vec<Call>>,
    runtime: runtime::Words,
    krate: Once<Path>,
}

impl Args {
    pub(super) fn parse(errors: &Errors, attribute: TokenStream) -> Self {
        let mut words = Words {
            seen: BTreeSet::new(),
            calls: Vec::new(),
            listen: None,
            advertise: Vec::new(),
            instance_id: None,
            runtime: runtime::Words::none(runtime::LONG),
            krate: Once::none("crate"),
        };
        let parser = |input: ParseStream<'_>| list(input, |input| word(errors, input, &mut words));
        errors.ok(parser.parse2(attribute));
        if let Some(listen) = &words.listen {
            addresses::check_names(errors, listen, &words.advertise);
        }
        let with_id = words.instance_id.is_some();
        // Last: the first of these changes what the others are called on.
        words.calls.extend(words.instance_id.unwrap_or_default());
        Self {
            calls: words.calls,
            with_id,
            runtime: words.runtime.check(errors),
            coord: CratePath::new(errors, words.krate.get()),
        }
    }
}

impl Words {
    /// The call, if the value was good and the word is there for the first time.
    fn call(
        &mut self,
        errors: &Errors,
        word: &Ident,
        method: &'static str,
        value: Option<TokenStream>,
    ) {
        if self.first(errors, word)
            && let Some(value) = value
        {
            self.calls.push(Call::new(method, value));
        }
    }

    fn first(&mut self, errors: &Errors, word: &Ident) -> bool {
        let first = self.seen.insert(word.to_string());
        if !first {
            errors.at(word, format!("`{word}` is given twice"));
        }
        first
    }
}

fn word(errors: &Errors, input: ParseStream<'_>, words: &mut Words) -> syn::Result<()> {
    if input.peek(LitStr) {
        let stray: LitStr = input.parse()?;
        errors.at(&stray, format!("write `name = {:?}`", stray.value()));
        return Ok(());
    }
    let word = &input.call(Ident::parse_any)?;
    // Each value is read whatever else is wrong, so that what follows it is read, too.
    match word.to_string().as_str() {
        "name" => words.call(errors, word, "name", name(errors, value(input)?)),
        "version" => {
            let version = text(errors, value(input)?, "version = \"1.4.0\"");
            words.call(errors, word, "version", version);
        }
        "namespace" => {
            let namespace = text(errors, value(input)?, "namespace = \"prod/\"");
            words.call(errors, word, "namespace", namespace);
        }
        "endpoints" => {
            let endpoints = strings(errors, value(input)?, word, "http://etcd:2379");
            words.call(errors, word, "endpoints", endpoints);
        }
        "listen" if input.peek(Paren) => {
            let named = addresses::named(errors, word, input, addresses::listen)?;
            if words.first(errors, word) {
                words.listen = Some(named.iter().map(|one| one.name.value()).collect());
                words.calls.extend(calls("listen_named", named));
            }
        }
        "listen" => {
            let address = addresses::listen(errors, value(input)?);
            words.listen.get_or_insert_default();
            words.call(errors, word, "listen", address);
        }
        "advertise" if input.peek(Paren) => {
            let named = addresses::named(errors, word, input, addresses::advertise)?;
            if words.first(errors, word) {
                let names = named.iter().map(|one| (one.name.value(), one.name.span()));
                words.advertise = names.collect();
                words.calls.extend(calls("advertise_named", named));
            }
        }
        "advertise" => {
            let address = addresses::advertise(errors, value(input)?);
            words.call(errors, word, "advertise", address);
        }
        "zone" => words.call(errors, word, "zone", zone(errors, value(input)?)),
        "weight" => {
            let weight = number::<std::num::NonZeroU32>(errors, value(input)?);
            words.call(errors, word, "weight", weight);
        }
        "tags" => {
            let tags = strings(errors, value(input)?, word, "blue");
            words.call(errors, word, "tags", tags);
        }
        "metadata" => {
            let pairs = addresses::named(errors, word, input, |errors, expr| {
                text(errors, expr, "metadata(team = \"payments\")")
            })?;
            if words.first(errors, word) {
                words.calls.extend(calls("metadata", pairs));
            }
        }
        "ttl" => words.call(errors, word, "ttl", duration(errors, value(input)?, true)),
        "drain" => {
            let drain = duration(errors, value(input)?, false);
            words.call(errors, word, "drain", drain);
        }
        "quiet" => {
            let quiet = duration(errors, value(input)?, false);
            words.call(errors, word, "quiet", quiet);
        }
        "shutdown_timeout" => {
            let limit = duration(errors, value(input)?, false);
            words.call(errors, word, "shutdown_timeout", limit);
        }
        "etcd_down" => {
            let limit = duration(errors, value(input)?, false);
            words.call(errors, word, "etcd_down", limit);
        }
        "watchdog" => watchdog(errors, word, value(input)?, words),
        "ready" => {
            let choices = [
                ("manual", "Manual"),
                ("listening", "Listening"),
                ("immediate", "Immediate"),
            ];
            let ready = choice(errors, word, input, &choices)?;
            if words.first(errors, word)
                && let Some(ready) = ready
            {
                words.calls.push(Call::choice("ready", "Ready", ready));
            }
        }
        "instance_id" => {
            let calls = instance_id::parse(errors, word, input)?;
            if words.first(errors, word) {
                words.instance_id = Some(calls);
            }
        }
        "runtime" => words.runtime.parse(errors, word, input)?,
        "before" => words.call(errors, word, "before", plain(value(input)?)),
        "crate" => {
            input.parse::<Token![=]>()?;
            let path = input.call(Path::parse_mod_style)?;
            words.krate.set(errors, word.span(), path);
        }
        other => {
            errors.at(word, nearest::unknown("word", other, WORDS));
            skip(input)?;
        }
    }
    Ok(())
}

fn calls(method: &'static str, named: Vec<addresses::Named>) -> impl Iterator<Item = Call> {
    named
        .into_iter()
        .map(move |addresses::Named { name, value }| Call::new(method, quote!(#name, #value)))
}

fn name(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    segment(errors, &expr, "a service's name")?;
    text(errors, expr, "name = \"user-service\"")
}

fn zone(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    segment(errors, &expr, "a zone")?;
    text(errors, expr, "zone = \"eu-1a\"` or `zone = \"env:ZONE\"")
}

/// What becomes a segment of a key; `None` with an error if the literal cannot be one.
fn segment(errors: &Errors, expr: &Expr, what: &str) -> Option<()> {
    let Some(literal) = string(expr) else {
        return Some(());
    };
    let text = literal.value();
    let odd = |c: char| c == '/' || c.is_control();
    if text.is_empty() || text.len() > 255 || text.contains(odd) {
        let message = format!("{what} is 1 to 255 bytes without `/` or control characters");
        errors.at(literal, message);
        return None;
    }
    Some(())
}

fn strings(errors: &Errors, expr: Expr, word: &Ident, example: &str) -> Option<TokenStream> {
    match &expr {
        Expr::Array(ExprArray { elems, .. }) if elems.is_empty() => {
            errors.at(&expr, format!("`{word}` has none: leave the word out"));
            None
        }
        Expr::Lit(_) => {
            errors.at(&expr, format!("write a list: `{word} = [{example:?}]`"));
            None
        }
        _ => plain(expr),
    }
}

/// `off`, or a duration above zero.
fn watchdog(errors: &Errors, word: &Ident, expr: Expr, words: &mut Words) {
    let off = match &expr {
        Expr::Path(path) => path.path.is_ident("off"),
        _ => false,
    };
    if let Some(text) = string(&expr).filter(|text| text.value() == "off") {
        errors.at(text, "write it without quotes: `watchdog = off`");
        words.first(errors, word);
    } else if off {
        words.call(errors, word, "no_watchdog", Some(quote!()));
    } else {
        let at = expr.clone();
        let limit = duration(errors, expr, false);
        let zero = string(&at).is_some_and(|text| {
            humantime::parse_duration(&text.value()).is_ok_and(|limit| limit.is_zero())
        });
        if zero {
            errors.at(
                at,
                "a limit above zero is needed; `watchdog = off` switches it off",
            );
        }
        words.call(errors, word, "watchdog", limit);
    }
}

/// What follows `word`: `(item, …)`. Nothing in it is an error.
pub(super) fn filled(
    errors: &Errors,
    word: &Ident,
    input: ParseStream<'_>,
    example: &str,
    mut item: impl FnMut(ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    let mut empty = true;
    let given = nested(errors, word, input, example, |input| {
        empty = false;
        item(input)
    })?;
    if given && empty {
        errors.at(word, format!("it is empty: write `{example}`"));
    }
    Ok(())
}
