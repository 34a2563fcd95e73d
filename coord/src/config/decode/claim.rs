//! [`claim`]: which field reads a key, by the shape alone: without a value, and without a bound on
//! any field's type.

use std::cell::Cell;

use super::{nearest, tree::DEEPEST};
use crate::config::shape::{Field, Form, Kind, Shape, Unknown};

/// Who reads a key.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The names of the fields on the way, as far as there are any.
    trail: Vec<&'static str>,
    verdict: Verdict,
    /// How much of the path is the key of a secret field: what comes below it is secret too.
    secret: Option<usize>,
}

#[derive(Debug)]
enum Verdict {
    Read,
    /// An alias, while an earlier key of the same field is there.
    Shadowed,
    /// No field of those at `level`, whose keys begin at `at` in the path.
    Nobody {
        policy: Unknown,
        level: &'static [Field],
        at: usize,
    },
}

/// Looks up `path`, below the bound prefix. `present`: there is a key at a path, or below it.
pub(crate) fn claim(shape: Shape, path: &str, present: &dyn Fn(&str) -> bool) -> Claim {
    let mut trail = Vec::new();
    let lookup = Lookup {
        path,
        present,
        secret: Cell::new(None),
    };
    let verdict = lookup.structure(shape, 0, &mut trail);
    Claim {
        trail,
        verdict,
        secret: lookup.secret.get(),
    }
}

impl Claim {
    /// The path of the field whose value the key may change. A nested struct's own path when no field
    /// inside reads the key: it may be the one that makes an optional struct, or an entry of a map, be
    /// there.
    pub(crate) fn changes(&self) -> Option<String> {
        let reads = !self.trail.is_empty() && !matches!(self.verdict, Verdict::Shadowed);
        reads.then(|| self.trail.join("."))
    }

    /// A field reads the key.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.verdict, Verdict::Read)
    }

    /// It is looked at by a field, were it only to say that it is not read.
    pub(crate) fn is_seen(&self) -> bool {
        !self.trail.is_empty()
    }

    /// The key of the secret field that the path is below.
    pub(crate) fn secret<'p>(&self, path: &'p str) -> Option<&'p str> {
        let key = &path[..self.secret?];
        (key.len() < path.len()).then_some(key)
    }

    /// What is done about a key that nobody reads, and the path that may be meant.
    pub(crate) fn unknown(&self, path: &str, hint: bool) -> Option<(Unknown, Option<String>)> {
        let Verdict::Nobody { policy, level, at } = self.verdict else {
            return None;
        };
        if !hint {
            return Some((policy, None));
        }
        let keys = || crate::config::shape::flat(level).flat_map(Field::keys);
        let rest = &path[at..];
        let first = rest.split('/').next().unwrap_or(rest);
        let near = nearest(rest, keys()).or_else(|| nearest(first, keys()));
        Some((policy, near.map(|key| format!("{}{key}", &path[..at]))))
    }
}

/// The path that may be meant by one with empty segments, as far as it is looked at; and whether that
/// is all of it.
pub(crate) fn mended(path: &str) -> (String, bool) {
    let mut segments = path.split('/').filter(|it| !it.is_empty());
    let path: Vec<_> = segments.by_ref().take(DEEPEST).collect();
    (path.join("/"), segments.next().is_none())
}

struct Lookup<'p> {
    path: &'p str,
    present: &'p dyn Fn(&str) -> bool,
    secret: Cell<Option<usize>>,
}

impl Lookup<'_> {
    fn structure(&self, shape: Shape, at: usize, trail: &mut Vec<&'static str>) -> Verdict {
        let (policy, level) = (shape.policy(), shape.fields());
        // Nothing is read below a document.
        let level = if shape.form() == Form::Keys {
            level
        } else {
            &[]
        };
        self.fields(level, at, trail)
            .unwrap_or(Verdict::Nobody { policy, level, at })
    }

    fn fields(
        &self,
        fields: &'static [Field],
        at: usize,
        trail: &mut Vec<&'static str>,
    ) -> Option<Verdict> {
        fields.iter().find_map(|field| {
            if let Kind::Flat(inner) = field.kind() {
                trail.push(field.name());
                let found = self.fields(inner.fields(), at, trail);
                if found.is_none() {
                    trail.pop();
                }
                return found;
            }
            field.keys().enumerate().find_map(|(index, key)| {
                let rest = self.path[at..].strip_prefix(key)?;
                if !rest.is_empty() && !rest.starts_with('/') {
                    return None;
                }
                trail.push(field.name());
                if field.is_secret() && self.secret.get().is_none() {
                    self.secret.set(Some(at + key.len()));
                }
                let before = |key: &str| (self.present)(&format!("{}{key}", &self.path[..at]));
                if field.keys().take(index).any(before) {
                    return Some(Verdict::Shadowed);
                }
                let below = (!rest.is_empty()).then(|| at + key.len() + 1);
                Some(match (field.kind(), below) {
                    (Kind::Nested(shape), Some(at)) => self.structure(shape(), at, trail),
                    (Kind::Map(shape), Some(at)) => {
                        let entry = self.path[at..].find('/').map(|end| at + end + 1);
                        match entry.map(|at| (at, shape())) {
                            Some((at, shape)) if shape.form() != Form::Value => {
                                self.structure(shape, at, trail)
                            }
                            _ => Verdict::Read,
                        }
                    }
                    _ => Verdict::Read,
                })
            })
        })
    }
}
