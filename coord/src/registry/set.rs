//! [`InstanceSet`]: a service's instances at one revision. [`Resolved`]: makes it, change by change.
//!
//! A set is a slice, since it is looked at more often than it changes; and it never changes for who has
//! it. To copy it for each change would count a reference more to each instance, and one less when the
//! copy goes: of 10,000 that took a third of the time from a put until its view had it. So a set is made
//! of the one before the last, in which only what changed since is put in its place. As a rule nobody
//! has that one any more: who looks at a set briefly, or waits for the next, makes no copy necessary.
//! What still grows with the number of instances are the pointers that an instance which comes or goes
//! moves along, eight bytes each.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    ops::Deref,
    sync::Arc,
};

use arc_swap::ArcSwap;

use super::instance::{Instance, InstanceHealth};

/// More keys than these are not looked up one by one: the set is made anew.
const FEW: usize = 64;

/// The healthy instances of a service at one revision, in the order of their records' keys; a slice. Of
/// two with one address only the younger is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceSet {
    instances: Vec<Arc<Instance>>,
    revision: i64,
}

impl InstanceSet {
    /// The store's revision that made the set what it is; 0: etcd has not been read yet.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The instance of this key is `new` now.
    fn put(&mut self, key: &[u8], new: Option<&Arc<Instance>>) {
        let place = (self.instances).binary_search_by(|one| one.key.as_bytes().cmp(key));
        match (place, new) {
            (Ok(at), Some(new)) => self.instances[at] = new.clone(),
            (Ok(at), None) => drop(self.instances.remove(at)),
            (Err(at), Some(new)) => self.instances.insert(at, new.clone()),
            (Err(_), None) => {}
        }
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
    /// What the newest set does not know of `best` yet.
    news: Changed,
    /// The set before the newest, and what the newest knows and it does not.
    before: (Arc<InstanceSet>, Changed),
}

/// The keys of instances that changed; of more than [`FEW`], that they are more.
#[derive(Debug, Default)]
struct Changed(BTreeSet<Vec<u8>>);

impl Changed {
    fn note(&mut self, key: &[u8]) {
        if self.0.len() <= FEW {
            self.0.insert(key.to_vec());
        }
    }
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
        self.news.note(key);
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
                self.news.note(youngest);
            }
        } else {
            self.rivals.remove(address);
            return;
        }
        for key in oldest_first {
            self.best.remove(key);
            self.news.note(key);
        }
    }

    /// Every healthy one, also those that do not count.
    pub(super) fn all(&self) -> &BTreeMap<Vec<u8>, Arc<Instance>> {
        &self.all
    }

    /// Puts a set of what there is now, at this revision, in the place of the `newest`: the one that was
    /// put there last, and at first the empty one.
    pub(super) fn publish(&mut self, newest: &ArcSwap<InstanceSet>, revision: i64) {
        let (mut next, missed) = mem::take(&mut self.before);
        if missed.0.len() + self.news.0.len() > FEW {
            let instances = self.best.values().cloned().collect();
            next = Arc::new(InstanceSet {
                instances,
                revision,
            });
        } else {
            // A copy, if anybody still has it.
            let set = Arc::make_mut(&mut next);
            for key in missed.0.iter().chain(&self.news.0) {
                set.put(key, self.best.get(key));
            }
            set.revision = revision;
        }
        self.before = (newest.swap(next), mem::take(&mut self.news));
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
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::key::Key;

    fn record(key: u8, address: u8, created: i64, health: InstanceHealth) -> Arc<Instance> {
        Arc::new(Instance {
            key: Key::found(&[key]),
            created,
            health,
            ..Instance::bare("s", "u", &format!("a:{address}"))
        })
    }

    #[derive(Default)]
    struct Service {
        resolved: Resolved,
        newest: ArcSwap<InstanceSet>,
    }

    impl Service {
        /// The record `key` is this now.
        fn change(&mut self, key: u8, new: Option<&Arc<Instance>>) -> Arc<InstanceSet> {
            self.resolved.change(&[key], new.cloned());
            self.publish()
        }

        fn publish(&mut self) -> Arc<InstanceSet> {
            let revision = self.newest.load().revision() + 1;
            self.resolved.publish(&self.newest, revision);
            self.newest.load_full()
        }
    }

    #[test]
    fn the_elder_counts_again_when_the_younger_is_gone() {
        let young = record(b'a', 1, 6, InstanceHealth::Healthy);
        let old = record(b'b', 1, 5, InstanceHealth::Healthy);
        let mut service = Service::default();
        service.change(b'a', Some(&young));
        assert_eq!(service.change(b'b', Some(&old)).to_vec(), [young]);
        let leaves = record(b'a', 1, 6, InstanceHealth::Draining);
        assert_eq!(service.change(b'a', Some(&leaves)).to_vec(), [old]);
    }

    /// The set that the next one is made of is marked by its room, which no copy has.
    #[test]
    fn a_set_is_copied_only_for_who_keeps_it() {
        const ROOM: usize = 1_000;
        let mut service = Service::default();
        let turn = |service: &mut Service, created| {
            if let Some(before) = Arc::get_mut(&mut service.resolved.before.0) {
                before.instances.reserve(ROOM);
            }
            let new = record(7, 1, created, InstanceHealth::Healthy);
            let set = service.change(7, Some(&new));
            assert_eq!(set.to_vec(), [new]);
            set
        };
        let has_room = |set: &InstanceSet| set.instances.capacity() >= ROOM;
        // A reader that has the newest set, and no other.
        let mut seen = turn(&mut service, 1);
        for created in 2..6 {
            seen = turn(&mut service, created);
            assert!(has_room(&seen));
        }
        // One that keeps it for longer.
        let kept = (seen.clone(), seen.to_vec());
        assert!(has_room(&turn(&mut service, 6)));
        assert!(!has_room(&turn(&mut service, 7)));
        assert!(has_room(&turn(&mut service, 8)));
        assert_eq!((kept.0.to_vec(), kept.0.revision()), (kept.1, 5));
        // One that only knows which it was, as a view does.
        let known = Arc::downgrade(&turn(&mut service, 9));
        assert!((10..13).all(|created| has_room(&turn(&mut service, created))));
        assert!(known.upgrade().is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Keys, addresses, revisions, and whether they are healthy, something else, or gone.
        Change(Vec<(u8, u8, i64, u8)>),
        /// Somebody takes the newest set.
        Keep,
        /// Whoever has taken one lets it go.
        Drop,
    }

    fn step() -> impl Strategy<Value = Step> {
        let change = |keys: u8, addresses: u8| (0..keys, 0..addresses, 0..6_i64, 0..4_u8);
        prop_oneof![
            8 => vec(change(6, 4), 1..4).prop_map(Step::Change),
            1 => vec(change(128, 100), 1..200).prop_map(Step::Change),
            4 => Just(Step::Keep),
            2 => Just(Step::Drop),
        ]
    }

    proptest! {
        /// Set by set it is what one look at all of them gives, and who has a set has it as it was.
        #[test]
        fn changes_add_up(steps in vec(step(), 0..60)) {
            let mut service = Service::default();
            let mut all = BTreeMap::new();
            let mut kept = Vec::new();
            for step in steps {
                let changes = match step {
                    Step::Change(changes) => changes,
                    Step::Keep => {
                        let set = service.newest.load_full();
                        kept.push((set.clone(), InstanceSet::clone(&set)));
                        continue;
                    }
                    Step::Drop => {
                        kept.clear();
                        continue;
                    }
                };
                for (key, address, created, kind) in changes {
                    let health = if kind == 1 { InstanceHealth::Draining } else { InstanceHealth::Healthy };
                    let new = (kind > 0).then(|| record(key, address, created, health));
                    service.resolved.change(&[key], new.clone());
                    match new.filter(|new| new.health == InstanceHealth::Healthy) {
                        Some(new) => drop(all.insert(key, new)),
                        None => drop(all.remove(&key)),
                    }
                }
                let counts = |key: &u8, own: &Arc<Instance>| !all.iter().any(|(other, rival)| {
                    rival.address == own.address && (rival.created, other) > (own.created, key)
                });
                let best: Vec<_> =
                    all.iter().filter(|(key, own)| counts(key, own)).map(|(_, own)| own.clone()).collect();
                prop_assert_eq!(service.publish().to_vec(), best);
                for (set, taken) in &kept {
                    prop_assert_eq!(&**set, taken);
                }
            }
        }
    }
}
