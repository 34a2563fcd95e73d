//! One acquire, from the first transaction to the grant.
//!
//! # The transaction
//! If the entry does not exist and the session's incarnation is the expected one, list who is there
//! and put the entry; else read the entry and the session key. The list is made before the put, so it
//! holds exactly those ahead.
//!
//! # Unknown answers
//! The entry's key belongs to this attempt alone, so the same transaction is sent again until one
//! copy is answered; the other branch tells if an earlier one was applied. An attempt with a copy
//! that was never answered is undone by the fence, not by a plain delete: the `LeasedKey` knows.
//! It exists before the first copy is sent; so the future may be dropped at every await.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Shared, entry,
    gate::{self, Identity},
    guard::{Hold, LockGuard},
    hub::Peek,
    queue::{self, Step},
    session::LockSession,
};
use crate::{
    client::{
        CallError, Certainty, Compare, CompareOp, KeyValue, Op, OpReply, Order, Range, RangeReply,
        Reason, Span, Txn, TxnReply,
    },
    error::{Context, Error, Holder, LostReason, Result},
    key::Prefix,
    retry::Backoff,
    session::LeasedKey,
};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Acquire<'a> {
    pub(super) shared: &'a Shared,
    pub(super) name: &'a str,
    pub(super) queue: &'a Prefix,
    pub(super) service: Option<&'a str>,
    /// Join the queue; else only take a lock that nobody has.
    pub(super) waits: bool,
    /// Inside of a body that holds it: one guard more, instead of an error.
    pub(super) reentrant: bool,
}

/// What an acquire is at, for the error if its limit passes.
#[derive(Debug, Default)]
pub(super) struct Trace {
    place: Mutex<Option<Peek>>,
    trouble: Mutex<Option<Error>>,
}

impl Trace {
    pub(super) fn position(&self) -> Option<u32> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref()?.position()
    }

    /// The last failure, if nothing has worked since.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_trouble(&self, trouble: Option<Error>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// How one attempt ended without an error.
enum Ended {
    Granted(LockGuard),
    /// The session was lost or the entry deleted: queue again, with a new entry.
    Again,
}

impl Acquire<'_> {
    /// Until it is granted or can never be. The caller bounds it.
    ///
    /// # Cancel safety
    /// Safe at every await: the entry is removed in the background.
    pub(super) async fn run(&self, trace: &Trace) -> Result<LockGuard> {
        let mut backoff = Backoff::endless(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            match self.shared.sessions.get().await {
                Ok(session) => {
                    if let Ended::Granted(guard) = self.attempt(&session, trace).await? {
                        return Ok(guard);
                    }
                }
                Err(error) if self.waits && error.is_retryable() => trace.set_trouble(Some(error)),
                Err(error) => return Err(error),
            }
            self.shared.engine.clock.sleep(backoff.next_delay()).await;
        }
    }

    async fn attempt(&self, session: &Arc<LockSession>, trace: &Trace) -> Result<Ended> {
        let identity = Identity::new(session.cluster(), self.queue.clone(), self.name.to_owned());
        if let Some(outer) = identity.held_here() {
            return match self.reentrant {
                true => Ok(Ended::Granted(LockGuard::again(outer))),
                false => Err(gate::would_deadlock(self.name)),
            };
        }
        let engine = &self.shared.engine;
        let key = entry::key(self.queue, session.session().lease(), session.nonce());
        let value = self.shared.identity.value(self.service, &engine.clock);
        let mut entry = LeasedKey::prepare(
            session.session(),
            key.clone(),
            Some(session.key().clone()),
            engine.keeper.undo(),
        );
        let mut place = self.shared.hub.join(self.queue, key.as_bytes());
        let mut lost = pin!(session.session().lost());
        let mut backoff = Backoff::endless(Duration::from_millis(20), Duration::from_secs(1));

        let (revision, step) = loop {
            let expected = session.incarnation();
            let request = self.transaction(&entry, &value, session, expected);
            entry.sent();
            let answer = tokio::select! {
                biased;
                answer = engine.calls.txn(request) => answer,
                _ = &mut lost => {
                    entry.forget();
                    return Ok(Ended::Again);
                }
            };
            match answer.map(Answer::of) {
                Ok(Answer::Put { revision, ahead }) => {
                    entry.applied();
                    let alone = ahead.kvs.is_empty() && !ahead.more;
                    if place.is_none() && !alone {
                        place = Some(self.shared.hub.open(self.queue, key.as_bytes()));
                    }
                    let step = match &place {
                        Some(place) => place.put(revision, &ahead.kvs, ahead.more),
                        None => Step::Own,
                    };
                    break (revision, step);
                }
                Ok(Answer::There { revision }) => {
                    entry.applied();
                    if !self.waits {
                        // A try is put only into an empty queue, so it is the first one.
                        break (revision, Step::Own);
                    }
                    let place = place
                        .get_or_insert_with(|| self.shared.hub.open(self.queue, key.as_bytes()));
                    place.found(revision);
                    break (revision, Step::Wait);
                }
                Ok(Answer::NoSession) => {
                    session.session().mark_lost(LostReason::Revoked);
                    entry.forget();
                    return Ok(Ended::Again);
                }
                Ok(Answer::Busy { first }) => {
                    entry.refused();
                    return Err(Error::Busy {
                        context: self.context(),
                        holder: Some(Box::new(entry::holder(&first))),
                    });
                }
                Ok(Answer::Moved { incarnation }) if incarnation > expected => {
                    entry.refused();
                    session.adopt(incarnation);
                }
                Ok(Answer::Moved { .. }) => {
                    // Revisions never fall: the store was put back to an older state, and what it
                    // had promised to this session is void.
                    session.session().mark_lost(LostReason::Revoked);
                    entry.forget();
                    return Ok(Ended::Again);
                }
                Err(error) => {
                    match error.certainty {
                        Certainty::Unknown => entry.unknown(),
                        Certainty::NotSent | Certainty::Refused => entry.refused(),
                    }
                    self.failed(error, trace).await?;
                    // Here as well: while no endpoint can be reached every call fails at once, and
                    // the other wait never gets to look.
                    tokio::select! {
                        biased;
                        _ = &mut lost => {
                            entry.forget();
                            return Ok(Ended::Again);
                        }
                        () = engine.clock.sleep(backoff.next_delay()) => {}
                    }
                }
            }
        };
        trace.set_trouble(None);

        let step = match (step, &place) {
            (Step::Wait | Step::Read, Some(place)) => {
                *trace.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.peek());
                tokio::select! {
                    biased;
                    _ = &mut lost => {
                        entry.forget();
                        return Ok(Ended::Again);
                    }
                    step = place.decided() => step,
                }
            }
            (step, _) => {
                // It was the first one at once: nothing of its queue can concern it any more.
                place = None;
                step
            }
        };
        match step {
            Step::Own if session.session().is_live() => {}
            Step::Stuck(key) => return Err(self.stuck(&key)),
            _ => return Ok(Ended::Again),
        }
        let hold = Hold::new(identity, key, revision, session.clone());
        tracing::debug!(target: "coord::lock", lock = self.name, token = revision, "lock acquired");
        Ok(Ended::Granted(LockGuard::new(hold, place, entry)))
    }

    fn transaction(
        &self,
        entry: &LeasedKey,
        value: &[u8],
        session: &LockSession,
        incarnation: i64,
    ) -> Txn {
        let own = Span::key(entry.key());
        let own_session = Span::key(session.key());
        let mut txn = Txn {
            when: vec![
                Compare::create_revision(own.clone(), CompareOp::Equal, 0),
                Compare::mod_revision(own_session.clone(), CompareOp::Equal, incarnation),
            ],
            then: vec![entry.put(value.to_vec())],
            otherwise: vec![Op::Get(Range::new(own)), Op::Get(Range::new(own_session))],
        };
        if self.waits {
            txn.then.insert(0, Op::Get(queue::ahead_of_new(self.queue)));
        } else {
            let all = Span::prefix(self.queue);
            // True of no key at all, and of no key that exists.
            txn.when
                .push(Compare::create_revision(all, CompareOp::Equal, 0));
            txn.otherwise.push(Op::Get(front(self.queue)));
        }
        txn
    }

    /// What a failed call means for the acquire: an error for good, or try again.
    async fn failed(&self, error: CallError, trace: &Trace) -> Result<()> {
        let error = match error.reason {
            Reason::BadToken => match self.shared.engine.calls.refresh_token().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            _ => error,
        };
        match error.reason {
            // The session key's watch, or the next answer, says why.
            Reason::LeaseNotFound => Ok(()),
            Reason::Denied
            | Reason::Invalid
            | Reason::NoSpace
            | Reason::TooLarge
            | Reason::Closed => Err(error.into_error(self.context())),
            _ if !self.waits && error.certainty != Certainty::Unknown => {
                Err(error.into_error(self.context()))
            }
            _ => {
                trace.set_trouble(Some(error.into_error(self.context())));
                Ok(())
            }
        }
    }

    /// Who is first in the queue, for an error message.
    pub(super) async fn holder(&self) -> Result<Option<Holder>> {
        let engine = &self.shared.engine;
        let limit = engine.options.request_timeout.min(Duration::from_secs(1));
        match engine
            .clock
            .timeout(limit, engine.calls.range(front(self.queue)))
            .await
        {
            Ok(Ok(reply)) => Ok(reply.kvs.first().map(entry::holder)),
            Ok(Err(error)) => Err(error.into_error(self.context())),
            Err(_) => Ok(None),
        }
    }

    fn stuck(&self, key: &[u8]) -> Error {
        let key = String::from_utf8_lossy(key);
        Error::Invalid {
            context: self.context(),
            faults: vec![format!(
                "the queue entry `{key}` ahead has no lease, so nothing will ever remove it: \
                 no lock client leaves such a key; delete it by hand"
            )],
        }
    }

    pub(super) fn context(&self) -> Context {
        Context::new("acquire lock").key(self.name)
    }
}

/// The first entry of a queue: its holder's.
fn front(queue: &Prefix) -> Range {
    Range {
        limit: 1,
        order: Order::CreateAscending,
        ..Range::new(Span::prefix(queue))
    }
}

/// What the transaction says.
#[derive(Debug)]
enum Answer {
    /// The entry is there now; these are ahead.
    Put { revision: i64, ahead: RangeReply },
    /// The entry was there already: an earlier copy was applied.
    There { revision: i64 },
    /// The session key is gone, and with it the lease.
    NoSession,
    /// A try found somebody.
    Busy { first: KeyValue },
    /// The session's incarnation is another one.
    Moved { incarnation: i64 },
}

impl Answer {
    fn of(reply: TxnReply) -> Self {
        let revision = reply.header.revision;
        let mut ranges = reply.replies.into_iter().filter_map(|reply| match reply {
            OpReply::Get(range) => Some(range),
            OpReply::Put | OpReply::Delete(_) | OpReply::Txn(_) => None,
        });
        if reply.succeeded {
            let ahead = ranges.next().unwrap_or_default();
            return Self::Put { revision, ahead };
        }
        let mut first = || ranges.next().and_then(|range| range.kvs.into_iter().next());
        // The order matters: a try whose first copy was applied finds itself in the queue.
        match (first(), first(), first()) {
            (Some(own), _, _) => Self::There {
                revision: own.create_revision,
            },
            (None, None, _) => Self::NoSession,
            (None, Some(_), Some(first)) => Self::Busy { first },
            (None, Some(session), None) => Self::Moved {
                incarnation: session.mod_revision,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mod_revision: i64) -> RangeReply {
        RangeReply {
            kvs: vec![KeyValue {
                create_revision: 3,
                mod_revision,
                ..KeyValue::default()
            }],
            ..RangeReply::default()
        }
    }

    fn otherwise(ranges: Vec<RangeReply>) -> Answer {
        Answer::of(TxnReply {
            replies: ranges.into_iter().map(OpReply::Get).collect(),
            ..TxnReply::default()
        })
    }

    #[test]
    fn a_failed_compare_is_explained_in_order() {
        let none = RangeReply::default;
        // An earlier copy was applied: even a try that finds itself in the queue has not lost.
        let there = otherwise(vec![at(3), at(7), at(3)]);
        assert!(matches!(there, Answer::There { revision: 3 }), "{there:?}");
        let dead = otherwise(vec![none(), none(), at(3)]);
        assert!(matches!(dead, Answer::NoSession), "{dead:?}");
        let busy = otherwise(vec![none(), at(7), at(5)]);
        assert!(matches!(busy, Answer::Busy { .. }), "{busy:?}");
        // After a fence the queue may be empty: that is not "busy".
        let moved = otherwise(vec![none(), at(9), none()]);
        assert!(
            matches!(moved, Answer::Moved { incarnation: 9 }),
            "{moved:?}"
        );
    }
}
