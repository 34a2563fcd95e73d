//! `listen`, `advertise`: one address, or several with names. `metadata` has the same form.

use std::net::{IpAddr, SocketAddr};

use proc_macro2::{Span, TokenStream};
use syn::{Expr, Ident, LitStr, ext::IdentExt as _, parse::ParseStream};

use super::args::filled;
use crate::{
    errors::Errors,
    nearest,
    words::{string, text, value},
};

/// `name = value`.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: LitStr,
    pub(super) value: TokenStream,
}

/// `word(name = value, …)`; names that are no identifiers stand in quotes.
pub(super) fn named(
    errors: &Errors,
    word: &Ident,
    input: ParseStream<'_>,
    check: impl Fn(&Errors, Expr) -> Option<TokenStream>,
) -> syn::Result<Vec<Named>> {
    let example = match word.to_string().as_str() {
        "listen" => "listen(grpc = \"0.0.0.0:50051\", http = \"0.0.0.0:8080\")",
        "advertise" => "advertise(grpc = \"svc.internal:50051\")",
        _ => "metadata(team = \"payments\")",
    };
    let mut all: Vec<Named> = Vec::new();
    filled(errors, word, input, example, |input| {
        let name = match input.peek(LitStr) {
            true => input.parse::<LitStr>()?,
            false => {
                let name = input.call(Ident::parse_any)?;
                LitStr::new(&name.unraw().to_string(), name.span())
            }
        };
        let value = check(errors, value(input)?);
        if name.value().is_empty() || name.value().contains([',', '=']) {
            errors.at(&name, "a name is not empty, and has no `,` or `=` in it");
        } else if all.iter().any(|other| other.name.value() == name.value()) {
            errors.at(&name, format!("`{}` is given twice", name.value()));
        } else if let Some(value) = value {
            all.push(Named { name, value });
        }
        Ok(())
    })?;
    Ok(all)
}

/// What is advertised by name listens by that name. `listen`: the names, or none if it has none.
pub(super) fn check_names(errors: &Errors, listen: &[String], advertise: &[(String, Span)]) {
    let known: Vec<_> = listen.iter().map(String::as_str).collect();
    for (name, span) in advertise {
        let message = match known.as_slice() {
            [] => "the one listener has no name: write `advertise = \"…\"`, or `listen(…)` with \
                   names"
                .to_owned(),
            known if known.contains(&name.as_str()) => continue,
            known => nearest::unknown("listener", name, known),
        };
        errors.push(syn::Error::new(*span, message));
    }
}

pub(super) fn listen(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    if let Some(literal) = string(&expr)
        && literal.value().parse::<SocketAddr>().is_err()
    {
        let message = format!(
            "{:?} is no address to listen on: write an IP address and a port, as in \
             \"0.0.0.0:50051\" or \"[::]:50051\" (port 0: any free one)",
            literal.value()
        );
        errors.at(literal, message);
        return None;
    }
    text(errors, expr, "listen = \"0.0.0.0:50051\"")
}

pub(super) fn advertise(errors: &Errors, expr: Expr) -> Option<TokenStream> {
    if let Some(literal) = string(&expr)
        && !is_address(&literal.value())
    {
        let message = format!(
            "{:?} is no address to tell others: write \"auto\", \"host:port\", a host, an IP \
             address (IPv6 with its port in brackets), \"if:eth1\" or \"env:POD_IP\"",
            literal.value()
        );
        errors.at(literal, message);
        return None;
    }
    text(errors, expr, "advertise = \"svc.internal\"")
}

fn is_address(text: &str) -> bool {
    for prefix in ["if:", "env:"] {
        if let Some(name) = text.strip_prefix(prefix) {
            return !name.is_empty();
        }
    }
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok_and(|it| it.port() != 0) {
        return true;
    }
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.parse().is_ok_and(|port: u16| port != 0) => host,
        Some(_) => return false,
        None => text,
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/[]@:".contains(c);
    !host.is_empty() && !host.contains(odd)
}
