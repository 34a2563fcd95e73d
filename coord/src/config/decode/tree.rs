//! [`Branch`]: a key tree seen through a sorted list of keys, without building one.

use std::collections::BTreeMap;

use crate::{client::KeyValue, key::Prefix};

/// One key, as its path below the bound prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kv: &'a KeyValue,
}

/// Types that contain themselves (a JSON value, a tree) are read by recursion, one level for each
/// segment: so many levels fit on any thread's stack, as they do in a JSON document.
const DEEPEST: usize = 128;

/// All keys below `prefix`, sorted by path because the map is sorted by key; and those that no field
/// can mean, because one of their segments is empty (`a//b`, `a/`) or there are more than a sane
/// writer makes.
pub(crate) fn entries<'a>(
    prefix: &Prefix,
    map: &'a BTreeMap<Vec<u8>, KeyValue>,
) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
    map.iter()
        .filter_map(|(key, kv)| {
            let path = prefix.strip(key)?;
            Some(Entry { path, kv })
        })
        .partition(|entry| {
            let mut segments = entry.path.split(|byte| *byte == b'/');
            // `all` stops before the one that is too many.
            segments.by_ref().take(DEEPEST).all(|it| !it.is_empty()) && segments.next().is_none()
        })
}

/// A place in the tree: the key that stands there, and those below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch<'a> {
    pub(crate) own: Option<&'a KeyValue>,
    below: &'a [Entry<'a>],
    /// How much of each path in `below` leads here, the slash included.
    depth: usize,
}

impl<'a> Branch<'a> {
    pub(crate) const ABSENT: Self = Self {
        own: None,
        below: &[],
        depth: 0,
    };

    pub(crate) fn root(entries: &'a [Entry<'a>]) -> Self {
        Self {
            own: None,
            below: entries,
            depth: 0,
        }
    }

    /// A key alone.
    pub(crate) fn value(own: &'a KeyValue) -> Self {
        Self {
            own: Some(own),
            ..Self::ABSENT
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.own.is_none() && self.below.is_empty()
    }

    pub(crate) fn has_below(&self) -> bool {
        !self.below.is_empty()
    }

    /// All keys here and below.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a KeyValue> {
        self.own.into_iter().chain(self.keys_below())
    }

    pub(crate) fn keys_below(&self) -> impl Iterator<Item = &'a KeyValue> {
        self.below.iter().map(|entry| entry.kv)
    }

    /// The branch at `path`, one or more segments.
    pub(crate) fn at(self, path: &str) -> Self {
        path.split('/')
            .fold(self, |branch, segment| branch.child(segment.as_bytes()))
    }

    fn child(&self, segment: &[u8]) -> Self {
        let tail = |entry: &Entry<'a>| &entry.path[self.depth..];
        let own = self
            .below
            .binary_search_by(|entry| tail(entry).cmp(segment))
            .ok()
            .map(|index| self.below[index].kv);
        // `segment/` up to `segment0`: between them and `segment` itself other keys may stand.
        let bound = |last: u8| {
            self.below.partition_point(|entry| {
                tail(entry)
                    .iter()
                    .lt(segment.iter().chain(std::iter::once(&last)))
            })
        };
        Self {
            own,
            below: &self.below[bound(b'/')..bound(b'/' + 1)],
            depth: self.depth + segment.len() + 1,
        }
    }

    /// Every child with its segment, sorted.
    pub(crate) fn children(&self) -> BTreeMap<&'a [u8], Branch<'a>> {
        let mut children = BTreeMap::<&[u8], Branch<'a>>::new();
        let mut rest = self.below;
        while let Some(first) = rest.first() {
            let tail = &first.path[self.depth..];
            let length = tail.iter().position(|byte| *byte == b'/');
            let segment = &tail[..length.unwrap_or(tail.len())];
            let child = children.entry(segment).or_insert(Branch {
                depth: self.depth + segment.len() + 1,
                ..Branch::ABSENT
            });
            let taken = match length {
                None => {
                    child.own = Some(first.kv);
                    1
                }
                Some(length) => {
                    let lead = &first.path[..=self.depth + length];
                    let count = rest.partition_point(|entry| entry.path.starts_with(lead));
                    child.below = &rest[..count];
                    count
                }
            };
            rest = &rest[taken..];
        }
        children
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<Vec<u8>, KeyValue> {
        keys.iter()
            .map(|key| {
                let key = format!("/p/{key}").into_bytes();
                let kv = KeyValue {
                    key: key.clone(),
                    value: key.clone(),
                    mod_revision: 7,
                    ..KeyValue::default()
                };
                (key, kv)
            })
            .collect()
    }

    fn prefix() -> Prefix {
        crate::key::Layout::new("", "config/", "coord/", "coord/")
            .config("/p")
            .expect("valid")
    }

    /// `a-b` and `a.` sort between `a` and `a/…`; `ab` after them.
    #[test]
    fn neighbours_are_not_children() {
        let map = map(&["a", "a-b", "a.", "a/x", "a/y/z", "ab", "b/c"]);
        let (entries, _) = entries(&prefix(), &map);
        let root = Branch::root(&entries);
        let a = root.at("a");
        assert!(a.own.is_some());
        let names: Vec<_> = a.children().into_keys().collect();
        assert_eq!(names, [b"x", b"y"]);
        assert!(root.at("a/y/z").own.is_some());
        assert!(root.at("a/y").own.is_none());
        assert!(root.at("b").own.is_none() && root.at("b").has_below());
        assert!(root.at("c").is_absent());
        let names: Vec<_> = root.children().into_keys().collect();
        assert_eq!(names, [&b"a"[..], b"a-b", b"a.", b"ab", b"b"]);
        let child = root.children()[&b"a"[..]];
        assert!(child.own.is_some());
        assert_eq!(child.keys().count(), 3);
    }

    #[test]
    fn keys_with_empty_segments_stand_apart() {
        let map = map(&["", "a", "a/", "a//b", "/a", "b/c"]);
        let (entries, odd) = entries(&prefix(), &map);
        let paths = |entries: &[Entry<'_>]| -> Vec<_> {
            entries
                .iter()
                .map(|it| String::from_utf8_lossy(it.path).into_owned())
                .collect()
        };
        assert_eq!(paths(&entries), ["a", "b/c"]);
        assert_eq!(paths(&odd), ["", "/a", "a/", "a//b"]);
    }

    /// One segment more than is read; and far more: etcd takes keys of a mebibyte.
    #[test]
    fn keys_with_very_many_segments_stand_apart() {
        let path = |segments| vec!["a"; segments].join("/");
        let deep = [path(DEEPEST), path(DEEPEST + 1), path(500_000)];
        let map = map(&deep.each_ref().map(String::as_str));
        let (entries, odd) = entries(&prefix(), &map);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].path, deep[0].as_bytes());
        assert_eq!(odd.len(), 2);
    }

    proptest::proptest! {
        /// `children` and `at` agree with splitting the keys by hand.
        #[test]
        fn agrees_with_splitting(keys in proptest::collection::btree_set("[a-c./-]{1,5}", 0..20)) {
            let keys: Vec<_> = keys.iter().map(String::as_str).filter(|key| key.split('/').all(|it| !it.is_empty())).collect();
            let map = map(&keys);
            let (entries, _) = entries(&prefix(), &map);
            let root = Branch::root(&entries);
            let mut expected = BTreeMap::<&[u8], usize>::new();
            for key in &keys {
                *expected.entry(key.split('/').next().unwrap_or("").as_bytes()).or_default() += 1;
            }
            let found: BTreeMap<_, _> =
                root.children().into_iter().map(|(segment, branch)| (segment, branch.keys().count())).collect();
            proptest::prop_assert_eq!(found, expected);
            for key in keys {
                proptest::prop_assert!(root.at(key).own.is_some());
            }
        }
    }
}
