//! The protocol breaks no law, and nothing in it goes round in a circle: every state of each
//! scenario. With `COORD_MODEL=large` more may go wrong in each, which takes long.

use coord_model::{
    check::{check, no_circle},
    protocol::Protocol,
    scenario::{Faults, Mode, Plan, Scenario},
};
use stateright::HasDiscoveries;

fn none() -> Faults {
    Faults::default()
}

fn is_large() -> bool {
    std::env::var("COORD_MODEL").is_ok_and(|bounds| bounds == "large")
}

/// More of everything that goes wrong in the scenario anyway.
fn larger(faults: Faults) -> Faults {
    let more = |times: u8| if times > 0 { times + 1 } else { 0 };
    Faults {
        late: more(faults.late),
        cancel: more(faults.cancel),
        watch: more(faults.watch),
        ..faults
    }
}

fn holds(mut scenario: Scenario) {
    if is_large() {
        scenario.faults = larger(scenario.faults);
    }
    let report = check(
        scenario.name,
        Protocol::new(scenario.clone()),
        HasDiscoveries::Any,
    );
    println!("{report}");
    assert!(report.found.is_empty(), "{report}");
    let circle = no_circle(scenario);
    assert!(circle.is_ok(), "{}: a circle of {circle:?}", report.name);
}

/// Two clients, each with one session.
fn two(name: &'static str, attempts: &[Plan], faults: Faults) -> Scenario {
    Scenario::new(name, &[0, 1], attempts).faults(faults)
}

#[test]
fn two_clients() {
    let plans = [Plan::write(0), Plan::write(1)];
    let faults = Faults {
        late: 1,
        cancel: 1,
        watch: 1,
        past: 1,
        ..none()
    };
    holds(two("two clients", &plans, faults).writes());
}

#[test]
fn two_tasks_of_one_client_and_another_client() {
    let plans = [Plan::write(0), Plan::write(0), Plan::write(1)];
    let faults = Faults { late: 2, ..none() };
    holds(two("three attempts, unknown answers", &plans, faults));
    let faults = Faults {
        watch: 1,
        cancel: 1,
        ..none()
    };
    holds(two("three attempts, a broken watch", &plans, faults));
}

#[test]
fn two_sessions_of_one_client() {
    let plans = [Plan::write(0), Plan::write(1)];
    let faults = Faults {
        late: 1,
        cancel: 1,
        past: 1,
        ..none()
    };
    holds(Scenario::new("two sessions of one client", &[0, 0], &plans).faults(faults));
}

#[test]
fn somebody_revokes_a_lease() {
    let plans = [Plan::write(0), Plan::write(0)];
    let faults = Faults {
        late: 1,
        watch: 1,
        revoke: 1,
        ..none()
    };
    holds(Scenario::new("a revoked lease, one session", &[0], &plans).faults(faults));
    let plans = [Plan::write(0), Plan::write(1)];
    holds(two("a revoked lease", &plans, faults));
}

#[test]
fn somebody_deletes_an_entry() {
    let plans = [Plan::write(0), Plan::write(1)];
    let faults = Faults {
        late: 1,
        watch: 1,
        delete_entry: 1,
        ..none()
    };
    holds(two("a deleted entry", &plans, faults).writes());
}

#[test]
fn somebody_deletes_a_session_key() {
    let plans = [Plan::write(0), Plan::write(1)];
    let faults = Faults {
        late: 1,
        cancel: 1,
        delete_session: 1,
        ..none()
    };
    holds(two("a deleted session key", &plans, faults));
}

#[test]
fn etcd_refuses() {
    let plans = [Plan::write(0), Plan::write(1)];
    let faults = Faults {
        late: 2,
        refuse: 2,
        ..none()
    };
    holds(two("refusals", &plans, faults));
}

#[test]
fn the_incarnation_is_told_by_the_watch() {
    let plans = [Plan::write(0), Plan::write(0)];
    let faults = Faults {
        late: 2,
        cancel: 1,
        ..none()
    };
    let mut scenario = Scenario::new("told incarnations", &[0], &plans).faults(faults);
    scenario.adopts = true;
    holds(scenario);
}

#[test]
fn a_go_peer() {
    let plans = [Plan::write(0), Plan::write(0)];
    let faults = Faults {
        late: 1,
        watch: 1,
        ..none()
    };
    holds(
        Scenario::new("a Go peer", &[0], &plans)
            .go(2)
            .faults(faults),
    );
    let faults = Faults {
        swallow: 1,
        watch: 1,
        lag: 1,
        ..none()
    };
    let lossy = Scenario::new("a Go peer, lost events, a lagging member", &[0], &plans);
    holds(lossy.go(2).faults(faults));
}

#[test]
fn watches_end_and_begin() {
    let plans = [Plan::write(0), Plan::write(0), Plan::write(0)];
    let faults = Faults {
        linger: 1,
        watch: 1,
        lag: 1,
        ..none()
    };
    holds(Scenario::new("watches end and begin", &[0], &plans).faults(faults));
}

#[test]
fn readers_and_a_writer() {
    let plans = [Plan::read(0), Plan::write(1), Plan::read(1)];
    let faults = Faults { late: 1, ..none() };
    holds(two("readers and a writer", &plans, faults));
}

#[test]
fn a_downgrade() {
    let plans = [
        Plan::new(0, Mode::Downgradable),
        Plan::write(1),
        Plan::read(1),
    ];
    let faults = Faults { late: 1, ..none() };
    let mut scenario = two("a downgrade", &plans, faults);
    scenario.downgrades = true;
    holds(scenario);
    let mut scenario = two(
        "a downgrade, and a lease that runs out",
        &plans[..2],
        Faults {
            late: 1,
            cancel: 1,
            past: 1,
            ..none()
        },
    );
    scenario.downgrades = true;
    holds(scenario);
}

#[test]
fn keys_are_used_again() {
    let plans = [Plan::write(0), Plan::write(0).reuses(0), Plan::write(1)];
    let faults = Faults {
        late: 2,
        watch: 1,
        ..none()
    };
    holds(two("keys used again", &plans, faults));
    let plans = [Plan::write(0), Plan::write(0).reuses(0)];
    let faults = Faults {
        late: 1,
        cancel: 1,
        delete_entry: 1,
        refuse: 1,
        ..none()
    };
    holds(two("keys used again, and deleted", &plans, faults).go(1));
    let plan = Plan::new(0, Mode::Downgradable);
    let plans = [plan.clone(), plan.reuses(0), Plan::read(1)];
    let faults = Faults { late: 1, ..none() };
    let mut scenario = two("keys used again after a downgrade", &plans, faults);
    scenario.downgrades = true;
    holds(scenario);
}

#[test]
fn tries() {
    let plans = [
        Plan::write(0).tries(),
        Plan::write(1),
        Plan::read(1).tries(),
    ];
    let faults = Faults { late: 2, ..none() };
    holds(two("tries", &plans, faults));
    let plans = [Plan::write(0).tries(), Plan::read(1).tries()];
    let faults = Faults {
        late: 2,
        cancel: 1,
        past: 1,
        ..none()
    };
    holds(two("tries, and a lease that runs out", &plans, faults).go(1));
}

#[test]
fn permits() {
    let one = Mode::Permits { take: 1, of: 2 };
    let both = Mode::Permits { take: 2, of: 2 };
    let plans = [Plan::new(0, one), Plan::new(1, one), Plan::new(1, both)];
    let faults = Faults {
        cancel: 1,
        past: 1,
        ..none()
    };
    let mut scenario = two("permits", &plans, faults);
    // A cut list must fill all permits by itself.
    scenario.limit = 2;
    holds(scenario);
    let plans = [Plan::new(0, one), Plan::new(1, one), Plan::read(1)];
    let mut scenario = two("permits and a reader", &plans, Faults { late: 1, ..none() });
    scenario.limit = 2;
    holds(scenario);
}

#[test]
fn several_names_at_once() {
    let plans = [Plan::write(0).names(3), Plan::write(1).names(3)];
    let faults = Faults {
        late: 1,
        cancel: 1,
        ..none()
    };
    holds(two("two names at once", &plans, faults));
    let plans = [
        Plan::write(0).names(3),
        Plan::write(1).names(1),
        Plan::write(1).names(2),
    ];
    let faults = Faults { watch: 1, ..none() };
    holds(two("two names at once, and each alone", &plans, faults));
}

#[test]
fn acquires_of_different_names_in_one_transaction() {
    let plans = [
        Plan::write(0).names(1),
        Plan::write(0).names(2),
        Plan::write(1).names(3),
    ];
    let batches = |name, faults| two(name, &plans, faults).batches();
    let late = Faults { late: 1, ..none() };
    holds(batches("a batch, unknown answers", late));
    let cancel = Faults {
        cancel: 1,
        watch: 1,
        ..none()
    };
    holds(batches("a batch, a broken watch", cancel));
    let plans = [
        Plan::write(0).names(1),
        Plan::write(0).names(2).tries(),
        Plan::write(0).names(1),
    ];
    let faults = Faults {
        late: 1,
        cancel: 1,
        ..none()
    };
    holds(
        Scenario::new("batches of one client", &[0], &plans)
            .faults(faults)
            .batches(),
    );
}

#[test]
fn an_acquire_after_a_release_in_one_transaction() {
    let late = Faults { late: 1, ..none() };
    let both_late = Faults { late: 2, ..none() };
    let cancel = Faults {
        cancel: 1,
        watch: 1,
        ..none()
    };
    // The name that was given back, and a rival who waits for it.
    let plans = [Plan::write(0), Plan::write(0), Plan::write(1)];
    holds(two("taken again, unknown answers", &plans, both_late).rides());
    holds(two("taken again, a broken watch", &plans, cancel).rides());
    // Another name, by another session of the client.
    let plans = [
        Plan::write(0).names(1),
        Plan::write(1).names(2),
        Plan::write(2).names(3),
    ];
    let other = |name, faults| Scenario::new(name, &[0, 0, 1], &plans).faults(faults);
    holds(other("the next one, unknown answers", late).rides());
    holds(other("the next one, a broken watch", cancel).rides());
    // A number that is given out again.
    let plans = [Plan::write(0), Plan::write(0), Plan::write(0).reuses(0)];
    holds(two("a number again", &plans, both_late).rides());
}

#[test]
fn the_entry_moves_to_another_lease() {
    let plans = [Plan::write(0).moves(&[1, 0]), Plan::write(2)];
    let faults = Faults {
        late: 1,
        past: 1,
        ..none()
    };
    let scenario = Scenario::new("moves, and a rival", &[0, 0, 1], &plans);
    holds(scenario.faults(faults));
    let plans = [Plan::write(0).moves(&[1, 0])];
    let faults = Faults {
        late: 2,
        past: 2,
        delete_entry: 1,
        ..none()
    };
    let scenario = Scenario::new("moves, and unknown answers", &[0, 0], &plans);
    holds(scenario.faults(faults).writes());
}
