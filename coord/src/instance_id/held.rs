//! [`InstanceId`]: an id that is held, as its user sees it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

use super::{
    guard::{self, Slot},
    mint::Mint,
    pool::Pool,
    window::{self, Window},
};
#[cfg(feature = "embedded")]
use crate::{clock::Clock, key::Layout, session::Session};
use crate::{
    engine::Engine,
    error::{Error, LostReason, Result},
    key::Key,
    session::SessionState,
};

/// A small integer that no other live holder of its pool has. Cheap to clone; every clone is the
/// same id.
///
/// Ask [`get`](Self::get) each time it is used, instead of keeping the number: it answers only while
/// nobody else can have it.
///
/// When the last clone is dropped the id is given back in the background; while a panic unwinds it
/// is left to expire instead, since what the panic left half done may still be using the number.
#[derive(Clone, Debug)]
pub struct InstanceId(Arc<Held>);

#[derive(Debug)]
struct Held {
    number: u32,
    pool: Box<str>,
    slot: Slot,
    /// Set before anything is sent: from then on nobody here believes in the id.
    given_back: AtomicBool,
    /// `None`: [detached](InstanceId::detached), so there is nobody to give it back to.
    engine: Option<Engine>,
    /// Ends the tasks that watch the slot and keep the window.
    guard: CancellationToken,
    /// Only of an id that is claimed with a window.
    minting: Option<Minting>,
}

/// What stamps a number.
#[derive(Debug)]
pub(super) struct Minting {
    pub(super) mint: Arc<Mint>,
    pub(super) mark: Key,
    /// The largest number of its pool.
    pub(super) largest: u32,
}

impl InstanceId {
    /// The id whose slot was taken just now.
    pub(super) fn new(
        engine: &Engine,
        pool: &Pool,
        number: u32,
        slot: Slot,
        minting: Option<Minting>,
    ) -> Self {
        let guard = CancellationToken::new();
        let watching = guard::watch(engine.clone(), slot.clone());
        let ended = guard.clone();
        engine.tasks.spawn(async move {
            ended.run_until_cancelled(watching).await;
        });
        Self(Arc::new(Held {
            number,
            pool: pool.name().into(),
            slot,
            given_back: AtomicBool::new(false),
            engine: Some(engine.clone()),
            guard,
            minting,
        }))
    }

    /// Keeps the window open for as long as the id is held.
    pub(super) fn keep(&self, window: Window) {
        let Some(engine) = &self.0.engine else {
            return;
        };
        let (ended, lost) = (self.0.guard.clone(), self.lost());
        let keeping = window::keep(engine.clone(), window);
        engine
            .tasks
            .spawn(ended.run_until_cancelled_owned(async move {
                tokio::select! {
                    () = keeping => {}
                    _ = lost => {}
                }
            }));
    }

    pub(super) fn minting(&self) -> Option<&Minting> {
        self.0.minting.as_ref()
    }

    pub(super) fn number(&self) -> u32 {
        self.0.number
    }

    pub(super) fn pool(&self) -> &str {
        &self.0.pool
    }

    /// For a double: held as long as `session` lives, without anything on etcd.
    #[cfg(feature = "embedded")]
    pub(crate) fn detached(
        layout: &Layout,
        pool: &str,
        number: u32,
        session: Session,
        clock: Clock,
    ) -> Result<Self> {
        let pool = Pool::new(layout, pool, number..=number)?;
        let slot = Slot {
            key: pool.slot(number),
            epoch: 1,
            session,
        };
        let minting = Minting {
            mint: Arc::new(Mint::endless(clock)),
            mark: pool.mark(number),
            largest: number,
        };
        Ok(Self(Arc::new(Held {
            number,
            pool: pool.name().into(),
            slot,
            given_back: AtomicBool::new(false),
            engine: None,
            guard: CancellationToken::new(),
            minting: Some(minting),
        })))
    }

    /// The number, if it is certain at this moment that nobody else has it.
    ///
    /// Costs a clock read and two atomic reads.
    ///
    /// # Errors
    /// [`Lost`](Error::Lost): for good, or (with [`Unconfirmed`](LostReason::Unconfirmed)) until
    /// etcd answers again and shows that it is still held.
    pub fn get(&self) -> Result<u32> {
        match self.reason() {
            None => Ok(self.0.number),
            Some(reason) => Err(Error::lost("use instance id", &self.0.pool, reason)),
        }
    }

    pub(super) fn reason(&self) -> Option<LostReason> {
        if self.0.given_back.load(Ordering::Acquire) {
            return Some(LostReason::Closed);
        }
        match self.0.slot.session.state() {
            SessionState::Live => None,
            SessionState::Overdue | SessionState::Unverified => Some(LostReason::Unconfirmed),
            SessionState::Lost(reason) => Some(reason),
        }
    }

    /// A number that is larger for every later holder of the same id: the revision at which it was
    /// taken. What is written under the id can be compared by it.
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.0.slot.epoch
    }

    /// Done when the id is lost for good, with the reason.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + 'static + use<> {
        self.0.slot.session.lost()
    }

    /// Gives the id back, for all clones: first nobody here believes in it any more, then it is free
    /// on etcd. Call it when nothing uses the number any more.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) if etcd did not answer:
    /// then the id is free once its lease has run out.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn release(&self) -> Result<()> {
        match self.0.start_release() {
            None => Ok(()),
            Some(task) => task
                .await
                .unwrap_or_else(|| Err(Error::closed(guard::RELEASE))),
        }
    }
}

impl Held {
    /// Ends belief in the id. `false`: it was given back before.
    fn give_back(&self) -> bool {
        let first = !self.given_back.swap(true, Ordering::AcqRel);
        // Before anything is sent: else the watch would report our own deletion as a loss.
        self.guard.cancel();
        first
    }

    /// Ends belief in the id and leaves it to expire on etcd: somewhere it may still be in use.
    fn abandon(&self) {
        if !self.give_back() {
            return;
        }
        match &self.engine {
            Some(engine) => engine.keeper.abandon(&self.slot.session),
            None => self.slot.session.mark_lost(LostReason::Closed),
        }
    }

    /// `None`: there is nothing to give back. A lost id's lease is gone, or being revoked, or left to
    /// run out on purpose.
    fn start_release(&self) -> Option<crate::tasks::Task<Result<()>>> {
        let lost = matches!(self.slot.session.state(), SessionState::Lost(_));
        if !self.give_back() || lost {
            return None;
        }
        let Some(engine) = &self.engine else {
            self.slot.session.mark_lost(LostReason::Closed);
            return None;
        };
        // In this order: what is stamped after this is refused.
        let lowered = self.minting.as_ref().and_then(|minting| {
            let after_last = minting.mint.close()?;
            Some(window::lower(&minting.mark, after_last))
        });
        let release = guard::release(engine.clone(), self.slot.clone(), lowered);
        Some(engine.tasks.spawn(release))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
        } else {
            // It goes on by itself.
            drop(self.start_release());
        }
    }
}
