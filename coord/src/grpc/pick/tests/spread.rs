//! Round robin, random and weighted: how even they are.

use proptest::prelude::*;

use super::fleet::Fleet;
use crate::grpc::builder::Strategy;

/// How far each count is from its share of all.
fn deviations(counts: &[usize], weights: &[f64]) -> Vec<f64> {
    let picks = counts.iter().sum::<usize>() as f64;
    let total: f64 = weights.iter().sum();
    let deviation = |(&count, weight): (&usize, &f64)| count as f64 - picks * weight / total;
    counts.iter().zip(weights).map(deviation).collect()
}

#[test]
fn round_robin_gives_each_the_same() {
    let mut fleet = Fleet::even(Strategy::RoundRobin, 100);
    assert_eq!(fleet.spread(1_000), [10; 100]);
    // Whatever their weights.
    let mut fleet = Fleet::new(Strategy::RoundRobin, &[1.0, 100.0, 10_000.0]);
    assert_eq!(fleet.spread(3_000), [1_000; 3]);
    // Of two that are left each the half, though one stands behind the one that is passed over.
    fleet.close(1);
    let counts = fleet.spread(3_000);
    assert!(counts[0].abs_diff(counts[2]) <= 1, "{counts:?}");
}

#[test]
fn round_robin_starts_anywhere() {
    let first = |_| Fleet::even(Strategy::RoundRobin, 10).pick();
    let firsts: std::collections::BTreeSet<_> = (0..100).map(first).collect();
    assert!(firsts.len() > 1, "a hundred channels began with {firsts:?}");
}

#[test]
fn random_gives_each_about_the_same() {
    let weights = [1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0];
    let mut fleet = Fleet::new(Strategy::Random, &weights);
    let counts = fleet.spread(100_000);
    let chi_square: f64 = deviations(&counts, &[1.0; 10])
        .iter()
        .map(|deviation| deviation * deviation / 10_000.0)
        .sum();
    // Nine degrees of freedom: more than 40 in one seed of a hundred thousand.
    assert!(chi_square < 40.0, "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn weighted_is_right_after_every_single_pick(
        weights in prop::collection::vec(1_u32..1_000, 1..12),
    ) {
        let weights: Vec<_> = weights.into_iter().map(f64::from).collect();
        let mut fleet = Fleet::new(Strategy::Weighted, &weights);
        let mut counts = vec![0; weights.len()];
        for _ in 0..5_000 {
            counts[fleet.pick().expect("all are open")] += 1;
            let worst = deviations(&counts, &weights).into_iter().map(f64::abs).fold(0.0, f64::max);
            // It grows with the logarithm of the picks, and slowly.
            prop_assert!(worst < 6.0, "{worst} off: {counts:?} for {weights:?}");
        }
    }
}

/// By the three gap theorem: what a weighted pick comes back after is one of three numbers of picks.
#[test]
fn weighted_spreads_evenly() {
    let mut fleet = Fleet::new(Strategy::Weighted, &[10_000.0, 1.0, 500.0, 2_500.0]);
    for heavy in [0, 2, 3] {
        let mut gaps = std::collections::BTreeSet::new();
        let mut since = None;
        for _ in 0..100_000 {
            let picked = fleet.pick();
            since = since.map(|since: usize| since + 1);
            if picked == Some(heavy) {
                gaps.extend(since.replace(0));
            }
        }
        assert!(gaps.len() <= 3, "{heavy} came back after {gaps:?}");
    }
}

#[test]
fn other_weights_hold_from_the_next_pick_on() {
    let mut fleet = Fleet::new(Strategy::Weighted, &[1.0, 1.0]);
    fleet.spread(1_001);
    fleet.weigh(&[9.0, 1.0]);
    let counts = fleet.spread(20);
    assert!((17..=19).contains(&counts[0]), "{counts:?}");
    fleet.weigh(&[1.0, 9.0]);
    let counts = fleet.spread(20);
    assert!((1..=3).contains(&counts[0]), "{counts:?}");
}

/// In the strategies that know weights, of an idle service.
#[test]
fn idle_endpoints_are_picked_by_weight() {
    let few = [1.0, 3.0, 6.0];
    let many = Vec::from_iter((1..=50).map(f64::from));
    for strategy in [
        Strategy::P2c,
        Strategy::Weighted,
        Strategy::LeastConnections,
    ] {
        for weights in [&few[..], &many] {
            let total: f64 = weights.iter().sum();
            let counts = Fleet::new(strategy, weights).spread(100_000);
            for (count, weight) in counts.iter().zip(weights) {
                let expected = 100_000.0 * weight / total;
                let off = (*count as f64 - expected).abs();
                // Five times the standard deviation, and what distinct choices take from the heaviest.
                let allowed = 5.0 * expected.sqrt() + expected * 0.02;
                assert!(
                    off < allowed,
                    "{strategy:?}: {count} for {expected}: {counts:?}"
                );
            }
        }
    }
}
