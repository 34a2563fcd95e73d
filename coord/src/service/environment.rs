//! [`Environment`]: a service's variables, what was wrong with them, and who has won.

use std::{fmt::Debug, str::FromStr, time::Duration};

use super::builder::Named;

/// Lays what a variable says over what the program says.
type Over = fn(Named<String>, Named<String>) -> Result<Named<String>, String>;

/// The variables over the words. Faults are collected: the user is told all of them at once.
pub(super) struct Environment<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    pub(super) faults: Vec<String>,
    /// Each setting that has not its default, and where it comes from.
    pub(super) won: Vec<String>,
}

impl<'a> Environment<'a> {
    /// `read` reads a variable; an empty one is as good as none.
    pub(super) fn new(read: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            read,
            faults: Vec::new(),
            won: Vec::new(),
        }
    }

    pub(super) fn text(&self, variable: &str) -> Option<String> {
        (self.read)(variable).filter(|text| !text.is_empty())
    }

    pub(super) fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    pub(super) fn won(&mut self, word: &str, value: &dyn Debug, source: &str) {
        self.won.push(format!("{word} = {value:?} ({source})"));
    }

    /// The variable, else the word.
    pub(super) fn pick<T: Debug>(
        &mut self,
        word: &str,
        variable: &str,
        given: Option<T>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (value, source) = self.choose(variable, given, parse)?;
        self.won(word, &value, source);
        Some(value)
    }

    /// The value, and who says it.
    fn choose<'v, T>(
        &mut self,
        variable: &'v str,
        given: Option<T>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<(T, &'v str)> {
        let Some(text) = self.text(variable) else {
            return Some((given?, "the program"));
        };
        match parse(&text) {
            Ok(value) => Some((value, variable)),
            Err(fault) => {
                self.fault(format!("{variable}: {fault}"));
                None
            }
        }
    }

    /// As [`pick`](Self::pick), of values with names.
    pub(super) fn pick_named(
        &mut self,
        word: &str,
        variable: &str,
        given: Option<Named<String>>,
        over: Over,
    ) -> Named<String> {
        let below = given.clone().unwrap_or_default();
        let chosen = self.choose(variable, given, |text| over(below, named(text)?));
        let Some((values, source)) = chosen else {
            return Named::default();
        };
        match values.as_slice() {
            [(name, value)] if name.is_empty() => self.won(word, value, source),
            values => self.won(word, &values, source),
        }
        values
    }
}

/// One value without a name.
fn is_plain(named: &Named<String>) -> bool {
    matches!(named.as_slice(), [(name, _)] if name.is_empty())
}

/// What listens: each name that the program knows can have another address, and no other name can.
pub(super) fn over_listeners(
    mut given: Named<String>,
    over: Named<String>,
) -> Result<Named<String>, String> {
    if given.is_empty() || is_plain(&given) {
        return Ok(over);
    }
    if is_plain(&over) && given.len() > 1 {
        return Err(format!("say which of {} is meant: `NAME=…`", names(&given)));
    }
    for (name, value) in over {
        let known = given
            .iter_mut()
            .find(|(known, _)| *known == name || name.is_empty());
        let Some((_, old)) = known else {
            let names = names(&given);
            return Err(format!("there is no listener `{name}`, only {names}"));
        };
        *old = value;
    }
    Ok(given)
}

/// What is told of listeners: a value without a name is told of all.
pub(super) fn over_addresses(
    given: Named<String>,
    over: Named<String>,
) -> Result<Named<String>, String> {
    match is_plain(&over) {
        true => Ok(over),
        false => over_entries(given, over),
    }
}

/// Entries: those with another name stay.
pub(super) fn over_entries(
    mut given: Named<String>,
    over: Named<String>,
) -> Result<Named<String>, String> {
    given.retain(|(key, _)| !over.iter().any(|(known, _)| known == key));
    given.extend(over);
    Ok(given)
}

fn names(named: &Named<String>) -> String {
    let names: Vec<_> = named.iter().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

/// `VALUE`, or `NAME=VALUE,…`.
fn named(text: &str) -> Result<Named<String>, String> {
    match text.contains('=') {
        true => pairs(text),
        false => Ok(vec![(String::new(), text.trim().to_owned())]),
    }
}

/// `KEY=VALUE,…`.
fn pairs(text: &str) -> Result<Named<String>, String> {
    let pairs = text.split(',').map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!("{pair:?} is no `KEY=VALUE`")),
    });
    pairs.collect()
}

pub(super) fn plain(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// `A,B,…`.
pub(super) fn list(text: &str) -> Result<Vec<String>, String> {
    let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    Ok(items.map(Into::into).collect())
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let wrong = || format!("{text:?} is not a number that it can be");
    text.trim().parse().map_err(|_| wrong())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration like `5s`: {error}"))
}

pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        _ => duration(text).map(Some),
    }
}

/// One of a closed set.
pub(super) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is none of `{}`", names.join("`, `"))
        })
    }
}
