//! What every strategy keeps.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use proptest::prelude::*;

use super::fleet::{Fleet, STRATEGIES};
use crate::grpc::load::InFlight;

#[test]
fn nothing_is_picked_from_nothing() {
    for strategy in STRATEGIES {
        assert_eq!(Fleet::even(strategy, 0).pick(), None, "{strategy:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_can_be_used_is_picked_and_nothing_else(
        weights in prop::collection::vec(0.001_f64..10_000.0, 1..24),
        closed in prop::collection::btree_set(0_usize..24, 0..24),
        tried in prop::collection::btree_set(0_usize..24, 0..24),
    ) {
        for strategy in STRATEGIES {
            let mut fleet = Fleet::new(strategy, &weights);
            let all: BTreeSet<_> = (0..weights.len()).collect();
            closed.intersection(&all).for_each(|&one| fleet.close(one));
            let tried: Vec<_> = tried.intersection(&all).copied().collect();
            let usable: BTreeSet<_> = all
                .into_iter()
                .filter(|one| !closed.contains(one) && !tried.contains(one))
                .collect();
            for _ in 0..50 {
                match fleet.pick_but(&tried) {
                    Some(one) => prop_assert!(usable.contains(&one), "{strategy:?}: {one}"),
                    None => prop_assert!(usable.is_empty(), "{strategy:?}: none"),
                }
            }
        }
    }
}

/// Neither its neighbour nor the first takes over what an endpoint whose connection closed had.
#[test]
fn the_share_of_who_is_passed_over_falls_to_all_others() {
    const PICKS: usize = 9_000;
    for strategy in STRATEGIES {
        let mut fleet = Fleet::even(strategy, 10);
        fleet.close(4);
        let counts = fleet.spread(PICKS);
        assert_eq!(counts[4], 0, "{strategy:?}");
        for (index, &count) in counts.iter().enumerate().filter(|&(index, _)| index != 4) {
            assert!(
                (900..=1_100).contains(&count),
                "{strategy:?}: {index} got {count} of {counts:?}"
            );
        }
    }
}

#[test]
fn from_many_threads_all_picks_are_counted_and_given_back() {
    const THREADS: usize = 8;
    const PICKS: usize = 5_000;
    for strategy in STRATEGIES {
        let fleet = Fleet::even(strategy, 5);
        let counts: [AtomicUsize; 5] = Default::default();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..PICKS {
                        let now = fleet.clock.now();
                        let picked = fleet.picker.pick(&fleet.set, &[], now);
                        let endpoint = picked.expect("one can be used");
                        let mut flight = InFlight::begin(endpoint.clone(), now);
                        assert!(endpoint.load.in_flight() > 0);
                        flight.answering(now);
                        counts[fleet.index(endpoint)].fetch_add(1, Relaxed);
                    }
                });
            }
        });
        let counts = counts.map(AtomicUsize::into_inner);
        assert_eq!(counts.iter().sum::<usize>(), THREADS * PICKS);
        assert!(
            counts.iter().all(|&count| count > 0),
            "{strategy:?}: {counts:?}"
        );
        assert_eq!(fleet.in_flight(), [0; 5], "{strategy:?}");
    }
}
