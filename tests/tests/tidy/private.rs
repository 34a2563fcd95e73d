//! What expansions call has no logic of its own: everything it does can be done without a macro.

use quote::ToTokens as _;
use syn::{
    Expr, Item, Stmt,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::code::Code;

/// Good are a `use`, a type alias, a function whose body is one expression that decides nothing, and
/// a module of these.
pub(crate) fn faults(code: &Code) -> Vec<String> {
    let file = syn::parse_file(&code.text).expect("Rust that compiles");
    let mut faults = Vec::new();
    in_items(&file.items, code, &mut faults);
    faults
}

fn in_items(items: &[Item], code: &Code, faults: &mut Vec<String>) {
    for item in items {
        let mut fault = |what: &str| {
            faults.push(code.fault(item.span().start().line, what));
        };
        match item {
            Item::Type(_) | Item::Use(_) => {}
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    in_items(items, code, faults);
                }
            }
            Item::Fn(function) => match &function.block.stmts[..] {
                [Stmt::Expr(body, None)] => {
                    if let Some(word) = decision(body) {
                        fault(&format!("a function with `{word}`"));
                    }
                }
                _ => fault("a function with more than one expression"),
            },
            other => {
                let text = other.to_token_stream().to_string();
                let start: String = text.chars().take(40).collect();
                fault(&format!("neither a re-export nor a function: {start}…"));
            }
        }
    }
}

/// The first thing in an expression that is more than a call.
fn decision(body: &Expr) -> Option<&'static str> {
    #[derive(Default)]
    struct Finder(Option<&'static str>);

    impl<'ast> Visit<'ast> for Finder {
        fn visit_expr(&mut self, expr: &'ast Expr) {
            let word = match expr {
                Expr::If(_) => Some("if"),
                Expr::Match(_) => Some("match"),
                Expr::Loop(_) | Expr::While(_) | Expr::ForLoop(_) => Some("a loop"),
                Expr::Unsafe(_) => Some("unsafe"),
                Expr::Async(_) => Some("an async block"),
                Expr::Block(_) => Some("a block"),
                Expr::Binary(_) => Some("an operator"),
                Expr::Assign(_) => Some("an assignment"),
                // What is in it cannot be seen.
                Expr::Macro(_) => Some("a macro"),
                _ => None,
            };
            self.0 = self.0.or(word);
            visit::visit_expr(self, expr);
        }
    }

    let mut finder = Finder::default();
    finder.visit_expr(body);
    finder.0
}

#[cfg(test)]
fn faults_of(text: &str) -> Vec<String> {
    faults(&Code::parse("coord/src/private.rs", text))
}

#[test]
fn logic_is_a_fault() {
    for body in [
        "if x { 1 } else { 2 }",
        "match x { _ => 1 }",
        "loop {}",
        "f(async { 1 })",
        "x.map(|y| y + 1)",
        "x + 1",
        "{ 1 }",
        "let y = x; y",
        "f(x); g(x)",
        "f(x);",
        "tokio::select! { _ = x => {} }",
        "",
    ] {
        let found = faults_of(&format!("pub fn f(x: u32) -> u32 {{ {body} }}"));
        assert_eq!(found.len(), 1, "{body}: {found:?}");
    }
    for item in [
        "pub struct S;",
        "impl S {}",
        "static S: u32 = 1;",
        "macro_rules! m { () => {} }",
        "pub mod inner { pub fn f() { f(); g(); } }",
    ] {
        assert_eq!(faults_of(item).len(), 1, "{item}");
    }
}

#[test]
fn a_re_export_and_a_call_are_none() {
    let text = "
        //! What expansions call.
        pub use crate::lock::run as locked;
        pub type Value = crate::config::Value;
        pub mod config { pub use crate::config::decode; }
        /// Runs it.
        pub async fn run<T>(key: &str, body: impl Future<Output = T>) -> crate::Result<T> {
            crate::global::global().await?.lock(key).run(body).await.map_err(|error| failed(error))
        }
    ";
    let found = faults_of(text);
    assert!(found.is_empty(), "{found:?}");
}
