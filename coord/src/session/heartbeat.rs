//! The task around [`Heart`]: it runs on the heartbeat's thread, over the heartbeat's connection.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::{
    heart::Action,
    keeper::Shared,
    server::{Server, Stream},
};
use crate::{
    client::{CallError, KeepAlive, Reason},
    clock::Instant,
    tasks::Tasks,
};

/// What a stream has to say, and which stream it is.
#[derive(Debug)]
struct Message {
    generation: u64,
    /// `None`: it ended.
    answer: Option<KeepAlive>,
}

/// The current stream's task; it ends when this is dropped.
#[derive(Debug)]
struct Line {
    leases: mpsc::UnboundedSender<i64>,
    _ends: DropGuard,
}

pub(super) async fn run(shared: Arc<Shared>, heartbeat: Arc<dyn Server>, tasks: Tasks) {
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let mut line = None;
    loop {
        let (actions, next, closed) = {
            let mut heart = shared.heart();
            let (actions, next) = heart.step(shared.clock.now());
            (actions, next, heart.is_closed())
        };
        for action in actions {
            match action {
                Action::Connect { generation } => {
                    line = Some(dial(&heartbeat, &tasks, generation, inbox.clone()));
                }
                Action::Disconnect => line = None,
                Action::LeaveEndpoint => heartbeat.leave_endpoint(),
                Action::Send { lease } => {
                    if let Some(line) = &line {
                        // If its task has ended, a message that says so is under way.
                        let _ = line.leases.send(lease);
                    }
                }
                Action::Revoke { session, after } => {
                    drop(shared.revoke(session.lease(), session.ttl(), after));
                }
                Action::Announce(session) => session.announce(),
            }
        }
        if closed {
            return;
        }
        tokio::select! {
            Some(first) = messages.recv() => {
                let mut heart = shared.heart();
                let mut message = Some(first);
                while let Some(Message { generation, answer }) = message {
                    let now = shared.clock.now();
                    match answer {
                        Some(answer) => heart.answered(now, generation, answer),
                        None => heart.broke(now, generation),
                    }
                    message = messages.try_recv().ok();
                }
            }
            () = shared.poke.notified() => {}
            () = until(&shared, next) => {}
        }
    }
}

async fn until(shared: &Shared, next: Option<Instant>) {
    match next {
        Some(next) => shared.clock.sleep_until(next).await,
        None => std::future::pending().await,
    }
}

fn dial(
    heartbeat: &Arc<dyn Server>,
    tasks: &Tasks,
    generation: u64,
    inbox: mpsc::UnboundedSender<Message>,
) -> Line {
    let (leases, outbox) = mpsc::unbounded_channel();
    let ended = tasks.cancelled().child_token();
    let (server, ends) = (heartbeat.clone(), ended.clone().drop_guard());
    // Nobody waits for its output: what it has to say goes through the inbox.
    drop(tasks.spawn(async move {
        let stream = stream(&*server, generation, outbox, &inbox);
        match ended.run_until_cancelled(stream).await {
            Some(Ok(())) => {
                tracing::debug!(target: "coord::session", "keep-alive stream ended");
                // A server that ends a stream without an error is about to go.
                server.leave_endpoint();
            }
            Some(Err(error)) => {
                tracing::debug!(target: "coord::session", %error, "keep-alive stream broke");
                if error.reason == Reason::BadToken {
                    // If this fails, the next stream will, and come here again.
                    let _ = server.refresh_token().await;
                }
            }
            None => {}
        }
        let _ = inbox.send(Message {
            generation,
            answer: None,
        });
    }));
    Line {
        leases,
        _ends: ends,
    }
}

/// Until the stream ends.
async fn stream(
    server: &dyn Server,
    generation: u64,
    mut outbox: mpsc::UnboundedReceiver<i64>,
    inbox: &mpsc::UnboundedSender<Message>,
) -> Result<(), CallError> {
    let mut stream: Box<dyn Stream> = server.keep_alives().await?;
    loop {
        tokio::select! {
            Some(lease) = outbox.recv() => stream.send(lease).await?,
            answer = stream.next() => match answer? {
                None => return Ok(()),
                answer => {
                    let _ = inbox.send(Message { generation, answer });
                }
            },
        }
    }
}
