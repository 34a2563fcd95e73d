//! [`Fault`]: one value that could not be used, and where it stands.

use std::fmt;

use crate::key::Prefix;

/// One field that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The path of the field: `db.port`, `ports[1]`.
    pub field: String,
    /// The etcd key.
    pub key: String,
    /// The revision that wrote the key; 0 if there is no such key.
    pub mod_revision: i64,
    /// What is wrong. Shows the value unless the field is `secret`.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        match (self.field.as_str(), self.mod_revision) {
            ("", 0) => {}
            ("", revision) => write!(f, " (revision {revision})")?,
            (field, 0) => write!(f, " (field `{field}`)")?,
            (field, revision) => write!(f, " (field `{field}`, revision {revision})")?,
        }
        write!(f, ": {}", self.reason)
    }
}

/// A place in the struct and among the keys, linked to the one above it: nothing is joined until
/// something is wrong there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Root,
    Field {
        name: &'p str,
        key: &'p str,
    },
    /// A child key that no field names: an entry of a map, an item of a list.
    Segment(&'p str),
    /// Inside a document: the key is the document's.
    Member(&'p str),
    Item(usize),
}

impl<'p> Place<'p> {
    pub(crate) const ROOT: Place<'static> = Place {
        parent: None,
        step: Step::Root,
    };

    fn below(&'p self, step: Step<'p>) -> Place<'p> {
        Place {
            parent: Some(self),
            step,
        }
    }

    pub(crate) fn field(&'p self, name: &'p str, key: &'p str) -> Place<'p> {
        self.below(Step::Field { name, key })
    }

    pub(crate) fn segment(&'p self, segment: &'p str) -> Place<'p> {
        self.below(Step::Segment(segment))
    }

    pub(crate) fn member(&'p self, name: &'p str) -> Place<'p> {
        self.below(Step::Member(name))
    }

    pub(crate) fn item(&'p self, index: usize) -> Place<'p> {
        self.below(Step::Item(index))
    }

    /// The etcd key.
    pub(crate) fn key(&self, prefix: &Prefix) -> String {
        let mut segments = Vec::new();
        self.up(|step| match step {
            // A flattened struct has none.
            Step::Field { key: "", .. } => {}
            Step::Field { key, .. } => segments.push(*key),
            Step::Segment(segment) => segments.push(segment),
            Step::Root | Step::Member(_) | Step::Item(_) => {}
        });
        if segments.is_empty() {
            return prefix.itself().as_str().to_owned();
        }
        segments.reverse();
        prefix.key(&segments.join("/")).as_str().to_owned()
    }

    /// The path of the field.
    pub(crate) fn path(&self) -> String {
        let mut parts = Vec::new();
        self.up(|step| match step {
            Step::Field { name, .. } | Step::Segment(name) | Step::Member(name) => {
                parts.push(format!(".{name}"));
            }
            Step::Item(index) => parts.push(format!("[{index}]")),
            Step::Root => {}
        });
        parts.reverse();
        let path = parts.concat();
        path.strip_prefix('.').unwrap_or(&path).to_owned()
    }

    fn up(&self, mut see: impl FnMut(&Step<'p>)) {
        let mut place = Some(self);
        while let Some(here) = place {
            see(&here.step);
            place = here.parent;
        }
    }
}

/// How much of a value an error shows.
const SHOWN: usize = 60;

/// A value in an error: short, on one line, in backquotes.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
