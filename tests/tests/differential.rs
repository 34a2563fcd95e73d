//! The embedded server against a real etcd, with random operations; and that the comparison finds
//! what differs.

use coord_tests::{
    differential::{Op, Pair, Reply, Request, Side, Tamper, fuzz, pairs},
    rpc::{Answer, Event, WatchResponse},
};

/// What `cargo xtask test` runs; `cargo xtask fuzz` runs more.
const SEQUENCES: u64 = 100;
const OPERATIONS: usize = 200;

#[tokio::test]
async fn embedded_against_etcd() {
    let Some(mut pairs) = pairs(4).await else {
        return;
    };
    let tally = fuzz(&mut pairs, 0..SEQUENCES, OPERATIONS).await;
    let tally = tally.unwrap_or_else(|found| panic!("{found:?}"));
    println!("{tally}");
    assert_eq!(tally.sequences, SEQUENCES);

    // The sequences have something to say: of each call some are answered, and what can be refused
    // is.
    let often = |answer: &str, least| {
        let count = tally.answers.get(answer).copied().unwrap_or_default();
        assert!(count >= least, "{count} times {answer:?}, in:\n{tally}");
    };
    for call in ["Range", "Put", "DeleteRange", "Txn", "Compact", "Watch"] {
        often(&format!("{call} "), SEQUENCES);
    }
    for call in ["Grant", "Revoke", "KeepAlive", "TimeToLive", "Leases"] {
        often(&format!("{call} "), SEQUENCES / 2);
    }
    for refused in [
        "Range etcdserver: mvcc: required revision has been compacted",
        "Range etcdserver: mvcc: required revision is a future revision",
        "Put etcdserver: key not found",
        "Put etcdserver: requested lease not found",
        "Txn etcdserver: duplicate key given in txn request",
        "Txn etcdserver: key not found",
        "Txn etcdserver: mvcc: required revision has been compacted",
        "Compact etcdserver: mvcc: required revision has been compacted",
        "Grant etcdserver: lease already exists",
        "Revoke etcdserver: requested lease not found",
        "Watch mvcc: watcher range is empty",
        "Watch mvcc: duplicate watch ID provided on the WatchStream",
    ] {
        often(refused, 5);
    }
    often("Expire ", 5);
    assert!(tally.events > 50 * SEQUENCES, "{tally}");
}

/// Of two embedded servers one is made wrong: what is left of the sequence that finds it.
async fn found(tamper: Tamper) -> Vec<Op> {
    let wrong = Side::embedded().await.named("wrong").tampered(tamper);
    let mut pairs = [Pair::new(Side::embedded().await, wrong)];
    let found = fuzz(&mut pairs, 1..20, OPERATIONS).await;
    let found = found.expect_err("a difference");
    let shown = format!("{found:?}");
    assert!(
        shown.contains("seed ") && shown.contains("wrong: "),
        "{shown}"
    );
    found.ops
}

#[tokio::test]
async fn two_embedded_servers_are_the_same() {
    let pair = async || Pair::new(Side::embedded().await, Side::embedded().await);
    let mut pairs = [pair().await, pair().await];
    let tally = fuzz(&mut pairs, 1..20, OPERATIONS).await;
    let tally = tally.unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!(tally.sequences, 19);
}

#[tokio::test]
async fn a_wrong_field_is_found() {
    fn more_when_three(answer: &mut Answer<Reply>) {
        if let Ok(Reply::Range(range)) = answer
            && range.count == 3
        {
            range.more = !range.more;
        }
    }
    let left = found(Tamper {
        reply: Some(more_when_three),
        ..Tamper::default()
    })
    .await;
    // Three keys, by one transaction at the least and three puts at the most, and the read.
    assert!((2..=4).contains(&left.len()), "{left:?}");
    assert!(
        matches!(left.last(), Some(Op::Call(Request::Range(_)))),
        "{left:?}"
    );
}

#[tokio::test]
async fn wrong_words_are_found() {
    fn silent_about_leases(answer: &mut Answer<Reply>) {
        if let Err(refused) = answer
            && refused.message.ends_with("lease already exists")
        {
            refused.message.clear();
        }
    }
    let left = found(Tamper {
        reply: Some(silent_about_leases),
        ..Tamper::default()
    })
    .await;
    assert!(matches!(
        left[..],
        [Op::Call(Request::Grant(_)), Op::Call(Request::Grant(_))]
    ));
}

#[tokio::test]
async fn a_missing_event_is_found() {
    fn one_deletion_less(response: &mut WatchResponse) {
        let deletions = response.events.iter().filter(|event| event.kind == 1);
        if deletions.count() == 2 {
            response.events.pop();
        }
    }
    let left = found(Tamper {
        watch: Some(one_deletion_less),
        ..Tamper::default()
    })
    .await;
    // The end of each sequence looks at all of its history.
    assert!(left.len() <= 4, "{left:?}");
}

#[tokio::test]
async fn events_in_another_order_are_found() {
    fn reversed(response: &mut WatchResponse) {
        let [first, .., last] = &response.events[..] else {
            return;
        };
        // Only within a revision: a message may begin with a later one.
        let revision = |event: &Event| event.kv.as_ref().map(|kv| kv.mod_revision);
        if revision(first) == revision(last) {
            response.events.reverse();
        }
    }
    let left = found(Tamper {
        watch: Some(reversed),
        ..Tamper::default()
    })
    .await;
    assert!(left.len() <= 4, "{left:?}");
}
