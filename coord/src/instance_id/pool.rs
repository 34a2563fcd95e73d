//! [`Pool`]: which numbers there are and where they stand.

use std::{collections::BTreeSet, ops::RangeInclusive};

use crate::{
    client::KeyValue,
    error::{Error, Result},
    key::{Key, Layout, Prefix},
};

/// The most ids of one pool: a full pool's claim is answered with all of them.
const MAX_SIZE: u64 = 1 << 20;

/// A pool of ids: its name is one key segment.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    name: String,
    range: RangeInclusive<u32>,
    slots: Prefix,
    owners: Prefix,
    marks: Prefix,
}

impl Pool {
    pub(super) fn new(layout: &Layout, name: &str, range: RangeInclusive<u32>) -> Result<Self> {
        let pool = Self {
            name: name.to_owned(),
            range,
            slots: layout.id_slots(name)?,
            owners: layout.id_owners(name)?,
            marks: layout.id_marks(name)?,
        };
        if pool.size() == 0 || pool.size() > MAX_SIZE {
            let fault = format!(
                "the range {:?} has {} ids; a pool has 1 to {MAX_SIZE}",
                pool.range,
                pool.size()
            );
            return Err(Error::invalid("claim an instance id", fault));
        }
        Ok(pool)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn range(&self) -> RangeInclusive<u32> {
        self.range.clone()
    }

    pub(super) fn size(&self) -> u64 {
        if self.range.is_empty() {
            return 0;
        }
        u64::from(*self.range.end()) - u64::from(*self.range.start()) + 1
    }

    pub(super) fn slots(&self) -> &Prefix {
        &self.slots
    }

    pub(super) fn slot(&self, number: u32) -> Key {
        self.slots.key(&number.to_string())
    }

    pub(super) fn owner(&self, uuid: &str) -> Key {
        self.owners.key(uuid)
    }

    /// Says up to when the id may have been stamped on something; it outlives every holder.
    pub(super) fn mark(&self, number: u32) -> Key {
        self.marks.key(&number.to_string())
    }

    /// The number of a slot's key, if it is one of this pool.
    pub(super) fn number(&self, slot: &[u8]) -> Option<u32> {
        let text = std::str::from_utf8(self.slots.strip(slot)?).ok()?;
        let number = text.parse().ok()?;
        self.range.contains(&number).then_some(number)
    }

    pub(super) fn numbers(&self, slots: &[KeyValue]) -> BTreeSet<u32> {
        slots.iter().filter_map(|kv| self.number(&kv.key)).collect()
    }

    #[cfg(test)]
    pub(super) fn for_tests(name: &str, range: RangeInclusive<u32>) -> Self {
        Self::new(&Layout::new("", "config/", "coord/", "coord/"), name, range).expect("valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_pools_are_refused() {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        let all = 0..=u32::MAX;
        #[expect(clippy::reversed_empty_ranges)]
        let none = 1..=0;
        for (name, range) in [("p", all), ("p", none), ("a/b", 0..=1), ("", 0..=1)] {
            let refused = Pool::new(&layout, name, range);
            assert!(matches!(refused, Err(Error::Invalid { .. })), "{name}");
        }
        assert_eq!(Pool::for_tests("p", 5..=5).size(), 1);
    }

    #[test]
    fn foreign_keys_below_the_pool_are_no_slots() {
        let pool = Pool::for_tests("p", 0..=9);
        assert_eq!(pool.number(pool.slot(7).as_bytes()), Some(7));
        assert_eq!(pool.number(b"coord/id/p/slot/10"), None);
        assert_eq!(pool.number(b"coord/id/p/slot/x"), None);
        assert_eq!(pool.number(b"coord/id/q/slot/7"), None);
    }
}
