//! What a queue entry says: its key, its value, and who holds.

use serde::Serialize;

use crate::{
    client::KeyValue,
    clock::Clock,
    error::Holder,
    host,
    key::{Key, Prefix},
};

/// The format of the value. Readers take what is newer, with its unknown fields.
const FORMAT: u32 = 1;

/// The mode letter of an exclusive entry. It sorts after the hex digits that entries of Go's clients
/// begin with, so each kind of entry is one range of keys.
const EXCLUSIVE: char = 'x';

/// The key of one attempt. `nonce` is never used twice with one lease, so a repeated or late copy of
/// the attempt's put, or of its delete, touches no other attempt.
pub(super) fn key(queue: &Prefix, lease: i64, nonce: u64) -> Key {
    queue.key(&format!("{EXCLUSIVE}{lease:016x}.{nonce:x}"))
}

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
    pub(super) fn value(&self, service: Option<&str>, clock: &Clock) -> Vec<u8> {
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
            mode: EXCLUSIVE,
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
        entry: String::from_utf8_lossy(&kv.key).into_owned(),
        ..serde_json::from_slice(&kv.value).unwrap_or_default()
    }
}
