//! [`LockSession`]: the lease that this coordinator's locks live with, and its incarnation.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Fuse, Shared, join_all},
};

use super::{audit, batch::Batcher, hold::Hold};
use crate::{
    client::{Certainty, Reason, Span, Txn},
    engine::Engine,
    error::{Context, Error, LostReason, Result},
    key::{Key, Prefix},
    retry::Backoff,
    session::{LeasedKey, Nonce, Nonces, PastDeadline, Session, SessionSpec},
    watch::{Cause, Phase},
};

/// How long a close waits at most for bodies to stop.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// One lock session: one lease with its session key.
///
/// The session key's `mod_revision` is the session's *incarnation*. Every acquire compares it; so
/// putting the session key anew makes every acquire that was sent before, and whose answer never
/// came, fail for good. Held by every guard and every attempt; its key is undone with the last one.
#[derive(Debug)]
pub(super) struct LockSession {
    session: Session,
    key: Key,
    incarnation: AtomicI64,
    /// The revision of the newest entry that is known to have been put with this lease.
    newest: AtomicI64,
    /// Which cluster this is: two coordinators on one cluster mean the same locks.
    cluster: u64,
    engine: Engine,
    batcher: Batcher,
    nonces: Nonces,
    /// What is held by it, for the audit.
    holds: Mutex<Vec<Weak<Hold>>>,
    /// What is granted from now on is lost at once.
    closing: AtomicBool,
    /// Those with other TTLs.
    siblings: Weak<Current>,
    _session_key: LeasedKey,
}

impl LockSession {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The session of this coordinator whose lease has the TTL `ttl`.
    pub(super) async fn sibling(&self, ttl: Duration) -> Result<Arc<Self>> {
        let closed = || Error::closed("open lock session");
        let current = self.siblings.upgrade().ok_or_else(closed)?;
        let engine = self.engine.clone();
        Sessions { engine, current }.get(Some(ttl)).await
    }

    /// The session key.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the acquires of this session go through.
    pub(super) fn batcher(&self) -> &Batcher {
        &self.batcher
    }

    pub(super) fn cluster(&self) -> u64 {
        self.cluster
    }

    pub(super) fn incarnation(&self) -> i64 {
        self.incarnation.load(Ordering::SeqCst)
    }

    /// The session key was seen with this `mod_revision`. It only grows, whoever tells first.
    pub(super) fn adopt(&self, mod_revision: i64) {
        self.incarnation.fetch_max(mod_revision, Ordering::SeqCst);
    }

    /// Whatever is put from now on is put later than this.
    pub(super) fn newest(&self) -> i64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// An entry was put at `revision`.
    pub(super) fn put_at(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::SeqCst);
    }

    /// `hold` stands with this session's lease.
    pub(super) fn remember(&self, hold: &Arc<Hold>) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.len() == holds.capacity() {
            holds.retain(|hold| hold.strong_count() > 0);
            // Or the next one would look through all of them again.
            let room = holds.len() + 8;
            holds.reserve(room);
        }
        holds.push(Arc::downgrade(hold));
        // Under the lock: else `close` has seen it there.
        if self.closing.load(Ordering::SeqCst) {
            let _ = hold.close().now_or_never();
        }
    }

    /// Everything that is held is lost. Done when all of it is given back, or has had the time to be:
    /// then the lease may be revoked. At once would let the next holder in beside a body that is in the
    /// middle of a step.
    async fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let holds = self.holds();
        let given_back = join_all(holds.iter().map(|hold| hold.close()));
        let limit = self.session.margin().min(CLOSE_LIMIT);
        // Either will do.
        let _ = self.engine.clock.timeout(limit, given_back).await;
    }

    /// What is held.
    pub(super) fn holds(&self) -> Vec<Arc<Hold>> {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.iter().filter_map(Weak::upgrade).collect()
    }

    /// A number in each queue that no other attempt of this session has there.
    pub(super) fn nonce(&self, queues: &[Prefix]) -> Nonce {
        self.nonces.take(queues)
    }
}

type Opening = Shared<BoxFuture<'static, Result<Arc<LockSession>>>>;

/// The current lock session of each TTL in use; a new one after it was lost. Many callers at once
/// share one opening.
#[derive(Debug)]
pub(super) struct Sessions {
    engine: Engine,
    current: Arc<Current>,
}

type Current = Mutex<HashMap<Duration, Opening>>;

impl Sessions {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            current: Arc::default(),
        }
    }

    /// The session whose lease has the TTL `ttl`; else the options'.
    ///
    /// # Cancel safety
    /// Safe: the opening goes on in the background, for the next caller.
    pub(super) async fn get(&self, ttl: Option<Duration>) -> Result<Arc<LockSession>> {
        let ttl = ttl.unwrap_or(self.engine.options.lock.ttl);
        let opening = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            match current.get(&ttl).map(|opening| (opening, opening.peek())) {
                Some((_, Some(Ok(open)))) if open.session.is_live() => return Ok(open.clone()),
                Some((opening, None)) => opening.clone(),
                _ => {
                    let opening = self.start(ttl);
                    current.insert(ttl, opening.clone());
                    opening
                }
            }
        };
        opening.await
    }

    /// Whether `session` is one of these.
    pub(super) fn opened(&self, session: &LockSession) -> bool {
        session.siblings.as_ptr() == Arc::as_ptr(&self.current)
    }

    /// See [`LockSession::close`]: all of them. What is being opened must have ended.
    pub(super) async fn close(&self) {
        let open: Vec<_> = {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let opened = current.values().filter_map(Shared::peek);
            opened.filter_map(|open| open.clone().ok()).collect()
        };
        join_all(open.iter().map(|session| session.close())).await;
    }

    fn start(&self, ttl: Duration) -> Opening {
        let siblings = Arc::downgrade(&self.current);
        let opening = open(self.engine.clone(), ttl, siblings);
        let task = self.engine.tasks.spawn(opening);
        async {
            task.await
                .unwrap_or_else(|| Err(Error::closed("acquire lock")))
        }
        .boxed()
        .shared()
    }
}

async fn open(engine: Engine, ttl: Duration, siblings: Weak<Current>) -> Result<Arc<LockSession>> {
    let session = engine
        .keeper
        .open(SessionSpec {
            purpose: "lock",
            ttl,
            hold: None,
            renew_interval: engine.options.lock.renew_interval,
            // Resuming it would bring the entries of lost attempts back to life.
            past_deadline: PastDeadline::Dead,
        })
        .await?;
    let key = engine.layout.lock_session(session.lease());
    let mut session_key = LeasedKey::prepare(
        &session,
        vec![key.clone()],
        None,
        None,
        engine.keeper.undo(),
    );
    let mut backoff = Backoff::endless(Duration::from_millis(50), Duration::from_secs(1));
    let header = loop {
        let put = Txn {
            then: session_key.puts(b"").collect(),
            ..Txn::default()
        };
        session_key.sent();
        let error = match engine.calls.txn(put).await {
            Ok(reply) => {
                session_key.applied();
                break reply.header;
            }
            Err(error) => error,
        };
        match error.certainty {
            Certainty::Unknown => session_key.unknown(),
            Certainty::NotSent | Certainty::Refused => session_key.refused(),
        }
        match error.reason {
            Reason::BadToken if engine.calls.refresh_token().await.is_ok() => continue,
            Reason::LeaseNotFound => session.mark_lost(LostReason::Revoked),
            Reason::Denied | Reason::Invalid | Reason::NoSpace => {
                session.mark_lost(LostReason::Revoked);
                return Err(error.into_error(Context::new("open lock session")));
            }
            _ => engine.clock.sleep(backoff.next_delay()).await,
        }
        if !session.is_live() {
            return Err(error.into_error(Context::new("open lock session")));
        }
    };
    let open = Arc::new(LockSession {
        key,
        // A late copy of the put may raise it: then the next acquire learns that from its answer.
        incarnation: AtomicI64::new(header.revision),
        newest: AtomicI64::new(header.revision),
        cluster: header.cluster_id,
        engine: engine.clone(),
        batcher: Batcher::new(engine.clone()),
        nonces: Nonces::default(),
        holds: Mutex::default(),
        closing: AtomicBool::new(false),
        siblings,
        _session_key: session_key,
        session,
    });
    engine.tasks.spawn(follow(
        engine.clone(),
        Arc::downgrade(&open),
        open.session.clone(),
        open.key.clone(),
    ));
    Ok(open)
}

/// Watches the session key: its deletion means that the lease was revoked or ran out, whatever the
/// heartbeat says. When the watch had to be opened again, or could not be at first, the store may have
/// been put back to an older state meanwhile, and the session is audited. Once in a while there is a
/// safety read of what is held.
async fn follow(engine: Engine, open: Weak<LockSession>, session: Session, key: Key) {
    let mut watcher = engine.watcher(key.as_str(), Span::key(&key));
    let mut status = watcher.status();
    let (mut reconnects, mut troubled) = (0, false);
    let mut auditing = pin!(Fuse::terminated());
    let mut looking = pin!(Fuse::terminated());
    // As often as a waiter that learns nothing reads.
    let period = engine.options.lock.ttl;
    let mut tick = engine.clock.sleep(period);
    let mut lost = pin!(session.lost());
    loop {
        tokio::select! {
            _ = &mut lost => return,
            update = watcher.next() => match watcher.map().get(key.as_bytes()) {
                Some(kv) if update.cause != Cause::Regressed => {
                    if let Some(open) = open.upgrade() {
                        open.adopt(kv.mod_revision);
                    }
                }
                _ => {
                    session.mark_lost(LostReason::Revoked);
                    return;
                }
            },
            // Never an error: the watcher lives.
            _ = status.changed() => {
                let status = status.borrow_and_update();
                // Also before the first time that it was open: the session's key was put earlier.
                troubled |= status.trouble.is_some();
                if status.phase == Phase::Watching && (troubled || status.reconnects > reconnects) {
                    (reconnects, troubled) = (status.reconnects, false);
                    auditing.set(audit::run(engine.clone(), open.clone(), session.clone()).fuse());
                }
            }
            () = &mut auditing => {}
            () = &mut looking => {}
            () = &mut tick => {
                tick = engine.clock.sleep(period);
                looking.set(audit::look(engine.clone(), open.clone(), session.clone()).fuse());
            }
        }
    }
}
