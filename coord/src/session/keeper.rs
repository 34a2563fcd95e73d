//! [`Keeper`]: the one heartbeat: opens sessions, renews them all, ends them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::{Notify, oneshot};

use super::{
    Gate, PastDeadline, Session, SessionSpec, SessionState, UndoQueue,
    grant::{self, Unclaimed},
    heart::Heart,
    heartbeat,
    server::{Server, transient},
};
use crate::{
    client::{CallError, Client, Reason},
    clock::{Clock, Instant},
    error::{Context, Error, LostReason, Result},
    retry::Backoff,
    tasks::{Task, Tasks},
};

/// Opens sessions and renews them all over one stream. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    undo: UndoQueue,
}

/// One session in the health report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionHealth {
    pub(crate) purpose: &'static str,
    pub(crate) lease: i64,
    pub(crate) state: SessionState,
    pub(crate) remaining: Duration,
}

/// What the Keeper and its tasks share.
pub(super) struct Shared {
    pub(super) calls: Arc<dyn Server>,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    /// Locked for single steps only; nothing foreign runs under it.
    heart: Mutex<Heart>,
    /// Wakes the heartbeat's task after a change of `heart` or of a session.
    pub(super) poke: Arc<Notify>,
}

impl Keeper {
    /// `heartbeat` is a connection that nothing else uses, and `heartbeat_tasks` live on its thread;
    /// grants, revokes and the undo queue go over `calls`, on `tasks`.
    pub(crate) fn start(
        calls: Client,
        heartbeat: Client,
        clock: Clock,
        tasks: Tasks,
        heartbeat_tasks: Tasks,
    ) -> Self {
        Self::over(
            Arc::new(calls),
            Arc::new(heartbeat),
            clock,
            tasks,
            heartbeat_tasks,
        )
    }

    pub(super) fn over(
        calls: Arc<dyn Server>,
        heartbeat: Arc<dyn Server>,
        clock: Clock,
        tasks: Tasks,
        heartbeat_tasks: Tasks,
    ) -> Self {
        let undo = UndoQueue::start(calls.clone(), clock.clone(), &tasks);
        let shared = Arc::new(Shared {
            calls,
            heart: Mutex::new(Heart::new(clock.now())),
            clock,
            tasks,
            poke: Arc::default(),
        });
        drop(heartbeat_tasks.spawn(heartbeat::run(
            shared.clone(),
            heartbeat,
            heartbeat_tasks.clone(),
        )));
        Self { shared, undo }
    }

    /// Grants a lease under a fresh random id and starts to renew it. Keeps trying for about five
    /// seconds while etcd does not answer.
    ///
    /// # Cancel safety
    /// Safe: a lease whose grant was under way is revoked in the background.
    pub(crate) async fn open(&self, spec: SessionSpec) -> Result<Session> {
        if self.shared.heart().is_closed() {
            return Err(Error::closed("open session"));
        }
        let (caller, opened) = oneshot::channel::<Result<Unclaimed>>();
        let shared = self.shared.clone();
        // In a task, which outlives a caller that is dropped, because a grant whose answer nobody
        // waits for still makes a lease.
        drop(self.shared.tasks.spawn(async move {
            let mut caller = caller;
            let opened = grant::grant(&shared, &spec, &mut caller).await;
            // A session that cannot be handed over is dropped here, and so revoked.
            let _ = caller.send(opened);
        }));
        match opened.await {
            Ok(opened) => Ok(opened?.claim()),
            // The task was cancelled.
            Err(_) => Err(Error::closed("open session")),
        }
    }

    /// From now on renews the lease only while `gate` is open.
    pub(crate) fn gate(&self, session: &Session, gate: Gate) {
        self.shared.heart().gate(session.lease(), gate);
    }

    /// Renews the lease now instead of when it is due. Done when etcd has confirmed it; never, if the
    /// session is lost before.
    ///
    /// # Cancel safety
    /// Safe: a keep-alive may be sent all the same.
    pub(crate) async fn renew(&self, session: &Session) {
        let asked = self.shared.clock.now();
        self.shared.heart().hurry(asked, session.lease());
        self.shared.poke.notify_one();
        session.confirmed_since(asked).await;
    }

    /// Ends renewals and the belief in the lease, and revokes it with all its keys. Best effort: it
    /// is tried for as long as the lease can live, and after an error the lease runs out by itself.
    ///
    /// # Cancel safety
    /// Safe: from the first poll on it goes on in the background.
    pub(crate) async fn end(&self, session: &Session) -> Result<()> {
        self.shared.end(session).await.unwrap_or_else(|| {
            let context = Context::new("end session");
            Err(Error::Closed { context })
        })
    }

    /// Ends renewals and leaves the lease to run out: after a panic or a forced exit.
    pub(crate) fn abandon(&self, session: &Session) {
        // In this order: a lost session that is still in there would be revoked.
        self.shared.heart().remove(session.lease());
        session.mark_lost(LostReason::Closed);
    }

    /// [Abandons](Self::abandon) every session with this policy.
    pub(crate) fn abandon_all(&self, policy: PastDeadline) {
        let sessions: Vec<Session> = self.shared.heart().sessions().cloned().collect();
        let with_policy = sessions.iter().filter(|s| s.past_deadline() == policy);
        with_policy.for_each(|session| self.abandon(session));
    }

    pub(crate) fn undo(&self) -> &UndoQueue {
        &self.undo
    }

    pub(crate) fn health(&self) -> Vec<SessionHealth> {
        let sessions: Vec<Session> = self.shared.heart().sessions().cloned().collect();
        sessions
            .iter()
            .map(|session| SessionHealth {
                purpose: session.purpose(),
                lease: session.lease(),
                state: session.state(),
                remaining: session.remaining(),
            })
            .collect()
    }

    /// Ends every session (revoking what has not been abandoned) and lets the undo queue run dry,
    /// within `limit`. Later `open`s are `Closed`, and what is left in the undo queue is dropped.
    ///
    /// # Cancel safety
    /// What was begun goes on; the undo queue stays open. Call it again.
    pub(crate) async fn close(&self, limit: Duration) {
        let sessions = self.shared.heart().close();
        for session in &sessions {
            session.mark_lost(LostReason::Closed);
        }
        self.shared.poke.notify_one();
        let revoked: Vec<_> = sessions
            .iter()
            .map(|session| {
                self.shared
                    .revoke(session.lease(), session.ttl(), Duration::ZERO)
            })
            .collect();
        let done = async {
            join_all(revoked).await;
            self.undo.drained().await;
        };
        if self.shared.clock.timeout(limit, done).await.is_err() {
            tracing::warn!(
                target: "coord::session",
                undone = self.undo.len(),
                "closed before etcd had confirmed everything; what is left goes with its lease"
            );
        }
        self.undo.close();
    }
}

impl Shared {
    pub(super) fn heart(&self) -> MutexGuard<'_, Heart> {
        self.heart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a lease that was granted with `ttl` and first asked for at `sent`, renewed from
    /// now on. `None`: closed.
    pub(super) fn adopt(
        &self,
        spec: &SessionSpec,
        lease: i64,
        ttl: Duration,
        sent: Instant,
    ) -> Option<Session> {
        let (clock, poke) = (self.clock.clone(), self.poke.clone());
        let session = Session::new(spec, lease, ttl, sent, clock, poke);
        let adopted = self.heart().adopt(sent, session.clone());
        self.poke.notify_one();
        adopted.then_some(session)
    }

    /// See [`Keeper::end`].
    pub(super) fn end(&self, session: &Session) -> Task<Result<()>> {
        // First the belief, then the revoke; and out of the heart first, or it would revoke too.
        self.heart().remove(session.lease());
        session.mark_lost(LostReason::Closed);
        self.revoke(session.lease(), session.ttl(), Duration::ZERO)
    }

    /// Revokes a lease in the background `after` this time, and then for as long as it can be there.
    pub(super) fn revoke(&self, lease: i64, ttl: Duration, after: Duration) -> Task<Result<()>> {
        let (calls, clock) = (self.calls.clone(), self.clock.clone());
        self.tasks.spawn(async move {
            if !after.is_zero() {
                clock.sleep(after).await;
            }
            revoke(&*calls, &clock, lease, ttl).await.map_err(|error| {
                tracing::debug!(
                    target: "coord::session",
                    lease = format_args!("{lease:016x}"), %error, "lease not revoked; it will run out"
                );
                error.into_error(Context::new("end session"))
            })
        })
    }
}

async fn revoke(
    calls: &dyn Server,
    clock: &Clock,
    lease: i64,
    ttl: Duration,
) -> Result<(), CallError> {
    // A leader change gives it its full TTL once more; after that it is surely over.
    let over = clock.now() + ttl * 2;
    let mut backoff = Backoff::endless(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let error = match calls.revoke(lease).await {
            Ok(()) => return Ok(()),
            Err(error) if error.reason == Reason::LeaseNotFound => return Ok(()),
            Err(error) => error,
        };
        if !transient(&error) || clock.now() >= over {
            return Err(error);
        }
        if error.reason == Reason::BadToken {
            // If this fails, the next try says so.
            let _ = calls.refresh_token().await;
        }
        clock.sleep(backoff.next_delay()).await;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
