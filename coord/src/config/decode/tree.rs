//! [`Branch`]: a key tree seen through the sorted map of the keys, without building one.

use std::{collections::BTreeMap, ops::Bound};

use crate::{client::KeyValue, key::Prefix};

/// Keys with their values, as the watch keeps them.
pub(crate) type Keys = BTreeMap<Vec<u8>, KeyValue>;

/// Types that contain themselves (a JSON value, a tree) are read by recursion, one level for each
/// segment: so many levels fit on any thread's stack, as they do in a JSON document.
pub(super) const DEEPEST: usize = 128;

/// A field can mean this path: none of its segments is empty (`a//b`, `a/`), and there are no more of
/// them than a sane writer makes.
pub(crate) fn is_sound(path: &[u8]) -> bool {
    let mut depth = 1;
    let mut last = b'/';
    for byte in path {
        if *byte == b'/' {
            depth += 1;
            if last == b'/' || depth > DEEPEST {
                return false;
            }
        }
        last = *byte;
    }
    last != b'/'
}

/// A place in the tree: the key that stands there, and those below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch<'a> {
    pub(crate) own: Option<&'a KeyValue>,
    below: Option<Below<'a>>,
}

/// At least one sound key.
#[derive(Clone, Copy, Debug)]
struct Below<'a> {
    keys: &'a Keys,
    /// What the keys start with, up to and with the slash after this place.
    lead: &'a [u8],
    /// How much of that is the bound prefix.
    prefix: usize,
}

impl<'a> Below<'a> {
    fn find(keys: &'a Keys, lead: &[u8], prefix: usize) -> Option<Self> {
        let (key, _) = range(keys, lead, prefix).next()?;
        Some(Self {
            keys,
            lead: &key[..lead.len()],
            prefix,
        })
    }

    fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a KeyValue)> {
        range(self.keys, self.lead, self.prefix).map(move |(key, kv)| (&key[self.lead.len()..], kv))
    }
}

/// The sound keys that start with `lead`.
fn range<'a, 'l>(
    keys: &'a Keys,
    lead: &'l [u8],
    prefix: usize,
) -> impl Iterator<Item = (&'a [u8], &'a KeyValue)> + use<'a, 'l> {
    keys.range::<[u8], _>((Bound::Included(lead), Bound::Unbounded))
        .map(|(key, kv)| (key.as_slice(), kv))
        .take_while(move |(key, _)| key.starts_with(lead))
        .filter(move |(key, _)| is_sound(&key[prefix..]))
}

impl<'a> Branch<'a> {
    pub(crate) const ABSENT: Self = Self {
        own: None,
        below: None,
    };

    /// Everything below `prefix`, which ends in `/`.
    pub(crate) fn root(keys: &'a Keys, prefix: &Prefix) -> Self {
        let lead = prefix.as_bytes();
        Self {
            own: None,
            below: Below::find(keys, lead, lead.len()),
        }
    }

    /// The key alone that `prefix` names.
    pub(crate) fn document(keys: &'a Keys, prefix: &Prefix) -> Self {
        Self {
            own: keys.get(prefix.itself().as_bytes()),
            below: None,
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
        self.own.is_none() && self.below.is_none()
    }

    pub(crate) fn has_below(&self) -> bool {
        self.below.is_some()
    }

    /// All keys here and below.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a KeyValue> + use<'a> {
        self.own.into_iter().chain(self.keys_below())
    }

    pub(crate) fn keys_below(&self) -> impl Iterator<Item = &'a KeyValue> + use<'a> {
        self.below
            .into_iter()
            .flat_map(Below::iter)
            .map(|(_, kv)| kv)
    }

    /// The branch at `path`, one or more segments.
    pub(crate) fn at(self, path: &str) -> Self {
        let Some(Below { keys, lead, prefix }) = self.below else {
            return Self::ABSENT;
        };
        let mut key = Vec::with_capacity(lead.len() + path.len() + 1);
        key.extend_from_slice(lead);
        key.extend_from_slice(path.as_bytes());
        let own = keys.get(&key);
        key.push(b'/');
        Self {
            own,
            below: Below::find(keys, &key, prefix),
        }
    }

    /// Every child with its segment, sorted.
    pub(crate) fn children(&self) -> Vec<(&'a [u8], Branch<'a>)> {
        let Some(below) = self.below else {
            return Vec::new();
        };
        let mut children = Vec::<(&[u8], Branch<'a>)>::new();
        for (tail, kv) in below.iter() {
            let Some(length) = tail.iter().position(|byte| *byte == b'/') else {
                let own = Some(kv);
                children.push((tail, Branch { own, below: None }));
                continue;
            };
            let segment = &tail[..length];
            if let Some((last, Branch { below: Some(_), .. })) = children.last()
                && *last == segment
            {
                continue;
            }
            let inner = Below {
                lead: &kv.key[..below.lead.len() + length + 1],
                ..below
            };
            let branch = Branch {
                own: None,
                below: Some(inner),
            };
            children.push((segment, branch));
        }
        // `a`, then `a-b`, then `a/x`: the two halves of `a` need not be neighbours.
        children.sort_by_key(|(segment, _)| *segment);
        children.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1.own = first.1.own.or(later.1.own);
                first.1.below = first.1.below.or(later.1.below);
            }
            same
        });
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
            .config("test", "/p")
            .expect("valid")
    }

    /// `a-b` and `a.` sort between `a` and `a/…`; `ab` after them.
    #[test]
    fn neighbours_are_not_children() {
        let map = map(&["a", "a-b", "a.", "a/x", "a/y/z", "ab", "b/c"]);
        let root = Branch::root(&map, &prefix());
        let a = root.at("a");
        assert!(a.own.is_some());
        let names: Vec<_> = a.children().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"x", b"y"]);
        assert!(root.at("a/y/z").own.is_some());
        assert!(root.at("a/y").own.is_none());
        assert!(root.at("b").own.is_none() && root.at("b").has_below());
        assert!(root.at("c").is_absent());
        let names: Vec<_> = root.children().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"a"[..], b"a-b", b"a.", b"ab", b"b"]);
        let child = root.children()[0].1;
        assert!(child.own.is_some());
        assert_eq!(child.keys().count(), 3);
    }

    #[test]
    fn keys_with_empty_segments_stand_apart() {
        let map = map(&["", "a", "a/", "a//b", "/a", "b/c", "c//d"]);
        let root = Branch::root(&map, &prefix());
        let keys: Vec<_> = root.keys().map(|kv| kv.key.as_slice()).collect();
        assert_eq!(keys, [&b"/p/a"[..], b"/p/b/c"]);
        assert!(!root.at("a").has_below() && root.at("c").is_absent());
        let names: Vec<_> = root.children().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"a", b"b"]);
    }

    /// One segment more than is read; and far more: etcd takes keys of a mebibyte.
    #[test]
    fn keys_with_very_many_segments_stand_apart() {
        let path = |segments| vec!["a"; segments].join("/");
        let deep = [path(DEEPEST), path(DEEPEST + 1), path(500_000)];
        let map = map(&deep.each_ref().map(String::as_str));
        let keys: Vec<_> = Branch::root(&map, &prefix()).keys().collect();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].key.ends_with(deep[0].as_bytes()));
    }

    proptest::proptest! {
        /// `children` and `at` agree with splitting the keys by hand.
        #[test]
        fn agrees_with_splitting(keys in proptest::collection::btree_set("[a-c./-]{1,5}", 0..20)) {
            let keys: Vec<_> = keys.iter().map(String::as_str).filter(|key| key.split('/').all(|it| !it.is_empty())).collect();
            let map = map(&keys);
            let root = Branch::root(&map, &prefix());
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
