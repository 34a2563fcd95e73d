//! `instance_id(max = 1023, …)`.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Ident, ext::IdentExt as _, parse::ParseStream};

use super::args::{Call, filled};
use crate::{
    errors::Errors,
    nearest,
    words::{choice, duration, number, skip, text, value},
};

const WORDS: &[&str] = &[
    "max",
    "pool",
    "hold",
    "cool_down",
    "window",
    "order",
    "sticky",
    "on_lost",
    "on_exhausted",
];

/// The calls, the first of which says that there is an id.
pub(super) fn parse(
    errors: &Errors,
    instance_id: &Ident,
    input: ParseStream<'_>,
) -> syn::Result<Vec<Call>> {
    const EXAMPLE: &str = "instance_id(max = 1023)";
    let mut seen = BTreeSet::new();
    let mut max = None;
    let mut calls = Vec::new();
    let mut known = true;
    filled(errors, instance_id, input, EXAMPLE, |input| {
        let word = &input.call(Ident::parse_any)?;
        let name = word.to_string();
        let call = match name.as_str() {
            "max" => {
                max = number::<u32>(errors, value(input)?);
                None
            }
            "pool" => text(errors, value(input)?, "pool = \"workers\"")
                .map(|pool| Call::new("id_pool", pool)),
            "hold" => time(errors, input, "id_hold")?,
            "cool_down" => time(errors, input, "id_cool_down")?,
            "window" => time(errors, input, "id_window")?,
            "order" => {
                let dense = choice(errors, word, input, &[("any", false), ("dense", true)])?;
                (dense == Some(true)).then(|| Call::new("id_dense", quote!()))
            }
            "sticky" => {
                let sticky = choice(errors, word, input, &[("true", true), ("false", false)])?;
                (sticky == Some(true)).then(|| Call::new("id_sticky", quote!()))
            }
            "on_lost" => {
                let choices = [("exit", "Exit"), ("degrade", "Degrade")];
                let choice = choice(errors, word, input, &choices)?;
                choice.map(|variant| Call::choice("id_on_lost", "OnIdLost", variant))
            }
            "on_exhausted" => {
                let choices = [("wait", "Wait"), ("fail", "Fail")];
                let choice = choice(errors, word, input, &choices)?;
                choice.map(|variant| Call::choice("id_on_exhausted", "OnExhausted", variant))
            }
            other => {
                known = false;
                errors.at(word, nearest::unknown("word", other, WORDS));
                return skip(input);
            }
        };
        if !seen.insert(name) {
            errors.at(word, format!("`{word}` is given twice"));
        } else {
            calls.extend(call);
        }
        Ok(())
    })?;
    // One error is enough: the unknown word may be a misspelt `max`.
    if !seen.is_empty() && !seen.contains("max") && known {
        errors.at(
            instance_id,
            format!("say how large an id may be: `{EXAMPLE}`"),
        );
    }
    let max: TokenStream = max.unwrap_or_else(|| quote!(0));
    calls.insert(0, Call::new("instance_id", max));
    Ok(calls)
}

/// Leases are granted in whole seconds.
fn time(
    errors: &Errors,
    input: ParseStream<'_>,
    method: &'static str,
) -> syn::Result<Option<Call>> {
    let time = duration(errors, value(input)?, false);
    Ok(time.map(|time| Call::new(method, time)))
}
