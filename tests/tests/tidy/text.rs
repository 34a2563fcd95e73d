//! Rules over the plain text of a file.

use proc_macro2::{TokenStream, TokenTree};

use crate::code::is_punct;

/// How long a file may be: beyond this it has more than one subject.
const MOST_LINES: usize = 700;

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// Marks of what is not done.
pub(crate) fn left_for_later(path: &str, text: &str) -> Vec<String> {
    const MARKS: [&str; 4] = ["todo!", "unimplemented!", "FIXME", "XXX"];
    let mark = |line: &str| MARKS.into_iter().find(|mark| line.contains(mark));
    let fault = |(number, line)| Some(format!("{path}:{number}: {}", mark(line)?));
    lines(text).filter_map(fault).collect()
}

/// Code blocks of the documentation that say `ignore`.
pub(crate) fn ignored_fences(path: &str, text: &str) -> Vec<String> {
    let is_document = path.ends_with(".md");
    let ignored = |line: &str| {
        let line = line.trim_start();
        let doc = ["///", "//!"]
            .iter()
            .find_map(|start| line.strip_prefix(start));
        let Some(doc) = doc.or(is_document.then_some(line)) else {
            return false;
        };
        let Some(info) = doc.trim_start().strip_prefix("```") else {
            return false;
        };
        info.split([',', ' '])
            .any(|word| word == "ignore" || word.starts_with("ignore-"))
    };
    let fault = |(number, line)| ignored(line).then(|| format!("{path}:{number}: {}", line.trim()));
    lines(text).filter_map(fault).collect()
}

/// Tests that are left out of every run: `#[ignore]`, also within `#[cfg_attr(…)]`.
pub(crate) fn ignored_tests(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // Some files show what does not compile; then there is no test in them either.
    if let Ok(tokens) = text.parse::<TokenStream>() {
        find_ignores(tokens, &mut |line| {
            faults.push(format!("{path}:{line}: #[ignore]"))
        });
    }
    faults
}

fn find_ignores(tokens: TokenStream, found: &mut dyn FnMut(usize)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            continue;
        };
        if index > 0 && is_punct(tokens.get(index - 1), '#') && ignores(group.stream()) {
            found(group.span_open().start().line);
        }
        find_ignores(group.stream(), found);
    }
}

fn ignores(attribute: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = attribute.into_iter().collect();
    match &tokens[..] {
        [TokenTree::Ident(name), TokenTree::Group(inner)] if *name == "cfg_attr" => {
            let inner: Vec<TokenTree> = inner.stream().into_iter().collect();
            inner
                .split(|token| is_punct(Some(token), ','))
                .skip(1)
                .any(starts_with_ignore)
        }
        other => starts_with_ignore(other),
    }
}

fn starts_with_ignore(tokens: &[TokenTree]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Ident(name)) if *name == "ignore")
}

/// Files with more than one subject.
pub(crate) fn too_long(path: &str, text: &str) -> Vec<String> {
    let count = text.lines().count();
    let fault = format!("{path}: {count} lines, more than {MOST_LINES}");
    (count > MOST_LINES).then_some(fault).into_iter().collect()
}

#[test]
fn what_is_left_for_later_is_a_fault() {
    for text in [
        "fn f() { todo!() }",
        "unimplemented!(\"x\")",
        "// FIXME: x",
        "/// XXX",
    ] {
        assert_eq!(left_for_later("a.rs", text).len(), 1, "{text}");
    }
    assert!(left_for_later("a.rs", "// to do: nothing\nfn todo() {}").is_empty());
}

#[test]
fn an_ignored_fence_is_a_fault() {
    for line in [
        "/// ```ignore",
        "    //! ```rust,ignore",
        "/// ``` rust ignore-windows",
    ] {
        assert_eq!(ignored_fences("a.rs", line).len(), 1, "{line}");
    }
    assert_eq!(
        ignored_fences("README.md", "text\n```rust,ignore\n"),
        ["README.md:2: ```rust,ignore"]
    );
    for line in [
        "/// ```no_run",
        "/// they ignore it",
        "\"```ignore\"",
        "/// ```text\n/// ignore",
    ] {
        assert!(ignored_fences("a.rs", line).is_empty(), "{line}");
    }
}

#[test]
fn an_ignored_test_is_a_fault() {
    for text in [
        "#[test] #[ignore] fn f() {}",
        "mod tests { #[ignore = \"slow\"] #[test] fn f() {} }",
        "#[cfg_attr(not(unix), ignore)] #[test] fn f() {}",
    ] {
        assert_eq!(ignored_tests("a.rs", text).len(), 1, "{text}");
    }
    for text in [
        "// #[ignore]\n#[test] fn ignore() {}",
        "const S: &str = \"#[ignore]\";",
    ] {
        assert!(ignored_tests("a.rs", text).is_empty(), "{text}");
    }
}

#[test]
fn a_long_file_is_a_fault() {
    assert!(too_long("a.rs", &"x\n".repeat(MOST_LINES)).is_empty());
    assert_eq!(too_long("a.rs", &"x\n".repeat(MOST_LINES + 1)).len(), 1);
}
