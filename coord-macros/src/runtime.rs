//! `runtime(flavor = …, worker_threads = …)`: tokio's words for the runtime that a macro builds. What
//! runs for long has a name for its threads besides, and a way to build the runtime by hand.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Expr, LitStr, ext::IdentExt as _, parse::ParseStream, spanned::Spanned as _};

use crate::{
    errors::Errors,
    nearest,
    once::Once,
    words::{nested, number, plain, set, skip, string, text, value},
};

/// The words of a test.
pub(crate) const SHORT: &[&str] = &["flavor", "worker_threads"];
/// The words of a service.
pub(crate) const LONG: &[&str] = &["flavor", "worker_threads", "thread_name", "builder"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flavor {
    MultiThread,
    CurrentThread,
}

/// The words, each at most once.
#[derive(Debug)]
pub(crate) struct Words {
    /// Those that are known.
    known: &'static [&'static str],
    runtime: Once<()>,
    flavor: Once<Flavor>,
    worker_threads: Once<TokenStream>,
    thread_name: Once<TokenStream>,
    builder: Once<TokenStream>,
}

impl Words {
    pub(crate) fn none(known: &'static [&'static str]) -> Self {
        Self {
            known,
            runtime: Once::none("runtime"),
            flavor: Once::none("flavor"),
            worker_threads: Once::none("worker_threads"),
            thread_name: Once::none("thread_name"),
            builder: Once::none("builder"),
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
        let name = word.to_string();
        match name.as_str() {
            other if !self.known.contains(&other) => {
                errors.at(&word, nearest::unknown("word", other, self.known));
                skip(input)?;
            }
            "flavor" => {
                let flavor = flavor(errors, &value(input)?);
                set(errors, word.span(), &mut self.flavor, flavor);
            }
            "worker_threads" => {
                let threads = number::<std::num::NonZeroUsize>(errors, value(input)?);
                set(errors, word.span(), &mut self.worker_threads, threads);
            }
            "thread_name" => {
                let name = text(errors, value(input)?, "thread_name = \"shop\"");
                set(errors, word.span(), &mut self.thread_name, name);
            }
            // The last one that is known.
            _ => set(errors, word.span(), &mut self.builder, plain(value(input)?)),
        }
        Ok(())
    }

    pub(crate) fn check(self, errors: &Errors) -> Runtime {
        let flavor_span = self.flavor.span();
        let flavor = self.flavor.take().unwrap_or(Flavor::MultiThread);
        if let (Flavor::CurrentThread, Some(span)) = (flavor, self.worker_threads.span()) {
            let message = "a `current_thread` runtime has no worker threads";
            errors.push(syn::Error::new(span, message));
        }
        if self.builder.get().is_some() {
            let others = [
                flavor_span,
                self.worker_threads.span(),
                self.thread_name.span(),
            ];
            for span in others.into_iter().flatten() {
                let message = "`builder` says all of this: write it there";
                errors.push(syn::Error::new(span, message));
            }
        }
        Runtime {
            flavor,
            worker_threads: self.worker_threads.take(),
            thread_name: self.thread_name.take(),
            builder: self.builder.take(),
        }
    }
}

/// What was said of the runtime: calls that follow the expression of what builds it.
#[derive(Debug)]
pub(crate) struct Runtime {
    flavor: Flavor,
    worker_threads: Option<TokenStream>,
    thread_name: Option<TokenStream>,
    builder: Option<TokenStream>,
}

impl Runtime {
    /// Whether something else than a call to `block_on` drives it. Of one that is built by hand that
    /// is not known.
    pub(crate) fn has_threads(&self) -> bool {
        self.flavor == Flavor::MultiThread
    }
}

impl ToTokens for Runtime {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let given = [
            ("worker_threads", &self.worker_threads),
            ("thread_name", &self.thread_name),
            ("runtime_builder", &self.builder),
        ];
        for (method, value) in given {
            if let Some(value) = value {
                // At the value, so that a value of the wrong type is what an error points at.
                let span = value.span().resolved_at(Span::mixed_site());
                let method = Ident::new(method, span);
                tokens.extend(quote!(.#method(#value)));
            }
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
