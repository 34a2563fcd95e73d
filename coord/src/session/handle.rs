//! [`Session`]: the handle: what is believed of one lease, by the clock.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, watch};

use super::{PastDeadline, SessionSpec, SessionState, terms::Terms};
use crate::{
    clock::{Clock, Instant},
    error::LostReason,
};

/// One life of one lease. Cheap to clone; every clone is the same session.
///
/// It lives until it is ended, abandoned or lost, or the Keeper is closed; dropping every handle
/// does not end it.
#[derive(Clone)]
pub(crate) struct Session(Arc<Belief>);

/// State and deadline are one atomic word, read without a lock. Every *change* is made under the
/// mutex and starts by asking the clock: a state that anybody has seen to lapse has lapsed for all.
struct Belief {
    lease: i64,
    purpose: &'static str,
    past_deadline: PastDeadline,
    terms: Terms,
    clock: Clock,
    /// Wakes the Keeper after a change that it did not make itself.
    keeper: Arc<Notify>,
    word: AtomicU64,
    changing: Mutex<Changing>,
    states: watch::Sender<SessionState>,
    /// When the newest confirmed renewal was sent.
    confirmed: watch::Sender<Instant>,
}

struct Changing {
    /// How often it became `Unverified`.
    renewal: u64,
    /// What `confirmed` will say with the next announcement.
    confirmed: Instant,
    next_waiter: u64,
    waiters: HashMap<u64, Arc<AtomicWaker>>,
}

/// Which renewal made a session `Unverified`. See [`Session::unverified`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal(u64);

impl Session {
    /// A session whose lease was granted with `ttl`; `sent` is when the first grant was sent.
    pub(crate) fn new(
        spec: &SessionSpec,
        lease: i64,
        ttl: Duration,
        sent: Instant,
        clock: Clock,
        keeper: Arc<Notify>,
    ) -> Self {
        let terms = Terms::new(spec, ttl);
        Self(Arc::new(Belief {
            lease,
            purpose: spec.purpose,
            past_deadline: spec.past_deadline,
            terms,
            clock,
            keeper,
            word: AtomicU64::new(encode(SessionState::Live, terms.deadline(sent, ttl))),
            changing: Mutex::new(Changing {
                renewal: 0,
                confirmed: sent,
                next_waiter: 0,
                waiters: HashMap::new(),
            }),
            states: watch::Sender::new(SessionState::Live),
            confirmed: watch::Sender::new(sent),
        }))
    }

    pub(crate) fn lease(&self) -> i64 {
        self.0.lease
    }

    /// The TTL that etcd granted.
    pub(crate) fn ttl(&self) -> Duration {
        self.0.terms.ttl
    }

    /// Until when the last confirmed renewal is believed.
    #[cfg(test)]
    pub(crate) fn deadline(&self) -> Instant {
        self.0.read().1
    }

    /// The state by the clock: `Live` only before the deadline, whether or not the Keeper has
    /// noticed its passing yet. One atomic read, and while it is not lost one clock read.
    pub(crate) fn state(&self) -> SessionState {
        let (state, deadline) = self.0.read();
        if lapses(state) && self.0.clock.now() >= deadline {
            return self.changed(|_, _, current| current);
        }
        state
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state() == SessionState::Live
    }

    /// The time until the deadline; zero if not live.
    pub(crate) fn remaining(&self) -> Duration {
        let (state, deadline) = self.0.read();
        match state {
            SessionState::Live => deadline.since(self.0.clock.now()),
            _ => Duration::ZERO,
        }
    }

    /// Done when the session is lost: for a `Dead` session also the moment its deadline passes.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) fn lost(&self) -> Lost {
        Lost {
            session: self.clone(),
            slot: None,
        }
    }

    /// The next change of state, and each one after it; also the passing of a deadline.
    pub(crate) fn states(&self) -> watch::Receiver<SessionState> {
        self.0.states.subscribe()
    }

    /// Done when a renewal is confirmed that was sent at `asked` or later; never, if it is lost before.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn confirmed_since(&self, asked: Instant) {
        let mut confirmed = self.0.confirmed.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _ = confirmed.wait_for(|sent| *sent >= asked).await;
    }

    /// Declares it lost (its user saw its key deleted): keep-alives stop, waiters wake, the lease is
    /// revoked in the background. The first reason stays.
    pub(crate) fn mark_lost(&self, reason: LostReason) {
        self.changed(|_, _, (_, deadline)| (SessionState::Lost(reason), deadline));
    }

    /// Policy `Verify`: the renewal to verify after, if the session is `Unverified`. Ask *before*
    /// reading: a read that was sent before the renewal was confirmed proves nothing.
    pub(crate) fn unverified(&self) -> Option<Renewal> {
        let mut renewal = None;
        self.changed(|changing, _, current| {
            if current.0 == SessionState::Unverified {
                renewal = Some(Renewal(changing.renewal));
            }
            current
        });
        renewal
    }

    /// Policy `Verify`: the user has read, after `renewal`, that its key is its own. Live again, and
    /// `true`, unless the deadline of that renewal (or of one that followed it in time) has passed.
    pub(crate) fn verified(&self, renewal: Renewal) -> bool {
        let state = self.changed(|changing, _, (state, deadline)| match state {
            SessionState::Unverified if changing.renewal == renewal.0 => {
                (SessionState::Live, deadline)
            }
            _ => (state, deadline),
        });
        state == SessionState::Live
    }

    /// The time that whatever stands on it has to stop in, once it is not believed any more.
    pub(crate) fn margin(&self) -> Duration {
        self.0.terms.margin(self.0.terms.base)
    }

    pub(super) fn past_deadline(&self) -> PastDeadline {
        self.0.past_deadline
    }

    pub(super) fn purpose(&self) -> &'static str {
        self.0.purpose
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.0.terms
    }

    /// When whatever stands on it has had its time to stop: the deadline and the margin.
    pub(super) fn stopped_at(&self) -> Instant {
        self.0.read().1 + self.margin()
    }

    /// When the clock will change the state next.
    pub(super) fn lapses_at(&self) -> Option<Instant> {
        let (state, deadline) = self.0.read();
        lapses(state).then_some(deadline)
    }

    /// A keep-alive that was sent at `sent` has been answered with `ttl`. Whoever calls this
    /// [announces](Self::announce).
    pub(crate) fn renewed(&self, sent: Instant, ttl: Duration) -> SessionState {
        let fresh = self.0.terms.deadline(sent, ttl);
        self.change(|changing, now, (state, deadline)| match state {
            SessionState::Live | SessionState::Unverified => {
                changing.confirmed = changing.confirmed.max(sent);
                (state, deadline.max(fresh))
            }
            SessionState::Overdue if now < fresh => match self.0.past_deadline {
                PastDeadline::Resume => (SessionState::Live, fresh),
                // One that was sent before the deadline had passed says nothing of the time since.
                PastDeadline::Verify if sent >= deadline => {
                    changing.renewal += 1;
                    (SessionState::Unverified, fresh)
                }
                PastDeadline::Verify | PastDeadline::Dead => (state, deadline),
            },
            SessionState::Overdue | SessionState::Lost(_) => (state, deadline),
        })
    }

    /// etcd says that there is no such lease. Before its deadline it cannot have run out: somebody
    /// revoked it. Whoever calls this [announces](Self::announce).
    pub(super) fn gone(&self) {
        self.change(|_, _, (state, deadline)| {
            let reason = if lapses(state) {
                LostReason::Revoked
            } else {
                LostReason::Expired
            };
            (SessionState::Lost(reason), deadline)
        });
    }

    /// The state by the clock, without waking anybody. Whoever calls this [announces](Self::announce).
    pub(super) fn lapse(&self) -> SessionState {
        self.change(|_, _, current| current)
    }

    /// Tells whoever waits for a state. Apart from the change itself, because wakers are foreign
    /// code and must not run under the Keeper's lock.
    pub(crate) fn announce(&self) {
        self.0.states.send_if_modified(|seen| {
            let (state, _) = self.0.read();
            std::mem::replace(seen, state) != state
        });
        let confirmed = self.0.changing().confirmed;
        self.0.confirmed.send_if_modified(|seen| {
            let newer = confirmed > *seen;
            *seen = confirmed.max(*seen);
            newer
        });
        if matches!(self.0.read().0, SessionState::Lost(_)) {
            let waiters = std::mem::take(&mut self.0.changing().waiters);
            waiters.values().for_each(|waiter| waiter.wake());
        }
    }

    fn changed(
        &self,
        step: impl FnOnce(&mut Changing, Instant, (SessionState, Instant)) -> (SessionState, Instant),
    ) -> SessionState {
        let state = self.change(step);
        self.announce();
        self.0.keeper.notify_one();
        state
    }

    /// The only writer of the word: first what the clock says, then `step`, unless it is lost.
    fn change(
        &self,
        step: impl FnOnce(&mut Changing, Instant, (SessionState, Instant)) -> (SessionState, Instant),
    ) -> SessionState {
        let mut changing = self.0.changing();
        let (state, deadline) = self.0.read();
        let now = self.0.clock.now();
        let lapsed = match (state, self.0.past_deadline) {
            (state, _) if !lapses(state) || now < deadline => state,
            (_, PastDeadline::Dead) => SessionState::Lost(LostReason::Expired),
            (_, PastDeadline::Resume | PastDeadline::Verify) => SessionState::Overdue,
        };
        let (after, deadline) = match lapsed {
            SessionState::Lost(_) => (lapsed, deadline),
            _ => step(&mut changing, now, (lapsed, deadline)),
        };
        self.0
            .word
            .store(encode(after, deadline), Ordering::Release);
        drop(changing);
        if after != state {
            self.log(state, after);
        }
        after
    }

    fn log(&self, before: SessionState, after: SessionState) {
        let (lease, purpose) = (format_args!("{:016x}", self.0.lease), self.0.purpose);
        match after {
            SessionState::Lost(LostReason::Closed) => {
                tracing::debug!(target: "coord::session", %lease, purpose, "session closed");
            }
            SessionState::Lost(reason) => {
                tracing::warn!(target: "coord::session", %lease, purpose, %reason, "session lost");
            }
            SessionState::Overdue => {
                tracing::warn!(target: "coord::session", %lease, purpose, "session not confirmed in time");
            }
            SessionState::Live | SessionState::Unverified => {
                tracing::info!(target: "coord::session", %lease, purpose, ?before, ?after, "session renewed");
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("lease", &format_args!("{:016x}", self.0.lease))
            .field("purpose", &self.0.purpose)
            .field("state", &self.0.read().0)
            .finish_non_exhaustive()
    }
}

impl Belief {
    fn read(&self) -> (SessionState, Instant) {
        decode(self.word.load(Ordering::Acquire))
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Session::lost`].
#[derive(Debug)]
#[must_use = "a wait does nothing unless it is polled"]
pub(crate) struct Lost {
    session: Session,
    slot: Option<(u64, Arc<AtomicWaker>)>,
}

impl Lost {
    /// Wakes this task when the session is lost, from now on: what polling does, without the look at
    /// the clock. For a caller that asks [`Session::state`] itself, *after* this.
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        let session = &self.session;
        let (_, slot) = self.slot.get_or_insert_with(|| {
            let mut changing = session.0.changing();
            let id = changing.next_waiter;
            changing.next_waiter += 1;
            let slot = Arc::new(AtomicWaker::new());
            changing.waiters.insert(id, slot.clone());
            (id, slot)
        });
        slot.register(cx.waker());
    }
}

impl Future for Lost {
    type Output = LostReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LostReason> {
        self.register(cx);
        match self.session.state() {
            SessionState::Lost(reason) => Poll::Ready(reason),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if let Some((id, _)) = self.slot {
            self.session.0.changing().waiters.remove(&id);
        }
    }
}

/// Whether a state ends with its deadline.
fn lapses(state: SessionState) -> bool {
    matches!(state, SessionState::Live | SessionState::Unverified)
}

/// The low four bits are the state, the rest is the deadline in microseconds (60 bits: 36,000 years).
fn encode(state: SessionState, deadline: Instant) -> u64 {
    let code = match state {
        SessionState::Live => 0,
        SessionState::Overdue => 1,
        SessionState::Unverified => 2,
        SessionState::Lost(LostReason::Expired) => 3,
        SessionState::Lost(LostReason::Revoked) => 4,
        SessionState::Lost(LostReason::Unconfirmed) => 5,
        SessionState::Lost(LostReason::MaxHold) => 6,
        SessionState::Lost(LostReason::Closed) => 7,
        SessionState::Lost(LostReason::Released) => 8,
    };
    deadline.as_micros() << 4 | code
}

fn decode(word: u64) -> (SessionState, Instant) {
    let state = match word & 15 {
        0 => SessionState::Live,
        1 => SessionState::Overdue,
        2 => SessionState::Unverified,
        4 => SessionState::Lost(LostReason::Revoked),
        5 => SessionState::Lost(LostReason::Unconfirmed),
        6 => SessionState::Lost(LostReason::MaxHold),
        7 => SessionState::Lost(LostReason::Closed),
        8 => SessionState::Lost(LostReason::Released),
        // 3; no other is ever written.
        _ => SessionState::Lost(LostReason::Expired),
    };
    (state, Instant::from_micros(word >> 4))
}

#[cfg(test)]
mod tests;
