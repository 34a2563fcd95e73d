//! [`State`]: what the connections and the handle share.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use etcd_client::proto::PbWatchResponse;
use tokio::sync::Notify;

use super::{
    core::{Core, StreamId},
    faults::Faults,
    link::Door,
    time::Time,
};

/// How often a quiet watch that asked for it is told how far it is: etcd's default.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The core with what it does not know: the time, who waits for it, and the faults.
#[derive(Debug)]
pub(super) struct State {
    inner: Mutex<Inner>,
    /// Told when something may be due sooner than the ticker believes.
    sooner: Notify,
    /// What clients connect to.
    pub(super) endpoint: String,
    pub(super) faults: Faults,
    pub(super) door: Door,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    time: Time,
    next_progress: Duration,
    /// Streams that have nothing to say, and whom to wake when they have.
    silent: HashMap<StreamId, Waker>,
}

impl State {
    pub(super) fn new(endpoint: String) -> Self {
        Self {
            inner: Mutex::new(Inner {
                core: Core::new(),
                time: Time::start(),
                next_progress: PROGRESS_INTERVAL,
                silent: HashMap::new(),
            }),
            sooner: Notify::new(),
            endpoint,
            faults: Faults::default(),
            door: Door::default(),
        }
    }

    /// A panic in one call is not the end of the others.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call. A lease that is due is gone before the call sees it.
    pub(super) fn call<R>(&self, run: impl FnOnce(&mut Core) -> R) -> R {
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        let result = run(&mut inner.core);
        inner.wake();
        result
    }

    /// Runs a call about leases, which needs the time, and may bring the next expiry nearer.
    pub(super) fn lease_call<R>(&self, run: impl FnOnce(&mut Core, Duration) -> R) -> R {
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        let now = inner.time.now();
        let expected = inner.core.next_expiry();
        let result = run(&mut inner.core, now);
        inner.wake();
        if inner
            .core
            .next_expiry()
            .is_some_and(|next| expected.is_none_or(|expected| next < expected))
        {
            self.sooner.notify_one();
        }
        result
    }

    /// Does what is due.
    fn catch_up(&self, inner: &mut Inner) {
        let now = inner.time.now();
        inner.core.expire(now);
        if inner.next_progress <= now {
            inner.core.notify_progress();
            inner.next_progress = now.saturating_add(PROGRESS_INTERVAL);
        }
        inner.wake();
    }

    /// Changes the clock, and does what is then due.
    pub(super) fn change_time(&self, change: impl FnOnce(&mut Time)) {
        let mut inner = self.lock();
        change(&mut inner.time);
        self.catch_up(&mut inner);
        self.sooner.notify_one();
    }

    /// The task that does what is due when nobody calls.
    pub(super) async fn tick(&self) {
        loop {
            let left = {
                let mut inner = self.lock();
                self.catch_up(&mut inner);
                let next = inner
                    .core
                    .next_expiry()
                    .unwrap_or(Duration::MAX)
                    .min(inner.next_progress);
                (!inner.time.is_frozen()).then(|| next.saturating_sub(inner.time.now()))
            };
            let sooner = self.sooner.notified();
            match left {
                Some(left) => {
                    let _ = tokio::time::timeout(left, sooner).await;
                }
                None => sooner.await,
            }
        }
    }

    pub(super) fn open_stream(&self) -> StreamId {
        self.lock().core.open_stream()
    }

    /// The next message of a watch stream; without one, who is to be woken when there is.
    pub(super) fn next(&self, id: StreamId, waker: &Waker) -> Option<PbWatchResponse> {
        let mut inner = self.lock();
        let next = inner.core.next(id);
        if next.is_none() {
            inner.silent.insert(id, waker.clone());
        }
        next
    }

    pub(super) fn close_stream(&self, id: StreamId) {
        let mut inner = self.lock();
        inner.core.close_stream(id);
        inner.silent.remove(&id);
    }
}

impl Inner {
    fn wake(&mut self) {
        for id in self.core.take_woken() {
            if let Some(waker) = self.silent.remove(&id) {
                waker.wake();
            }
        }
    }
}
