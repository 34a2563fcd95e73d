//! Revisions of sequences that are not run yet.
//!
//! A sequence is written before anybody knows at which revision a server will be, and it must mean
//! the same when other operations before it have been dropped. So a revision in it is a place: so
//! many before or after the current one, or the compacted one. As a number it is far above any that
//! a server reaches here; numbers below are themselves.

/// What [`current`] is at zero; no test makes this many revisions.
const CURRENT: i64 = 1_000_000_000_000;
const COMPACTED: i64 = 2 * CURRENT;
/// How far from its anchor a place may be.
const REACH: i64 = 1_000;

/// The revision that is this far from the current one.
pub(super) fn current(away: i64) -> i64 {
    CURRENT + away
}

/// The revision that is this far from the compacted one.
pub(super) fn compacted(away: i64) -> i64 {
    COMPACTED + away
}

#[derive(Clone, Copy)]
enum Anchor {
    Current,
    Compacted,
}

fn anchored(number: i64) -> Option<(Anchor, i64)> {
    let near = |anchor: i64| (anchor - REACH..=anchor + REACH).contains(&number);
    if near(CURRENT) {
        Some((Anchor::Current, number - CURRENT))
    } else if near(COMPACTED) {
        Some((Anchor::Compacted, number - COMPACTED))
    } else {
        None
    }
}

/// Where the servers are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whereabouts {
    pub(super) current: i64,
    pub(super) compacted: i64,
}

impl Whereabouts {
    pub(super) fn resolve(&self, number: &mut i64) {
        *number = match anchored(*number) {
            Some((Anchor::Current, away)) => self.current + away,
            Some((Anchor::Compacted, away)) => self.compacted + away,
            None => *number,
        };
    }
}

/// The debug output of an operation or an answer without what has its default, and with places by
/// their names.
pub(super) fn brief(value: &impl std::fmt::Debug) -> String {
    let debug = format!("{value:?}");
    let mut short = String::new();
    let mut rest = debug.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = number.split_at(end.unwrap_or(number.len()));
        short += before;
        match digits.parse().ok().and_then(anchored) {
            Some((Anchor::Current, away)) => short += &format!("current{away:+}"),
            Some((Anchor::Compacted, away)) => short += &format!("compacted{away:+}"),
            None => short += digits,
        }
        rest = after;
    }
    short += rest;
    without_defaults(&short)
}

fn without_defaults(text: &str) -> String {
    const DEFAULTS: [&str; 5] = ["0", "false", "[]", "b\"\"", "\"\""];
    let mut kept = String::new();
    let mut rest = text;
    while let Some(colon) = rest.find(": ") {
        let name_at = rest[..colon].rfind(|c: char| !c.is_alphanumeric() && c != '_');
        let name_at = name_at.map_or(0, |at| at + 1);
        let value = &rest[colon + 2..];
        let default = DEFAULTS.iter().find_map(|default| {
            let after = value.strip_prefix(default)?;
            let ends = after.starts_with([',', ' ', '}']);
            ends.then_some(after)
        });
        match default {
            Some(after) => {
                kept += &rest[..name_at];
                rest = after.strip_prefix(", ").unwrap_or(after);
            }
            None => {
                kept += &rest[..colon + 2];
                rest = value;
            }
        }
    }
    kept += rest;
    kept.replace("{  }", "{}")
        .replace(",  }", " }")
        .replace(", }", " }")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{KeyValue, RangeRequest};

    #[test]
    fn places_follow_the_server() {
        let at = Whereabouts {
            current: 40,
            compacted: 30,
        };
        let resolved = |mut number: i64| {
            at.resolve(&mut number);
            number
        };
        assert_eq!(resolved(current(-3)), 37);
        assert_eq!(resolved(compacted(1)), 31);
        assert_eq!((resolved(0), resolved(-2), resolved(7)), (0, -2, 7));
    }

    #[test]
    fn what_is_printed_is_what_was_said() {
        let range = RangeRequest {
            key: "a\0".into(),
            revision: current(-2),
            count_only: true,
            ..Default::default()
        };
        assert_eq!(
            brief(&range),
            r#"RangeRequest { key: b"a\0", revision: current-2, count_only: true }"#
        );
        let kv = KeyValue {
            create_revision: 10,
            ..Default::default()
        };
        assert_eq!(brief(&kv), "KeyValue { create_revision: 10 }");
        assert_eq!(brief(&KeyValue::default()), "KeyValue {}");
    }
}
