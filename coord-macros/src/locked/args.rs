//! What stands in the attribute.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Expr, ExprLit, Ident, Lit, LitInt, LitStr, Path, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    spanned::Spanned as _,
};

use crate::{
    crate_path::CratePath,
    errors::Errors,
    nearest,
    once::Once,
    template::Template,
    words::{alone, choice, duration, number, set, skip, string, value},
};

const WORDS: &[&str] = &[
    "wait",
    "try",
    "busy",
    "read",
    "write",
    "permits",
    "take",
    "ttl",
    "max_hold",
    "on_lost",
    "confirm",
    "release",
    "reentrant",
    "guard",
    "via",
    "map_err",
    "label",
    "raw",
    "crate",
];

/// What other libraries call these things: no nearest word would do.
fn elsewhere(word: &str) -> Option<&'static str> {
    match word {
        "key" | "name" => Some("a key stands alone: `#[locked(\"orders/{order_id}\")]`"),
        "timeout" => Some(
            "say `wait = \"5s\"` for the time in the queue, `max_hold = \"1m\"` for how long it may take",
        ),
        "lease" | "lease_time" => Some(
            "say `max_hold = \"1m\"` for how long it may take, `ttl = \"10s\"` for how long the lock \
             stays taken after a crash",
        ),
        _ => None,
    }
}

/// The attribute, complete even where it was wrong: then an error is recorded.
#[derive(Debug)]
pub(super) struct Args {
    /// `None`: there is none, or one is wrong.
    pub(super) keys: Option<Vec<Template>>,
    /// What is called on the builder.
    pub(super) calls: Vec<Call>,
    /// `busy = skip`.
    pub(super) skips: bool,
    /// The call waits for the release.
    pub(super) lingers: bool,
    pub(super) guard: Option<Ident>,
    pub(super) via: Option<Expr>,
    pub(super) map_err: Option<Expr>,
    pub(super) coord: CratePath,
}

/// A method of the lock's builder.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Ident,
    /// What it takes, with its type: evaluated before the arguments move.
    pub(super) argument: Option<(TokenStream, TokenStream)>,
}

/// How a key is locked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Write,
    Read,
}

/// How long to wait.
#[derive(Debug)]
enum Wait {
    For(TokenStream),
    Forever,
    Try,
}

/// The words, each at most once; keys any number of times.
struct Words {
    keys: Vec<(LitStr, Mode)>,
    /// One was meant, and an error says what is wrong with it.
    bad_key: bool,
    wait: Once<Wait>,
    only_try: Once<Wait>,
    busy: Once<()>,
    permits: Once<Expr>,
    take: Once<Expr>,
    ttl: Once<TokenStream>,
    max_hold: Once<TokenStream>,
    on_lost: Once<&'static str>,
    confirm: Once<()>,
    release: Once<&'static str>,
    reentrant: Once<()>,
    guard: Once<Ident>,
    via: Once<Expr>,
    map_err: Once<Expr>,
    label: Once<Expr>,
    raw: Once<()>,
    krate: Once<Path>,
}

impl Args {
    pub(super) fn parse(errors: &Errors, attribute: TokenStream) -> Self {
        let mut words = Words {
            keys: Vec::new(),
            bad_key: false,
            wait: Once::none("wait"),
            only_try: Once::none("try"),
            busy: Once::none("busy"),
            permits: Once::none("permits"),
            take: Once::none("take"),
            ttl: Once::none("ttl"),
            max_hold: Once::none("max_hold"),
            on_lost: Once::none("on_lost"),
            confirm: Once::none("confirm"),
            release: Once::none("release"),
            reentrant: Once::none("reentrant"),
            guard: Once::none("guard"),
            via: Once::none("via"),
            map_err: Once::none("map_err"),
            label: Once::none("label"),
            raw: Once::none("raw"),
            krate: Once::none("crate"),
        };
        let read =
            errors.ok((|input: ParseStream<'_>| words.parse(errors, input)).parse2(attribute));
        words.check(errors);
        let coord = CratePath::new(errors, words.krate.get());
        Self {
            keys: read.and_then(|()| words.templates(errors)),
            calls: words.calls(&coord),
            skips: words.busy.get().is_some(),
            lingers: words.confirm.get().is_some() || words.release.get() == Some(&"Wait"),
            guard: words.guard.take(),
            via: words.via.take(),
            map_err: words.map_err.take(),
            coord,
        }
    }
}

impl Words {
    fn parse(&mut self, errors: &Errors, input: ParseStream<'_>) -> syn::Result<()> {
        loop {
            if input.peek(LitStr) {
                self.keys.push((input.parse()?, Mode::Write));
            } else if !input.is_empty() {
                self.word(errors, input)?;
            }
            if input.is_empty() {
                return Ok(());
            }
            input.parse::<Token![,]>()?;
        }
    }

    fn word(&mut self, errors: &Errors, input: ParseStream<'_>) -> syn::Result<()> {
        let word = input.call(Ident::parse_any)?;
        let span = word.span();
        match word.to_string().as_str() {
            "read" => self.key(errors, &word, input, Mode::Read)?,
            "write" => self.key(errors, &word, input, Mode::Write)?,
            "wait" => {
                let wait = wait(errors, value(input)?);
                set(errors, span, &mut self.wait, wait);
            }
            "try" => {
                let only_try = alone(errors, &word, input)?.map(|()| Wait::Try);
                set(errors, span, &mut self.only_try, only_try);
            }
            "busy" => {
                let skips = choice(errors, &word, input, &[("skip", ())])?;
                set(errors, span, &mut self.busy, skips);
            }
            "permits" => {
                let permits = value(input)?;
                let good = number::<u32>(errors, permits.clone());
                set(errors, span, &mut self.permits, good.map(|_| permits));
            }
            "take" => {
                let take = value(input)?;
                let good = number::<u32>(errors, take.clone());
                set(errors, span, &mut self.take, good.map(|_| take));
            }
            "ttl" => {
                let ttl = duration(errors, value(input)?, true);
                set(errors, span, &mut self.ttl, ttl);
            }
            "max_hold" => {
                let limit = duration(errors, value(input)?, false);
                set(errors, span, &mut self.max_hold, limit);
            }
            "on_lost" => {
                let choices = [
                    ("cancel", "Cancel"),
                    ("continue", "Continue"),
                    ("abort", "Abort"),
                ];
                let on_lost = choice(errors, &word, input, &choices)?;
                set(errors, span, &mut self.on_lost, on_lost);
            }
            "confirm" => {
                let confirm = alone(errors, &word, input)?;
                set(errors, span, &mut self.confirm, confirm);
            }
            "release" => {
                let choices = [("background", "Background"), ("wait", "Wait")];
                let release = choice(errors, &word, input, &choices)?;
                set(errors, span, &mut self.release, release);
            }
            "reentrant" => {
                let reentrant = alone(errors, &word, input)?;
                set(errors, span, &mut self.reentrant, reentrant);
            }
            "guard" => {
                input.parse::<Token![=]>()?;
                if input.peek(LitStr) {
                    unquoted(errors, &word, &input.parse()?);
                } else {
                    self.guard.set(errors, span, input.parse()?);
                }
            }
            "via" => self.via.set(errors, span, value(input)?),
            "map_err" => {
                let map = value(input)?;
                match string(&map) {
                    Some(text) => unquoted(errors, &word, text),
                    None => self.map_err.set(errors, span, map),
                }
            }
            "label" => {
                let label = label(errors, value(input)?);
                set(errors, span, &mut self.label, label);
            }
            "raw" => {
                let raw = alone(errors, &word, input)?;
                set(errors, span, &mut self.raw, raw);
            }
            "crate" => {
                input.parse::<Token![=]>()?;
                let path = input.call(Path::parse_mod_style)?;
                self.krate.set(errors, span, path);
            }
            other => {
                let message = match elsewhere(other) {
                    Some(message) => message.to_owned(),
                    None => nearest::unknown("word", other, WORDS),
                };
                errors.at(&word, message);
                // The key is named, so that there is none is not said as well.
                self.bad_key |= matches!(other, "key" | "name");
                skip(input)?;
            }
        }
        Ok(())
    }

    fn key(
        &mut self,
        errors: &Errors,
        word: &Ident,
        input: ParseStream<'_>,
        mode: Mode,
    ) -> syn::Result<()> {
        if !input.peek(Token![=]) {
            let message = format!("`{word}` names its key: `{word} = \"catalog/{{tenant}}\"`");
            errors.at(word, message);
            self.bad_key = true;
            return skip(input);
        }
        input.parse::<Token![=]>()?;
        if input.peek(LitStr) {
            self.keys.push((input.parse()?, mode));
        } else {
            let other: Expr = input.parse()?;
            let message = format!("a key is a literal: `{word} = \"catalog/{{tenant}}\"`");
            errors.at(other, message);
            self.bad_key = true;
        }
        Ok(())
    }

    /// What does not go together.
    fn check(&self, errors: &Errors) {
        let at = |span: Span, message: &str| errors.push(syn::Error::new(span, message));
        if let (Some(_), Some(only_try)) = (self.wait.get(), self.only_try.span()) {
            at(only_try, "`try` does not wait: leave out `try` or `wait`");
        }
        if let (Some(Wait::Forever), Some(busy)) = (self.wait.get(), self.busy.span()) {
            at(
                busy,
                "`wait = forever` ends with the lock: there is nothing to skip",
            );
        }
        let first = self.keys.first().map(|(_, mode)| *mode);
        if let Some((key, _)) = self.keys.iter().find(|(_, mode)| Some(*mode) != first) {
            at(
                key.span(),
                "all keys of a function are locked in one mode: all by `read = \"…\"`, or none",
            );
        }
        match (self.permits.span(), self.take.span()) {
            (Some(permits), _) if first == Some(Mode::Read) => {
                at(
                    permits,
                    "`permits` make a semaphore, which nobody reads: leave out `permits` or `read`",
                );
            }
            (None, Some(take)) => at(
                take,
                "`take` says how many of the `permits`: write `permits = …` as well",
            ),
            _ => {}
        }
        let literal = |word: &Once<Expr>| word.get().and_then(integer)?.base10_parse::<u32>().ok();
        let (permits, take) = (literal(&self.permits), literal(&self.take));
        if let (Some(0), Some(span)) = (permits, self.permits.span()) {
            at(span, "a semaphore has one permit at least");
        } else if let (Some(of), Some(take), Some(span)) = (permits, take, self.take.span())
            && !(1..=of).contains(&take)
        {
            at(span, &format!("{take} of {of} permits cannot be taken"));
        }
        if let (Some(_), Some("Background"), Some(release)) = (
            self.confirm.get(),
            self.release.get().copied(),
            self.release.span(),
        ) {
            at(
                release,
                "`confirm` waits for the release: leave out `release` or `confirm`",
            );
        }
    }

    /// The keys, if there are any and all of them are good.
    fn templates(&self, errors: &Errors) -> Option<Vec<Template>> {
        if self.bad_key {
            return None;
        }
        if self.keys.is_empty() {
            // Nothing to point at in the attribute but the attribute.
            errors.push(syn::Error::new(
                Span::call_site(),
                "name what is locked: `#[locked(\"orders/{order_id}\")]`",
            ));
            return None;
        }
        let raw = self.raw.get().is_some();
        let templates: Vec<_> = self
            .keys
            .iter()
            .map(|(key, _)| Template::parse(errors, key, raw))
            .collect();
        templates.into_iter().collect()
    }

    fn calls(&self, coord: &CratePath) -> Vec<Call> {
        let mut calls = Vec::new();
        let mut call = |method: &str, argument: Option<(TokenStream, TokenStream)>| {
            let method = Ident::new(method, Span::mixed_site());
            calls.push(Call { method, argument });
        };
        let duration = || quote!(::core::time::Duration);
        let number = |expr: &Expr| (quote!(#expr), quote!(::core::primitive::u32));
        match (self.only_try.get().or(self.wait.get()), self.wait.span()) {
            (Some(Wait::For(limit)), _) => call("wait", Some((limit.clone(), duration()))),
            (Some(Wait::Forever), _) => call("wait_forever", None),
            (Some(Wait::Try), _) => call("trying", None),
            (None, _) => {}
        }
        if self.keys.iter().any(|(_, mode)| *mode == Mode::Read) {
            call("read", None);
        }
        if let Some(permits) = self.permits.get() {
            call("permits", Some(number(permits)));
        }
        if let Some(take) = self.take.get() {
            call("take", Some(number(take)));
        }
        if let Some(ttl) = self.ttl.get() {
            call("ttl", Some((ttl.clone(), duration())));
        }
        if let Some(limit) = self.max_hold.get() {
            call("max_hold", Some((limit.clone(), duration())));
        }
        if let Some(variant) = self.on_lost.get() {
            let variant = Ident::new(variant, Span::mixed_site());
            let ty = quote!(#coord::OnLost);
            call("on_lost", Some((quote!(#ty::#variant), ty)));
        }
        if self.confirm.get().is_some() {
            call("confirm", None);
        }
        if let Some(variant) = self.release.get() {
            let variant = Ident::new(variant, Span::mixed_site());
            let ty = quote!(#coord::Release);
            call("release", Some((quote!(#ty::#variant), ty)));
        }
        if self.reentrant.get().is_some() {
            call("reentrant", None);
        }
        if self.raw.get().is_some() {
            call("raw", None);
        }
        let text: Vec<_> = self.keys.iter().map(|(key, _)| key.value()).collect();
        let text = text.join(", ");
        let label = match self.label.get() {
            Some(label) => quote_spanned!(label.span()=> #label),
            None => quote!(#text),
        };
        call(
            "label",
            Some((label, quote!(&'static ::core::primitive::str))),
        );
        calls
    }
}

fn wait(errors: &Errors, expr: Expr) -> Option<Wait> {
    if let Expr::Path(path) = &expr
        && path.path.is_ident("forever")
    {
        return Some(Wait::Forever);
    }
    if let Expr::Lit(literal) = &expr
        && string(&expr).is_none()
    {
        errors.at(
            literal,
            "a wait is a duration with its unit, as in `wait = \"5s\"`, an expression of type \
             `Duration`, or `forever`",
        );
        return None;
    }
    if let Some(text) = string(&expr)
        && humantime::parse_duration(&text.value()).is_ok_and(|limit| limit.is_zero())
    {
        errors.at(text, "a wait of nothing is written `try`");
        return None;
    }
    duration(errors, expr, false).map(Wait::For)
}

fn label(errors: &Errors, expr: Expr) -> Option<Expr> {
    let fault = match (&expr, string(&expr)) {
        (_, Some(text)) if text.value().is_empty() => "an empty label names nothing",
        (Expr::Lit(_), None) => "a label is text: write `label = \"orders\"`",
        _ => return Some(expr),
    };
    errors.at(&expr, fault);
    None
}

fn integer(expr: &Expr) -> Option<&LitInt> {
    match expr {
        Expr::Lit(ExprLit {
            lit: Lit::Int(int), ..
        }) => Some(int),
        _ => None,
    }
}

fn unquoted(errors: &Errors, word: &Ident, text: &LitStr) {
    let message = format!("write it without quotes: `{word} = {}`", text.value());
    errors.at(text, message);
}
