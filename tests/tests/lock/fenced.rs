//! The write of a holder that was stopped for longer than its lease lives: it is refused, whoever finds
//! out, and what the next holder has written stands.

use coord_tests::{Backend, Flow, Proxy, Worker, eventually, on_both};

use super::connect;

on_both! {
    a_holder_that_was_stopped_writes_nothing_afterwards,
    a_write_that_was_sent_before_the_stop_and_arrives_after_it_is_refused,
}

const KEY: &str = "protected";

/// What stands there, and since which revision.
async fn protected(server: &Backend) -> (String, i64) {
    let found = server.client().await.get(KEY, None).await.unwrap();
    let kv = &found.kvs()[0];
    (kv.value_str().unwrap().to_owned(), kv.mod_revision())
}

/// It wakes up, and does not know yet how long it was away.
async fn a_holder_that_was_stopped_writes_nothing_afterwards(server: Backend) {
    let coordinator = connect(&server).await;
    let mut stopped = Worker::spawn("lock-write", &[&server.endpoint(), "jobs", "8", KEY]);
    let first: i64 = stopped.expect("held").await.parse().unwrap();
    stopped.say("first");
    let wrote: i64 = stopped.expect("wrote").await.parse().unwrap();
    assert_eq!(protected(&server).await, ("first".into(), wrote));

    stopped.stop();
    let next = coordinator.lock("jobs").acquire().await.unwrap();
    assert!(next.fencing_token().get() > first);
    let write = next.transaction().put(KEY, "next").commit();
    let wrote = write.await.unwrap();
    // Told before it goes on: the write is the first thing that it does.
    stopped.say("stale");
    stopped.cont();
    assert_eq!(stopped.expect("lost").await, "Expired");
    assert_eq!(protected(&server).await, ("next".into(), wrote));
    assert!(next.unlock().await.unwrap().confirmed);
}

/// No clock of its own can help it: only etcd sees that the lock is another's by now.
async fn a_write_that_was_sent_before_the_stop_and_arrives_after_it_is_refused(server: Backend) {
    let coordinator = connect(&server).await;
    let proxy = Proxy::start(&server.endpoint()).await;
    let mut stopped = Worker::spawn("lock-write", &[&proxy.endpoint(), "jobs", "8", KEY]);
    let first: i64 = stopped.expect("held").await.parse().unwrap();
    stopped.say("first");
    stopped.expect("wrote").await;

    proxy.requests(Flow::Hold);
    let before = proxy.sent().arrived;
    // Longer than everything else that it sends.
    let stale = "stale".repeat(1_000);
    stopped.say(&stale);
    eventually("the write is on its way", async || {
        proxy.sent().arrived > before + stale.len() as u64
    })
    .await;
    stopped.stop();
    let next = coordinator.lock("jobs").acquire().await.unwrap();
    assert!(next.fencing_token().get() > first);
    let write = next.transaction().put(KEY, "next").commit();
    let wrote = write.await.unwrap();
    let before = server.log_entries().await;
    proxy.heal().await;
    eventually("etcd has looked at the late write", async || {
        server.log_entries().await > before
    })
    .await;
    assert_eq!(protected(&server).await, ("next".into(), wrote));
    stopped.cont();
    // That it is lost, or that nobody has answered: whichever it finds out first.
    let told = stopped.line().await;
    assert!(!told.starts_with("wrote"), "{told}");
    assert_eq!(protected(&server).await, ("next".into(), wrote));
    assert!(next.unlock().await.unwrap().confirmed);
}
