//! Rules over more than one token: keys and placeholders.

use super::model::{Field, Key, Model};
use crate::errors::Errors;

pub(crate) fn check(errors: &Errors, model: &Model) {
    if let Some(prefix) = &model.prefix {
        let text = prefix.value();
        let path = text.strip_suffix('/').unwrap_or(&text);
        let relative = path.strip_prefix('/').unwrap_or(path);
        let faults = match relative {
            "" => [
                Err("the prefix is empty: name where the keys stand, as in \"shop\"".into()),
                Ok(()),
            ],
            _ => [placeholders(path), segments(relative)],
        };
        for fault in faults.into_iter().filter_map(Result::err) {
            errors.at(prefix, fault);
        }
    }
    let mut sound = Vec::<(&Field, &Key)>::new();
    for field in &model.fields {
        for key in field.keys() {
            let text = key.text.as_str();
            let fault = match text.strip_prefix('/') {
                Some(relative) => Err(format!(
                    "a field's key stands below the prefix, without a leading `/`: write `{relative}`"
                )),
                None if text.is_empty() => {
                    Err("the key is empty: leave `key` out, and it is the field's name".into())
                }
                None => segments(text),
            };
            match fault {
                Err(fault) => errors.at(&key.tokens, fault),
                Ok(()) => {
                    sound
                        .iter()
                        .for_each(|earlier| apart(errors, earlier, (field, key)));
                    sound.push((field, key));
                }
            }
        }
    }
}

/// A path is segments with something in each.
fn segments(path: &str) -> Result<(), String> {
    if path.split('/').any(str::is_empty) {
        return Err(format!("`{path}` has an empty segment"));
    }
    if path.chars().any(char::is_control) {
        return Err("a key has no control characters".into());
    }
    Ok(())
}

/// Two fields may share neither a key nor a key space: a list or a struct owns the keys below its own.
fn apart(errors: &Errors, earlier: &(&Field, &Key), later: (&Field, &Key)) {
    let (a, b) = (earlier.1.text.as_str(), later.1.text.as_str());
    let whose = match earlier.0.ident == later.0.ident {
        true => "this field".to_owned(),
        false => format!("the field `{}`", earlier.0.name),
    };
    let inside = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    if a == b {
        errors.at(
            &later.1.tokens,
            format!(
                "the key `{b}` is {whose}'s already: give one of them another with \
                 `#[coord(key = \"…\")]`"
            ),
        );
    } else if inside(a, b) || inside(b, a) {
        errors.at(
            &later.1.tokens,
            format!(
                "the key `{b}` and the key `{a}` of {whose} are one below the other: a field owns \
                 all keys below its own"
            ),
        );
    }
}

/// `{name}`, closed, and with a name.
fn placeholders(prefix: &str) -> Result<(), String> {
    let mut rest = prefix;
    while let Some(at) = rest.find(['{', '}']) {
        let Some(open) = rest[at..].strip_prefix('{') else {
            return Err("this `}` closes no placeholder: a key has no braces of its own".into());
        };
        let Some((name, after)) = open.split_once('}') else {
            return Err(format!(
                "the placeholder `{{{open}` is not closed: add `}}`"
            ));
        };
        let first = name.chars().next();
        let valid = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            return Err(format!(
                "`{{{name}}}` is no placeholder: its name is letters, digits and `_`, as in `{{env}}`"
            ));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::placeholders;

    #[test]
    fn placeholders_are_closed_and_named() {
        for good in ["a", "{env}/a", "/x/{a_1}-{b}/", "{_}"] {
            assert_eq!(placeholders(good), Ok(()), "{good}");
        }
        for bad in [
            "{", "}", "{}", "{a", "a}", "{a{b}}", "{1}", "{a b}", "{a:?}", "{{a}}",
        ] {
            assert!(placeholders(bad).is_err(), "{bad}");
        }
    }
}
