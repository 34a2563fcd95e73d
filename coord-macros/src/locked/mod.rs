//! `#[locked("orders/{order_id}", wait = "5s")]`: parse → check → expand.

mod args;
mod expand;
mod function;

use proc_macro2::TokenStream;
use quote::quote;

use self::{args::Args, function::Function};
use crate::errors::Errors;

pub(crate) fn locked(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let errors = Errors::new();
    let args = Args::parse(&errors, attribute);
    let function = Function::parse(&errors, item.clone());
    let expanded = match (&args.keys, &function) {
        (Some(keys), Some(function)) => {
            keys.iter()
                .for_each(|template| function.check_holes(&errors, template));
            Some(expand::expand(&args, keys, function))
        }
        _ => None,
    };
    match (errors.check(), expanded) {
        (None, Some(expanded)) => expanded,
        // The item stays, so that its users do not get errors of their own; without warnings for
        // what only the key would have used.
        (errors, _) => quote!(#[allow(unused)] #item #errors),
    }
}
