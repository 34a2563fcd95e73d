//! [`Nonces`]: the numbers that make the keys of one session different from each other.
//!
//! A key that is deleted stays in etcd's index until the next compaction, and every range over its
//! prefix walks over it: names that are never used again make a busy queue slower with each turn. So
//! a number is used again, the smallest first; but only once nothing of its last use can come any
//! more: every copy of its put and of its delete was answered, or never left. A late copy of either
//! would make, or take away, the next owner's key.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// All numbers of one session.
#[derive(Debug, Default)]
pub(crate) struct Nonces(Arc<Mutex<Pool>>);

#[derive(Debug, Default)]
struct Pool {
    free: BTreeSet<u64>,
    /// Never used so far, like all above it.
    next: u64,
}

/// A number that no other key of the session has. Dropped, it is never used again.
#[derive(Debug)]
pub(crate) struct Nonce {
    number: u64,
    pool: Arc<Mutex<Pool>>,
}

impl Nonces {
    pub(crate) fn take(&self) -> Nonce {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = pool.free.pop_first().unwrap_or_else(|| {
            pool.next += 1;
            pool.next - 1
        });
        Nonce {
            number,
            pool: self.0.clone(),
        }
    }
}

impl Nonce {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Nothing of its use can come any more: it may be used again.
    pub(super) fn give_back(self) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.free.insert(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_number_that_came_back_is_used_again() {
        let nonces = Nonces::default();
        let [zero, one, two] = [(); 3].map(|()| nonces.take());
        assert_eq!([zero.number(), one.number(), two.number()], [0, 1, 2]);
        two.give_back();
        zero.give_back();
        drop(one);
        let again = [(); 3].map(|()| nonces.take().number());
        assert_eq!(again, [0, 2, 3]);
    }
}
