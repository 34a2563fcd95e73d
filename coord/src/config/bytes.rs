//! Sizes in bytes, with their unit: `64MiB`.
//!
//! ```
//! use coord::CoordConfig;
//!
//! #[derive(CoordConfig)]
//! #[coord(prefix = "cache", write)]
//! struct Cache {
//!     #[coord(with = coord::config::bytes, default = "64MiB")]
//!     memory: u64,
//! }
//! ```
//!
//! `KiB`, `MiB`, `GiB`, `TiB` count in 1024s, `kB` (or `KB`), `MB`, `GB`, `TB` in 1000s, `B` is one; the
//! case does not matter otherwise, and a space before the unit is fine. A number without a unit is
//! refused, as it is for durations.

use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};

/// From the smallest; a size is written in the largest that divides it.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1000_u64.pow(2)),
    ("MiB", 1 << 20),
    ("GB", 1000_u64.pow(3)),
    ("GiB", 1 << 30),
    ("TB", 1000_u64.pow(4)),
    ("TiB", 1 << 40),
];

/// Reads a size.
///
/// # Errors
/// The deserializer's, for text that is no size and for one that the type cannot hold.
pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    let size = parse(&text).map_err(D::Error::custom)?;
    T::try_from(size).map_err(|_| D::Error::custom("the size is too large for the field's type"))
}

/// Writes a size.
///
/// # Errors
/// The serializer's, for a number that is no size.
pub fn serialize<T, S>(size: &T, to: S) -> Result<S::Ok, S::Error>
where
    T: TryInto<u64> + Copy,
    S: Serializer,
{
    let Ok(size) = (*size).try_into() else {
        return Err(S::Error::custom(
            "a size is a number of bytes from 0 to 2^64 - 1",
        ));
    };
    let (name, unit) = UNITS
        .into_iter()
        .rev()
        .find(|(_, unit)| size > 0 && size.is_multiple_of(*unit))
        .unwrap_or(UNITS[0]);
    to.collect_str(&format_args!("{}{name}", size / unit))
}

fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a size such as `64MiB`".to_owned())?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!(
            "a size needs a unit: `{number}B`, `{number}KiB`, …"
        ));
    }
    let found = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let Some((_, unit)) = found else {
        let names = UNITS.map(|(name, _)| name).join("`, `");
        return Err(format!("the unit of a size is one of `{names}`"));
    };
    number
        .checked_mul(*unit)
        .ok_or_else(|| "the size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit() {
        for (text, size) in [
            ("0B", 0),
            ("64MiB", 64 << 20),
            (" 2 kb\n", 2000),
            ("3GB", 3_000_000_000),
            ("1tib", 1 << 40),
            ("18446744073709551615B", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        for (text, says) in [
            ("64", "needs a unit: `64B`"),
            ("", "expected a size"),
            ("MiB", "expected a size"),
            ("1.5MiB", "one of `B`"),
            ("-1B", "expected a size"),
            ("1m", "one of `B`"),
            ("18446744073709551615KB", "too large"),
        ] {
            assert!(
                parse(text).is_err_and(|error| error.contains(says)),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(size: u64, unit in 0..UNITS.len(), small in 0..5_000u64) {
            for size in [size, small * UNITS[unit].1] {
                let text = serialize(&size, serde_json::value::Serializer).expect("a text");
                let back: u64 = deserialize(&text).expect("a size");
                proptest::prop_assert_eq!(back, size, "{}", text);
            }
        }
    }
}
