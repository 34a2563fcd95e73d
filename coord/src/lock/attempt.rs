//! One acquire, from the first transaction to the grant.
//!
//! # The transaction
//! If the entry does not exist and the session's incarnation is the expected one, list who is there
//! and put the entry; else read the entry and the session key. The list is made before the put, so it
//! holds exactly those ahead. The first copy has no such reads, which etcd would decode twice for
//! nothing: should it find the conditions false, it has done nothing, and a second copy tells why. A try lists nobody: it compares that nobody is there to conflict with.
//! Only permits cannot be compared: a try for them joins the queue, and leaves it at once unless it
//! owns.
//!
//! # Several names
//! All entries are put in one transaction, so they have the same create revision in every queue.
//! Whoever waits for whom is told by revisions alone, so no two acquires ever wait for each other.
//! The attempt owns once it owns in each queue.
//!
//! # Unknown answers
//! The entry's key belongs to this attempt alone, so the same transaction is sent again until one
//! copy is answered; the other branch tells if an earlier one was applied. An attempt with a copy
//! that was never answered is undone by the fence, not by a plain delete: the `LeasedKey` knows.
//! It exists before the first copy is sent; so the future may be dropped at every await.

mod answer;
mod line;
mod refusal;

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use self::{answer::Answer, line::Line};
use super::{
    Shared,
    gate::{self, Here, Identity},
    guard::LockGuard,
    hold::Hold,
    hub::Peek,
    modes::Mode,
    queue::{self, Listed, Step},
    session::LockSession,
};
use crate::{
    client::{
        CallError, Certainty, Compare, CompareOp, KeyValue, Op, Order, Range, Reason, Span, Txn,
    },
    error::{Context, Error, LostReason, Result},
    key::{Key, Prefix},
    retry::Backoff,
    session::LeasedKey,
};

/// What the queues are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Lock,
    /// The entries say what the candidates proclaim, not who they are.
    Election,
}

impl Purpose {
    /// What errors say was being done.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Lock => "acquire lock",
            Self::Election => "campaign",
        }
    }
}

/// How many names one acquire takes. etcd takes 128 operations and as many compares, and a name may
/// need three of each.
pub(super) const MOST_NAMES: usize = 42;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Acquire<'a> {
    pub(super) shared: &'a Shared,
    pub(super) purpose: Purpose,
    /// The name or names, as they are called in errors.
    pub(super) name: &'a str,
    /// One for each name, no two of them the same: no more than [`MOST_NAMES`].
    pub(super) queues: &'a [Prefix],
    pub(super) mode: Mode,
    /// What the entries say.
    pub(super) value: &'a [u8],
    /// Of the session's lease, if it is not the options'.
    pub(super) ttl: Option<Duration>,
    /// Stay in the queue; else only take a lock that can be had at once.
    pub(super) waits: bool,
    /// Inside of a body that holds it: one guard more, instead of an error.
    pub(super) reentrant: bool,
}

/// What an acquire is at, for the error if its limit passes.
#[derive(Debug, Default)]
pub(super) struct Trace {
    places: Mutex<Vec<Peek>>,
    trouble: Mutex<Option<Error>>,
}

impl Trace {
    /// How many are ahead, if that is known: in the queue where they are most.
    pub(super) fn position(&self) -> Option<u32> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let positions: Option<Vec<u32>> = places.iter().map(Peek::position).collect();
        positions?.into_iter().max()
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
            match self.shared.sessions.get(self.ttl).await {
                Ok(session) => {
                    if let Ended::Granted(guard) = self.attempt(&session, trace).await? {
                        return Ok(guard);
                    }
                }
                Err(error) if self.waits && error.is_retryable() => trace.set_trouble(Some(error)),
                Err(Error::Closed { .. }) => {
                    let context = self.context();
                    return Err(Error::Closed { context });
                }
                Err(error) => return Err(error),
            }
            self.shared.engine.clock.sleep(backoff.next_delay()).await;
        }
    }

    async fn attempt(&self, session: &Arc<LockSession>, trace: &Trace) -> Result<Ended> {
        let identity = Identity::new(
            session.cluster(),
            self.queues.to_vec(),
            self.mode,
            self.name.to_owned(),
        );
        let held_here = identity.held_here();
        if !held_here.is_empty()
            && let Some(granted) = self.inside(held_here).await?
        {
            return Ok(granted);
        }
        let engine = &self.shared.engine;
        if !self.waits {
            // What was given back here before is not what a try is to find.
            engine.keeper.undo().cleared(self.queues).await;
        }
        let before = session.newest();
        let (lease, nonce) = (session.session().lease(), session.nonce(self.queues));
        let numbers = nonce.numbers();
        let keys = numbers.flat_map(|(queue, number)| self.mode.entries(queue, lease, number));
        let mut entry = LeasedKey::prepare(
            session.session(),
            keys.collect(),
            Some(session.key().clone()),
            Some(nonce),
            engine.keeper.undo(),
        );
        let mut line = Line::join(self, &entry);
        let mut lost = pin!(session.session().lost());
        let mut backoff = Backoff::endless(Duration::from_millis(20), Duration::from_secs(1));

        // A busy try is common, and needs no second copy.
        let mut explained = !self.joins();
        let (revision, granted) = loop {
            let expected = session.incarnation();
            entry.sent();
            let request = || self.transaction(&entry, session, expected, explained);
            let answer = tokio::select! {
                biased;
                answer = session.batcher().send(self.queues, self.value, self.joins(), request) => answer,
                _ = &mut lost => {
                    entry.forget();
                    return Ok(Ended::Again);
                }
            };
            match answer.map(|reply| Answer::of(reply, self.queues.len(), entry.keys().len())) {
                Ok(Answer::Put { revision, ahead }) => {
                    entry.applied();
                    session.put_at(revision);
                    if !self.waits && !self.lets_in(&ahead) {
                        // Those behind do not wait for the error message.
                        drop((line, entry));
                        return Err(Box::pin(self.refused(&ahead)).await);
                    }
                    break (revision, line.put(revision, &ahead));
                }
                Ok(Answer::There { revision }) if revision <= before => {
                    // That is of whoever had the name before, and has deleted it: the store was put
                    // back to an older state. It would be held under a token that was another's.
                    session.session().mark_lost(LostReason::Revoked);
                    entry.forget();
                    return Ok(Ended::Again);
                }
                Ok(Answer::There { revision }) => {
                    entry.applied();
                    session.put_at(revision);
                    if self.waits {
                        line.found(revision);
                        break (revision, false);
                    }
                    // A try is put only where it owns at once; permits are put in any case.
                    if self.joins() && !Box::pin(self.still_lets_in(&entry, revision)).await? {
                        return Ok(Ended::Again);
                    }
                    break (revision, true);
                }
                Ok(Answer::Torn) => {
                    // Somebody has deleted a part of it by hand; the rest goes as well.
                    entry.applied();
                    return Ok(Ended::Again);
                }
                Ok(Answer::NoSession) => {
                    session.session().mark_lost(LostReason::Revoked);
                    entry.forget();
                    return Ok(Ended::Again);
                }
                Ok(Answer::Unexplained) => {
                    entry.refused();
                    explained = true;
                }
                Ok(Answer::Busy { first }) => {
                    entry.refused();
                    return Err(self.busy(Some(&first)));
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
                    explained = true;
                    match error.certainty {
                        Certainty::Unknown => entry.unknown(),
                        Certainty::NotSent | Certainty::Refused => entry.refused(),
                    }
                    Box::pin(self.failed(error, trace)).await?;
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

        let places = if granted {
            // It owned at once: nothing of its queues can concern it any more.
            Vec::new()
        } else {
            *trace.places.lock().unwrap_or_else(PoisonError::into_inner) = line.peek();
            let step = tokio::select! {
                biased;
                _ = &mut lost => {
                    entry.forget();
                    return Ok(Ended::Again);
                }
                step = line.decided() => step,
            };
            match step {
                Step::Own => line.into_places(),
                Step::Stuck(key) => return Err(self.stuck(&key)),
                Step::Contradicted(key) => {
                    drop((line, entry));
                    return Err(Box::pin(self.contradicted(&key)).await);
                }
                Step::Wait | Step::Read | Step::Gone => return Ok(Ended::Again),
            }
        };
        if !session.session().is_live() {
            return Ok(Ended::Again);
        }
        let (heads, readers) = (self.heads(&entry), self.readers(&entry));
        let hold = Hold::new(identity, heads, readers, revision, session.clone());
        session.remember(&hold);
        tracing::debug!(target: "coord::lock", lock = self.name, token = revision, "lock acquired");
        Ok(Ended::Granted(LockGuard::new(hold, places, entry)))
    }

    /// From the poll of a body that holds some or all of it. `None`: what that holds is elsewhere.
    async fn inside(&self, held_here: Vec<Here>) -> Result<Option<Ended>> {
        let mut deadlock = false;
        for Here { outer, covers } in held_here {
            let Some(queued) = outer.hold().queued() else {
                continue;
            };
            // Another coordinator's may be on another cluster of the same id.
            let ours = self.shared.sessions.opened(&queued.session);
            if !ours && !Box::pin(self.sees(outer.hold())).await? {
                continue;
            }
            if covers && self.reentrant {
                return Ok(Some(Ended::Granted(LockGuard::again(outer))));
            }
            deadlock = true;
        }
        match deadlock {
            true => Err(gate::would_deadlock(self.name)),
            false => Ok(None),
        }
    }

    /// Whether what this coordinator talks to has the entries of `hold`. Their names have a random part,
    /// so no other cluster has them.
    async fn sees(&self, hold: &Hold) -> Result<bool> {
        let there = hold.is_seen_by(&self.shared.engine).await;
        there.map_err(|error| error.into_error(self.context()))
    }

    /// How many keys the attempt has in each queue.
    fn keys_each(&self, entry: &LeasedKey) -> usize {
        entry.keys().len() / self.queues.len()
    }

    /// The entry of each queue: the first of its keys.
    fn heads(&self, entry: &LeasedKey) -> Vec<Key> {
        let keys = entry.keys().iter();
        keys.step_by(self.keys_each(entry)).cloned().collect()
    }

    /// What a downgradable one is held by after its downgrade; of another mode none.
    fn readers(&self, entry: &LeasedKey) -> Vec<Key> {
        let keys = entry.keys().chunks(self.keys_each(entry));
        keys.filter_map(|keys| keys.get(1)).cloned().collect()
    }

    /// The queues are not compared: the attempt joins them, and lists who is ahead.
    fn joins(&self) -> bool {
        self.waits || matches!(self.mode, Mode::Permits(_))
    }

    fn transaction(
        &self,
        entry: &LeasedKey,
        session: &LockSession,
        incarnation: i64,
        explained: bool,
    ) -> Txn {
        let own_session = Span::key(session.key());
        let own = || entry.keys().iter().map(Span::key);
        let equal = |span, revision| Compare::create_revision(span, CompareOp::Equal, revision);
        let incarnation = Compare::mod_revision(own_session.clone(), CompareOp::Equal, incarnation);
        let mut txn = Txn {
            when: own()
                .map(|key| equal(key, 0))
                .chain([incarnation])
                .collect(),
            then: Vec::new(),
            otherwise: Vec::new(),
        };
        if explained {
            let reads = own().chain([own_session]);
            txn.otherwise = reads.map(|key| Op::Get(Range::new(key))).collect();
        }
        for queue in self.queues {
            if self.joins() {
                let ranges = queue::ahead_of_new(queue, self.mode).into_iter();
                txn.then.extend(ranges.map(Op::Get));
            } else {
                // True of no key at all, and of no key that exists.
                let spans = self.mode.conflicting(queue).into_iter();
                txn.when.extend(spans.map(|span| equal(span, 0)));
                txn.otherwise.extend(self.fronts(queue));
            }
        }
        txn.then.extend(entry.puts(self.value));
        txn
    }

    /// Who is first of those that an entry may conflict with.
    fn fronts(&self, queue: &Prefix) -> impl Iterator<Item = Op> {
        let spans = self.mode.conflicting(queue).into_iter();
        spans.map(|span| {
            Op::Get(Range {
                limit: 1,
                order: Order::CreateAscending,
                ..Range::new(span)
            })
        })
    }

    fn lets_in(&self, ahead: &[Listed]) -> bool {
        let mut queues = self.queues.iter().zip(ahead);
        queues.all(|(queue, listed)| listed.lets_in(queue, self.mode))
    }

    /// A try for permits found itself in the queue. True: it owns; an error says why not. False: its
    /// entry is gone.
    async fn still_lets_in(&self, entry: &LeasedKey, revision: i64) -> Result<bool> {
        for (queue, head) in self.queues.iter().zip(self.heads(entry)) {
            let read = queue::ahead_of(queue, self.mode, head.as_bytes(), revision);
            let reply = self.shared.engine.calls.txn(read).await;
            let reply = reply.map_err(|error| error.into_error(self.context()))?;
            let mut listed = Listed::of(reply.replies);
            if listed.kvs.first().map(|kv| kv.create_revision) != Some(revision) {
                return Ok(false);
            }
            listed.kvs.remove(0);
            if !listed.lets_in(queue, self.mode) {
                return Err(self.refused(&[listed]).await);
            }
        }
        Ok(true)
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

    pub(super) fn context(&self) -> Context {
        Context::new(self.purpose.operation()).key(self.name)
    }
}

fn oldest(kvs: Vec<KeyValue>) -> Option<KeyValue> {
    kvs.into_iter().min_by_key(|kv| kv.create_revision)
}
