//! [`Registration`]: keeps one instance registered, for ever.

use std::time::Duration;

use tokio::sync::watch;

use super::chain::{Chain, Content, Target};
use crate::{
    client::{Certainty, Reason, Span},
    engine::Engine,
    error::{Context, Error, LostReason, Result},
    retry::Backoff,
    session::{Gate, PastDeadline, Session, SessionSpec, SessionState},
    tasks::Task,
    watch::{Cause, Update, Watcher},
};

pub(super) const OPERATION: &str = "register instance";

/// After a lost lease every process of a fleet registers again: spread over this long.
const SPREAD: Duration = Duration::from_secs(1);

/// An instance that is registered. It renews its lease, registers again after the lease was lost,
/// and repairs its records when something else changed or removed them.
///
/// Dropping it deregisters in the background; [`deregister`](Self::deregister) waits for that.
#[derive(Debug)]
#[must_use = "dropping it deregisters"]
pub struct Registration {
    service: String,
    instance: String,
    target: watch::Sender<Target>,
    progress: watch::Receiver<Progress>,
    kept: Task<()>,
}

/// What the keeping task says.
#[derive(Clone, Debug, Default)]
struct Progress {
    reached: Option<Content>,
    /// The last failure since something was reached.
    trouble: Option<Error>,
}

impl Registration {
    pub(super) fn start(
        engine: &Engine,
        service: &str,
        instance: &str,
        ttl: Duration,
        gate: Option<Gate>,
        chain: Chain,
    ) -> Self {
        let (target, wanted) = watch::channel(Target::Starting);
        let (progress, reached) = watch::channel(Progress::default());
        let keeping = Keeping {
            engine: engine.clone(),
            ttl,
            gate,
            chain,
            wanted,
            progress,
        };
        Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            target,
            progress: reached,
            kept: engine.tasks.spawn(keeping.run()),
        }
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What tells this registration from every other: fresh for each.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether its record is known to be there, routable. False while it is being registered again.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        // An error: the task that keeps it has ended, with the coordinator.
        self.progress.has_changed().is_ok()
            && self.progress.borrow().reached == Some(Content::Published)
    }

    /// Removes the record, marked as leaving first, so that nobody takes it for a crash.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed) if the coordinator was closed before.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn deregister(mut self) -> Result<()> {
        self.forward(Target::Gone);
        let kept = (&mut self.kept).await;
        kept.ok_or_else(|| Error::closed("deregister instance"))
    }

    /// From now on it is routable, as soon as etcd answers.
    pub(crate) fn publish(&self) {
        self.forward(Target::Published);
    }

    /// Takes it out of the routable ones; returns when etcd has confirmed it, or when that is no
    /// longer needed.
    pub(crate) async fn withdraw(&self) {
        self.forward(Target::Withdrawn);
        self.reached(Content::Withdrawn).await;
    }

    /// As [`deregister`](Self::deregister), for who keeps the handle; the lease is left to the
    /// coordinator's closing.
    pub(crate) async fn leave(&self) {
        self.forward(Target::Gone);
        self.reached(Content::Gone).await;
    }

    /// A target never goes back: who leaves does not publish any more.
    fn forward(&self, to: Target) {
        self.target.send_if_modified(|target| {
            let forward = to > *target;
            *target = to.max(*target);
            forward
        });
    }

    async fn reached(&self, content: Content) {
        let mut progress = self.progress.clone();
        // An error: the task has ended, and will reach nothing more.
        let _ = progress
            .wait_for(|progress| [Some(content), Some(Content::Gone)].contains(&progress.reached))
            .await;
    }

    /// Waits until it is published, or has failed in a way that waiting does not mend.
    pub(super) async fn published(&self, engine: &Engine) -> Result<()> {
        let limit = engine.options.request_timeout;
        let mut progress = self.progress.clone();
        let settled = progress.wait_for(|progress| {
            let hopeless = progress.trouble.as_ref().is_some_and(|e| !e.is_retryable());
            progress.reached == Some(Content::Published) || hopeless
        });
        match engine.clock.timeout(limit, settled).await {
            Ok(Ok(progress)) if progress.reached == Some(Content::Published) => return Ok(()),
            Ok(Err(_)) => return Err(Error::closed(OPERATION)),
            Ok(Ok(_)) | Err(_) => {}
        }
        let trouble = self.progress.borrow().trouble.clone();
        Err(trouble.unwrap_or_else(|| Error::Timeout {
            context: Context::new(OPERATION).key(&self.service),
            limit,
            maybe_applied: true,
            holder: None,
            position: None,
        }))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.forward(Target::Gone);
    }
}

/// The task behind a [`Registration`].
struct Keeping {
    engine: Engine,
    ttl: Duration,
    /// Closed while the instance is not to be registered.
    gate: Option<Gate>,
    chain: Chain,
    wanted: watch::Receiver<Target>,
    progress: watch::Sender<Progress>,
}

impl Keeping {
    async fn run(mut self) {
        let mut life_cycle = self.watcher(Span::key(self.chain.life_cycle()));
        let mut routable = self.watcher(Span::key(self.chain.routable()));
        let mut first = true;
        loop {
            let Some(session) = self.open(std::mem::take(&mut first)).await else {
                break;
            };
            self.chain.adopt(session.lease());
            self.live(&session, &mut life_cycle, &mut routable).await;
            if self.chain.known() == Some(Content::Gone) {
                // A late copy of the first link cannot bring the record back under a dead lease.
                // It goes on in the background, so it need not be waited for longer than this.
                let end = self.engine.keeper.end(&session);
                let limit = self.engine.options.request_timeout;
                drop(self.engine.clock.timeout(limit, end).await);
                break;
            }
        }
    }

    fn watcher(&self, span: Span) -> Watcher {
        let name = format!("registration {}", self.chain.life_cycle());
        self.engine.watcher(name, span)
    }

    /// Opens a session, however long it takes. `None`: there is nothing left to register.
    async fn open(&mut self, first: bool) -> Option<Session> {
        let spec = SessionSpec {
            purpose: "registration",
            ttl: self.ttl,
            hold: None,
            renew_interval: None,
            past_deadline: PastDeadline::Resume,
        };
        let mut delay = match first {
            true => Duration::ZERO,
            false => SPREAD.mul_f64(rand::random()),
        };
        let mut backoff = backoff();
        loop {
            // With the lease all records went: who leaves has left.
            if *self.wanted.borrow() >= Target::Withdrawn {
                self.reached(Some(Content::Gone));
                return None;
            }
            let opened = async {
                if let Some(gate) = &self.gate {
                    gate.opened().await;
                }
                self.engine.clock.sleep(delay).await;
                self.engine.keeper.open(spec).await
            };
            let opened = tokio::select! {
                opened = opened => opened,
                changed = self.wanted.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return None,
                },
            };
            match opened {
                Ok(session) => {
                    if let Some(gate) = &self.gate {
                        self.engine.keeper.gate(&session, gate.clone());
                    }
                    return Some(session);
                }
                Err(error) => {
                    self.trouble(error);
                    delay = backoff.next_delay();
                }
            }
        }
    }

    /// One life of one lease. Returns when it is lost or when the instance is gone.
    async fn live(&mut self, session: &Session, life_cycle: &mut Watcher, routable: &mut Watcher) {
        let mut states = session.states();
        let mut backoff = backoff();
        // The lease was overdue, or may have been: that it lives again says nothing of the records.
        let mut doubt = false;
        loop {
            let state = *states.borrow_and_update();
            if let SessionState::Lost(reason) = state {
                tracing::warn!(target: "coord::registry", instance = %self.chain.life_cycle(),
                    %reason, "the registration's lease is lost; registering again");
                self.reached(None);
                return;
            }
            if doubt && state == SessionState::Live {
                doubt = !self.look(&mut backoff).await;
                continue;
            }
            let target = *self.wanted.borrow_and_update();
            if self.link(target, session, &mut backoff).await {
                continue;
            }
            self.reached(self.chain.known());
            if self.chain.known() == Some(Content::Gone) {
                return;
            }
            tokio::select! {
                // The handle's drop has set the last target before it closed the channel.
                _ = self.wanted.changed() => {}
                _ = states.changed() => doubt = true,
                update = life_cycle.next() => {
                    let seen = life_cycle.map().get(self.chain.life_cycle().as_bytes());
                    self.chain.saw_life_cycle(update.revision, seen, regressed(&update));
                }
                update = routable.next() => {
                    let seen = routable.map().get(self.chain.routable().as_bytes());
                    self.chain.saw_routable(update.revision, seen, regressed(&update));
                }
            }
        }
    }

    /// Sends the next link. False: the records are where `target` wants them.
    async fn link(&mut self, target: Target, session: &Session, backoff: &mut Backoff) -> bool {
        let Some(link) = self.chain.next(target) else {
            return false;
        };
        // Never dropped half way: one link at a time, and the call has a deadline.
        let error = match self.engine.calls.txn(self.chain.txn(&link)).await {
            Ok(reply) => {
                self.chain.replied(&link, &reply);
                backoff.reset();
                return true;
            }
            Err(error) => error,
        };
        if error.certainty == Certainty::Unknown {
            self.chain.unknown();
        }
        if error.reason == Reason::LeaseNotFound {
            session.mark_lost(LostReason::Expired);
            return true;
        }
        self.trouble(
            error.into_error(Context::new(OPERATION).key(self.chain.life_cycle().as_str())),
        );
        let mut states = session.states();
        tokio::select! {
            () = self.engine.clock.sleep(backoff.next_delay()) => {}
            _ = states.wait_for(|state| matches!(state, SessionState::Lost(_))) => {}
        }
        true
    }

    /// Compares what is there with what is known. False: not now.
    async fn look(&mut self, backoff: &mut Backoff) -> bool {
        match self.engine.calls.txn(self.chain.look()).await {
            Ok(reply) => {
                self.chain.looked(&reply);
                backoff.reset();
                true
            }
            Err(error) => {
                tracing::debug!(target: "coord::registry", %error, "cannot look after the records");
                self.engine.clock.sleep(backoff.next_delay()).await;
                false
            }
        }
    }

    fn reached(&self, content: Option<Content>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.reached != content;
            if content.is_some() {
                progress.trouble = None;
            }
            progress.reached = content;
            changed
        });
    }

    fn trouble(&self, error: Error) {
        self.progress.send_modify(|progress| {
            // Once for each outage, not for each try.
            if progress.trouble.is_none() {
                tracing::warn!(target: "coord::registry", instance = %self.chain.life_cycle(),
                    error = &error as &dyn std::error::Error, "cannot register; trying again");
            }
            progress.trouble = Some(error);
        });
    }
}

fn regressed(update: &Update) -> bool {
    update.cause == Cause::Regressed
}

fn backoff() -> Backoff {
    Backoff::endless(Duration::from_millis(50), Duration::from_secs(2))
}
