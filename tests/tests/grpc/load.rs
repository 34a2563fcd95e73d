//! [`Load`]: callers that call on and on, and what became of their calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use coord::grpc::Channel;
use coord_tests::{
    echo::{EchoClient, EchoRequest},
    eventually,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// As many as the issue of a restart has: enough that some call is always somewhere on its way.
pub(crate) const CALLERS: usize = 64;
/// What a call takes, so that there are calls in flight whenever something happens.
const DELAY_MS: u32 = 5;

/// Callers on one channel. Dropped, they end.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    callers: JoinSet<()>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Calls that were answered, by the server that did.
    pub(crate) answered: BTreeMap<String, u64>,
    pub(crate) failed: Vec<Failed>,
}

#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) status: Status,
}

impl Tally {
    pub(crate) fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    pub(crate) fn by(&self, server: &str) -> u64 {
        self.answered.get(server).copied().unwrap_or(0)
    }
}

impl Load {
    /// Unary calls, one after the other by each caller.
    pub(crate) fn start(channel: &Channel) -> Self {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), CancellationToken::new());
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let client = EchoClient::new(channel.clone());
            callers.spawn(call(client, tally.clone(), stop.clone()));
        }
        Self {
            tally,
            stop,
            callers,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until each of these servers has answered some calls from now on.
    pub(crate) async fn reaches(&self, servers: &[&str]) {
        let before = self.tally();
        eventually(&format!("calls go to {servers:?}"), async || {
            let now = self.tally();
            let reached = |server: &&&str| now.by(server) > before.by(server) + 3;
            let missing: Vec<_> = servers.iter().filter(|server| !reached(server)).collect();
            match missing.is_empty() {
                true => Ok(()),
                false => Err(format!("{missing:?}: {:?}", now.answered)),
            }
        })
        .await;
    }

    /// Waits until so many more calls have been answered.
    pub(crate) async fn goes_on(&self, calls: u64) {
        let before = self.tally().total();
        let on = async || self.tally().total() >= before + calls;
        eventually("calls are answered", on).await;
    }

    /// Every call that has begun is waited for.
    pub(crate) async fn end(mut self) -> Tally {
        self.stop.cancel();
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        self.tally()
    }
}

async fn call(mut client: EchoClient<Channel>, tally: Arc<Mutex<Tally>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let began = Instant::now();
        let request = EchoRequest {
            delay_ms: DELAY_MS,
            ..EchoRequest::default()
        };
        let answer = client.echo(request).await;
        let ended = Instant::now();
        let mut tally = tally.lock().unwrap();
        match answer {
            Ok(reply) => {
                let server = reply.into_inner().server;
                *tally.answered.entry(server).or_default() += 1;
            }
            Err(status) => tally.failed.push(Failed {
                began,
                ended,
                status,
            }),
        }
    }
}
