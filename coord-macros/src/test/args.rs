//! What stands in the attribute.

use proc_macro2::TokenStream;
use syn::{
    Ident, Path, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
};

use crate::{
    crate_path::CratePath,
    errors::Errors,
    nearest,
    once::Once,
    runtime::{self, Runtime},
    words::{list, skip},
};

const WORDS: &[&str] = &["runtime", "crate"];
/// The attribute, complete even where it was wrong: then an error is recorded.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) runtime: Runtime,
    pub(super) coord: CratePath,
}

impl Args {
    pub(super) fn parse(errors: &Errors, attribute: TokenStream) -> Self {
        let mut runtime = runtime::Words::none(runtime::SHORT);
        let mut krate = Once::none("crate");
        let parser = |input: ParseStream<'_>| {
            list(input, |input| word(errors, input, &mut runtime, &mut krate))
        };
        errors.ok(parser.parse2(attribute));
        Self {
            runtime: runtime.check(errors),
            coord: CratePath::new(errors, krate.get()),
        }
    }
}

fn word(
    errors: &Errors,
    input: ParseStream<'_>,
    runtime: &mut runtime::Words,
    krate: &mut Once<Path>,
) -> syn::Result<()> {
    let word = input.call(Ident::parse_any)?;
    match word.to_string().as_str() {
        "runtime" => runtime.parse(errors, &word, input)?,
        "crate" => {
            input.parse::<Token![=]>()?;
            let path = input.call(Path::parse_mod_style)?;
            krate.set(errors, word.span(), path);
        }
        "start_paused" => {
            let message = "time cannot be paused: the server answers in real time, and every \
                           timeout would be over before that";
            errors.at(&word, message);
            skip(input)?;
        }
        other => {
            // `#[tokio::test]` takes these directly.
            let message = match runtime::SHORT.contains(&other) {
                true => format!("write `runtime({other} = …)`"),
                false => nearest::unknown("word", other, WORDS),
            };
            errors.at(&word, message);
            skip(input)?;
        }
    }
    Ok(())
}
