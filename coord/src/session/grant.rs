//! Granting a lease: the same id until its fate is known, then never again.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Session, SessionSpec, keeper::Shared, server::transient, terms::Terms};
use crate::{
    client::{CallError, Certainty, Reason},
    clock::Instant,
    error::{Context, Error, Result},
    retry::Backoff,
};

/// After this time a failed grant is the last one.
const KEEP_TRYING: Duration = Duration::from_secs(5);

/// A session that has no user yet: dropped, it is ended.
#[derive(Debug)]
pub(super) struct Unclaimed {
    session: Option<Session>,
    shared: Arc<Shared>,
}

impl Unclaimed {
    pub(super) fn claim(mut self) -> Session {
        // `claim` takes `self`, so it is the first to take the session.
        self.session
            .take()
            .expect("an unclaimed session is there until it is claimed")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(self.shared.end(&session));
        }
    }
}

/// One id, and what is known of it. The drop revokes what may be there.
struct Candidate<'a> {
    id: i64,
    /// When the first grant of it was sent: etcd's countdown may have started then, whichever copy
    /// is answered.
    sent: Instant,
    /// A copy's answer is missing: the lease may be there.
    maybe: bool,
    ttl: Duration,
    shared: &'a Shared,
}

impl<'a> Candidate<'a> {
    fn new(shared: &'a Shared, ttl: Duration) -> Self {
        Self {
            // 63 random bits: nobody else's, and none of ours again. An id that was revoked could be
            // granted anew, and late transactions that carry it would come to life.
            id: rand::random_range(1..=i64::MAX),
            sent: shared.clock.now(),
            maybe: false,
            ttl,
            shared,
        }
    }

    /// The TTL that was granted.
    async fn grant(&mut self) -> Result<Duration, CallError> {
        let (id, calls) = (self.id, &self.shared.calls);
        let before = std::mem::replace(&mut self.maybe, true);
        let granted = calls.grant(id, self.ttl).await;
        let error = match granted {
            Ok(ttl) => return Ok(ttl),
            Err(error) => error,
        };
        if error.reason == Reason::LeaseExists && before {
            // An earlier copy made it.
            if let Some(ttl) = calls.granted(id).await? {
                return Ok(ttl);
            }
        }
        // A refusal settles its own copy, not those before it.
        self.maybe = before || error.certainty == Certainty::Unknown;
        Err(error)
    }
}

impl Drop for Candidate<'_> {
    fn drop(&mut self) {
        if self.maybe {
            drop(self.shared.revoke(self.id, self.ttl, Duration::ZERO));
        }
    }
}

/// Grants a lease and has it renewed. Ends early when the caller has gone.
pub(super) async fn grant(
    shared: &Arc<Shared>,
    spec: &SessionSpec,
    caller: &mut oneshot::Sender<Result<Unclaimed>>,
) -> Result<Unclaimed> {
    let clock = &shared.clock;
    let last = clock.now() + KEEP_TRYING;
    let asked = Terms::new(spec, spec.ttl);
    let mut backoff = Backoff::endless(Duration::from_millis(50), Duration::from_secs(1));
    let mut candidate = Candidate::new(shared, spec.ttl);
    loop {
        let error = match candidate.grant().await {
            Ok(ttl) => {
                let Some(session) = shared.adopt(spec, candidate.id, ttl, candidate.sent) else {
                    return Err(Error::closed("open session"));
                };
                candidate.maybe = false;
                let live = session.is_live();
                let unclaimed = Unclaimed {
                    session: Some(session),
                    shared: shared.clone(),
                };
                if live {
                    return Ok(unclaimed);
                }
                // Granted so late that its time is over before it began.
                None
            }
            Err(error) => Some(error),
        };
        let give_up = clock.now() >= last || caller.is_closed();
        match error {
            Some(error) if error.reason == Reason::LeaseExists && !give_up => {
                // Somebody else's id, or one of ours that is gone again.
                candidate = Candidate::new(shared, spec.ttl);
            }
            Some(error) if give_up || !transient(&error) => {
                return Err(error.into_error(Context::new("open session")));
            }
            Some(error) if error.reason == Reason::BadToken => {
                // If this fails, the next try says so.
                let _ = shared.calls.refresh_token().await;
            }
            None if give_up => {
                return Err(Error::Timeout {
                    context: Context::new("open session"),
                    limit: KEEP_TRYING,
                    maybe_applied: false,
                    holder: None,
                    position: None,
                });
            }
            Some(_) => {}
            None => candidate = Candidate::new(shared, spec.ttl),
        }
        tokio::select! {
            () = clock.sleep(backoff.next_delay()) => {}
            () = caller.closed() => return Err(Error::closed("open session")),
        }
        if clock.now().since(candidate.sent) >= asked.base / 3 {
            // Too much of its time has gone by.
            candidate = Candidate::new(shared, spec.ttl);
        }
    }
}
