//! The function under the attribute.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Block, Expr, ExprAsync, FnArg, GenericArgument, Item, ItemFn, Pat, PathArguments, ReturnType,
    Safety, Stmt, TraitItemFn, Type, TypeParamBound, spanned::Spanned as _,
};

use crate::{errors::Errors, nearest, template::Template};

/// A function that can be locked.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) item: ItemFn,
    /// What it returns in the end.
    pub(super) returns: Type,
    pub(super) shape: Shape,
}

/// Where its body is.
#[derive(Debug)]
pub(super) enum Shape {
    /// `async fn`: the block.
    Async,
    /// A function of one boxed future, as written by hand or by `async_trait`.
    Boxed(Box<ExprAsync>),
}

impl Function {
    /// Records why it cannot be locked. `None`: there is no body or no return type to go on with.
    pub(super) fn parse(errors: &Errors, item: TokenStream) -> Option<Self> {
        let item: ItemFn = match syn::parse2(item.clone()) {
            Ok(item) => item,
            Err(error) => {
                errors.push(explain(item, error));
                return None;
            }
        };
        let signature = &item.sig;
        if let Some(token) = &signature.constness {
            errors.at(token, "a `const fn` cannot wait for a lock");
        }
        if let Safety::Unsafe(token) = &signature.safety {
            errors.at(
                token,
                "`#[locked]` does not go on an `unsafe fn`: lock a safe function that calls it",
            );
        }
        if let Some(abi) = &signature.abi {
            errors.at(
                abi,
                "`#[locked]` does not go on an `extern` function: lock one that it calls",
            );
        }
        let boxed = boxed(&item.block);
        let (shape, returns) = match (&signature.asyncness, &signature.output, boxed) {
            (_, ReturnType::Default, _) if signature.asyncness.is_some() => {
                errors.at(
                    &signature.ident,
                    format!(
                        "`{}` returns nothing: a `#[locked]` function returns a `Result`, because \
                         the lock may not be had",
                        signature.ident
                    ),
                );
                (Shape::Async, None)
            }
            (Some(_), ReturnType::Type(_, ty), _) => (Shape::Async, Some((**ty).clone())),
            (None, ReturnType::Type(_, ty), Some(boxed)) => {
                let output = future_output(ty);
                if output.is_none() {
                    errors.at(
                        ty,
                        "`#[locked]` does not see what this future returns: write \
                         `Pin<Box<dyn Future<Output = Result<…>> + Send + '_>>`",
                    );
                }
                (Shape::Boxed(boxed), output)
            }
            _ => {
                if signature.constness.is_none() {
                    errors.at(signature.fn_token, not_async(&item));
                }
                (Shape::Async, None)
            }
        };
        Some(Self {
            returns: returns?,
            shape,
            item,
        })
    }

    /// The names that the arguments bind, with the tokens of `self`.
    fn arguments(&self) -> Vec<String> {
        let mut names = Vec::new();
        for input in &self.item.sig.inputs {
            match input {
                FnArg::Receiver(_) => names.push("self".to_owned()),
                FnArg::Typed(argument) => bindings(&argument.pat, &mut names),
            }
        }
        names
    }

    /// Every hole begins with an argument, unless it calls, is a literal, or names a constant.
    pub(super) fn check_holes(&self, errors: &Errors, template: &Template) {
        let arguments = self.arguments();
        for hole in template.holes() {
            let Some(root) = root(hole) else { continue };
            let name = root.to_string();
            let constant = name.starts_with(|c: char| c.is_uppercase());
            if constant || arguments.contains(&name) {
                continue;
            }
            if name == "self" {
                errors.at(
                    root,
                    format!("`{}` has no `self` to take a key from", self.item.sig.ident),
                );
                continue;
            }
            let valid: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let function = &self.item.sig.ident;
            errors.at(
                root,
                match valid.as_slice() {
                    [] => format!("`{name}` is no argument: `{function}` has none"),
                    valid => nearest::unknown("argument", &name, valid),
                },
            );
        }
    }

    /// What is to be dropped with the body, before the lock: arguments by value that it mentions, or
    /// that it cannot mention without a warning if it does not.
    pub(super) fn moved(&self, body: &TokenStream) -> Vec<TokenStream> {
        let mut moved = Vec::new();
        for input in &self.item.sig.inputs {
            match input {
                FnArg::Receiver(receiver) => {
                    let borrowed = match &receiver.kind {
                        syn::ReceiverKind::Value => false,
                        syn::ReceiverKind::Typed(_, ty) => matches!(**ty, Type::Reference(_)),
                        _ => true,
                    };
                    if !borrowed {
                        moved.push(receiver.self_token.to_token_stream());
                    }
                }
                FnArg::Typed(argument) => {
                    if let Pat::Ident(name) = &*argument.pat
                        && !matches!(*argument.ty, Type::Reference(_))
                        && (name.ident.to_string().starts_with('_')
                            || mentions(body.clone(), &name.ident.to_string()))
                    {
                        moved.push(name.ident.to_token_stream());
                    }
                }
            }
        }
        moved
    }
}

/// Why this is no function.
fn explain(item: TokenStream, error: syn::Error) -> syn::Error {
    if let Ok(function) = syn::parse2::<TraitItemFn>(item.clone())
        && function.default.is_none()
    {
        return syn::Error::new_spanned(
            &function.sig.ident,
            "`#[locked]` needs a body to run under the lock: put it on the implementation",
        );
    }
    let Ok(parsed) = syn::parse2::<Item>(item) else {
        return error;
    };
    let (span, hint): (Span, &str) = match &parsed {
        Item::Impl(block) => (
            block.impl_token.span,
            "put it on the functions of this `impl` block, not on the block",
        ),
        Item::Struct(item) => (item.struct_token.span, "this is a struct"),
        Item::Enum(item) => (item.enum_token.span, "this is an enum"),
        Item::Trait(item) => (
            item.trait_token.span,
            "put it on the functions of its implementations",
        ),
        Item::Mod(item) => (item.mod_token.span, "this is a module"),
        other => (other.span(), "this is none"),
    };
    syn::Error::new(span, format!("`#[locked]` goes on an `async fn`: {hint}"))
}

fn not_async(item: &ItemFn) -> String {
    let mut message =
        "`#[locked]` goes on an `async fn`: whoever waits for a lock must not block a thread"
            .to_owned();
    let test = |path: &syn::Path| {
        path.segments
            .last()
            .is_some_and(|last| last.ident == "test")
    };
    if item.sig.ident == "main" {
        message.push_str("; put `#[locked]` above `#[tokio::main]`");
    } else if item.attrs.iter().any(|attribute| test(attribute.path())) {
        message.push_str("; put `#[locked]` above `#[tokio::test]`");
    }
    message
}

/// The future of a body that is nothing but one boxed `async` block.
fn boxed(block: &Block) -> Option<Box<ExprAsync>> {
    let [Stmt::Expr(Expr::Call(call), None)] = block.stmts.as_slice() else {
        return None;
    };
    let Expr::Path(path) = &*call.func else {
        return None;
    };
    let mut names = path.path.segments.iter().rev().map(|s| s.ident.to_string());
    let is_box_pin = names.next()? == "pin" && names.next()? == "Box";
    match (is_box_pin, call.args.first()) {
        (true, Some(Expr::Async(future))) => Some(Box::new(future.clone())),
        _ => None,
    }
}

/// `T` of `Pin<Box<dyn Future<Output = T> + …>>` and of `BoxFuture<'_, T>`.
fn future_output(ty: &Type) -> Option<Type> {
    match ty {
        Type::TraitObject(object) => object.bounds.iter().find_map(|bound| match bound {
            TypeParamBound::Trait(bound) => {
                arguments(&bound.path).find_map(|argument| match argument {
                    GenericArgument::AssocType(output) if output.ident == "Output" => {
                        Some(output.ty.clone())
                    }
                    _ => None,
                })
            }
            _ => None,
        }),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let mut types = arguments(&path.path).filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            });
            match last.ident.to_string().as_str() {
                "BoxFuture" | "LocalBoxFuture" => types.next().cloned(),
                "Pin" | "Box" => future_output(types.next()?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn arguments(path: &syn::Path) -> impl Iterator<Item = &GenericArgument> {
    let last = path.segments.last().map(|segment| &segment.arguments);
    match last {
        Some(PathArguments::AngleBracketed(arguments)) => Some(arguments.args.iter()),
        _ => None,
    }
    .into_iter()
    .flatten()
}

/// The name that an expression begins with: `order` of `order.lines[0].id`.
fn root(expr: &Expr) -> Option<&syn::Ident> {
    match expr {
        Expr::Path(path) if path.qself.is_none() => path.path.get_ident(),
        Expr::Field(field) => root(&field.base),
        Expr::MethodCall(call) => root(&call.receiver),
        Expr::Index(index) => root(&index.expr),
        Expr::Paren(paren) => root(&paren.expr),
        Expr::Reference(reference) => root(&reference.expr),
        Expr::Unary(unary) => root(&unary.expr),
        Expr::Try(expr) => root(&expr.expr),
        _ => None,
    }
}

fn bindings(pattern: &Pat, names: &mut Vec<String>) {
    match pattern {
        Pat::Ident(name) => {
            names.push(name.ident.to_string());
            if let Some((_, pattern)) = &name.subpat {
                bindings(pattern, names);
            }
        }
        Pat::Tuple(tuple) => tuple.elems.iter().for_each(|p| bindings(p, names)),
        Pat::TupleStruct(tuple) => tuple.elems.iter().for_each(|p| bindings(p, names)),
        Pat::Slice(slice) => slice.elems.iter().for_each(|p| bindings(p, names)),
        Pat::Struct(fields) => fields.fields.iter().for_each(|f| bindings(&f.pat, names)),
        Pat::Reference(reference) => bindings(&reference.pat, names),
        Pat::Paren(paren) => bindings(&paren.pat, names),
        Pat::Type(typed) => bindings(&typed.pat, names),
        _ => {}
    }
}

fn mentions(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
