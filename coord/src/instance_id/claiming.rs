//! [`Claiming`]: one call of `acquire`: what is asked of etcd until there is an id.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    InstanceId, InstanceIds, OPERATION,
    claim::{Claim, Outcome},
    guard::{self, Slot},
    held::Minting,
    mint::Mint,
    order::Choice,
    pool::Pool,
    window::{Moved, Window},
};
use crate::{
    client::{CallError, Reason, Span},
    clock::Instant,
    engine::Engine,
    error::{Context, Error, Result},
    retry::Backoff,
    session::{PastDeadline, Session, SessionSpec, SessionState},
};

/// What a slot holds: for people who look.
#[derive(Serialize)]
struct Record<'a> {
    v: u8,
    uuid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    host: String,
    pid: u32,
    started: u64,
    hold_ms: u64,
}

/// One call of `acquire`.
pub(super) struct Claiming<'a> {
    ids: &'a InstanceIds,
    pool: Pool,
    choice: Choice,
    /// How long a full pool is waited for; `None`: for ever.
    wait: Option<Duration>,
    /// Since when the caller waits, because the pool has been seen full: from then on no outage ends
    /// the call.
    full_since: Option<Instant>,
    failures: u32,
    backoff: Backoff,
}

impl<'a> Claiming<'a> {
    pub(super) fn new(ids: &'a InstanceIds, pool: Pool, wait: Option<Duration>) -> Self {
        Self {
            choice: Choice::new(ids.order, ids.hint(&pool)),
            ids,
            pool,
            wait,
            full_since: None,
            failures: 0,
            backoff: guard::backoff(),
        }
    }

    pub(super) async fn run(mut self) -> Result<InstanceId> {
        loop {
            // One round is one lease with one owner key; what makes it end without an id makes both
            // of no more use.
            if let Some(id) = self.round().await? {
                return Ok(id);
            }
        }
    }

    /// `None`: the lease is used up, begin the next round with another.
    async fn round(&mut self) -> Result<Option<InstanceId>> {
        let engine = &self.ids.engine;
        let spec = SessionSpec {
            purpose: "instance id",
            ttl: self.ids.hold + self.ids.cool_down,
            hold: Some(self.ids.hold),
            renew_interval: None,
            past_deadline: PastDeadline::Verify,
        };
        let session = match engine.keeper.open(spec).await {
            Ok(session) => session,
            // It has tried for a while already.
            Err(error) if self.full_since.is_none() => return Err(error),
            Err(error) => return self.failed(error).await.map(|()| None),
        };
        let ending = EndOnDrop::new(engine, &session);
        self.check(&session)?;
        let claim = self.claim(&session);
        let mut used = BTreeSet::new();
        while !matches!(session.state(), SessionState::Lost(_)) {
            let candidates = self.choice.next(&self.pool, &used);
            let txn = claim.txn(&self.pool, &candidates);
            let outcome = match engine.calls.txn(txn).await {
                Ok(reply) => claim.read(&self.pool, &candidates, &reply),
                Err(error) if error.reason == Reason::LeaseNotFound => return Ok(None),
                Err(error) => {
                    self.failed(self.error(error)).await?;
                    continue;
                }
            };
            self.failures = 0;
            self.backoff.reset();
            match outcome {
                Outcome::Mine {
                    number,
                    epoch,
                    mark,
                } => {
                    let slot = Slot {
                        key: self.pool.slot(number),
                        epoch,
                        session: session.clone(),
                    };
                    let minting = self.minting(number);
                    let mint = minting.as_ref().map(|minting| minting.mint.clone());
                    let id = InstanceId::new(engine, &self.pool, number, slot.clone(), minting);
                    ending.disarm();
                    if !guard::believed(&session).await {
                        return Ok(None);
                    }
                    if let Some(mint) = mint {
                        let window = Window::new(slot, self.pool.mark(number), mint, mark.as_ref());
                        let Some(window) = self.open(window).await? else {
                            return Ok(None);
                        };
                        id.keep(window);
                    }
                    return Ok(Some(id));
                }
                Outcome::Spent => return Ok(None),
                Outcome::Taken { used: now } => {
                    if now.len() as u64 >= self.pool.size() {
                        self.full(&session).await?;
                        // Whatever was free a moment ago, the next transaction looks by itself.
                        used = BTreeSet::new();
                        self.choice.afresh();
                    } else {
                        used = now;
                        self.choice.missed();
                    }
                }
            }
        }
        Ok(None)
    }

    /// What stamps the number, if it is to be stamped.
    fn minting(&self, number: u32) -> Option<Minting> {
        let length = self.ids.window?;
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let mint = Mint::new(self.ids.engine.clock.clone(), length);
        Some(Minting {
            mint: Arc::new(mint),
            mark: self.pool.mark(number),
            largest: *self.pool.range().end(),
        })
    }

    /// Waits until there is something to stamp. `None`: the slot is lost.
    async fn open(&mut self, mut window: Window) -> Result<Option<Window>> {
        let engine = &self.ids.engine;
        while !window.is_open() {
            match window.step(engine).await {
                Ok(Moved::Yes | Moved::Elsewhere) => {}
                Ok(Moved::SlotLost) => return Ok(None),
                Ok(Moved::NoMark) => return Err(window.no_mark()),
                Err(error) => self.failed(self.error(error)).await?,
            }
        }
        window.warn_if_ahead(engine);
        Ok(Some(window))
    }

    /// A server that grants less than was asked for shortens the hold, never the cool-down.
    fn check(&self, session: &Session) -> Result<()> {
        let (ttl, cool_down) = (session.ttl(), self.ids.cool_down);
        if ttl > cool_down {
            return Ok(());
        }
        let format = humantime::format_duration;
        let (ttl, cool_down) = (format(ttl), format(cool_down));
        let fault =
            format!("etcd grants a lease of {ttl}, and {cool_down} of it are the cool-down");
        Err(Error::Invalid {
            context: Context::new(OPERATION).key(self.pool.name()),
            faults: vec![fault],
        })
    }

    fn claim(&self, session: &Session) -> Claim {
        let uuid = uuid::Uuid::new_v4().to_string();
        let record = Record {
            v: 1,
            uuid: &uuid,
            service: self.ids.engine.module.as_deref(),
            host: crate::host::name(),
            pid: std::process::id(),
            started: self.ids.engine.clock.unix_ms(),
            hold_ms: u64::try_from(self.ids.hold.as_millis()).unwrap_or(u64::MAX),
        };
        let record = serde_json::to_vec(&record).expect("strings and numbers are JSON");
        Claim::new(&self.pool, &uuid, session.lease(), record).marked(self.ids.window.is_some())
    }

    /// How much longer a full pool may be waited for.
    fn left(&self) -> Duration {
        let Some(limit) = self.wait else {
            return Duration::MAX;
        };
        let now = self.ids.engine.clock.now();
        let waited = self
            .full_since
            .map_or(Duration::ZERO, |since| now.since(since));
        limit.saturating_sub(waited)
    }

    /// Returns when a slot may be free, and about every TTL in any case.
    async fn full(&mut self, session: &Session) -> Result<()> {
        let engine = &self.ids.engine;
        let left = self.left();
        let (name, size) = (self.pool.name(), self.pool.size());
        if left.is_zero() {
            let waited = match self.wait {
                Some(limit) if !limit.is_zero() => {
                    format!(", and have been for {}", humantime::format_duration(limit))
                }
                _ => String::new(),
            };
            return Err(Error::Exhausted {
                context: Context::new(OPERATION).key(name),
                detail: format!("all {size} ids of the pool `{name}` are taken{waited}"),
            });
        }
        if self.full_since.is_none() {
            self.full_since = Some(engine.clock.now());
            tracing::warn!(
                target: "coord::instance_id",
                pool = name,
                size,
                "all instance ids are taken; waiting for one",
            );
        }
        // It lists first, and after the reply that said "full": no deletion in between is missed.
        let mut watcher =
            engine.watcher(format!("id pool {name}"), Span::prefix(self.pool.slots()));
        let freed = async {
            loop {
                watcher.next().await;
                let taken = watcher.map().keys();
                let taken = taken.filter(|key| self.pool.number(key).is_some());
                if (taken.count() as u64) < size {
                    // All who wait see the same deletion: do not ask in the same instant.
                    let spread = Duration::from_millis(200).mul_f64(rand::random());
                    return engine.clock.sleep(spread).await;
                }
            }
        };
        let again = engine.clock.timeout(session.ttl().min(left), freed);
        let mut states = session.states();
        let lost = states.wait_for(|state| matches!(state, SessionState::Lost(_)));
        tokio::select! {
            _ = again => {}
            _ = lost => {}
        }
        Ok(())
    }

    fn error(&self, error: CallError) -> Error {
        error.into_error(Context::new(OPERATION).key(self.pool.name()))
    }

    /// Waits before the next try, or gives up.
    async fn failed(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        let tries = self.ids.engine.options.retry.max_attempts;
        let enough = match self.full_since {
            None => self.failures >= tries,
            Some(_) => self.left().is_zero(),
        };
        if !error.is_retryable() || enough {
            return Err(error);
        }
        let delay = self.backoff.next_delay();
        self.ids.engine.clock.sleep(delay).await;
        Ok(())
    }
}

/// Ends the session in the background when a claim is given up.
struct EndOnDrop(Option<(Engine, Session)>);

impl EndOnDrop {
    fn new(engine: &Engine, session: &Session) -> Self {
        Self(Some((engine.clone(), session.clone())))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some((engine, session)) = self.0.take() {
            let keeper = engine.keeper.clone();
            // Best effort: unrevoked it runs out by itself.
            let end = async move { keeper.end(&session).await };
            drop(engine.tasks.spawn(end));
        }
    }
}
