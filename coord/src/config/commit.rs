//! [`Commit`]: carries a write through: reads, writes under a compare, and begins again if somebody
//! else was faster.

use std::time::Duration;

use super::{
    center::ConfigCenter,
    history::{Change, Fate, MAX_KEYS, MAX_OPS, Place, Seen, Stamp, Step},
    version::Version,
};
use crate::{
    client::{CallError, Certainty, Compare, Op, OpReply, Reason, Txn, TxnReply},
    error::{Context, Error, Result},
    options::RetryOptions,
    retry::Backoff,
};

/// How a write that lost a race is repeated. Each loss is another writer's success, so this ends long
/// before the tries do, unless one key is written all the time by very many.
pub(super) const CONFLICTS: RetryOptions = RetryOptions {
    max_attempts: 64,
    initial: Duration::from_millis(2),
    max: Duration::from_millis(100),
    multiplier: 2.0,
    jitter: true,
};

/// One write of one or more keys: one revision, or nothing.
pub(super) struct Commit<'c> {
    center: &'c ConfigCenter,
    operation: &'static str,
    places: Vec<Place>,
    /// The write's name in its records.
    id: String,
    /// A copy of it may have been applied, or may still be.
    doubtful: bool,
    /// What is written as a whole, if it is that: its keys are not told, they may be those of a
    /// secret map's entries.
    subject: Option<&'c str>,
    /// What must hold beside: if it does not, the write is not tried again.
    guards: Vec<Compare>,
    conflicts: Backoff,
    failures: Backoff,
}

enum Attempt {
    Done(Version),
    /// Somebody else was faster. What the keys are now.
    Lost(Vec<Seen>),
}

impl<'c> Commit<'c> {
    /// # Errors
    /// `Invalid` if it is more keys than one transaction takes, `Closed`.
    pub(super) fn new(
        center: &'c ConfigCenter,
        operation: &'static str,
        places: Vec<Place>,
    ) -> Result<Self> {
        center.engine().check_open(operation)?;
        let most = if center.versioned() {
            MAX_KEYS
        } else {
            MAX_OPS
        };
        if places.len() > most {
            let kind = if center.versioned() {
                "with history"
            } else {
                ""
            };
            return Err(Error::invalid(
                operation,
                format!(
                    "{} keys are more than one transaction takes: at most {most} {kind}",
                    places.len()
                ),
            ));
        }
        Ok(Self {
            center,
            operation,
            places,
            id: format!("{:016x}", rand::random::<u64>()),
            doubtful: false,
            subject: None,
            guards: Vec::new(),
            conflicts: Backoff::for_call(&CONFLICTS),
            failures: Backoff::for_call(&center.engine().options.retry),
        })
    }

    /// Writes `subject` as a whole, and only while all `guards` hold too: nobody has written any of its
    /// keys. [`run`](Self::run) then ends with a conflict at once: who gave the guards has to read
    /// again.
    pub(super) fn guarded(mut self, subject: &'c str, guards: Vec<Compare>) -> Self {
        self.subject = Some(subject);
        self.guards = guards;
        self
    }

    /// Writes what `decide` makes of what is there, and again of what is there by then, until nobody
    /// is faster. `decide` refuses what it does not want to be changed.
    ///
    /// # Cancel safety
    /// Dropped after its first poll the write may or may not happen.
    pub(super) async fn run(
        mut self,
        mut decide: impl FnMut(&[Seen]) -> Result<Vec<Change>>,
    ) -> Result<Version> {
        let engine = self.center.engine();
        let reply = engine.read_all(self.reads()).await;
        let reply = reply.map_err(|error| self.failed(error))?;
        let mut revision = reply.header.revision;
        let mut seen = self.read(reply);
        loop {
            let changes = decide(&seen)?;
            let pairs = changes.iter().zip(&seen);
            let written: Vec<_> = pairs
                .map(|(change, seen)| change.value.is_some() || seen.version().exists())
                .collect();
            if !written.contains(&true) {
                return Ok(revision.into());
            }
            let (txn, prunes) = self.txn(&seen, changes)?;
            (seen, revision) = match self.attempt(&txn, &seen, &written).await? {
                (Attempt::Done(version), _) => {
                    self.tell(version);
                    self.prune(prunes);
                    return Ok(version);
                }
                (Attempt::Lost(now), revision) => (now, revision),
            };
            match self.conflicts.next_try() {
                Some(delay) if self.guards.is_empty() => engine.clock.sleep(delay).await,
                _ => return Err(self.conflict(&seen[0], revision)),
            }
        }
    }

    /// Writes without a look at what is there, and files nothing.
    ///
    /// # Cancel safety
    /// As for [`run`](Self::run).
    pub(super) async fn blindly(mut self, changes: Vec<Change>) -> Result<Version> {
        let steps = self.places.iter().zip(changes);
        let txn = Txn {
            then: steps
                .flat_map(|(place, change)| Step::plain(place, None, change).then)
                .collect(),
            ..Txn::default()
        };
        let version = self.send(&txn).await?.header.revision.into();
        self.tell(version);
        Ok(version)
    }

    fn tell(&self, version: Version) {
        let author = self.center.note().author.as_deref();
        let tell = |key: &str| {
            tracing::debug!(
                target: "coord::config",
                key,
                version = version.revision(),
                author,
                "config written"
            );
        };
        match self.subject {
            Some(subject) => tell(subject),
            None => self.places.iter().for_each(|it| tell(it.key.as_str())),
        }
    }

    /// `Conflict` unless the key still has the version that its writer expects.
    pub(super) fn expect(
        operation: &'static str,
        place: &Place,
        seen: &Seen,
        expected: Option<Version>,
    ) -> Result<()> {
        if expected.is_none_or(|version| version == seen.version()) {
            return Ok(());
        }
        Err(Error::Conflict {
            context: Context::new(operation).key(place.key.as_str()),
            current: seen.version().revision(),
        })
    }

    fn conflict(&self, seen: &Seen, revision: i64) -> Error {
        Error::Conflict {
            context: self.context(),
            current: match self.subject {
                Some(_) => revision,
                None => seen.version().revision(),
            },
        }
    }

    fn context(&self) -> Context {
        let context = Context::new(self.operation);
        let first = self.places.first().map(|place| place.key.as_str());
        match self.subject.or(first) {
            Some(subject) => context.key(subject),
            None => context,
        }
    }

    fn failed(&self, mut error: CallError) -> Error {
        if self.doubtful {
            // Whatever became of the last copy: an earlier one may have been applied.
            error.certainty = Certainty::Unknown;
        }
        error.into_error(self.context())
    }

    fn reads(&self) -> Vec<Op> {
        let versioned = self.center.versioned();
        let per_key = if versioned { 3 } else { 1 };
        self.places
            .iter()
            .flat_map(|place| place.reads().into_iter().take(per_key))
            .collect()
    }

    fn read(&self, reply: TxnReply) -> Vec<Seen> {
        let per_key = if self.center.versioned() { 3 } else { 1 };
        let mut replies = reply.replies.into_iter();
        self.places
            .iter()
            .map(|place| Seen::read(place, replies.by_ref().take(per_key)))
            .collect()
    }

    /// The write, and the prunes for which it has no room.
    fn txn(&self, seen: &[Seen], changes: Vec<Change>) -> Result<(Txn, Vec<Op>)> {
        let options = &self.center.engine().options.config;
        let stamp = Stamp {
            id: &self.id,
            note: self.center.note(),
            at_ms: self.center.engine().clock.unix_ms(),
            limit: options.history_limit,
        };
        let mut txn = Txn {
            when: self.guards.clone(),
            then: Vec::new(),
            otherwise: self.reads(),
        };
        let mut prunes = Vec::new();
        for ((place, seen), change) in self.places.iter().zip(seen).zip(changes) {
            let step = if self.center.versioned() {
                Step::new(place, seen, change, &stamp)
            } else {
                // The guards speak for its keys too.
                let seen = Some(seen).filter(|_| self.guards.is_empty());
                Step::plain(place, seen, change)
            };
            txn.when.extend(step.when);
            txn.then.extend(step.then);
            prunes.extend(step.prune);
        }
        if txn.then.len() > MAX_OPS {
            return Err(Error::invalid(
                self.operation,
                format!(
                    "{} keys with what other clients have put there since they were last written \
                     here are more than one transaction takes: write fewer at once",
                    self.places.len()
                ),
            ));
        }
        let room = MAX_OPS - txn.then.len();
        let later = prunes.split_off(room.min(prunes.len()));
        txn.then.extend(prunes);
        Ok((txn, later))
    }

    /// Behind the caller's back: the write is done, and what is not removed now is by a later one.
    fn prune(&self, prunes: Vec<Op>) {
        if prunes.is_empty() {
            return;
        }
        let engine = self.center.engine();
        let calls = engine.calls.clone();
        let txn = Txn {
            then: prunes,
            ..Txn::default()
        };
        engine.tasks.spawn(async move {
            if let Err(error) = calls.txn(txn).await {
                tracing::debug!(target: "coord::config", %error, "old steps are not removed yet");
            }
        });
    }

    /// `written`: the keys of which this write leaves a trace.
    async fn attempt(
        &mut self,
        txn: &Txn,
        before: &[Seen],
        written: &[bool],
    ) -> Result<(Attempt, i64)> {
        let reply = self.send(txn).await?;
        let revision = reply.header.revision;
        if reply.succeeded {
            return Ok((Attempt::Done(revision.into()), revision));
        }
        let now = self.read(reply);
        if self.doubtful {
            let pairs = self.places.iter().zip(before).zip(written);
            let pairs = pairs.filter(|(_, written)| **written);
            let own = self.own(pairs.map(|(pair, _)| pair)).await?;
            if let Some(version) = own {
                return Ok((Attempt::Done(version), revision));
            }
            // Nor will a late copy be applied: what it compares is gone.
            self.doubtful = false;
        }
        Ok((Attempt::Lost(now), revision))
    }

    /// The version that a copy of this write made, if one of those whose answer was lost was applied.
    ///
    /// # Errors
    /// If nobody can tell.
    async fn own(&self, written: impl Iterator<Item = (&Place, &Seen)>) -> Result<Option<Version>> {
        for (place, before) in written {
            let mut reads = place.reads_current().to_vec();
            reads.push(Op::Get(place.reads_since(before.latest())));
            let reply = self.center.engine().read_all(reads).await;
            let mut replies = reply.map_err(|error| self.failed(error))?.replies;
            let filed = match replies.pop() {
                Some(OpReply::Get(filed)) => filed.kvs,
                _ => Vec::new(),
            };
            let now = Seen::read(place, replies);
            match place.fate(&self.id, before, &now, &filed) {
                Fate::Done(version) => return Ok(Some(version)),
                // All or nothing: what this key tells is so for all.
                Fate::NotDone => return Ok(None),
                Fate::Unknown => {}
            }
        }
        Err(Error::Unavailable {
            context: self.context(),
            maybe_applied: true,
            detail:
                "the answer was lost, and the steps that would tell whether it was done are no \
                     longer in the history"
                    .into(),
        })
    }

    /// Sends it until it is answered. A write with history is safe to repeat whatever became of the
    /// copy before; any other only if it is certain that nothing did.
    async fn send(&mut self, txn: &Txn) -> Result<TxnReply> {
        let engine = self.center.engine();
        loop {
            let error = match engine.calls.txn(txn.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let unknown = error.certainty == Certainty::Unknown;
            self.doubtful |= unknown;
            let passing = matches!(error.reason, Reason::Unavailable | Reason::Timeout);
            if !passing || (unknown && !self.center.versioned()) {
                return Err(self.failed(error));
            }
            match self.failures.next_try() {
                Some(delay) => engine.clock.sleep(delay).await,
                None => return Err(self.failed(error)),
            }
        }
    }
}
