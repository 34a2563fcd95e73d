//! `#[coord::service(name = "user-service", listen = "0.0.0.0:50051")]`: parse → check → expand.

mod addresses;
mod args;
mod expand;
mod function;
mod instance_id;

use proc_macro2::TokenStream;

use self::{args::Args, function::Function};
use crate::errors::Errors;

pub(crate) fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let errors = Errors::new();
    let args = Args::parse(&errors, attribute);
    let function = Function::parse(&errors, item.clone(), &args);
    let expanded = function
        .as_ref()
        .map(|function| expand::expand(&args, function));
    match (errors.check(), expanded, function) {
        (None, Some(expanded), _) => expanded,
        (errors, _, Some(function)) => {
            let mut tokens = expand::without_service(&function.item);
            tokens.extend(errors);
            tokens
        }
        (errors, _, None) => {
            let mut tokens = item;
            tokens.extend(errors);
            tokens
        }
    }
}
