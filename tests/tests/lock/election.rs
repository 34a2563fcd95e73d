//! Elections as candidates and observers see them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use coord::{Coordinator, Error, Leader, Leaders, LostReason};
use coord_tests::{Backend, History, Mode, Proxy, etcd::installed, eventually, on_both};
use etcd_client::{Client, GetOptions, KeyValue};
use tokio::sync::mpsc;

use super::{
    connect, connect_with_ttl,
    late::{Late, name},
    lost, options, polled,
};

on_both! {
    one_leads_at_a_time_and_is_who_it_says,
    candidates_are_told_in_their_order_and_a_try_makes_none,
    a_proclamation_changes_the_value_and_nothing_else,
    a_candidate_whose_entry_is_deleted_leads_no_more_and_stays_away,
    a_leader_is_stopped_when_its_lease_ends_and_leads_again_in_its_turn,
    leading_ends_with_its_body,
    a_term_ends_at_its_first_loss,
    an_observer_sees_each_leader_and_each_value,
    an_observer_goes_on_through_a_restart_and_a_compaction,
    etcdctl_and_coord_are_candidates_of_one_election,
    an_observer_of_gos_sees_ours,
    dropped_futures_leave_nothing,
    a_value_that_was_given_up_never_replaces_a_later_one,
    a_late_copy_of_a_proclamation_changes_nothing,
    a_proclamation_stays_with_the_lease_that_it_was_moved_to,
    a_campaign_with_a_limit_names_the_leaders_entry_alone,
    a_campaign_inside_its_own_term_would_deadlock,
    impossible_names_are_refused,
}

async fn candidates(store: &mut Client, name: &str) -> Vec<KeyValue> {
    let prefix = format!("coord/election/{name}!/");
    let all = GetOptions::new().with_prefix();
    let mut kvs = store.get(prefix, Some(all)).await.unwrap().take_kvs();
    kvs.sort_by_key(KeyValue::create_revision);
    kvs
}

async fn candidates_are(store: &Client, name: &str, number: usize) {
    let what = format!("{number} candidates stand for {name}");
    eventually(&what, async || {
        candidates(&mut store.clone(), name).await.len() == number
    })
    .await;
}

async fn one_leads_at_a_time_and_is_who_it_says(server: Backend) {
    const ROUNDS: usize = 8;
    let store = server.client().await;
    let history = History::of(&store, "coord/election/scheduler!/").await;
    let mut tasks = Vec::new();
    let coordinators = [
        connect(&server).await,
        connect(&server).await,
        connect(&server).await,
    ];
    for (host, coordinator) in coordinators.iter().enumerate() {
        for task in 0..4 {
            let election = coordinator.election("scheduler");
            let history = history.clone();
            tasks.push(tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let first = format!("{host}/{task}/{round}");
                    let leadership = election.campaign(first.clone()).await.unwrap();
                    let token = leadership.fencing_token();
                    let inside = history.enter(Mode::Exclusive, token.get());
                    let leader = election.leader().await.unwrap().unwrap();
                    assert_eq!((leader.fencing_token, leader.value), (token, first.into()));
                    if round % 2 == 0 {
                        leadership.proclaim("second").await.unwrap();
                        let leader = election.leader().await.unwrap().unwrap();
                        assert_eq!(
                            (leader.fencing_token, &*leader.value),
                            (token, &b"second"[..])
                        );
                    }
                    drop(inside);
                    match round % 3 {
                        0 => drop(leadership),
                        _ => assert!(leadership.resign().await.unwrap().confirmed),
                    }
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    history.check(&store).await;
    assert_eq!(history.len(), 3 * 4 * ROUNDS);
}

async fn candidates_are_told_in_their_order_and_a_try_makes_none(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let elections = [one.election("jobs"), two.election("jobs")];
    assert!(elections[0].candidates().await.unwrap().is_empty());
    let first = elections[0].try_campaign("first").await.unwrap();
    let second = tokio::spawn({
        let election = elections[1].clone();
        async move { election.campaign("second").await }
    });
    candidates_are(&store, "jobs", 2).await;
    for election in &elections {
        let refused = election.try_campaign("third").await.unwrap_err();
        let Error::Busy { holder, .. } = refused else {
            panic!("{refused:?}")
        };
        let leader = election.leader().await.unwrap().unwrap();
        assert_eq!(holder.unwrap().entry, leader.entry);
        let candidates = election.candidates().await.unwrap();
        let values: Vec<_> = candidates.iter().map(|one| &one.value[..]).collect();
        assert_eq!(values, [b"first", &b"second"[..]]);
        assert_eq!(candidates[0], leader);
        assert_eq!(candidates[0].fencing_token, first.fencing_token());
    }
    first.resign().await.unwrap();
    let second = second.await.unwrap().unwrap();
    let candidates = elections[0].candidates().await.unwrap();
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].fencing_token, second.fencing_token());
}

async fn a_proclamation_changes_the_value_and_nothing_else(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let election = coordinator.election("jobs");
    assert_eq!(election.leader().await.unwrap(), None);
    let leadership = election.campaign("one").await.unwrap();
    let before = candidates(&mut store, "jobs").await.remove(0);
    assert_eq!(before.value(), b"one");
    // Some are in the way of others, and all are carried out.
    let values = ["two", "three", "four"].map(|value| leadership.proclaim(value));
    futures_util::future::try_join_all(values).await.unwrap();
    leadership.proclaim("last").await.unwrap();
    leadership.proclaim("last").await.unwrap();
    let after = candidates(&mut store, "jobs").await.remove(0);
    assert_eq!(after.value(), b"last");
    assert_eq!(after.version(), 6);
    let identity = |kv: &KeyValue| (kv.key().to_vec(), kv.create_revision(), kv.lease());
    assert_eq!(identity(&before), identity(&after));
    assert_eq!(leadership.key(), "jobs");
    leadership.verify().await.unwrap();
    // Too large for etcd, and the leader is as it was.
    let large = leadership.proclaim(vec![0; 3_000_000]).await.unwrap_err();
    assert!(matches!(large, Error::Invalid { .. }), "{large:?}");
    leadership.proclaim("").await.unwrap();
    let leader = election.leader().await.unwrap().unwrap();
    assert_eq!(leader.value, b"");
    assert!(!format!("{leader:?}").contains("value"));
    assert!(leadership.resign().await.unwrap().confirmed);
}

async fn a_candidate_whose_entry_is_deleted_leads_no_more_and_stays_away(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let election = coordinator.election("jobs");
    let leadership = election.campaign("one").await.unwrap();
    let entry = candidates(&mut store, "jobs").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    lost(LostReason::Revoked, leadership.proclaim("two").await);
    assert!(!leadership.is_held());
    lost(LostReason::Revoked, leadership.resign().await);
    assert_eq!(candidates(&mut store, "jobs").await.len(), 0);

    // One whose key somebody made again by hand is not that one.
    let leadership = election.campaign("one").await.unwrap();
    let entry = candidates(&mut store, "jobs").await.remove(0);
    store.delete(entry.key(), None).await.unwrap();
    store.put(entry.key(), "theirs", None).await.unwrap();
    lost(LostReason::Revoked, leadership.proclaim("two").await);
    assert_eq!(
        candidates(&mut store, "jobs").await.remove(0).value(),
        b"theirs"
    );
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Said {
    Leads,
    Stopped,
}

/// Leads for ever, and tells of each term.
fn lead(
    coordinator: &Coordinator,
    who: &'static str,
    told: &mpsc::UnboundedSender<(&'static str, Said, i64)>,
) -> tokio::task::JoinHandle<coord::Result<()>> {
    struct Term(
        &'static str,
        i64,
        mpsc::UnboundedSender<(&'static str, Said, i64)>,
    );
    impl Drop for Term {
        fn drop(&mut self) {
            self.2.send((self.0, Said::Stopped, self.1)).unwrap();
        }
    }
    let (election, told) = (coordinator.election("jobs"), told.clone());
    tokio::spawn(async move {
        election
            .lead(who, |term| {
                let told = told.clone();
                async move {
                    let token = term.fencing_token().get();
                    told.send((who, Said::Leads, token)).unwrap();
                    let _term = Term(who, token, told);
                    std::future::pending().await
                }
            })
            .await
    })
}

async fn a_leader_is_stopped_when_its_lease_ends_and_leads_again_in_its_turn(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let (told, mut said) = mpsc::unbounded_channel();
    let first = lead(&one, "one", &told);
    let (who, what, mut token) = said.recv().await.unwrap();
    assert_eq!((who, what), ("one", Said::Leads));
    let _second = lead(&two, "two", &told);
    for (leads, follows) in [("one", "two"), ("two", "one"), ("one", "two")] {
        candidates_are(&store, "jobs", 2).await;
        let entries = candidates(&mut store, "jobs").await;
        assert_eq!(entries[0].create_revision(), token);
        server.expire_lease(entries[0].lease()).await;
        // In either order: each learns it by itself.
        let mut both = HashMap::new();
        for _ in 0..2 {
            let (who, what, token) = said.recv().await.unwrap();
            both.insert((who, what), token);
        }
        assert_eq!(both[&(leads, Said::Stopped)], token);
        let next = both[&(follows, Said::Leads)];
        assert!(next > token);
        token = next;
    }
    // Its caller goes away: so does its candidacy.
    candidates_are(&store, "jobs", 2).await;
    first.abort();
    candidates_are(&store, "jobs", 1).await;
}

async fn leading_ends_with_its_body(server: Backend) {
    let coordinator = connect(&server).await;
    let store = server.client().await;
    let election = coordinator.election("jobs");
    let mut terms = 0;
    let done = election
        .lead("one", |term| {
            terms += 1;
            let (last, mut store, server) = (terms == 3, store.clone(), &server);
            async move {
                if !last {
                    let lease = candidates(&mut store, "jobs").await[0].lease();
                    server.expire_lease(lease).await;
                }
                // Steps that only a leader may take: their refusal is the end of the term.
                term.proclaim("still").await?;
                term.transaction().put("a", "b").commit().await
            }
        })
        .await
        .unwrap();
    assert!(done.unwrap() > 0);
    assert_eq!(terms, 3);
    candidates_are(&store, "jobs", 0).await;
}

async fn a_term_ends_at_its_first_loss(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let leadership = coordinator.election("jobs").campaign("one").await.unwrap();
    let verified = leadership.run(leadership.verify()).await;
    verified.unwrap().unwrap();
    let lease = candidates(&mut store, "jobs").await[0].lease();
    let stopped = leadership
        .run(async {
            server.expire_lease(lease).await;
            std::future::pending::<()>().await;
        })
        .await;
    lost(LostReason::Revoked, stopped);
    candidates_are(&store, "jobs", 0).await;
}

async fn value(leaders: &mut Leaders) -> Option<String> {
    let next = tokio::time::timeout(Duration::from_secs(120), leaders.next());
    let leader = next.await.expect("news").expect("it goes on");
    leader.map(|leader: Leader| String::from_utf8(leader.value).unwrap())
}

/// Until it sees that; what came before it may be seen or not.
async fn until(leaders: &mut Leaders, wanted: Option<&str>) {
    while value(leaders).await.as_deref() != wanted {}
}

async fn an_observer_sees_each_leader_and_each_value(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let seen_from = connect(&server).await;
    let mut leaders = seen_from.election("jobs").observe().unwrap();
    assert_eq!(value(&mut leaders).await, None);
    let first = one.election("jobs").campaign("one").await.unwrap();
    assert_eq!(value(&mut leaders).await.as_deref(), Some("one"));
    let election = two.election("jobs");
    let waiting = tokio::spawn(async move { election.campaign("two").await });
    candidates_are(&store, "jobs", 2).await;
    // Who waits is no news.
    first.proclaim("one, again").await.unwrap();
    assert_eq!(value(&mut leaders).await.as_deref(), Some("one, again"));
    first.resign().await.unwrap();
    assert_eq!(value(&mut leaders).await.as_deref(), Some("two"));
    let second = waiting.await.unwrap().unwrap();
    let mut late = seen_from.election("jobs").observe().unwrap();
    let leader = late.next().await.unwrap().unwrap();
    assert_eq!(leader.fencing_token, second.fencing_token());
    drop(second);
    assert_eq!(value(&mut leaders).await, None);
    // Of what was not read in time the newest is left.
    for number in 0..20 {
        let leadership = one.election("jobs").campaign(format!("{number}")).await;
        leadership.unwrap().resign().await.unwrap();
    }
    until(&mut leaders, None).await;
    let watches = || {
        let health = seen_from.health();
        let watches = health.watches.iter();
        watches.filter(|w| w.name == "election jobs").count()
    };
    assert_eq!(watches(), 2);
    drop(late);
    eventually("the watch ends with its stream", async || watches() == 1).await;
    seen_from.close().await;
    // What was not read yet comes first: between two terms nobody leads either.
    let ended = async { while leaders.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(120), ended)
        .await
        .expect("it ends");
    seen_from.election("jobs").observe().unwrap_err();
}

async fn an_observer_goes_on_through_a_restart_and_a_compaction(server: Backend) {
    let leads = connect_with_ttl(&server, 60).await;
    let proxy = Proxy::start(&server.endpoint()).await;
    let watches = Coordinator::connect(options(proxy.endpoint(), 60)).await;
    let watches = watches.unwrap();
    let mut leaders = watches.election("jobs").observe().unwrap();
    let leadership = leads.election("jobs").campaign("one").await.unwrap();
    until(&mut leaders, Some("one")).await;

    server.kill();
    server.restart().await;
    eventually("etcd answers again", async || {
        leadership.proclaim("two").await.is_ok()
    })
    .await;
    until(&mut leaders, Some("two")).await;

    // Out of sight: another leader, and its history is forgotten.
    proxy.refuse().await;
    proxy.cut().await;
    leadership.resign().await.unwrap();
    let leadership = leads.election("jobs").campaign("three").await.unwrap();
    leadership.proclaim("four").await.unwrap();
    let mut store = server.client().await;
    let now = store.get("x", None).await.unwrap();
    let now = now.header().unwrap().revision();
    store.compact(now, None).await.unwrap();
    proxy.admit().await;
    let next = tokio::time::timeout(Duration::from_secs(120), leaders.next());
    let leader = next.await.unwrap().unwrap().unwrap();
    assert_eq!(leader.value, b"four");
    assert_eq!(leader.fencing_token, leadership.fencing_token());
}

async fn etcdctl_and_coord_are_candidates_of_one_election(server: Backend) {
    if installed().is_none() {
        return;
    }
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let counted = store.clone();
    // By its name on etcd, and by ours.
    for (ours, theirs) in [
        (coordinator.election("both"), "coord/election/both!"),
        (coordinator.election("plain").raw(), "plain"),
    ] {
        let number = async |wanted: i64| {
            eventually("candidates", async || {
                let all = GetOptions::new().with_prefix().with_count_only();
                let mut store = counted.kv_client();
                let found = store.get(format!("{theirs}/"), Some(all)).await;
                found.unwrap().count() == wanted
            })
            .await;
        };
        let mut ctl = server.etcdctl_running(&["elect", theirs, "from etcdctl"]);
        let entry = ctl.line().await;
        assert!(entry.starts_with(theirs), "{entry}");
        assert_eq!(ctl.line().await, "from etcdctl");
        let leader = ours.leader().await.unwrap().unwrap();
        assert_eq!(
            (leader.entry, &*leader.value),
            (entry, &b"from etcdctl"[..])
        );
        let election = ours.clone();
        let waiting = tokio::spawn(async move { election.campaign("from coord").await });
        number(2).await;
        assert!(!waiting.is_finished());
        ctl.terminate();
        let leadership = waiting.await.unwrap().unwrap();

        let mut ctl = server.etcdctl_running(&["elect", theirs, "from etcdctl"]);
        number(2).await;
        let leader = ours.leader().await.unwrap().unwrap();
        assert_eq!(leader.value, b"from coord");
        leadership.resign().await.unwrap();
        ctl.line().await;
        assert_eq!(ctl.line().await, "from etcdctl");
        // It crashes: its lease is all that it leaves.
        ctl.kill();
        let prefix = GetOptions::new().with_prefix();
        let left = store.get(format!("{theirs}/"), Some(prefix)).await.unwrap();
        let election = ours.clone();
        let waiting = tokio::spawn(async move { election.campaign("after").await });
        number(2).await;
        server.expire_lease(left.kvs()[0].lease()).await;
        drop(waiting.await.unwrap().unwrap());
        number(0).await;
    }
}

async fn an_observer_of_gos_sees_ours(server: Backend) {
    if installed().is_none() {
        return;
    }
    let coordinator = connect(&server).await;
    let election = coordinator.election("seen");
    let leadership = election.campaign("one").await.unwrap();
    let mut ctl = server.etcdctl_running(&["elect", "--listen", "coord/election/seen!"]);
    let entry = election.leader().await.unwrap().unwrap().entry;
    assert_eq!(ctl.line().await, entry);
    assert_eq!(ctl.line().await, "one");
    for value in ["two", "three"] {
        leadership.proclaim(value).await.unwrap();
        assert_eq!(ctl.line().await, entry);
        assert_eq!(ctl.line().await, value);
    }
    leadership.resign().await.unwrap();
    let _next = election.campaign("four").await.unwrap();
    let next = election.leader().await.unwrap().unwrap().entry;
    assert_eq!(ctl.line().await, next);
    assert_eq!(ctl.line().await, "four");
}

async fn dropped_futures_leave_nothing(server: Backend) {
    let (one, two) = (connect(&server).await, connect(&server).await);
    let store = server.client().await;
    let (election, other) = (one.election("jobs"), two.election("jobs"));
    for polls in 0.. {
        let done = polled(election.campaign("one"), polls).await;
        let done = done.map(|leadership| drop(leadership.unwrap()));
        candidates_are(&store, "jobs", 0).await;
        if done.is_some() {
            break;
        }
    }
    for polls in 0.. {
        let leads = other.campaign("two").await.unwrap();
        let resigned = polled(leads.resign(), polls).await;
        candidates_are(&store, "jobs", 0).await;
        if let Some(resigned) = resigned {
            assert!(resigned.unwrap().confirmed);
            break;
        }
    }
    let leads = other.campaign("two").await.unwrap();
    for polls in 0..8 {
        let campaign = polled(election.campaign("one"), polls);
        tokio::select! {
            done = campaign => assert!(done.is_none()),
            // It is not woken again while it waits.
            () = candidates_are(&store, "jobs", 2) => {}
        }
        candidates_are(&store, "jobs", 1).await;
    }
    leads.resign().await.unwrap();
    for polls in 0.. {
        let body = |term: Arc<coord::Leadership>| async move {
            tokio::task::yield_now().await;
            term.proclaim("inside").await
        };
        let done = polled(election.lead("one", body), polls).await;
        candidates_are(&store, "jobs", 0).await;
        if let Some(done) = done {
            done.unwrap().unwrap();
            break;
        }
    }
}

async fn a_value_that_was_given_up_never_replaces_a_later_one(server: Backend) {
    let coordinator = connect(&server).await;
    let election = coordinator.election("jobs");
    let leadership = election.campaign("first").await.unwrap();
    for polls in 0.. {
        let given_up = polled(leadership.proclaim(format!("given up {polls}")), polls).await;
        let kept = format!("kept {polls}");
        leadership.proclaim(kept.clone()).await.unwrap();
        let leader = election.leader().await.unwrap().unwrap();
        assert_eq!(leader.value, kept.into_bytes());
        if let Some(done) = given_up {
            done.unwrap();
            break;
        }
    }
    leadership.resign().await.unwrap();
}

async fn a_late_copy_of_a_proclamation_changes_nothing(server: Backend) {
    for resigned in [false, true] {
        let mut net = Late::new(&server).await;
        let mut store = server.client().await;
        net.proxy.heal().await;
        let election = net.coordinator.election(name());
        let leadership = election.campaign("first").await.unwrap();
        net.proxy.requests(coord_tests::Flow::Hold);
        let before = net.proxy.sent().arrived;
        let proclaim = leadership.proclaim("late/".repeat(200));
        let overtake = async {
            net.overtake(before).await;
            net.proxy.heal().await;
        };
        let proclaim = async { tokio::join!(proclaim, overtake).0 };
        if let Err(error) = proclaim.await {
            assert!(error.maybe_applied(), "{error:?}");
        }
        eventually("etcd answers again", async || {
            leadership.proclaim("last").await.is_ok()
        })
        .await;
        match resigned {
            true => assert!(leadership.resign().await.unwrap().confirmed),
            false => {
                net.arrives(&mut store).await;
                let leader = election.leader().await.unwrap().unwrap();
                assert_eq!(leader.value, b"last");
                drop(leadership);
                candidates_are(&store, &name(), 0).await;
                store.delete("marker", None).await.unwrap();
                continue;
            }
        }
        net.arrives(&mut store).await;
        assert_eq!(candidates(&mut store, &name()).await.len(), 0);
    }
}

async fn a_proclamation_stays_with_the_lease_that_it_was_moved_to(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let election = coordinator.election("jobs").ttl(Duration::from_secs(80));
    let leadership = election.campaign("one").await.unwrap();
    let before = candidates(&mut store, "jobs").await.remove(0);
    let moving = leadership.set_ttl(Duration::from_secs(40));
    let (moved, proclaimed) = tokio::join!(moving, leadership.proclaim("two"));
    moved.unwrap();
    proclaimed.unwrap();
    leadership.proclaim("three").await.unwrap();
    let after = candidates(&mut store, "jobs").await.remove(0);
    assert_eq!(after.value(), b"three");
    assert_eq!(after.create_revision(), before.create_revision());
    assert_ne!(after.lease(), before.lease());
    server.expire_lease(before.lease()).await;
    leadership.verify().await.unwrap();
    assert!(leadership.resign().await.unwrap().confirmed);
}

async fn a_campaign_with_a_limit_names_the_leaders_entry_alone(server: Backend) {
    let coordinator = connect(&server).await;
    let election = coordinator.election("jobs");
    // It looks like what a lock's entry says.
    let says = r#"{"v":1,"host":"liar","pid":7,"since_ms":1}"#;
    let leadership = election.campaign(says).await.unwrap();
    let entry = election.leader().await.unwrap().unwrap().entry;
    let limited = election.clone().wait(Duration::from_secs(2));
    let error = limited.campaign("two").await.unwrap_err();
    let Error::Timeout {
        holder: Some(holder),
        position: Some(1),
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((holder.entry.clone(), holder.host.as_str()), (entry, ""));
    assert!(error.to_string().contains("campaign"), "{error}");
    leadership.resign().await.unwrap();
    limited
        .campaign("two")
        .await
        .unwrap()
        .resign()
        .await
        .unwrap();
}

async fn a_campaign_inside_its_own_term_would_deadlock(server: Backend) {
    let mut options = server.options();
    options.lock.reentrant = true;
    let coordinator = Coordinator::connect(options).await.unwrap();
    let election = coordinator.election("jobs");
    let inner = election
        .lead("one", |_| election.campaign("two"))
        .await
        .unwrap();
    assert!(
        matches!(inner, Err(Error::WouldDeadlock { .. })),
        "{inner:?}"
    );
    // A lock of that name is another thing.
    let lock = coordinator.lock("jobs");
    let inner = election.lead("one", |_| lock.clone().acquire());
    drop(inner.await.unwrap().unwrap());
}

async fn impossible_names_are_refused(server: Backend) {
    let coordinator = connect(&server).await;
    for name in ["", "a//b", "a!", "a\n"] {
        let election = coordinator.election(name);
        let refused = [
            election.campaign("x").await.err(),
            election.leader().await.err(),
            election.observe().err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(Error::Invalid { .. })), "{error:?}");
        }
    }
    let odd = coordinator.election("odd").ttl(Duration::ZERO);
    let error = odd.campaign("x").await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
}
