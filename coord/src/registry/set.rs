//! [`InstanceSet`]: a service's instances at one revision. [`Resolved`]: makes it, change by change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
    sync::Arc,
};

use super::instance::{Instance, InstanceHealth};

/// The healthy instances of a service at one revision, in the order of their records' keys; a slice. Of
/// two with one address only the younger is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceSet {
    instances: Vec<Arc<Instance>>,
    revision: i64,
}

impl InstanceSet {
    pub(super) fn new(instances: Vec<Arc<Instance>>, revision: i64) -> Self {
        Self {
            instances,
            revision,
        }
    }

    /// The store's revision that made the set what it is; 0: etcd has not been read yet.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

impl Deref for InstanceSet {
    type Target = [Arc<Instance>];

    fn deref(&self) -> &Self::Target {
        &self.instances
    }
}

/// All records of a service, and those among them that count.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    all: BTreeMap<Vec<u8>, Arc<Instance>>,
    /// The keys of the records that have an address, by the revisions at which they were created.
    rivals: HashMap<String, BTreeSet<(i64, Vec<u8>)>>,
    best: BTreeMap<Vec<u8>, Arc<Instance>>,
}

impl Resolved {
    /// The record `key` is this now. Only healthy ones are kept. True if that is news.
    pub(super) fn change(&mut self, key: &[u8], new: Option<Arc<Instance>>) -> bool {
        let new = new.filter(|instance| instance.health == InstanceHealth::Healthy);
        let old = match &new {
            Some(new) => self.all.insert(key.to_vec(), new.clone()),
            None => self.all.remove(key),
        };
        let changed = old != new;
        if let Some(old) = old {
            self.best.remove(key);
            if let Some(rivals) = self.rivals.get_mut(&old.address) {
                rivals.remove(&(old.created, key.to_vec()));
            }
            self.elect(&old.address);
        }
        if let Some(new) = new {
            let rivals = self.rivals.entry(new.address.clone()).or_default();
            rivals.insert((new.created, key.to_vec()));
            self.elect(&new.address);
        }
        changed
    }

    /// Of those with this address the youngest counts.
    fn elect(&mut self, address: &str) {
        let Some(rivals) = self.rivals.get(address) else {
            return;
        };
        let mut oldest_first = rivals.iter().map(|(_, key)| key);
        if let Some(youngest) = oldest_first.next_back() {
            if let Some(instance) = self.all.get(youngest) {
                self.best.insert(youngest.clone(), instance.clone());
            }
        } else {
            self.rivals.remove(address);
            return;
        }
        for key in oldest_first {
            self.best.remove(key);
        }
    }

    /// Every healthy one, also those that do not count.
    pub(super) fn all(&self) -> &BTreeMap<Vec<u8>, Arc<Instance>> {
        &self.all
    }

    pub(super) fn set(&self, revision: i64) -> InstanceSet {
        InstanceSet::new(self.best.values().cloned().collect(), revision)
    }

    pub(super) fn into_instances(self) -> Vec<Instance> {
        let Self { all, best, .. } = self;
        // Now each has one owner.
        drop(all);
        best.into_values().map(Arc::unwrap_or_clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(address: u8, created: i64, health: InstanceHealth) -> Arc<Instance> {
        Arc::new(Instance {
            created,
            health,
            ..Instance::bare("s", "u", &format!("a:{address}"))
        })
    }

    #[test]
    fn the_elder_counts_again_when_the_younger_is_gone() {
        let (old, young) = (
            record(1, 5, InstanceHealth::Healthy),
            record(1, 6, InstanceHealth::Healthy),
        );
        let mut resolved = Resolved::default();
        resolved.change(b"a", Some(young.clone()));
        resolved.change(b"b", Some(old.clone()));
        assert_eq!(resolved.set(0).to_vec(), [young]);
        // It leaves.
        resolved.change(b"a", Some(record(1, 6, InstanceHealth::Draining)));
        assert_eq!(resolved.set(0).to_vec(), [old]);
    }

    proptest! {
        /// Change by change it is what one look at all of them gives.
        #[test]
        fn changes_add_up(changes in prop::collection::vec((0..6_u8, 0..4_u8, 0..6_i64, 0..4_u8), 0..60)) {
            let mut resolved = Resolved::default();
            let mut all = BTreeMap::new();
            for (key, address, created, kind) in changes {
                let health = if kind == 1 { InstanceHealth::Draining } else { InstanceHealth::Healthy };
                let new = (kind > 0).then(|| record(address, created, health));
                resolved.change(&[key], new.clone());
                match new.filter(|new| new.health == InstanceHealth::Healthy) {
                    Some(new) => drop(all.insert(vec![key], new)),
                    None => drop(all.remove(&vec![key])),
                }
                let counts = |key: &Vec<u8>, own: &Arc<Instance>| !all.iter().any(|(other, rival)| {
                    rival.address == own.address && (rival.created, other) > (own.created, key)
                });
                let best: Vec<_> =
                    all.iter().filter(|(key, own)| counts(key, own)).map(|(_, own)| own.clone()).collect();
                prop_assert_eq!(resolved.set(0).to_vec(), best);
            }
        }
    }
}
