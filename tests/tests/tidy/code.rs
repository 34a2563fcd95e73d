//! One source file as the names that it mentions.
//!
//! This works on tokens rather than on a syntax tree: it sees into `select!` and `macro_rules!`,
//! where a tree has only tokens too, and it does not see into comments and strings.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One file of a crate.
pub(crate) struct Code {
    /// From the workspace's root.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Its module, without `crate`; empty: the root.
    pub(crate) module: Vec<String>,
    /// What it mentions outside of what is compiled for tests only.
    pub(crate) mentions: Vec<Mention>,
    /// The modules in files of their own that it declares for tests only.
    pub(crate) test_modules: Vec<Vec<String>>,
}

/// A name that stands in the code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) name: Name,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A path, with `crate` first if it leads into the crate; of a `use` with braces each one. The
    /// second part is what `as` calls it.
    Path(Vec<String>, Option<String>),
    /// A method call, and the last word of what it is called on, if that is a word or a call.
    Method(String, Option<String>),
}

impl Code {
    /// # Panics
    ///
    /// If the text is not made of Rust's tokens.
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let module = module_of(path);
        let mut reader = Reader {
            module: module.clone(),
            mentions: vec![],
            test_modules: vec![],
        };
        reader.read(tokens);
        let Reader {
            mentions,
            test_modules,
            ..
        } = reader;
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            module,
            mentions,
            test_modules,
        }
    }

    /// The module below the root that it belongs to; none: it is the root.
    pub(crate) fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// A fault at a line of it.
    pub(crate) fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn module_of(path: &str) -> Vec<String> {
    let (_, inside) = path.split_once("src/").unwrap_or(("", path));
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

struct Reader {
    module: Vec<String>,
    mentions: Vec<Mention>,
    test_modules: Vec<Vec<String>>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        let mut before: &[TokenTree] = &[];
        while let Some(token) = rest.first() {
            let used = match token {
                TokenTree::Punct(p) if p.as_char() == '#' => self.attribute(rest),
                TokenTree::Ident(ident) if *ident == "mod" => self.inline_module(rest),
                TokenTree::Ident(ident) if is_punct(before.last(), '.') => {
                    let receiver = receiver(&before[..before.len() - 1]);
                    let name = Name::Method(ident.to_string(), receiver);
                    self.mentions.push(Mention {
                        line: ident.span().start().line,
                        name,
                    });
                    1
                }
                TokenTree::Ident(_) => self.path(rest, &[]),
                TokenTree::Group(group) => {
                    self.read(group.stream());
                    1
                }
                _ => 1,
            };
            before = &tokens[..tokens.len() - rest.len() + used];
            rest = &rest[used..];
        }
    }

    /// `#[…]`; if it is `#[cfg(test)]`, with the item that it stands before.
    fn attribute(&mut self, tokens: &[TokenTree]) -> usize {
        let Some(TokenTree::Group(group)) = tokens.get(1) else {
            return 1;
        };
        if !is_cfg_test(group) {
            self.read(group.stream());
            return 2;
        }
        // Other attributes, the item, and the `;` behind the braces of a `use`.
        let mut used = 2;
        while let Some(token) = tokens.get(used) {
            used += 1;
            match token {
                TokenTree::Ident(ident) if *ident == "mod" => {
                    if let (Some(TokenTree::Ident(name)), true) =
                        (tokens.get(used), is_punct(tokens.get(used + 1), ';'))
                    {
                        let inner = [name.to_string()];
                        self.test_modules.push([&self.module[..], &inner].concat());
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    used += usize::from(is_punct(tokens.get(used), ';'));
                    break;
                }
                _ => {}
            }
        }
        used
    }

    fn inline_module(&mut self, tokens: &[TokenTree]) -> usize {
        if let [_, TokenTree::Ident(name), TokenTree::Group(body), ..] = tokens {
            self.module.push(name.to_string());
            self.read(body.stream());
            self.module.pop();
            return 3;
        }
        1
    }

    /// A path that continues `prefix`, at the first of `tokens`; how many of them it has.
    fn path(&mut self, tokens: &[TokenTree], prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let mut used = 0;
        let line = tokens.first().map_or(0, |token| token.span().start().line);
        loop {
            match tokens.get(used) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inner.split(|token| is_punct(Some(token), ',')) {
                        self.path(part, &segments);
                    }
                    return used + 1;
                }
                // Behind the `::` of a turbofish, or of nothing at all.
                _ => break,
            }
            used += 1;
            if !(is_punct(tokens.get(used), ':') && is_punct(tokens.get(used + 1), ':')) {
                break;
            }
            used += 2;
        }
        let renamed = match (tokens.get(used), tokens.get(used + 1)) {
            (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if *word == "as" => {
                Some(name.to_string())
            }
            _ => None,
        };
        let name = Name::Path(self.resolved(segments), renamed);
        self.mentions.push(Mention { line, name });
        used.max(1)
    }

    /// With `crate` in front, if the path starts at the crate, here or above.
    fn resolved(&self, mut segments: Vec<String>) -> Vec<String> {
        // `use a::{self}` is `use a`; a `self` alone is a method's receiver.
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let upwards = segments
            .iter()
            .take_while(|s| *s == "self" || *s == "super")
            .count();
        if upwards == 0 || segments == ["self"] {
            if segments[0] == "coord" {
                // The name by which the crate's macros call it.
                segments[0] = "crate".to_owned();
            }
            return segments;
        }
        let up = segments[..upwards].iter().filter(|s| *s == "super").count();
        let base = &self.module[..self.module.len().saturating_sub(up)];
        [&["crate".to_owned()], base, &segments[upwards..]].concat()
    }
}

/// The last word of what a method is called on.
fn receiver(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., TokenTree::Ident(ident)] => Some(ident.to_string()),
        [.., TokenTree::Ident(ident), TokenTree::Group(_)] => Some(ident.to_string()),
        _ => None,
    }
}

pub(crate) fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// `[cfg(test)]`, or `[cfg(all(…, test, …))]`: not `any`, not `not`.
fn is_cfg_test(attribute: &Group) -> bool {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match &tokens[..] {
        [TokenTree::Ident(cfg), TokenTree::Group(condition)] if *cfg == "cfg" => {
            needs_test(condition.stream())
        }
        _ => false,
    }
}

fn needs_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    tokens
        .split(|token| is_punct(Some(token), ','))
        .any(|part| match part {
            [TokenTree::Ident(word)] => *word == "test",
            [TokenTree::Ident(word), TokenTree::Group(inner)] => {
                *word == "all" && needs_test(inner.stream())
            }
            _ => false,
        })
}

/// The paths of a snippet, each written with `::`.
#[cfg(test)]
fn paths(path: &str, text: &str) -> Vec<String> {
    let mentions = Code::parse(path, text).mentions.into_iter();
    let path = |mention: Mention| match mention.name {
        Name::Path(segments, _) if segments.len() > 1 => Some(segments.join("::")),
        _ => None,
    };
    mentions.filter_map(path).collect()
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = r#"
        use crate::{client::{Client, txn::*}, error as e, watch};
        use super::guard::{self, Guard};
        // crate::comment::x
        const S: &str = "crate::string::x";
        fn f(x: &crate::lock::X) -> Vec::<coord::key::Key> {
            self.x.y();
            tokio::select! { _ = super::super::tasks::go() => {} }
        }
        mod inner { use super::gate::Gate; }
        macro_rules! m { () => { $crate::private::call() } }
    "#;
    assert_eq!(
        paths("coord/src/lock/modes.rs", text),
        [
            "crate::client::Client",
            "crate::client::txn::*",
            "crate::error",
            "crate::watch",
            "crate::lock::guard",
            "crate::lock::guard::Guard",
            "crate::lock::X",
            "crate::key::Key",
            "tokio::select",
            "crate::tasks::go",
            "crate::lock::modes::gate::Gate",
            "crate::private::call",
        ]
    );
}

#[test]
fn what_is_for_tests_only_is_left_out() {
    let text = "
        #[cfg(test)] mod tests;
        #[cfg(all(test, unix))] #[path = \"x.rs\"] mod tests { use crate::lock::X; }
        #[cfg(test)] use crate::{lock::Y, watch::Y};
        #[cfg(test)] impl T { fn f() { crate::lock::z() } }
        #[cfg(not(test))] use crate::watch::kept;
        #[cfg(any(test, unix))] use crate::watch::kept_too;
    ";
    assert_eq!(
        paths("coord/src/client/mod.rs", text),
        ["crate::watch::kept", "crate::watch::kept_too"]
    );
    let code = Code::parse("coord/src/client/mod.rs", text);
    assert_eq!(code.test_modules, [["client", "tests"]]);
}
