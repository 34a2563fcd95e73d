//! [`Span`]: which keys a request means.

use std::ops::Bound;

/// A key, or the keys of a half-open range.
#[derive(Clone, Debug)]
pub(super) struct Span {
    key: Vec<u8>,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    /// The key alone.
    Single,
    Before(Vec<u8>),
    Never,
}

impl Span {
    /// The keys of a request: no range end means one key, a zero byte means all from `key` on.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let end = match range_end {
            [] => End::Single,
            [0] => End::Never,
            end => End::Before(end.to_vec()),
        };
        Self {
            key: key.to_vec(),
            end,
        }
    }

    /// Whether no key can be in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.key)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => self.key == key,
            End::Before(end) => *self.key <= *key && *key < **end,
            End::Never => *self.key <= *key,
        }
    }

    /// For [`BTreeMap::range`](std::collections::BTreeMap::range), which panics on some empty
    /// ranges: so not for one that [is empty](Self::is_empty).
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(&*self.key),
            End::Before(end) => Bound::Excluded(&**end),
            End::Never => Bound::Unbounded,
        };
        (Bound::Included(&self.key), end)
    }
}
