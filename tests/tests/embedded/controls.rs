//! Each control, as a plain etcd client sees it.

use std::time::Duration;

use coord::embedded::Rpc;
use etcd_client::{Client, Compare, CompareOp, Error, PutOptions, Txn, TxnOp, WatchOptions};

use crate::{connect, events, message, start, value, watch, watch_from};

/// Puts a key under a new lease, and says its id.
async fn leased(client: &mut Client, key: &str, ttl: i64) -> i64 {
    let id = client.lease_grant(ttl, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(id);
    client.put(key, "leased", Some(options)).await.unwrap();
    id
}

async fn seconds_left(client: &mut Client, lease: i64) -> i64 {
    let reply = client.lease_time_to_live(lease, None).await.unwrap();
    reply.ttl()
}

fn words<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => panic!("{other:?}"),
    }
}

const NO_LEADER: &str = "etcdserver: no leader";

#[tokio::test]
async fn advancing_the_clock_ends_the_leases_that_are_due() {
    let (server, mut client) = start().await;
    server.freeze();
    let short = leased(&mut client, "short", 10).await;
    let long = leased(&mut client, "long", 100).await;
    let mut stream = watch(&mut client, "short").await;

    server.advance(Duration::from_secs(4));
    assert_eq!(seconds_left(&mut client, short).await, 6);
    let before = server.revision();
    server.advance(Duration::from_secs(6));
    assert_eq!(server.revision(), before + 1, "before it returns");
    assert_eq!(events(&mut stream).await, ["short -"]);
    assert_eq!(seconds_left(&mut client, short).await, -1);
    assert_eq!(seconds_left(&mut client, long).await, 90);
    assert_eq!(value(&mut client, "long").await.as_deref(), Some("leased"));
}

#[tokio::test]
async fn leases_run_out_by_themselves_but_not_while_the_clock_is_frozen() {
    let ((frozen, mut cold), (running, mut warm)) = (start().await, start().await);
    frozen.freeze();
    let kept = leased(&mut cold, "key", 2).await;
    // Granted later, and nobody asks: only the stream waits.
    leased(&mut warm, "key", 2).await;
    let mut stream = watch(&mut warm, "key").await;
    assert_eq!(events(&mut stream).await, ["key -"]);
    assert_eq!(running.revision(), 3);
    assert_eq!(seconds_left(&mut cold, kept).await, 2);

    // It goes on from where it stopped.
    frozen.thaw();
    let mut stream = watch(&mut cold, "key").await;
    assert_eq!(value(&mut cold, "key").await.as_deref(), Some("leased"));
    assert_eq!(events(&mut stream).await, ["key -"]);
}

#[tokio::test]
async fn a_quiet_watch_is_told_how_far_it_is_every_ten_minutes() {
    let (server, mut client) = start().await;
    let options = WatchOptions::new().with_progress_notify();
    let mut stream = client.watch("key", Some(options)).await.unwrap();
    assert!(message(&mut stream).await.created());
    client.put("other", "value", None).await.unwrap();
    for _ in 0..2 {
        server.advance(Duration::from_secs(600));
        let told = message(&mut stream).await;
        assert!(told.events().is_empty());
        assert_eq!(told.header().unwrap().revision(), 2);
    }
    // However far it is moved on, there is an end to it.
    server.advance(Duration::MAX);
    server.advance(Duration::MAX);
    message(&mut stream).await;
    client.get("key", None).await.unwrap();
}

#[tokio::test]
async fn one_lease_can_be_ended() {
    let (server, mut client) = start().await;
    let id = leased(&mut client, "key", 100).await;
    let other = leased(&mut client, "other", 100).await;
    let mut stream = watch(&mut client, "key").await;
    assert!(server.expire_lease(id));
    assert!(!server.expire_lease(id), "there is none any more");
    assert_eq!(events(&mut stream).await, ["key -"]);
    assert!(seconds_left(&mut client, other).await > 90);
}

#[tokio::test]
async fn dropped_connections_can_be_made_again_at_once() {
    let (server, mut client) = start().await;
    let mut stream = watch(&mut client, "key").await;
    server.drop_connections();
    stream
        .message()
        .await
        .expect_err("its connection is closed");
    client.put("key", "value", None).await.unwrap();
}

#[tokio::test]
async fn refused_connections_are_closed_and_so_are_those_that_stood() {
    let (server, mut client) = start().await;
    let mut stream = watch(&mut client, "key").await;
    server.refuse_connections();
    stream
        .message()
        .await
        .expect_err("its connection is closed");
    client.get("key", None).await.expect_err("refused");
    let mut fresh = connect(&server).await;
    fresh.get("key", None).await.expect_err("refused");
    server.accept_connections();
    client.get("key", None).await.unwrap();
    fresh.get("key", None).await.unwrap();
}

#[tokio::test]
async fn a_stalled_server_is_silent_and_then_answers_everything() {
    let (server, mut client) = start().await;
    server.freeze();
    leased(&mut client, "key", 10).await;
    let mut stream = watch(&mut client, "key").await;
    let mut fresh = connect(&server).await;

    server.stall();
    let mut put = tokio::spawn(async move { client.put("key", "late", None).await });
    let mut get = tokio::spawn(async move { fresh.get("other", None).await });
    let silence = Duration::from_millis(100);
    tokio::time::timeout(silence, &mut put)
        .await
        .expect_err("no answer");
    tokio::time::timeout(silence, &mut get)
        .await
        .expect_err("no answer");
    assert_eq!(server.revision(), 2, "nothing has been done");
    // Twice is once.
    server.stall();
    server.advance(Duration::from_secs(60));

    server.resume();
    put.await.unwrap().unwrap();
    get.await.unwrap().unwrap();
    assert_eq!(events(&mut stream).await, ["key -"], "overdue");
    assert_eq!(events(&mut stream).await, ["key late"]);
}

#[tokio::test]
async fn a_lost_reply_is_that_of_a_call_that_was_carried_out() {
    let (server, mut client) = start().await;
    let create = Txn::new()
        .when([Compare::version("key", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("key", "value", None)]);
    server.lose_reply(Rpc::Txn);
    client.put("other", "value", None).await.unwrap();
    client.txn(create.clone()).await.expect_err("no answer");
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("value"));
    assert!(
        !client.txn(create).await.unwrap().succeeded(),
        "and is answered"
    );

    server.lose_reply(Rpc::Put);
    server.lose_reply(Rpc::Put);
    for round in ["one", "two"] {
        client.put("key", round, None).await.expect_err("no answer");
        assert_eq!(value(&mut client, "key").await.as_deref(), Some(round));
    }
    client.put("key", "three", None).await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_on_a_stream_is_that_of_one_message() {
    let (server, mut client) = start().await;
    server.freeze();
    let id = client.lease_grant(10, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(id).await.unwrap();
    server.advance(Duration::from_secs(5));
    server.lose_reply(Rpc::LeaseKeepAlive);
    keeper.keep_alive().await.unwrap();
    answers.message().await.expect_err("no answer");
    assert_eq!(seconds_left(&mut client, id).await, 10, "renewed");

    let mut stream = watch(&mut client, "key").await;
    server.lose_reply(Rpc::Watch);
    stream.watch("other", None).await.unwrap();
    stream.message().await.expect_err("no answer");
    watch(&mut client, "key").await;
}

#[tokio::test]
async fn refused_calls_are_not_carried_out() {
    let (server, mut client) = start().await;
    server.refuse(Rpc::LeaseGrant);
    server.refuse(Rpc::Put);
    assert_eq!(words(client.lease_grant(10, None).await), NO_LEADER);
    assert_eq!(words(client.put("key", "value", None).await), NO_LEADER);
    assert_eq!(value(&mut client, "key").await, None);
    assert!(client.leases().await.unwrap().leases().is_empty());
    server.accept(Rpc::LeaseGrant);
    server.accept(Rpc::Put);
    leased(&mut client, "key", 10).await;
}

#[tokio::test]
async fn a_refused_message_ends_its_stream() {
    let (server, mut client) = start().await;
    let id = client.lease_grant(10, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(id).await.unwrap();
    server.refuse(Rpc::LeaseKeepAlive);
    keeper.keep_alive().await.unwrap();
    assert_eq!(words(answers.message().await), NO_LEADER);
    assert_eq!(words(client.lease_keep_alive(id).await), NO_LEADER);

    let mut stream = watch(&mut client, "key").await;
    server.refuse(Rpc::Watch);
    stream.watch("other", None).await.unwrap();
    assert_eq!(words(stream.message().await), NO_LEADER);
    assert_eq!(words(client.watch("key", None).await), NO_LEADER);
    // It is the stream that ended, not the connection.
    server.accept(Rpc::Watch);
    watch(&mut client, "key").await;
}

#[tokio::test]
async fn a_swallowed_event_is_one_that_no_watch_shows() {
    let (server, mut client) = start().await;
    let mut streams = [
        watch(&mut client, "key").await,
        watch(&mut client, "key").await,
    ];
    server.swallow_event("key");
    client.put("key", "unseen", None).await.unwrap();
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("unseen"));
    client.put("key", "seen", None).await.unwrap();
    for stream in &mut streams {
        assert_eq!(events(stream).await, ["key seen"]);
    }
}

#[tokio::test]
async fn a_restored_store_has_forgotten_what_came_later() {
    let (server, mut client) = start().await;
    client.put("key", "old", None).await.unwrap();
    let then = server.revision();
    client.put("key", "new", None).await.unwrap();
    client.put("other", "new", None).await.unwrap();
    let mut stream = watch(&mut client, "key").await;

    server.restore(then).unwrap();
    stream
        .message()
        .await
        .expect_err("its connection is closed");
    assert_eq!(server.revision(), then);
    assert_eq!(value(&mut client, "key").await.as_deref(), Some("old"));
    assert_eq!(value(&mut client, "other").await, None);
    client.put("key", "again", None).await.unwrap();
    assert_eq!(server.revision(), then + 1);

    let mut stream = watch(&mut client, "key").await;
    let error = server.restore(1000).unwrap_err().to_string();
    assert!(
        error.contains("required revision is a future revision"),
        "{error}"
    );
    // Nothing has been done.
    client.put("key", "more", None).await.unwrap();
    assert_eq!(events(&mut stream).await, ["key more"]);
}

#[tokio::test]
async fn what_was_compacted_can_be_neither_read_nor_watched() {
    let (server, mut client) = start().await;
    let mut current = watch(&mut client, "key").await;
    for round in ["2", "3", "4", "5"] {
        client.put("key", round, None).await.unwrap();
    }
    server.compact(4).unwrap();
    let mut late = watch_from(&mut client, "key", 2).await;
    let message = message(&mut late).await;
    assert!(message.canceled());
    assert_eq!(message.compact_revision(), 4);
    // One that was there misses nothing.
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(events(&mut current).await);
    }
    assert_eq!(seen, ["key 2", "key 3", "key 4", "key 5"]);

    let error = server.compact(4).unwrap_err().to_string();
    assert!(
        error.contains("required revision has been compacted"),
        "{error}"
    );
}

#[tokio::test]
async fn the_history_takes_about_as_much_memory_as_it_is_told_to() {
    let (server, mut client) = start().await;
    server.set_retention(100 * 1024);
    for _ in 0..500 {
        client.put("key", vec![b'x'; 1024], None).await.unwrap();
    }
    let mut stream = watch_from(&mut client, "key", 2).await;
    let compacted = message(&mut stream).await.compact_revision();
    assert!((300..490).contains(&compacted), "{compacted}");
}
