//! [`Nonces`]: the numbers that make the keys of one session in one queue different from each other.
//!
//! A key that is deleted stays in etcd's index until the next compaction, and every range over its
//! prefix walks over it: names that are never used again make a busy queue slower with each turn. So
//! a number is used again, the smallest first; but only once nothing of its last use can come any
//! more: every copy of its put and of its delete was answered, or never left. A late copy of either
//! would make, or take away, the next owner's key.
//!
//! Each queue counts for itself: numbers shared by many queues would leave in each as many deleted
//! keys as all of them have users (measured with 64 tasks on 64 names: a tenth of etcd's time).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::key::Prefix;

/// All numbers of one session.
#[derive(Debug, Default)]
pub(crate) struct Nonces(Arc<Mutex<Pools>>);

/// Of each queue in which a number is in use, or was lost.
type Pools = HashMap<Prefix, Pool>;

#[derive(Debug, Default)]
struct Pool {
    free: BTreeSet<u64>,
    /// Never used so far, like all above it.
    next: u64,
}

/// A number in each of some queues that no other key of the session has there. Dropped, they are never
/// used again.
#[derive(Debug)]
pub(crate) struct Nonce {
    numbers: Vec<(Prefix, u64)>,
    pools: Arc<Mutex<Pools>>,
}

impl Nonces {
    pub(crate) fn take(&self, queues: &[Prefix]) -> Nonce {
        let mut pools = lock(&self.0);
        let numbers = queues.iter().map(|queue| {
            let pool = pools.entry(queue.clone()).or_default();
            let number = pool.free.pop_first().unwrap_or_else(|| {
                pool.next += 1;
                pool.next - 1
            });
            (queue.clone(), number)
        });
        Nonce {
            numbers: numbers.collect(),
            pools: self.0.clone(),
        }
    }
}

impl Nonce {
    /// The queues, and the number in each.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&Prefix, u64)> {
        self.numbers.iter().map(|(queue, number)| (queue, *number))
    }

    /// Nothing of its use can come any more: it may be used again.
    pub(super) fn give_back(self) {
        let mut pools = lock(&self.pools);
        for (queue, number) in self.numbers {
            let Some(pool) = pools.get_mut(&queue) else {
                continue;
            };
            pool.free.insert(number);
            // As if none had ever been used; so names that come and go are not remembered.
            if pool.free.len() as u64 == pool.next {
                pools.remove(&queue);
            }
        }
    }
}

fn lock(pools: &Mutex<Pools>) -> MutexGuard<'_, Pools> {
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    fn queues<const N: usize>(names: [&str; N]) -> [Prefix; N] {
        let layout = Layout::new("", "", "coord/", "");
        names.map(|name| layout.lock_queue(name).expect("a name"))
    }

    fn numbers(nonce: &Nonce) -> Vec<u64> {
        nonce.numbers().map(|(_, number)| number).collect()
    }

    #[test]
    fn the_smallest_number_that_came_back_is_used_again() {
        let (nonces, queue) = (Nonces::default(), queues(["a"]));
        let [zero, one, two] = [(); 3].map(|()| nonces.take(&queue));
        assert_eq!([&zero, &one, &two].map(numbers), [[0], [1], [2]]);
        two.give_back();
        zero.give_back();
        drop(one);
        let again = [(); 3].map(|()| numbers(&nonces.take(&queue)));
        assert_eq!(again, [[0], [2], [3]]);
    }

    #[test]
    fn each_queue_counts_for_itself() {
        let (nonces, [a, b]) = (Nonces::default(), queues(["a", "b"]));
        let first = nonces.take(std::slice::from_ref(&a));
        let both = nonces.take(&[a.clone(), b.clone()]);
        assert_eq!(numbers(&both), [1, 0]);
        first.give_back();
        both.give_back();
        assert_eq!(numbers(&nonces.take(&[b, a])), [0, 0]);
    }

    /// Else a process that locks one order after the other would remember them all.
    #[test]
    fn a_queue_whose_numbers_all_came_back_is_forgotten() {
        let (nonces, [a, b]) = (Nonces::default(), queues(["a", "b"]));
        let (kept, lost) = (nonces.take(&[a]), nonces.take(&[b]));
        drop(lost);
        kept.give_back();
        assert_eq!(
            lock(&nonces.0).len(),
            1,
            "only the one with the lost number"
        );
    }
}
