//! [`Choice`]: which numbers a claim tries next. Data only.

use std::collections::BTreeSet;

use rand::seq::IteratorRandom;

use super::pool::Pool;

/// How many numbers one transaction tries. Measured with 1,000 processes that claim ids of 1,024 at
/// once: 1.03 transactions each. The reply of a chain of 50 could not be decoded any more.
pub(super) const CANDIDATES: usize = 16;

/// By how much the window of [`Order::Dense`] grows with each transaction that finds no free number.
const WIDER: usize = 8;

/// Which of the free numbers an instance gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Any: drawn at random, so that those who claim at once do not want the same ones.
    Any,
    /// Low ones. Measured with 1,000 claims at once: 2.4 transactions each.
    Dense,
}

/// Where one call of `acquire` stands with its tries.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    order: Order,
    /// Tried before all others.
    preferred: Option<u32>,
    /// How often all candidates were taken, since the last fresh start.
    tries: u32,
}

impl Choice {
    pub(super) fn new(order: Order, preferred: Option<u32>) -> Self {
        Self {
            order,
            preferred,
            tries: 0,
        }
    }

    /// At most [`CANDIDATES`] numbers of the pool that are not in `used`, in the order in which they are
    /// to be tried; none if all are taken.
    pub(super) fn next(&self, pool: &Pool, used: &BTreeSet<u32>) -> Vec<u32> {
        let preferred = self.preferred.filter(|number| !used.contains(number));
        let others = pool
            .range()
            .filter(|number| !used.contains(number) && Some(*number) != preferred);
        let more = CANDIDATES - usize::from(preferred.is_some());
        let mut others = match self.order {
            Order::Any => others.choose_multiple(&mut rand::rng(), more),
            Order::Dense => {
                // Who claims at once with many others finds the lowest taken, and those that were
                // the lowest then: so the more often that happened, the farther is looked. Who is
                // alone gets the lowest.
                let window = CANDIDATES.saturating_mul(WIDER.saturating_pow(self.tries));
                let mut free = others.take(window);
                let lowest = free.next();
                let draw = more - usize::from(lowest.is_some());
                let mut low = free.choose_multiple(&mut rand::rng(), draw);
                low.extend(lowest);
                low.sort_unstable();
                low
            }
        };
        others.splice(..0, preferred);
        others
    }

    /// All were taken.
    pub(super) fn missed(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// What was known of the pool is old.
    pub(super) fn afresh(&mut self) {
        self.tries = 0;
    }
}

/// The number that an instance on the machine `host` asks for first: of the third pod of a
/// `StatefulSet`, `name-3`, the one that is 3 above the lowest; of any other machine one that its
/// name decides.
pub(super) fn of_host(host: &str, pool: &Pool) -> u32 {
    let first = *pool.range().start();
    let ordinal = host
        .rsplit_once('-')
        .and_then(|(_, ordinal)| ordinal.parse::<u32>().ok())
        .and_then(|ordinal| first.checked_add(ordinal))
        .filter(|number| pool.range().contains(number));
    let place = || u32::try_from(fnv1a(host.as_bytes()) % pool.size()).unwrap_or(0);
    ordinal.unwrap_or_else(|| first + place())
}

/// FNV-1a: it must be the same in every build, which std's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: std::ops::RangeInclusive<u32>) -> Pool {
        Pool::for_tests("p", range)
    }

    #[test]
    fn candidates_are_distinct_free_and_run_out() {
        let pool = pool(0..=99);
        for order in [Order::Any, Order::Dense] {
            let choice = Choice::new(order, None);
            let used: BTreeSet<u32> = (0..90).collect();
            let drawn = choice.next(&pool, &used);
            assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 10);
            assert!(drawn.iter().all(|number| (90..100).contains(number)));
            assert_eq!(choice.next(&pool, &BTreeSet::new()).len(), CANDIDATES);
            assert!(choice.next(&pool, &(0..100).collect()).is_empty());
        }
    }

    #[test]
    fn dense_tries_the_lowest_first_and_then_looks_farther() {
        let pool = pool(5..=1_000);
        let mut choice = Choice::new(Order::Dense, None);
        let used = BTreeSet::from([5, 7]);
        let lowest: Vec<u32> = [6].into_iter().chain(8..23).collect();
        assert_eq!(choice.next(&pool, &used), lowest);
        choice.missed();
        let farther = choice.next(&pool, &used);
        assert!(farther.is_sorted() && farther[0] == 6, "{farther:?}");
        assert!(farther.iter().all(|number| *number < 5 + 2 + 128));
        assert!(farther.last() > lowest.last());
        for _ in 0..100 {
            choice.missed();
        }
        assert_eq!(choice.next(&pool, &used).len(), CANDIDATES);
        choice.afresh();
        assert_eq!(choice.next(&pool, &used), lowest);
    }

    #[test]
    fn what_is_preferred_is_tried_first_while_it_is_free() {
        let pool = pool(0..=99);
        for order in [Order::Any, Order::Dense] {
            let choice = Choice::new(order, Some(70));
            let drawn = choice.next(&pool, &BTreeSet::new());
            assert_eq!((drawn[0], drawn.len()), (70, CANDIDATES));
            assert_eq!(drawn.iter().filter(|number| **number == 70).count(), 1);
            assert!(!choice.next(&pool, &BTreeSet::from([70])).contains(&70));
        }
    }

    #[test]
    fn a_hosts_number_is_its_ordinal_or_its_names_and_always_of_the_pool() {
        let small = pool(10..=19);
        assert_eq!(of_host("user-service-3", &small), 13);
        assert_eq!(of_host("web-0", &small), 10);
        for host in ["web-10", "web-4294967295", "node7", "", "-", "ip-10-0-0-77"] {
            let number = of_host(host, &small);
            assert!(small.range().contains(&number), "{host}");
            assert_eq!(number, of_host(host, &small));
        }
        // In every build, on every machine.
        assert_eq!(of_host("node7", &pool(0..=1_023)), 942);
        assert_eq!(of_host("x-7", &pool(u32::MAX..=u32::MAX)), u32::MAX);
    }
}
