//! [`Held::set_ttl`]: a held lock moves to the lease of another TTL.
//!
//! The entry is put anew under the other lease, as it is, in a transaction that compares the entry's
//! `mod_revision`. So at most one copy of it is ever carried out, none after its fate is known, and none
//! once the entry is gone; its create revision, which is the token, stays.
//!
//! | the read finds | it means |
//! |---|---|
//! | no entry, or another create revision | lost |
//! | the entry under the other lease | moved: from now on that one alone counts |
//! | the entry under the one that it had | not moved yet: send it |
//!
//! # Invariants
//! 1. From before the first copy is sent until its fate is known, both leases count: the lock is lost
//!    with either.
//! 2. A lock that is lost meanwhile is deleted: the entry may stand with the lease that lives. It stays
//!    lost, also if the other lease was the one that has died.

use std::{sync::Arc, time::Duration};

use super::{
    held::Held,
    hold::{Hold, Queued},
    session::LockSession,
};
use crate::{
    client::{CallError, Certainty, Compare, CompareOp, KeyValue, Op, Range, Reason, Span, Txn},
    error::{Context, Error, LostReason, Result},
    key::Key,
    options,
    retry::Backoff,
};

const OPERATION: &str = "set the TTL of lock";

impl Held {
    /// Holds the lock with a lease of another TTL from now on: how long it stays taken after a crash, in
    /// whole seconds. The place, the holder and the token stay. Returns once etcd has confirmed it.
    ///
    /// While etcd has not said whether it is done, the lock is held for no longer than the shorter of
    /// both leases allows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an impossible TTL; [`Error::Unavailable`] and what else keeps a lease from
    /// being had: then the lock is held as before; [`Error::Lost`].
    ///
    /// # Cancel safety
    /// Safe to drop: from the first poll on it goes on in the background.
    pub async fn set_ttl(&self, ttl: Duration) -> Result<()> {
        if let Some(fault) = options::ttl_fault("ttl", ttl) {
            return Err(Error::Invalid {
                context: Context::new(OPERATION).key(self.key()),
                faults: vec![fault],
            });
        }
        let hold = self.hold();
        hold.check()?;
        let Some(queued) = hold.queued() else {
            return Ok(());
        };
        let tasks = &queued.session.engine().tasks;
        let moved = tasks.spawn(set_ttl(hold.clone(), ttl)).await;
        moved.unwrap_or_else(|| Err(Error::closed(OPERATION)))
    }
}

async fn set_ttl(hold: Arc<Hold>, ttl: Duration) -> Result<()> {
    let Some(queued) = hold.queued() else {
        return Ok(());
    };
    let _one_at_a_time = queued.moving.lock().await;
    let to = queued.session.sibling(ttl).await?;
    if hold.stands_with(to.session()) {
        return Ok(());
    }
    let mut moving = Move {
        hold: &hold,
        queued,
        to: &to,
        begun: false,
        doubtful: false,
    };
    moving.run().await
}

struct Move<'h> {
    hold: &'h Arc<Hold>,
    queued: &'h Queued,
    to: &'h Arc<LockSession>,
    /// Both leases count.
    begun: bool,
    /// A copy may be carried out, or may have been.
    doubtful: bool,
}

/// What was found.
enum Found {
    There,
    /// Still with the lease that it had.
    Here(Vec<KeyValue>),
    Gone,
    /// It was downgraded.
    Changed,
}

impl Move<'_> {
    async fn run(&mut self) -> Result<()> {
        let engine = self.queued.session.engine();
        let mut backoff = Backoff::endless(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            self.still_held()?;
            let error = match self.look().await {
                Ok(Found::There) => return self.moved(),
                Ok(Found::Gone) => {
                    self.hold.lose(LostReason::Revoked);
                    continue;
                }
                Ok(Found::Changed) => continue,
                Ok(Found::Here(entries)) => match self.send(&entries).await {
                    Ok(true) => return self.moved(),
                    Ok(false) => continue,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error.reason == Reason::LeaseNotFound {
                // The comparison held, so no copy was carried out; and from now on none can be.
                self.hold.stay();
                self.to.session().mark_lost(LostReason::Revoked);
                self.still_held()?;
                return Err(Error::Unavailable {
                    context: Context::new(OPERATION).key(self.hold.identity().name()),
                    maybe_applied: false,
                    detail: "the lease of that TTL was lost".into(),
                });
            }
            let passing = matches!(
                error.reason,
                Reason::Unavailable | Reason::Timeout | Reason::BadToken | Reason::Other
            );
            if !passing && !self.doubtful {
                // No copy was or will be carried out: it stands where it stood.
                self.hold.stay();
                self.still_held()?;
                return Err(
                    error.into_error(Context::new(OPERATION).key(self.hold.identity().name()))
                );
            }
            engine.clock.sleep(backoff.next_delay()).await;
        }
    }

    fn moved(&self) -> Result<()> {
        self.hold.settle(self.to);
        self.still_held()
    }

    /// Else it is deleted, whichever lease it stands with: somebody may have been told that it is lost
    /// while both counted, and it does not become held again.
    fn still_held(&self) -> Result<()> {
        let held = self.hold.check();
        if held.is_err() && self.begun {
            self.hold.give_back();
        }
        held
    }

    /// All that is to be moved, in an order that stays.
    fn keys(&self) -> Vec<Key> {
        let mut keys = self.queued.entries().to_vec();
        for reader in self.queued.readers() {
            if !keys.contains(reader) {
                keys.push(reader.clone());
            }
        }
        keys
    }

    /// One read for each: should they differ in their revisions, the comparison fails.
    async fn look(&self) -> Result<Found, CallError> {
        let engine = self.queued.session.engine();
        let keys = self.keys();
        let mut entries = Vec::new();
        for key in &keys {
            let reply = engine.read(Range::new(Span::key(key))).await?;
            let mut found = reply.kvs.into_iter();
            match found.find(|kv| kv.create_revision == self.hold.revision()) {
                Some(entry) => entries.push(entry),
                None if keys != self.keys() => return Ok(Found::Changed),
                None => return Ok(Found::Gone),
            }
        }
        let there = |kv: &KeyValue| kv.lease == self.to.session().lease();
        Ok(match entries.iter().all(there) {
            true => Found::There,
            false => Found::Here(entries),
        })
    }

    /// True: moved.
    async fn send(&mut self, entries: &[KeyValue]) -> Result<bool, CallError> {
        if !self.begun {
            self.hold.begin_move(self.to);
            self.begun = true;
            // Asked after: whoever gives it back asks the other way round, and one of the two sees it.
            if self.hold.is_given_back() {
                return Ok(false);
            }
        }
        let (mut when, mut then) = (Vec::new(), Vec::new());
        for entry in entries {
            let span = Span::Key(entry.key.clone());
            when.push(Compare::mod_revision(
                span,
                CompareOp::Equal,
                entry.mod_revision,
            ));
            then.push(Op::Put {
                key: entry.key.clone(),
                value: entry.value.clone(),
                lease: self.to.session().lease(),
            });
        }
        let txn = Txn {
            when,
            then,
            ..Txn::default()
        };
        let answer = self.queued.session.engine().calls.txn(txn).await;
        match answer {
            Ok(reply) => Ok(reply.succeeded),
            Err(error) => {
                self.doubtful |= error.certainty == Certainty::Unknown;
                Err(error)
            }
        }
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;
    use crate::embedded::Server;

    /// Whoever was told that it is lost must not see it held again, whichever of both leases it was.
    #[tokio::test]
    async fn what_was_lost_in_doubt_stays_lost() {
        let server = Server::start().await.unwrap();
        let coordinator = server.coordinator().await.unwrap();
        for (ttl, target_dies, stays) in [
            (100, true, true),
            (101, true, false),
            (102, false, true),
            (103, false, false),
        ] {
            let lock = coordinator.lock("jobs").ttl(Duration::from_secs(ttl));
            let guard = lock.acquire().await.unwrap();
            let hold = guard.hold();
            let from = &hold.queued().expect("it is no double").session;
            let to = from.sibling(Duration::from_secs(ttl + 100)).await.unwrap();
            hold.begin_move(&to);
            assert!(guard.is_held());
            let waiting = tokio::spawn(guard.lost());
            tokio::task::yield_now().await;
            let dead = if target_dies { &to } else { from };
            dead.session().mark_lost(LostReason::Revoked);
            assert!(!guard.is_held());
            match stays {
                true => hold.stay(),
                false => hold.settle(&to),
            }
            assert!(!guard.is_held(), "held again");
            assert_eq!(guard.remaining(), Duration::ZERO);
            assert_eq!(waiting.await.unwrap(), LostReason::Revoked);
            assert_eq!(guard.lost().await, LostReason::Revoked);
        }
    }
}
