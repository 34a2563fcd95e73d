//! Least connections and P2C: what the load of the endpoints does.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng};

use super::fleet::{Answered, Crowd, Fleet, p99, shares};
use crate::grpc::{builder::Strategy, endpoint::Outcome};

/// What a call takes; long enough that a minute is not too many of them for a test.
const FAST: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// Around `mean`, as much as a busy machine makes of it.
fn about(mean: Duration, dice: &mut StdRng) -> (Duration, Outcome) {
    (mean.mul_f64(dice.random_range(0.5..1.5)), Outcome::Answered)
}

/// Number 0 is slow, the others are not.
fn one_slow(index: usize, dice: &mut StdRng) -> (Duration, Outcome) {
    about(if index == 0 { SLOW } else { FAST }, dice)
}

fn all_alike(_: usize, dice: &mut StdRng) -> (Duration, Outcome) {
    about(FAST, dice)
}

fn within(shares: &[f64], expected: &[f64], by: f64) -> bool {
    let mut pairs = shares.iter().zip(expected);
    pairs.all(|(share, expected)| (share / expected - 1.0).abs() < by)
}

#[test]
fn least_connections_keeps_what_is_in_flight_in_proportion() {
    let mut few = Fleet::new(Strategy::LeastConnections, &[1.0, 2.0, 3.0]);
    let held: Vec<_> = (0..600).map(|_| few.begin()).collect();
    assert_eq!(few.in_flight(), [100, 200, 300]);
    drop(held);
    assert_eq!(few.in_flight(), [0, 0, 0]);

    let mut many = Fleet::even(Strategy::LeastConnections, 100);
    let _held: Vec<_> = (0..10_000).map(|_| many.begin()).collect();
    let in_flight = many.in_flight();
    assert!(
        in_flight.iter().all(|count| (96..=104).contains(count)),
        "{in_flight:?}"
    );
}

#[test]
fn least_connections_leaves_a_slow_one_its_share_in_flight() {
    let mut fleet = Fleet::even(Strategy::LeastConnections, 3);
    let mut crowd = Crowd::gather(&mut fleet, 63, &one_slow);
    let answered = crowd.run(5 * SECOND, &one_slow);
    assert_eq!(crowd.fleet.in_flight().iter().sum::<u32>(), 63);
    let shares = shares(&answered, 3);
    assert!(shares[0] < 0.02, "{shares:?}");
}

/// What the default is for.
#[test]
fn p2c_avoids_a_slow_one_of_three() {
    let run = |strategy, callers| {
        let mut fleet = Fleet::even(strategy, 3);
        let mut crowd = Crowd::gather(&mut fleet, callers, &one_slow);
        crowd.run(10 * SECOND, &one_slow)
    };
    for callers in [1, 8, 64] {
        let (p2c, turns) = (
            run(Strategy::P2c, callers),
            run(Strategy::RoundRobin, callers),
        );
        let (ours, others) = (p99(&p2c), p99(&turns));
        assert!(ours * 2 <= others, "{callers}: {ours:?} and {others:?}");
        assert!(ours < 2 * FAST, "{callers}: {ours:?}");
        assert!(p2c.len() > turns.len(), "{callers}");
    }
}

#[test]
fn p2c_uses_one_again_that_is_no_longer_slow() {
    for callers in [8, 32] {
        let mut fleet = Fleet::even(Strategy::P2c, 3);
        let mut crowd = Crowd::gather(&mut fleet, callers, &one_slow);
        crowd.run(10 * SECOND, &one_slow);
        // Within a minute it has its whole share again.
        crowd.run(60 * SECOND, &all_alike);
        let after = shares(&crowd.run(10 * SECOND, &all_alike), 3);
        assert!(
            within(&after, &[1.0 / 3.0; 3], 0.15),
            "{callers}: {after:?}"
        );
    }
}

#[test]
fn p2c_honours_weights_under_load() {
    let weights = [1.0, 2.0, 5.0, 2.0];
    let expected = weights.map(|weight| weight / 10.0);
    for callers in [16, 100, 400] {
        let mut fleet = Fleet::new(Strategy::P2c, &weights);
        let mut crowd = Crowd::gather(&mut fleet, callers, &all_alike);
        let seen = shares(&crowd.run(10 * SECOND, &all_alike), 4);
        assert!(within(&seen, &expected, 0.1), "{callers}: {seen:?}");
        // And others at once: calls take milliseconds.
        crowd.fleet.weigh(&[5.0, 2.0, 1.0, 2.0]);
        let seen = shares(&crowd.run(SECOND / 2, &all_alike), 4);
        assert!(
            within(&seen, &[0.5, 0.2, 0.1, 0.2], 0.15),
            "{callers}: {seen:?}"
        );
    }
}

/// All at once, with nothing known of any.
#[test]
fn a_cold_start_spreads() {
    for strategy in [Strategy::P2c, Strategy::LeastConnections] {
        let mut fleet = Fleet::even(strategy, 10);
        let held: Vec<_> = (0..10_000).map(|_| fleet.begin()).collect();
        let in_flight = fleet.in_flight();
        let even = in_flight.iter().all(|count| (980..=1_020).contains(count));
        assert!(even, "{strategy:?}: {in_flight:?}");
        drop(held);
    }
}

#[test]
fn a_new_endpoint_is_neither_overrun_nor_left_alone() {
    for strategy in [Strategy::P2c, Strategy::LeastConnections] {
        let mut fleet = Fleet::even(strategy, 9);
        let mut crowd = Crowd::gather(&mut fleet, 180, &all_alike);
        crowd.run(5 * SECOND, &all_alike);
        crowd.fleet.join(100.0);
        let mut most = 0;
        let mut answered = Vec::<Answered>::new();
        for _ in 0..1_000 {
            answered.extend(crowd.run(FAST / 10, &all_alike));
            most = most.max(crowd.fleet.in_flight()[9]);
        }
        // The others have 18 each, with calls of different lengths.
        assert!(most <= 36, "{strategy:?}: {most} at once");
        let share = shares(&answered, 10)[9];
        assert!((0.05..0.2).contains(&share), "{strategy:?}: {share}");
    }
}

/// Fast failures would be attractive: little in flight, and answered at once.
#[test]
fn p2c_does_not_follow_fast_failures() {
    for (callers, rate, at_most) in [(8, 1.0, 0.05), (32, 1.0, 0.05), (32, 0.5, 0.3)] {
        let failing = |index: usize, dice: &mut StdRng| {
            if index == 0 && dice.random_bool(rate) {
                (FAST / 50, Outcome::Failed)
            } else {
                about(FAST, dice)
            }
        };
        let mut fleet = Fleet::even(Strategy::P2c, 3);
        let mut crowd = Crowd::gather(&mut fleet, callers, &failing);
        let share = shares(&crowd.run(20 * SECOND, &failing), 3)[0];
        assert!(share < at_most, "{callers}, {rate}: {share}");
        // It is no outcast: it answers again, and has its share.
        let answering = |_: usize, dice: &mut StdRng| about(FAST, dice);
        crowd.run(60 * SECOND, &answering);
        let share = shares(&crowd.run(10 * SECOND, &answering), 3)[0];
        assert!(share > 0.25, "{callers}, {rate}: {share} afterwards");
    }
}

/// Whoever has a limit of their own drops a call that takes longer; nobody then says that it failed.
#[test]
fn p2c_avoids_one_whose_callers_give_up() {
    let silent = |index: usize, dice: &mut StdRng| match index {
        0 => (SLOW, Outcome::Unknown),
        _ => about(FAST, dice),
    };
    let mut fleet = Fleet::even(Strategy::P2c, 3);
    let mut crowd = Crowd::gather(&mut fleet, 16, &silent);
    crowd.run(SECOND, &silent);
    let share = shares(&crowd.run(10 * SECOND, &silent), 3)[0];
    assert!(share < 0.01, "{share}");
}
