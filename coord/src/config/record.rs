//! [`Record`]: what is written of one step in a key's life: JSON that newer versions may add to.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::version::Version;

/// Who writes and why: on every write of one [`ConfigCenter`](super::ConfigCenter).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// One step: a value that was written, or that the key was deleted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The format. A reader takes what is newer, without the fields that it does not know.
    pub(super) v: u32,
    /// The write's own name, by which it knows itself again when its answer was lost. Empty if the
    /// write was not ours.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) what: What,
    /// When the key began to exist; unknown if that was not our write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_ms: Option<u64>,
    /// When it was written; unknown if that was not our write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at_ms: Option<u64>,
    #[serde(flatten)]
    pub(super) note: Note,
    /// The version whose value was written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rolled_back_to: Option<Version>,
}

/// What a step made of the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A value that is text.
    Value(String),
    /// Any other, as hexadecimal digits.
    Bytes(String),
    Deleted(bool),
}

impl What {
    pub(super) fn new(value: Option<&[u8]>) -> Self {
        match value.map(|value| (std::str::from_utf8(value), value)) {
            None => Self::Deleted(true),
            Some((Ok(text), _)) => Self::Value(text.to_owned()),
            Some((Err(_), bytes)) => {
                Self::Bytes(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            }
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted(_))
    }

    /// The value; `None`: deleted.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Value(text) => Some(text.clone().into_bytes()),
            Self::Bytes(digits) => Some(
                digits
                    .as_bytes()
                    .chunks(2)
                    .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                    .collect(),
            ),
            Self::Deleted(_) => None,
        }
    }
}

impl Record {
    pub(super) fn new(id: String, what: What, note: Note, at_ms: u64) -> Self {
        Self {
            v: 1,
            id,
            what,
            created_ms: None,
            at_ms: Some(at_ms),
            note,
            rolled_back_to: None,
        }
    }

    /// A write of ours over a value that somebody else had put.
    pub(super) fn has_replaced(&self) -> bool {
        !self.id.is_empty() && (self.what.is_deleted() || self.created_ms.is_none())
    }

    /// A value that somebody else has put: nothing is known of it.
    pub(super) fn foreign(value: &[u8]) -> Self {
        Self {
            v: 1,
            id: String::new(),
            what: What::new(Some(value)),
            created_ms: None,
            at_ms: None,
            note: Note::default(),
            rolled_back_to: None,
        }
    }

    /// `None` if it is no record, or says nothing that this version understands.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }
}

/// A record's time, as people's programs have it.
pub(super) fn time(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Option<&[u8]>) -> Record {
        let note = Note {
            author: Some("alice".into()),
            metadata: BTreeMap::from([("ticket".into(), "OPS-1".into())]),
            ..Note::default()
        };
        Record::new("1f".into(), What::new(value), note, 7)
    }

    #[test]
    fn a_record_is_plain_json() {
        let text = String::from_utf8(record(Some(b"dark")).write()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"id":"1f","value":"dark","at_ms":7,"author":"alice","metadata":{"ticket":"OPS-1"}}"#
        );
    }

    #[test]
    fn what_is_written_is_read_and_newer_fields_are_passed_over() {
        for value in [None, Some(&b""[..]), Some(b"text\n"), Some(b"\xff\x00a")] {
            let record = record(value);
            let read = Record::read(&record.write()).expect("a record");
            assert!(read == record);
            assert_eq!(read.what.value().as_deref(), value);
        }
        let newer = br#"{"v":2,"value":"x","shape":[1],"at_ms":1}"#;
        let read = Record::read(newer).expect("a record");
        assert_eq!(read.what.value().as_deref(), Some(&b"x"[..]));
        for none in [&b""[..], b"{}", b"[]", br#"{"v":1,"id":"a"}"#] {
            assert!(Record::read(none).is_none());
        }
    }
}
