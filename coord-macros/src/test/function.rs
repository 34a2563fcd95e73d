//! What the attribute stands on.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::{Attribute, FnArg, GenericArgument, ItemFn, PathArguments, ReturnType, Safety, Type};

use crate::errors::Errors;

/// The most arguments that a test may have.
const MOST: usize = 8;

/// The user's test.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) item: ItemFn,
    /// What each argument is made from.
    pub(super) arguments: Vec<Type>,
    /// It has `#[should_panic]`.
    pub(super) should_panic: bool,
}

impl Function {
    /// `None` with an error if it is no function at all; a function is returned also if something is
    /// wrong with it.
    pub(super) fn parse(errors: &Errors, item: TokenStream) -> Option<Self> {
        let Ok(item) = syn::parse2::<ItemFn>(item.clone()) else {
            errors.at(&item, "`#[coord::test]` stands on an `async fn`");
            return None;
        };
        check_signature(errors, &item);
        let mut arguments = Vec::new();
        for argument in &item.sig.inputs {
            match argument {
                FnArg::Typed(argument) => arguments.push((*argument.ty).clone()),
                FnArg::Receiver(this) => errors.at(this, "a test is a free function"),
            }
        }
        for ty in &arguments {
            check_argument(errors, ty);
        }
        if let Some(excess) = item.sig.inputs.iter().nth(MOST) {
            let message = format!(
                "at most {MOST} arguments: put some of them into a type of your own that \
                 implements `coord::testing::FromTest`"
            );
            errors.at(excess, message);
        }
        let should_panic = item
            .attrs
            .iter()
            .any(|attribute| attribute.path().is_ident("should_panic"));
        if let (true, ReturnType::Type(_, ty)) = (should_panic, &item.sig.output)
            && !matches!(&**ty, Type::Tuple(unit) if unit.elems.is_empty())
        {
            errors.at(ty, "a test that should panic returns nothing");
        }
        Some(Self {
            item,
            arguments,
            should_panic,
        })
    }
}

/// `#[test]`, `#[tokio::test]` and their like.
pub(super) fn makes_a_test(attribute: &Attribute) -> bool {
    let last = attribute.path().segments.last();
    last.is_some_and(|last| last.ident == "test")
}

fn check_signature(errors: &Errors, item: &ItemFn) {
    let mut others = item.attrs.iter().filter(|it| makes_a_test(it)).peekable();
    // `#[tokio::test]` above this attribute leaves one behind, and a body that is not async.
    let of_tokio = others.peek().is_some()
        && item
            .block
            .to_token_stream()
            .to_string()
            .contains("Failed building the Runtime");
    for attribute in others {
        let message = "`#[coord::test]` makes the test and its runtime: remove this attribute \
                       (options of the runtime go into `runtime(flavor = …, worker_threads = …)`)";
        errors.at(attribute, message);
    }
    let signature = &item.sig;
    if let Some(token) = &signature.constness {
        errors.at(token, "a test is not a `const fn`");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        errors.at(token, "a test is a safe function");
    }
    if let Some(abi) = &signature.abi {
        errors.at(abi, "a test is not an `extern` function");
    }
    if signature.asyncness.is_none() && !of_tokio {
        errors.at(
            signature.fn_token,
            "a test with a coordinator is an `async fn`",
        );
    }
    if !signature.generics.params.is_empty() {
        errors.at(&signature.generics.params, "a test takes no generics");
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.at(clause, "a test takes no generics");
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic, "a test has arguments of known types");
    }
    if let ReturnType::Type(_, ty) = &signature.output
        && let Type::ImplTrait(hidden) = &**ty
    {
        errors.at(hidden, "name the type that the test returns");
    }
}

fn check_argument(errors: &Errors, ty: &Type) {
    match ty {
        Type::ImplTrait(_) | Type::Infer(_) => {
            errors.at(ty, "name the argument's type: it says what is passed");
        }
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else {
                return;
            };
            if last.ident == "Server" {
                let message = "the server lives as long as the test: write `&Server`";
                errors.at(ty, message);
            }
            // `_` would leave the choice to nobody.
            let infers = |argument: &GenericArgument| {
                matches!(argument, GenericArgument::Type(Type::Infer(_)))
            };
            if let PathArguments::AngleBracketed(inner) = &last.arguments
                && inner.args.iter().any(infers)
            {
                errors.at(ty, "name the argument's type: it says what is passed");
            }
        }
        _ => {}
    }
}
