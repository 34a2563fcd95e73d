//! What the attribute stands on.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::{FnArg, GenericArgument, ItemFn, PathArguments, ReturnType, Type, parse_quote};

use super::args::Args;
use crate::errors::Errors;

/// The most arguments that `main` may have.
const MOST: usize = 8;

/// The user's main function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) item: ItemFn,
    /// What each argument is made from.
    pub(super) arguments: Vec<Type>,
    /// What it returns, as it may stand in a body.
    pub(super) returns: Type,
}

impl Function {
    /// `None` with an error if it is no function at all; a function is returned also if something is
    /// wrong with it.
    pub(super) fn parse(errors: &Errors, item: TokenStream, args: &Args) -> Option<Self> {
        let Ok(item) = syn::parse2::<ItemFn>(item.clone()) else {
            errors.at(&item, "`#[coord::service]` stands on a function");
            return None;
        };
        check_signature(errors, &item, args);
        let mut arguments = Vec::new();
        for argument in &item.sig.inputs {
            match argument {
                FnArg::Typed(argument) => arguments.push((*argument.ty).clone()),
                FnArg::Receiver(this) => errors.at(this, "a service's main is a free function"),
            }
        }
        for ty in &arguments {
            check_argument(errors, ty, args.with_id);
        }
        if let Some(excess) = item.sig.inputs.iter().nth(MOST) {
            let message = format!(
                "at most {MOST} arguments: put some of them into a type of your own that \
                 implements `coord::FromContext`"
            );
            errors.at(excess, message);
        }
        let returns = match &item.sig.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, ty) => match &**ty {
                Type::Never(_) => parse_quote!(_),
                Type::ImplTrait(hidden) => {
                    errors.at(hidden, "name the type that `main` returns");
                    parse_quote!(_)
                }
                ty => ty.clone(),
            },
        };
        Some(Self {
            item,
            arguments,
            returns,
        })
    }
}

fn check_signature(errors: &Errors, item: &ItemFn, args: &Args) {
    const OWN_RUNTIME: &str = "`#[coord::service]` builds the runtime: remove this attribute (its \
                               options go into `runtime(flavor = …, worker_threads = …)`)";
    let other_main = item.attrs.iter().find(|attribute| {
        let path = attribute.path();
        path.segments
            .last()
            .is_some_and(|last| last.ident == "main")
    });
    if let Some(attribute) = other_main {
        errors.at(attribute, OWN_RUNTIME);
    }
    let signature = &item.sig;
    if signature.asyncness.is_none() {
        // What `#[tokio::main]` above this attribute has made of the body.
        let body = item.block.to_token_stream().to_string();
        if body.contains("Failed building the Runtime") {
            let message = "`#[coord::service]` builds the runtime: remove `#[tokio::main]` (its \
                           options go into `runtime(flavor = …, worker_threads = …)`)";
            errors.at(signature.fn_token, message);
        } else if !args.runtime.has_threads() {
            let message = "a main that is not async does not drive a `current_thread` runtime: \
                           leave the flavor out, or write `async fn`";
            errors.at(signature.fn_token, message);
        }
    }
    if !signature.generics.params.is_empty() {
        errors.at(
            &signature.generics.params,
            "a service's main takes no generics",
        );
    }
}

fn check_argument(errors: &Errors, ty: &Type, with_id: bool) {
    match ty {
        Type::ImplTrait(_) => {
            errors.at(ty, "name the argument's type: it says what is passed");
        }
        Type::Path(path) => {
            let last = path.path.segments.last();
            if !with_id && last.is_some_and(|last| last.ident == "InstanceId") {
                let message = "no instance id is claimed: add `instance_id(max = 1023)` to \
                               `#[coord::service]`";
                errors.at(ty, message);
            }
            // `_` would leave the choice to nobody.
            let infers = |argument: &GenericArgument| {
                matches!(argument, GenericArgument::Type(Type::Infer(_)))
            };
            if let Some(PathArguments::AngleBracketed(inner)) = last.map(|last| &last.arguments)
                && inner.args.iter().any(infers)
            {
                errors.at(ty, "name the argument's type: it says what is passed");
            }
        }
        _ => {}
    }
}
