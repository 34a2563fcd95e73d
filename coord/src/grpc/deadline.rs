//! [`Deadline`]: how long a call may take, in all.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::{Clock, Instant, Sleep};

/// Parsed once.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long a call may take, from the call to the end of its answer.
#[derive(Debug)]
pub(super) struct Deadline {
    pub(super) limit: Duration,
    at: Instant,
    sleep: Sleep,
}

impl Deadline {
    /// The earlier one of what the caller says in the headers and of the channel's own. The headers say
    /// it afterwards.
    pub(super) fn new(
        headers: &mut HeaderMap,
        own: Option<Duration>,
        clock: &Clock,
        now: Instant,
    ) -> Option<Self> {
        let asked = headers.get(&GRPC_TIMEOUT).and_then(parse);
        let limit = match (asked, own) {
            (Some(asked), Some(own)) => asked.min(own),
            (asked, own) => asked.or(own)?,
        };
        if asked != Some(limit) {
            headers.insert(&GRPC_TIMEOUT, format(limit));
        }
        Some(Self {
            limit,
            at: now + limit,
            sleep: clock.sleep(limit),
        })
    }

    /// Says in the headers how much is left.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap, now: Instant) {
        headers.insert(&GRPC_TIMEOUT, format(self.at.since(now)));
    }

    /// Ready once it has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.sleep).poll(cx)
    }
}

/// At most eight digits and a unit; what is not, is not understood and counts as absent, as tonic has it.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u32>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(u64::from(number) * 3600),
        "M" => Duration::from_secs(u64::from(number) * 60),
        "S" => Duration::from_secs(number.into()),
        "m" => Duration::from_millis(number.into()),
        "u" => Duration::from_micros(number.into()),
        "n" => Duration::from_nanos(number.into()),
        _ => return None,
    })
}

/// In the finest unit that eight digits can hold; rounded down, since the server must not stop later.
fn format(limit: Duration) -> HeaderValue {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let nanos = limit.as_nanos();
    let fitting = UNITS
        .iter()
        .map(|(unit, name)| (nanos / unit, name))
        .find(|&(number, _)| number < 100_000_000);
    let (number, unit) = fitting.unwrap_or((99_999_999, &'H'));
    // Digits and a letter.
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or(HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_finest_unit_that_fits() {
        for (limit, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(30), "30000000u"),
            (Duration::from_secs(3_600), "3600000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::from_secs(5_999_999_940), "99999999M"),
        ] {
            let value = format(limit);
            assert_eq!(value, text);
            assert_eq!(parse(&value), Some(limit));
        }
        assert_eq!(format(Duration::MAX), "99999999H");
    }

    #[test]
    fn what_is_no_timeout_counts_as_absent() {
        for text in ["", "5", "S", "123456789S", "5x", "+5S", "-5S", "5 S", "5é"] {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(parse(&value), None, "{text}");
        }
    }

    #[test]
    fn the_earlier_deadline_counts_and_is_told() {
        let (clock, _hand) = Clock::manual();
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(5));
        for (asked, own, limit) in [
            (None, None, None),
            (Some(short), None, Some(short)),
            (None, Some(short), Some(short)),
            (Some(short), Some(long), Some(short)),
            (Some(long), Some(short), Some(short)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(asked) = asked {
                headers.insert(&GRPC_TIMEOUT, format(asked));
            }
            let deadline = Deadline::new(&mut headers, own, &clock, clock.now());
            assert_eq!(deadline.map(|deadline| deadline.limit), limit);
            assert_eq!(headers.get(&GRPC_TIMEOUT).and_then(parse), limit);
        }
    }

    #[test]
    fn what_was_waited_is_taken_off() {
        let (clock, hand) = Clock::manual();
        let mut headers = HeaderMap::new();
        headers.insert(&GRPC_TIMEOUT, HeaderValue::from_static("5S"));
        let deadline = Deadline::new(&mut headers, None, &clock, clock.now()).unwrap();
        hand.advance(Duration::from_secs(2));
        deadline.rewrite(&mut headers, clock.now());
        assert_eq!(headers[&GRPC_TIMEOUT], "3000000u");
        hand.advance(Duration::from_secs(9));
        deadline.rewrite(&mut headers, clock.now());
        assert_eq!(headers[&GRPC_TIMEOUT], "0n");
    }
}
