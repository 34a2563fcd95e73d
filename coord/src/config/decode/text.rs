//! Values as people put them: plain text, read as the target type says. Nothing is guessed.

use std::{str::FromStr, time::Duration};

use super::fault::shown;

/// A stored value as text, without the one line end that `echo x | etcdctl put k` adds.
pub(crate) fn of(value: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(value).map_err(|error| {
        format!(
            "the value is not UTF-8 (byte {} is wrong)",
            error.valid_up_to()
        )
    })?;
    let Some(line) = text.strip_suffix('\n') else {
        return Ok(text);
    };
    Ok(line.strip_suffix('\r').unwrap_or(line))
}

/// `4.0`, `1_000` and `0x10` are no integers.
pub(crate) fn number<T: FromStr<Err: std::fmt::Display>>(
    text: &str,
    name: &str,
) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|error| format!("expected {name}, found {}: {error}", shown(text)))
}

/// Refuses what is no number or too large for one.
pub(crate) fn finite<T: Into<f64> + Copy>(value: T, text: &str) -> Result<T, String> {
    if value.into().is_finite() {
        Ok(value)
    } else {
        Err(format!("expected a finite number, found {}", shown(text)))
    }
}

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    let word = text.trim();
    let is = |words: [&str; 4]| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    if is(["true", "1", "yes", "on"]) {
        Ok(true)
    } else if is(["false", "0", "no", "off"]) {
        Ok(false)
    } else {
        Err(format!(
            "expected true or false (or yes/no, on/off, 1/0), found {}",
            shown(text)
        ))
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let word = text.trim();
    if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "a duration needs a unit: `{word}s`, `{word}ms`, …; found {}",
            shown(text)
        ));
    }
    humantime::parse_duration(word).map_err(|error| {
        format!(
            "expected a duration like `1m 30s`, found {}: {error}",
            shown(text)
        )
    })
}

/// The items of `80,443`; none of an empty text.
pub(crate) fn items(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        Vec::new()
    } else {
        text.split(',').map(str::trim).collect()
    }
}
