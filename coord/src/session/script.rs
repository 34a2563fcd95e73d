//! A server that a test plays by hand: every call waits until the test has answered it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    PastDeadline, SessionSpec,
    server::{Called, Server, Stream},
};
use crate::client::{CallError, Certainty, KeepAlive, Reason, Txn, TxnReply};

/// What the code under test talks to.
#[derive(Debug)]
pub(super) struct Script {
    calls: mpsc::UnboundedSender<Call>,
    pub(super) refreshed: AtomicUsize,
    pub(super) left: AtomicUsize,
}

/// Where the answer to a call goes. Dropped: the answer was lost.
pub(super) type Reply<T> = oneshot::Sender<Result<T, CallError>>;

#[derive(Debug)]
pub(super) enum Call {
    Grant(i64, Duration, Reply<Duration>),
    Revoke(i64, Reply<()>),
    Granted(i64, Reply<Option<Duration>>),
    Txn(Txn, Reply<TxnReply>),
    KeepAlives(Reply<Line>),
}

/// The test's end.
#[derive(Debug)]
pub(super) struct Etcd(mpsc::UnboundedReceiver<Call>);

pub(super) fn script() -> (Arc<Script>, Etcd) {
    let (calls, etcd) = mpsc::unbounded_channel();
    let script = Script {
        calls,
        refreshed: AtomicUsize::new(0),
        left: AtomicUsize::new(0),
    };
    (Arc::new(script), Etcd(etcd))
}

macro_rules! expect {
    ($name:ident, $variant:ident($($part:ident: $type:ty),+)) => {
        pub(super) async fn $name(&mut self) -> ($($type),+) {
            match self.call().await {
                Call::$variant($($part),+) => ($($part),+),
                other => panic!("expected {}, not {other:?}", stringify!($name)),
            }
        }
    };
}

impl Etcd {
    pub(super) async fn call(&mut self) -> Call {
        // A wall-clock bound for the case that the call never comes.
        tokio::time::timeout(Duration::from_secs(30), self.0.recv())
            .await
            .expect("no call came")
            .expect("the server is still in use")
    }

    /// Nothing was called; for single-threaded tests, after everything has come to rest.
    pub(super) async fn is_quiet(&mut self) -> bool {
        self.waiting_call().await.is_none()
    }

    pub(super) async fn waiting_call(&mut self) -> Option<Call> {
        rest().await;
        self.0.try_recv().ok()
    }

    expect!(grant, Grant(id: i64, ttl: Duration, reply: Reply<Duration>));
    expect!(revoke, Revoke(id: i64, reply: Reply<()>));
    expect!(granted, Granted(id: i64, reply: Reply<Option<Duration>>));
    expect!(txn, Txn(txn: Txn, reply: Reply<TxnReply>));

    /// Opens the stream that is asked for.
    pub(super) async fn keep_alives(&mut self) -> Peer {
        match self.call().await {
            Call::KeepAlives(reply) => accept(reply),
            other => panic!("expected a stream, not {other:?}"),
        }
    }
}

/// Answers a call for a stream.
pub(super) fn accept(reply: Reply<Line>) -> Peer {
    let (sent, leases) = mpsc::unbounded_channel();
    let (answers, inbox) = mpsc::unbounded_channel();
    drop(reply.send(Ok(Line { sent, inbox })));
    Peer { leases, answers }
}

/// The server's end of a stream. Dropped: the stream breaks.
#[derive(Debug)]
pub(super) struct Peer {
    leases: mpsc::UnboundedReceiver<i64>,
    answers: mpsc::UnboundedSender<KeepAlive>,
}

impl Peer {
    pub(super) async fn lease(&mut self) -> i64 {
        tokio::time::timeout(Duration::from_secs(30), self.leases.recv())
            .await
            .expect("no keep-alive came")
            .expect("the stream is open")
    }

    pub(super) fn answer(&self, lease: i64, ttl: Option<Duration>) {
        let _ = self.answers.send(KeepAlive { lease, ttl });
    }

    pub(super) async fn is_quiet(&mut self) -> bool {
        rest().await;
        self.leases.try_recv().is_err()
    }

    /// Whether the other side has closed it.
    pub(super) async fn is_closed(&mut self) -> bool {
        rest().await;
        self.answers.is_closed()
    }
}

/// The client's end of a stream.
#[derive(Debug)]
pub(super) struct Line {
    sent: mpsc::UnboundedSender<i64>,
    inbox: mpsc::UnboundedReceiver<KeepAlive>,
}

impl Script {
    fn ask<T: Send + 'static>(&self, call: impl FnOnce(Reply<T>) -> Call) -> Called<'_, T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.calls.send(call(reply));
        Box::pin(async move {
            if sent.is_err() {
                return std::future::pending().await;
            }
            answer.await.unwrap_or_else(|_| Err(lost()))
        })
    }
}

impl Server for Script {
    fn grant(&self, id: i64, ttl: Duration) -> Called<'_, Duration> {
        self.ask(|reply| Call::Grant(id, ttl, reply))
    }
    fn revoke(&self, id: i64) -> Called<'_, ()> {
        self.ask(|reply| Call::Revoke(id, reply))
    }
    fn granted(&self, id: i64) -> Called<'_, Option<Duration>> {
        self.ask(|reply| Call::Granted(id, reply))
    }
    fn txn(&self, txn: Txn) -> Called<'_, TxnReply> {
        self.ask(|reply| Call::Txn(txn, reply))
    }
    fn keep_alives(&self) -> Called<'_, Box<dyn Stream>> {
        let line = self.ask(Call::KeepAlives);
        Box::pin(async move { Ok(Box::new(line.await?) as Box<dyn Stream>) })
    }
    fn refresh_token(&self) -> Called<'_, ()> {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
    fn leave_endpoint(&self) {
        self.left.fetch_add(1, Ordering::SeqCst);
    }
}

impl Stream for Line {
    fn send(&mut self, lease: i64) -> Called<'_, ()> {
        let sent = self.sent.send(lease).map_err(|_| lost());
        Box::pin(async move { sent })
    }
    fn next(&mut self) -> Called<'_, Option<KeepAlive>> {
        Box::pin(async { Ok(self.inbox.recv().await) })
    }
}

pub(super) fn error(certainty: Certainty, reason: Reason) -> CallError {
    CallError::new(certainty, reason, format!("{certainty:?} {reason:?}"))
}

/// It may have been applied.
pub(super) fn lost() -> CallError {
    error(Certainty::Unknown, Reason::Unavailable)
}

pub(super) fn refused(reason: Reason) -> CallError {
    error(Certainty::Refused, reason)
}

pub(super) fn unsent() -> CallError {
    error(Certainty::NotSent, Reason::Unavailable)
}

/// Lets every task of a single-threaded test run until it waits.
pub(super) async fn rest() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub(super) const TTL: Duration = Duration::from_secs(15);
/// How long a renewal of a lease with [`TTL`] is believed.
pub(super) const BELIEVED: Duration = Duration::from_millis(15_000 - 150 - 750);

pub(super) fn spec(past_deadline: PastDeadline) -> SessionSpec {
    SessionSpec {
        purpose: "test",
        ttl: TTL,
        hold: None,
        renew_interval: None,
        past_deadline,
    }
}
