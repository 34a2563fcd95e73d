//! The watch engine against a real etcd: what the script claims of it holds there.
//!
//! Without an etcd these tests say so and pass, unless `COORD_REQUIRE_ETCD` is set.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use super::*;
use crate::{
    client::{
        CallError, Certainty, Client, Op, Range, RangeReply, Reason, Txn, Version, WatchMessage,
        WatchRequest, WatchStream,
        tests::{Etcd, Here},
    },
    watch::{FromNow, Signal, Source, source::SourceStream},
};

/// A client whose streams break when the test says so.
#[derive(Debug)]
struct Cuttable {
    client: Client,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    /// Nothing gets through.
    cut: watch::Sender<bool>,
    /// Every stream that is opened; how many messages with events it may still deliver.
    opened: Mutex<Vec<i64>>,
    messages: Mutex<Option<usize>>,
}

fn broken() -> CallError {
    CallError::new(Certainty::Unknown, Reason::Unavailable, "cut by the test")
}

impl Cuttable {
    fn new(client: Client) -> (Self, Arc<Line>) {
        let line = Arc::new(Line {
            cut: watch::Sender::new(false),
            opened: Mutex::default(),
            messages: Mutex::default(),
        });
        (
            Self {
                client,
                line: line.clone(),
            },
            line,
        )
    }
}

impl Source for Cuttable {
    type Stream = CuttableStream;

    async fn range(&self, range: Range) -> Result<RangeReply, CallError> {
        if *self.line.cut.borrow() {
            return Err(broken());
        }
        self.client.range(range).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<CuttableStream, CallError> {
        if *self.line.cut.borrow() {
            return Err(broken());
        }
        self.line
            .opened
            .lock()
            .unwrap()
            .push(request.start_revision);
        Ok(CuttableStream {
            stream: self.client.watch(request).await?,
            line: self.line.clone(),
            cut: self.line.cut.subscribe(),
        })
    }

    async fn refresh_token(&self) -> Result<(), CallError> {
        self.client.refresh_token().await
    }

    async fn version_of(&self, member: u64) -> Option<Version> {
        self.client.version_of(member).await
    }

    fn leave_endpoint(&self) {
        self.client.leave_endpoint();
    }
}

struct CuttableStream {
    stream: WatchStream,
    line: Arc<Line>,
    cut: watch::Receiver<bool>,
}

impl SourceStream for CuttableStream {
    async fn next(&mut self) -> Result<Option<WatchMessage>, CallError> {
        let message = tokio::select! {
            biased;
            _ = self.cut.wait_for(|cut| *cut) => return Err(broken()),
            message = self.stream.next() => message?,
        };
        let tells = (message.as_ref()).is_some_and(|message| !message.events.is_empty());
        match &mut *self.line.messages.lock().unwrap() {
            Some(0) if tells => return Err(broken()),
            Some(left) if tells => *left -= 1,
            _ => {}
        }
        Ok(message)
    }

    async fn request_progress(&mut self) -> Result<(), CallError> {
        self.stream.request_progress().await
    }
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        lease: 0,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        span: Span::Key(key.into()),
        prev: false,
    }
}

async fn write(client: &Client, then: Vec<Op>) -> i64 {
    let txn = Txn {
        then,
        ..Txn::default()
    };
    client.txn(txn).await.unwrap().header.revision
}

/// Through etcd's JSON gateway: coord itself never compacts.
fn compact(etcd: &Etcd, revision: i64) {
    let address = etcd.endpoint.trim_start_matches("http://");
    let body = format!(r#"{{"revision":"{revision}"}}"#);
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /v3/kv/compaction HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Follows until the map stands at `revision` or later; what was told.
async fn follow(watcher: &mut Watcher<Cuttable>, here: &Here, revision: i64) -> Vec<Update> {
    let mut updates = Vec::new();
    while watcher.status().borrow().revision < revision {
        let next = here.clock.timeout(seconds(60), watcher.next());
        updates.push(next.await.expect("an update"));
    }
    updates
}

async fn assert_current(watcher: &Watcher<Cuttable>, client: &Client) {
    let reply = client.range(Range::new(below_a_b())).await.unwrap();
    assert_eq!(
        reply.kvs,
        watcher.map().values().cloned().collect::<Vec<_>>()
    );
}

/// Lets the watcher notice that its stream broke.
async fn notice_the_cut(watcher: &mut Watcher<Cuttable>) {
    let mut status = watcher.status();
    tokio::select! {
        update = watcher.next() => panic!("{update:?}"),
        seen = status.wait_for(|status| status.trouble.is_some()) => drop(seen.unwrap()),
    }
}

#[tokio::test]
async fn a_catch_up_that_breaks_after_its_first_batch_loses_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    let (source, line) = Cuttable::new(client.clone());
    let mut watcher = Watcher::new(
        source,
        here.clock.clone(),
        below_a_b(),
        WatchOptions::default(),
    );
    follow(&mut watcher, &here, 1).await;
    line.cut.send_replace(true);
    notice_the_cut(&mut watcher).await;
    let mut last = 0;
    for value in 0..2_501 {
        last = write(&client, vec![put("/a/b/x", value.to_string())]).await;
    }
    *line.messages.lock().unwrap() = Some(1);
    line.cut.send_replace(false);
    let mut status = watcher.status();
    let first = watcher.next().await;
    let told = first.changes.len();
    assert!((1..2_501).contains(&told), "one batch of them: {told}");
    assert!(status.borrow_and_update().revision < last);
    // The stream breaks at its next message, however the rest is cut.
    *line.messages.lock().unwrap() = Some(0);
    notice_the_cut(&mut watcher).await;
    *line.messages.lock().unwrap() = None;
    let rest = follow(&mut watcher, &here, last).await;
    let rest: usize = rest.iter().map(|update| update.changes.len()).sum();
    assert_eq!(told + rest, 2_501, "each once");
    assert_current(&watcher, &client).await;
    let opened = line.opened.lock().unwrap().clone();
    assert_eq!(opened.last(), Some(&(first.revision + 1)));
}

#[tokio::test]
async fn a_compaction_while_disconnected_is_listed_again() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    let revision = write(&client, vec![put("/a/b/x", "1"), put("/a/b/y", "1")]).await;
    let (source, line) = Cuttable::new(client.clone());
    let mut watcher = Watcher::new(
        source,
        here.clock.clone(),
        below_a_b(),
        WatchOptions::default(),
    );
    let listed = follow(&mut watcher, &here, revision).await;
    assert_eq!(listed[0].changes.len(), 2);
    line.cut.send_replace(true);
    notice_the_cut(&mut watcher).await;
    write(&client, vec![delete("/a/b/x"), put("/elsewhere", "1")]).await;
    let last = write(&client, vec![put("/a/b/z", "1")]).await;
    compact(&etcd, last);
    line.cut.send_replace(false);
    let updates = follow(&mut watcher, &here, last).await;
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].cause, Cause::Relisted);
    let told: Vec<_> = (updates[0].changes.iter())
        .map(|change| (change.key.as_slice(), change.new.is_some()))
        .collect();
    assert_eq!(told, [(&b"/a/b/x"[..], false), (&b"/a/b/z"[..], true)]);
    assert_current(&watcher, &client).await;
}

#[tokio::test]
async fn a_revision_that_etcd_sends_in_fragments_is_one_update() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    let (source, _line) = Cuttable::new(client.clone());
    let mut watcher = Watcher::new(
        source,
        here.clock.clone(),
        below_a_b(),
        WatchOptions::default(),
    );
    follow(&mut watcher, &here, 1).await;
    // Together larger than what etcd puts into one message (1.5 MiB with its overhead).
    for round in 0..3 {
        let large = vec![b'x'; 700_000];
        let last = write(
            &client,
            vec![put("/a/b/x", large.clone()), put("/a/b/y", large)],
        )
        .await;
        let updates = follow(&mut watcher, &here, last).await;
        assert_eq!(updates.len(), 1, "round {round}");
        assert_eq!(updates[0].changes.len(), 2);
    }
    assert_current(&watcher, &client).await;
}

#[tokio::test]
async fn a_from_now_watch_tells_the_deletions_of_one_revision_together() {
    let Some(etcd) = Etcd::start() else { return };
    let here = Here::new();
    let client = etcd.client(&here).await;
    let puts = ["/a/b/1", "/a/b/2", "/a/bc"].map(|key| put(key, "waiting"));
    let opened = write(&client, puts.to_vec()).await;
    let (source, line) = Cuttable::new(client.clone());
    let mut watch = FromNow::new(source, here.clock.clone(), below_a_b());
    assert_eq!(watch.next().await, Signal::Opened { revision: opened });
    write(&client, vec![put("/a/b/3", "later")]).await;
    let gone = ["/a/b/2", "/a/b/1", "/a/bc"].map(delete);
    let revision = write(&client, gone.to_vec()).await;
    let keys = vec![b"/a/b/2".to_vec(), b"/a/b/1".to_vec()];
    assert_eq!(watch.next().await, Signal::Deleted { revision, keys });
    line.cut.send_replace(true);
    assert_eq!(watch.next().await, Signal::Closed);
    let revision = write(&client, vec![delete("/a/b/3")]).await;
    line.cut.send_replace(false);
    assert_eq!(watch.next().await, Signal::Opened { revision });
}
