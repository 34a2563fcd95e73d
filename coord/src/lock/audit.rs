//! Whether etcd and this process still agree on what a lock session holds.
//!
//! A store that is restored from a backup goes back to an older state, under leases that live on. Then
//! entries are there again that were given back since, and nobody would ever remove them; others are
//! gone although their locks are held. No revision tells of it for certain: other clients' writes may
//! have passed those that were seen before. So after every reconnect the lease's keys are compared
//! with what is known here.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{hold::Hold, session::LockSession};
use crate::{
    client::{CallError, Op, OpReply, Range, Reason, Span, Txn},
    engine::Engine,
    error::{Error, LostReason},
    retry::Backoff,
    session::Session,
};

/// How many keys are read in one transaction. etcd takes 128.
const CHUNK: usize = 100;

/// Goes on until etcd has answered. The session is lost if its lease is gone, or has a key that nobody
/// here answers for; a lock is lost if its entry is gone.
pub(super) async fn run(engine: Engine, open: Weak<LockSession>, session: Session) {
    let mut backoff = Backoff::endless(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match has_strays(&engine, &session).await {
            Ok(false) => break,
            Ok(true) => {
                tracing::warn!(
                    target: "coord::lock",
                    lease = format_args!("{:016x}", session.lease()),
                    "etcd has entries again that were given back: it was put back to an older state"
                );
                return session.mark_lost(LostReason::Revoked);
            }
            Err(error) if error.reason == Reason::Closed => return,
            Err(error) => {
                if error.reason == Reason::BadToken {
                    // If this fails, the next try says so.
                    let _ = engine.calls.refresh_token().await;
                }
                engine.clock.sleep(backoff.next_delay()).await;
            }
        }
    }
    for hold in holds(&open) {
        while let Err(Error::Unavailable { .. } | Error::Timeout { .. }) = hold.verify().await {
            engine.clock.sleep(backoff.next_delay()).await;
        }
    }
}

/// The safety read: whether the entries of what is held are there. Of a queue that is not watched, as it was
/// not contended when the lock was granted, nothing else tells that somebody has deleted one by hand. One
/// call for all of them, and a read for each that is missing. A failure waits for the next time.
pub(super) async fn look(engine: Engine, open: Weak<LockSession>, session: Session) {
    // Before the list is made, so that it has their entries.
    let holds = holds(&open);
    if holds.is_empty() {
        return;
    }
    let Ok(Some(keys)) = engine.calls.lease_keys(session.lease()).await else {
        return;
    };
    let keys: HashSet<Vec<u8>> = keys.into_iter().collect();
    for hold in holds {
        let Some(queued) = hold.queued() else {
            continue;
        };
        let entries = queued.entries();
        if !entries.iter().all(|key| keys.contains(key.as_bytes())) {
            // It may have been given back, or have moved to another lease. What is lost is told by that.
            let _ = hold.verify().await;
        }
    }
}

fn holds(open: &Weak<LockSession>) -> Vec<Arc<Hold>> {
    open.upgrade().map(|open| open.holds()).unwrap_or_default()
}

async fn has_strays(engine: &Engine, session: &Session) -> Result<bool, CallError> {
    // What a lease has a member tells from its memory; one that has just started may not have put all of
    // its log there yet. It answers a linearizable read only when it has.
    let own = engine.layout.lock_session(session.lease());
    engine.calls.range(Range::new(Span::key(&own))).await?;
    let Some(keys) = engine.calls.lease_keys(session.lease()).await? else {
        session.mark_lost(LostReason::Revoked);
        return Ok(false);
    };
    let undo = engine.keeper.undo();
    let strays: Vec<_> = keys
        .into_iter()
        .filter(|key| !undo.answers_for(key))
        .collect();
    for keys in strays.chunks(CHUNK) {
        let before = standing(engine, session, keys).await?;
        // Names are used again: this one may have been given back, and taken by the next, since it was
        // listed. But an entry that stands before and after this look, made at one revision, stood all
        // the time; and whoever put it answers for it from before its put until after its delete.
        let unknown: Vec<_> = before
            .into_iter()
            .filter(|(key, _)| !undo.answers_for(key))
            .collect();
        if unknown.is_empty() {
            continue;
        }
        let after = standing(engine, session, keys).await?;
        if unknown.iter().any(|entry| after.contains(entry)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which of the keys stand with the session's lease now, and the revisions at which they were made.
async fn standing(
    engine: &Engine,
    session: &Session,
    keys: &[Vec<u8>],
) -> Result<Vec<(Vec<u8>, i64)>, CallError> {
    let reads = keys.iter().map(|key| {
        Op::Get(Range {
            keys_only: true,
            ..Range::new(Span::Key(key.clone()))
        })
    });
    let read = Txn {
        then: reads.collect(),
        ..Txn::default()
    };
    let replies = engine.calls.txn(read).await?.replies.into_iter();
    let found = replies.flat_map(|reply| match reply {
        OpReply::Get(range) => range.kvs,
        OpReply::Put | OpReply::Delete(_) | OpReply::Txn(_) => Vec::new(),
    });
    let own = found.filter(|kv| kv.lease == session.lease());
    Ok(own.map(|kv| (kv.key, kv.create_revision)).collect())
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;
    use crate::{embedded::Server, key::Key, lock::LockGuard};

    fn session(guard: &LockGuard) -> (Engine, Session) {
        let queued = guard.hold().queued().expect("it is no double");
        (
            queued.session.engine().clone(),
            queued.session.session().clone(),
        )
    }

    #[tokio::test]
    async fn a_key_of_the_session_that_nobody_answers_for_is_a_stray() {
        let server = Server::start().await.unwrap();
        let coordinator = server.coordinator().await.unwrap();
        let guard = coordinator.lock("jobs").acquire().await.unwrap();
        let (engine, session) = session(&guard);
        assert!(!has_strays(&engine, &session).await.unwrap());
        let stray = Key::found(b"coord/lock/jobs!/x0000.77");
        let put = |lease| Txn {
            then: vec![Op::Put {
                key: stray.as_bytes().to_vec(),
                value: Vec::new(),
                lease,
            }],
            ..Txn::default()
        };
        engine.calls.txn(put(session.lease())).await.unwrap();
        assert!(has_strays(&engine, &session).await.unwrap());
        // One of another's is not ours to judge.
        engine.calls.txn(put(0)).await.unwrap();
        assert!(!has_strays(&engine, &session).await.unwrap());
    }

    /// Between the list and the looks a name is given back, and taken by the next.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_that_is_used_again_is_no_stray() {
        let server = Server::start().await.unwrap();
        let coordinator = server.coordinator().await.unwrap();
        let (engine, session) = session(&coordinator.lock("kept").acquire().await.unwrap());
        let busy: Vec<_> = (0..8)
            .map(|name| {
                let coordinator = coordinator.clone();
                tokio::spawn(async move {
                    loop {
                        let lock = coordinator.lock(format!("busy/{name}"));
                        drop(lock.acquire().await.unwrap());
                    }
                })
            })
            .collect();
        for _ in 0..300 {
            assert!(!has_strays(&engine, &session).await.unwrap());
        }
        assert!(session.is_live());
        busy.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
