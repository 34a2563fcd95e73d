//! `runtime(flavor = …, worker_threads = …)`: tokio's words for the runtime that a macro builds.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Expr, LitStr, ext::IdentExt as _, parse::ParseStream, spanned::Spanned as _};

use crate::{
    errors::Errors,
    nearest,
    once::Once,
    words::{nested, number, set, skip, string, value},
};

const WORDS: &[&str] = &["flavor", "worker_threads"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flavor {
    MultiThread,
    CurrentThread,
}

/// The words, each at most once.
#[derive(Debug)]
pub(crate) struct Words {
    runtime: Once<()>,
    flavor: Once<Flavor>,
    worker_threads: Once<TokenStream>,
}

impl Words {
    pub(crate) fn none() -> Self {
        Self {
            runtime: Once::none("runtime"),
            flavor: Once::none("flavor"),
            worker_threads: Once::none("worker_threads"),
        }
    }

    /// What follows the word `runtime`.
    pub(crate) fn parse(
        &mut self,
        errors: &Errors,
        runtime: &Ident,
        input: ParseStream<'_>,
    ) -> syn::Result<()> {
        self.runtime.set(errors, runtime.span(), ());
        let example = "runtime(worker_threads = 4)";
        nested(errors, runtime, input, example, |input| {
            self.word(errors, input)
        })?;
        Ok(())
    }

    fn word(&mut self, errors: &Errors, input: ParseStream<'_>) -> syn::Result<()> {
        let word = input.call(Ident::parse_any)?;
        match word.to_string().as_str() {
            "flavor" => {
                let flavor = flavor(errors, &value(input)?);
                set(errors, word.span(), &mut self.flavor, flavor);
            }
            "worker_threads" => {
                let threads = number::<std::num::NonZeroUsize>(errors, value(input)?);
                set(errors, word.span(), &mut self.worker_threads, threads);
            }
            other => {
                errors.at(&word, nearest::unknown("word", other, WORDS));
                skip(input)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check(self, errors: &Errors) -> Runtime {
        let flavor = self.flavor.take().unwrap_or(Flavor::MultiThread);
        if let (Flavor::CurrentThread, Some(span)) = (flavor, self.worker_threads.span()) {
            let message = "a `current_thread` runtime has no worker threads";
            errors.push(syn::Error::new(span, message));
        }
        Runtime {
            flavor,
            worker_threads: self.worker_threads.take(),
        }
    }
}

/// What was said of the runtime: calls that follow the expression of what builds it.
#[derive(Debug)]
pub(crate) struct Runtime {
    flavor: Flavor,
    worker_threads: Option<TokenStream>,
}

impl ToTokens for Runtime {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        if let Some(threads) = &self.worker_threads {
            // At the value, so that a value of the wrong type is what an error points at.
            let span = threads.span().resolved_at(Span::mixed_site());
            let worker_threads = Ident::new("worker_threads", span);
            tokens.extend(quote!(.#worker_threads(#threads)));
        }
        if self.flavor == Flavor::CurrentThread {
            tokens.extend(quote!(.current_thread()));
        }
    }
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
