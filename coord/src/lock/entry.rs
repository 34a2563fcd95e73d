//! What a queue entry says: its value, and who holds.

use serde::Serialize;

use super::modes::Mode;
use crate::{client::KeyValue, clock::Clock, error::Holder, host};

/// The format of the value. Readers take what is newer, with its unknown fields.
const FORMAT: u32 = 1;

/// Who this process is, as its entries say.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    host: String,
    pid: u32,
}

impl Identity {
    pub(super) fn of_this_process() -> Self {
        Self {
            host: host::name(),
            pid: std::process::id(),
        }
    }

    /// The value of an entry that is about to be put.
    pub(super) fn value(&self, mode: Mode, service: Option<&str>, clock: &Clock) -> Vec<u8> {
        #[derive(Serialize)]
        struct Record<'a> {
            v: u32,
            mode: char,
            host: &'a str,
            pid: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            service: Option<&'a str>,
            since_ms: u64,
        }
        let record = Record {
            v: FORMAT,
            mode: mode.letter(),
            host: &self.host,
            pid: self.pid,
            service,
            since_ms: clock.unix_ms(),
        };
        // Numbers and strings always serialize; an entry without a value would still be a lock.
        serde_json::to_vec(&record).unwrap_or_default()
    }
}

/// Who wrote the entry. Of another client's entry only the key is known.
pub(super) fn holder(kv: &KeyValue) -> Holder {
    Holder {
        entry: unnamed(kv).entry,
        ..serde_json::from_slice(&kv.value).unwrap_or_default()
    }
}

/// The entry alone, whatever its value says.
pub(super) fn unnamed(kv: &KeyValue) -> Holder {
    Holder {
        entry: String::from_utf8_lossy(&kv.key).into_owned(),
        ..Holder::default()
    }
}
