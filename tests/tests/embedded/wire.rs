//! What comes over the wire that no good client sends, and what a slow one gets.

use coord::embedded::Server;
use coord_tests::{Etcd, EtcdConfig, dropped_after, eventually};
use etcd_client::{Client, ConnectOptions, Error};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{connect, events, message, start, value, watch};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn garbage_closes_its_connection_and_no_other() {
    let (server, mut client) = start().await;
    let mut stream = watch(&mut client, "key").await;
    let address = server.endpoint().strip_prefix("http://").unwrap();

    let half = [PREFACE, b"\0\0"].concat();
    let frame = [PREFACE, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff garbage"].concat();
    let garbage: [&[u8]; 5] = [
        b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a greeting in TLS, which this is not",
        &[0; 4096],
        &[0xff; 100_000],
        &frame,
    ];
    for bytes in garbage {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // Both may fail: it is closed as soon as it is seen to be nothing.
        let _ = socket.write_all(bytes).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    // One that says half of what it wanted, and goes.
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&half).await.unwrap();
    drop(socket);

    client.put("key", "value", None).await.unwrap();
    assert_eq!(events(&mut stream).await, ["key value"]);
}

/// What came instead of an answer: the code's number and the words.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    match result.unwrap_err() {
        Error::GRpcStatus(status) => (status.code() as i32, status.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

/// What a server says to a message that is too large, to a request that is, and to a user.
async fn refusals(endpoint: String) -> Vec<(i32, String)> {
    let mut client = Client::connect([&endpoint], None).await.unwrap();
    let message = client.put("key", vec![0; 3 << 20], None).await;
    let request = client.put("key", vec![0; 1_800_000], None).await;
    // The connection is as good as before.
    client.put("key", "value", None).await.unwrap();
    let options = ConnectOptions::new().with_user("root", "secret");
    let user = Client::connect([endpoint], Some(options)).await;
    vec![refusal(message), refusal(request), refusal(user.map(drop))]
}

#[tokio::test]
async fn too_large_a_message_and_a_user_are_refused_in_etcds_words() {
    let server = Server::start().await.unwrap();
    let ours = refusals(server.endpoint().to_owned()).await;
    assert_eq!(
        ours[0],
        (
            8,
            "grpc: received message larger than max (3145738 vs. 2097152)".into()
        )
    );
    assert_eq!(ours[2].1, "etcdserver: authentication is not enabled");
    if let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await {
        assert_eq!(ours, refusals(etcd.endpoint()).await);
    }
}

#[tokio::test]
async fn calls_that_there_are_not_are_named() {
    const UNIMPLEMENTED: i32 = 12;
    let (_server, mut client) = start().await;
    let (code, words) = refusal(client.user_list().await);
    assert_eq!(code, UNIMPLEMENTED);
    assert_eq!(
        words,
        "unknown method UserList for service etcdserverpb.Auth"
    );
    let (code, words) = refusal(client.lock("name", None).await);
    assert_eq!(code, UNIMPLEMENTED);
    assert_eq!(words, "unknown service v3lockpb.Lock");
}

#[tokio::test]
async fn a_watch_goes_on_when_there_will_be_no_more_requests() {
    let (_server, mut client) = start().await;
    let (requests, mut stream) = watch(&mut client, "key").await.split();
    drop(requests);
    client.put("key", "value", None).await.unwrap();
    let events = stream.message().await.unwrap().unwrap();
    assert_eq!(events.events().len(), 1);
}

#[tokio::test]
async fn one_stream_carries_many_watches() {
    let (_server, mut client) = start().await;
    let mut stream = watch(&mut client, "0").await;
    for id in 1..200 {
        stream.watch(id.to_string(), None).await.unwrap();
        let created = message(&mut stream).await;
        assert!(created.created());
        assert_eq!(created.watch_id(), id);
    }
    client.put("150", "value", None).await.unwrap();
    let message = message(&mut stream).await;
    assert_eq!((message.watch_id(), message.events().len()), (150, 1));
}

#[tokio::test]
async fn what_a_connection_had_open_goes_with_it() {
    let (server, client) = start().await;
    for _ in 0..20 {
        let mut client = connect(&server).await;
        let mut stream = watch(&mut client, "key").await;
        stream.watch("other", None).await.unwrap();
        assert!(message(&mut stream).await.created());
    }
    eventually("no watch is open", async || {
        format!("{server:?}").contains("watch_streams: 0, watches: 0")
    })
    .await;
    // The same for streams whose connection stays.
    for _ in 0..20 {
        drop(watch(&mut client.clone(), "key").await);
    }
    eventually("no watch is open", async || {
        format!("{server:?}").contains("watch_streams: 0, watches: 0")
    })
    .await;
}

#[tokio::test]
async fn calls_that_are_given_up_cost_their_connection_nothing() {
    let (server, mut client) = start().await;
    let mut stream = watch(&mut client, "key").await;
    for _ in 0..200 {
        let calls = (0..20).map(|polls| {
            let mut client = client.clone();
            async move {
                dropped_after(polls % 3, client.watch("other", None))
                    .await
                    .is_some()
            }
        });
        futures_util::future::join_all(calls).await;
    }
    client.put("key", "value", None).await.unwrap();
    // On the connection on which all of that was.
    assert_eq!(events(&mut stream).await, ["key value"]);
    eventually("the other watches are gone", async || {
        format!("{server:?}").contains("watch_streams: 1, watches: 1")
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let (server, mut client) = start().await;
    // On a connection of its own: an unread stream fills the client's side of it.
    let mut stream = watch(&mut connect(&server).await, "key").await;
    const WRITES: usize = 2_000;
    let padding = "x".repeat(8_192);
    for write in 0..WRITES {
        let value = format!("{write} {padding}");
        client.put("key", value, None).await.unwrap();
    }
    assert!(value(&mut client, "key").await.is_some());

    let mut seen = 0;
    while seen < WRITES {
        for event in events(&mut stream).await {
            assert!(event.starts_with(&format!("key {seen} ")), "{event:.20}");
            seen += 1;
        }
    }
}

#[tokio::test]
async fn renewals_are_answered_one_by_one_in_their_order() {
    let (_server, mut client) = start().await;
    let mut ids = Vec::new();
    for ttl in [10, 20, 30] {
        ids.push(client.lease_grant(ttl, None).await.unwrap().id());
    }
    let (mut keeper, mut answers) = client.lease_keep_alive(ids[0]).await.unwrap();
    let unknown = 4711;
    for id in [ids[2], unknown, ids[1], ids[0]] {
        keeper.id = id;
        keeper.keep_alive().await.unwrap();
    }
    let mut answered = Vec::new();
    for _ in 0..4 {
        let answer = answers.message().await.unwrap().unwrap();
        answered.push((answer.id(), answer.ttl()));
    }
    let expected = [(ids[2], 30), (unknown, 0), (ids[1], 20), (ids[0], 10)];
    assert_eq!(answered, expected);
    drop(keeper);
    assert!(answers.message().await.unwrap().is_none(), "it has ended");
}
