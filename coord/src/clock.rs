//! The one clock: reading time and waiting for it.
//!
//! Deadlines count on `CLOCK_BOOTTIME`, which goes on while the machine sleeps (`std`'s `Instant`
//! stops then, and a lease would look alive long after etcd gave its key away). Where there is no
//! such clock (not Linux), the monotonic one is used.
//!
//! A wait belongs to coord's own runtime, not to the caller's: it can be polled on any executor and
//! outlives the runtime that it was made on: the clock keeps coord's thread alive, because tokio panics
//! in whoever polls a timer of a runtime that is gone. After a suspend a wait may end late; so what must not
//! run past a deadline compares [`Clock::now`] with it before every step.
//!
//! Tests drive the same type by hand: [`Clock::manual`].

use std::{
    collections::BTreeMap,
    future::Future,
    ops::{Add, Sub},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::tasks::Thread;

/// A point in time on the clock that counts through a suspend. Only differences mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instant(Duration);

impl Instant {
    /// The time since `earlier`; zero if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// As a whole number of microseconds, for one atomic word. See [`Instant::from_micros`].
    pub(crate) fn as_micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) const fn from_micros(micros: u64) -> Self {
        Self(Duration::from_micros(micros))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// The limit passed before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Reads time and waits for it. Cheap to clone; every clone is the same clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Waits are registered with the timer of this thread's runtime.
    Real(Thread),
    #[cfg_attr(
        not(any(test, feature = "embedded")),
        expect(dead_code, reason = "only tests and doubles make one")
    )]
    Manual(Arc<Manual>),
}

impl Clock {
    pub(crate) fn real(thread: Thread) -> Self {
        Self(Source::Real(thread))
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.0 {
            Source::Real(_) => boottime(),
            Source::Manual(manual) => Instant::from_micros(manual.now.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since the Unix epoch by the wall clock, which is set and steps: for records that
    /// people read and for stamps that are compared with what was stamped before, never for a
    /// deadline.
    pub(crate) fn unix_ms(&self) -> u64 {
        match &self.0 {
            Source::Real(_) => wall(),
            Source::Manual(manual) => manual.wall.load(Ordering::SeqCst),
        }
    }

    /// Done after `duration`.
    ///
    /// # Cancel safety
    /// Safe to drop; a new call starts anew.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        match &self.0 {
            Source::Real(thread) => {
                let _timer = thread.handle().enter();
                Sleep(Waiting::Real {
                    sleep: Box::pin(tokio::time::sleep(duration)),
                    _thread: thread.clone(),
                })
            }
            Source::Manual(manual) => Sleep(Waiting::Manual {
                at: self.now() + duration,
                id: None,
                manual: manual.clone(),
            }),
        }
    }

    /// Done once [`now`](Self::now) has reached `at`, also when a suspend came between.
    pub(crate) async fn sleep_until(&self, at: Instant) {
        loop {
            let left = at.since(self.now());
            if left.is_zero() {
                return;
            }
            // A long wait is cut: after a suspend the runtime's timer is late by its length.
            self.sleep(left.min(Duration::from_secs(1))).await;
        }
    }

    /// `future`'s output, or [`Elapsed`] once `limit` has passed; the future is polled first.
    ///
    /// # Cancel safety
    /// As safe as `future` itself.
    pub(crate) async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = self.sleep(limit);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

fn boottime() -> Instant {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const ID: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ID: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(ID);
    // Both clocks count from boot: neither field is negative, and nanoseconds are below a second.
    Instant(Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    ))
}

/// See [`Clock::sleep`].
#[derive(Debug)]
#[must_use = "a wait does nothing unless it is polled"]
pub(crate) struct Sleep(Waiting);

#[derive(Debug)]
enum Waiting {
    Real {
        sleep: Pin<Box<tokio::time::Sleep>>,
        _thread: Thread,
    },
    Manual {
        at: Instant,
        id: Option<u64>,
        manual: Arc<Manual>,
    },
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Waiting::Real { sleep, .. } => sleep.as_mut().poll(cx),
            Waiting::Manual { at, id, manual } => manual.poll(*at, id, cx.waker()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Waiting::Manual {
            at,
            id: Some(id),
            manual,
        } = &self.0
        {
            manual.waiting().remove(&(*at, *id));
        }
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub(crate) struct Manual {
    now: AtomicU64,
    /// The wall clock, in milliseconds.
    wall: AtomicU64,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<(Instant, u64), Waker>>,
}

impl Manual {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Instant, u64), Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, at: Instant, id: &mut Option<u64>, waker: &Waker) -> Poll<()> {
        // The time is compared under the lock that `advance` moves it under: else a move between
        // the comparison and the registration would leave this waiter asleep.
        let mut waiting = self.waiting();
        if Instant::from_micros(self.now.load(Ordering::SeqCst)) >= at {
            return Poll::Ready(());
        }
        let id = *id.get_or_insert_with(|| self.next.fetch_add(1, Ordering::Relaxed));
        waiting.insert((at, id), waker.clone());
        Poll::Pending
    }
}

#[cfg(any(test, feature = "embedded"))]
impl Clock {
    /// A clock for tests and doubles, at an arbitrary instant, and the handle that moves it.
    pub(crate) fn manual() -> (Self, ManualClock) {
        let manual = Arc::new(Manual::default());
        manual.now.store(1_000_000_000, Ordering::SeqCst);
        manual.wall.store(wall(), Ordering::SeqCst);
        (Self(Source::Manual(manual.clone())), ManualClock(manual))
    }
}

/// Moves a manual clock.
#[cfg(any(test, feature = "embedded"))]
#[derive(Clone, Debug)]
pub(crate) struct ManualClock(Arc<Manual>);

#[cfg(any(test, feature = "embedded"))]
impl ManualClock {
    /// Sets the wall clock, as an operator or a time server does: waits and deadlines do not move.
    #[cfg(test)]
    pub(crate) fn set_unix_ms(&self, now: u64) {
        self.0.wall.store(now, Ordering::SeqCst);
    }

    /// Moves the time on and wakes every wait that is over.
    pub(crate) fn advance(&self, duration: Duration) {
        let woken = {
            let mut waiting = self.0.waiting();
            let micros = u64::try_from(duration.as_micros()).expect("a test's duration");
            self.0.wall.fetch_add(micros / 1_000, Ordering::SeqCst);
            let now = self.0.now.fetch_add(micros, Ordering::SeqCst) + micros;
            let later = waiting.split_off(&(Instant::from_micros(now + 1), 0));
            std::mem::replace(&mut *waiting, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// How many waits are pending, and the time until the nearest: lets a test step to it.
    #[cfg(test)]
    pub(crate) fn nearest(&self) -> Option<Duration> {
        let now = Instant::from_micros(self.0.now.load(Ordering::SeqCst));
        self.0.waiting().keys().next().map(|(at, _)| at.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_wait_ends_exactly_at_its_instant() {
        let (clock, hand) = Clock::manual();
        let mut sleep = pin!(clock.sleep(Duration::from_secs(5)));
        assert!(futures_util::poll!(sleep.as_mut()).is_pending());
        hand.advance(Duration::from_millis(4_999));
        assert!(futures_util::poll!(sleep.as_mut()).is_pending());
        assert_eq!(hand.nearest(), Some(Duration::from_millis(1)));
        hand.advance(Duration::from_millis(1));
        assert!(futures_util::poll!(sleep.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_timeout_prefers_the_finished_future() {
        let (clock, hand) = Clock::manual();
        let mut out = pin!(clock.timeout(Duration::from_secs(1), std::future::pending::<()>()));
        assert!(futures_util::poll!(out.as_mut()).is_pending());
        hand.advance(Duration::from_secs(1));
        assert_eq!(out.await, Err(Elapsed));
        assert_eq!(
            clock.timeout(Duration::ZERO, std::future::ready(7)).await,
            Ok(7)
        );
    }

    #[test]
    fn a_wait_is_polled_without_a_runtime_of_the_callers() {
        let clock = Clock::real(Thread::start("test").expect("a thread"));
        let before = clock.now();
        // `block_on` of a bare executor: no tokio context on this thread.
        futures_util::pin_mut!(before);
        let clock2 = clock.clone();
        pollster(async move { clock2.sleep(Duration::from_millis(5)).await });
        assert!(clock.now().since(*before) >= Duration::from_millis(5));
    }

    fn pollster<F: Future>(future: F) -> F::Output {
        struct Thread(std::thread::Thread);
        impl std::task::Wake for Thread {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Thread(std::thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}
