//! What stands in the attribute.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::{
    Expr, ExprLit, Ident, Lit, LitStr, Path, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
};

use crate::{crate_path::CratePath, errors::Errors, nearest, once::Once, template::Template};

const WORDS: &[&str] = &["wait", "try", "guard", "via", "crate"];

/// The attribute, complete even where it was wrong: then an error is recorded.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) template: Option<Template>,
    pub(super) wait: Option<Wait>,
    pub(super) guard: Option<Ident>,
    pub(super) via: Option<Expr>,
    pub(super) coord: CratePath,
}

/// How long to wait.
#[derive(Debug)]
pub(super) enum Wait {
    For(Duration),
    Expr(Expr),
    Forever,
    Try,
}

/// The words, each at most once.
struct Words {
    wait: Once<Wait>,
    only_try: Once<Wait>,
    guard: Once<Ident>,
    via: Once<Expr>,
    krate: Once<Path>,
}

impl Args {
    pub(super) fn parse(errors: &Errors, attribute: TokenStream) -> Self {
        let mut words = Words {
            wait: Once::none("wait"),
            only_try: Once::none("try"),
            guard: Once::none("guard"),
            via: Once::none("via"),
            krate: Once::none("crate"),
        };
        let parser = |input: ParseStream<'_>| parse(errors, input, &mut words);
        let template = errors.ok(parser.parse2(attribute)).flatten();
        if let (Some(_), Some(only_try)) = (words.wait.get(), words.only_try.span()) {
            errors.push(syn::Error::new(
                only_try,
                "`try` does not wait: leave out `try` or `wait`",
            ));
        }
        Self {
            template,
            wait: words.only_try.take().or(words.wait.take()),
            guard: words.guard.take(),
            via: words.via.take(),
            coord: CratePath::new(errors, words.krate.get()),
        }
    }
}

fn parse(
    errors: &Errors,
    input: ParseStream<'_>,
    words: &mut Words,
) -> syn::Result<Option<Template>> {
    if !input.peek(LitStr) {
        let message = "the key comes first: `#[locked(\"orders/{order_id}\")]`";
        // Nothing to point at in an empty attribute but the attribute.
        return Err(match input.is_empty() {
            true => syn::Error::new(Span::call_site(), message),
            false => input.error(message),
        });
    }
    let template = Template::parse(errors, &input.parse()?);
    while !input.is_empty() {
        input.parse::<Token![,]>()?;
        if input.is_empty() {
            break;
        }
        if input.peek(LitStr) {
            let second: LitStr = input.parse()?;
            errors.at(&second, "`#[locked]` takes one key");
            continue;
        }
        word(errors, input, words)?;
    }
    Ok(template)
}

fn word(errors: &Errors, input: ParseStream<'_>, words: &mut Words) -> syn::Result<()> {
    let word = input.call(Ident::parse_any)?;
    let span = word.span();
    match word.to_string().as_str() {
        "try" => {
            words.only_try.set(errors, span, Wait::Try);
            if input.peek(Token![=]) {
                input.parse::<Token![=]>()?;
                let value: Expr = input.parse()?;
                errors.at(value, "`try` takes no value: write `try`");
            }
        }
        "wait" => {
            input.parse::<Token![=]>()?;
            if let Some(wait) = wait(errors, input)? {
                words.wait.set(errors, span, wait);
            }
        }
        "guard" => {
            input.parse::<Token![=]>()?;
            if input.peek(LitStr) {
                let text: LitStr = input.parse()?;
                let message = format!("write it without quotes: `guard = {}`", text.value());
                errors.at(&text, message);
            } else {
                words.guard.set(errors, span, input.parse()?);
            }
        }
        "via" => {
            input.parse::<Token![=]>()?;
            words.via.set(errors, span, input.parse()?);
        }
        "crate" => {
            input.parse::<Token![=]>()?;
            words
                .krate
                .set(errors, span, input.call(Path::parse_mod_style)?);
        }
        other => {
            errors.at(&word, nearest::unknown("word", other, WORDS));
            if input.parse::<Option<Token![=]>>()?.is_some() {
                input.parse::<Expr>()?;
            }
        }
    }
    Ok(())
}

fn wait(errors: &Errors, input: ParseStream<'_>) -> syn::Result<Option<Wait>> {
    let expr: Expr = input.parse()?;
    match &expr {
        Expr::Path(path) if path.path.is_ident("forever") => Ok(Some(Wait::Forever)),
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(match humantime::parse_duration(&text.value()) {
            Ok(Duration::ZERO) => {
                errors.at(text, "a wait of nothing is written `try`");
                None
            }
            Ok(limit) => Some(Wait::For(limit)),
            Err(error) => {
                errors.at(
                    text,
                    format!("{:?} is no duration like \"5s\": {error}", text.value()),
                );
                None
            }
        }),
        Expr::Lit(literal) => {
            errors.at(
                literal,
                "a wait is a duration with its unit, as in `wait = \"5s\"`, an expression of type \
                 `Duration`, or `forever`",
            );
            Ok(None)
        }
        _ => Ok(Some(Wait::Expr(expr))),
    }
}
