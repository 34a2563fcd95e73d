//! [`Gate`]: the body of a critical section, polled only while the lock is held.
//!
//! Before every poll the clock is compared with the lease's deadline. Once the lock is lost, the body
//! is dropped and never polled again: after a pause of any length (a stopped process, a suspended
//! machine) not one more step of it runs. What the body does between two awaits, and tasks that it
//! has spawned, cannot be stopped like this; that is what the fencing token is for.

use std::{
    cell::RefCell,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{
    guard::{LockGuard, Ownership},
    hold::Hold,
    modes::Mode,
    terms::OnLost,
    warden,
};
use crate::{
    error::{Error, LostReason, Result},
    key::Prefix,
};

thread_local! {
    /// The locks of the gates that are being polled on this thread, the innermost last.
    static INSIDE: RefCell<Vec<Weak<Ownership>>> = const { RefCell::new(Vec::new()) };
}

/// Which lock, and how it is held. Cheap to clone.
#[derive(Clone)]
pub(super) struct Identity(Arc<Lock>);

struct Lock {
    cluster: u64,
    /// One, or several that are held together.
    queues: Vec<Prefix>,
    mode: Mode,
    /// As the user calls it.
    name: String,
}

/// What the body that is being polled holds of a lock.
pub(super) struct Here {
    pub(super) outer: Arc<Ownership>,
    /// All of it, in a mode that is enough; else a part of it, or in another mode.
    pub(super) covers: bool,
}

impl Identity {
    pub(super) fn new(cluster: u64, queues: Vec<Prefix>, mode: Mode, name: String) -> Self {
        Self(Arc::new(Lock {
            cluster,
            queues,
            mode,
            name,
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn mode(&self) -> Mode {
        self.0.mode
    }

    /// What is held of it in the poll of a body, the innermost first. Whoever waits for that there waits
    /// for itself.
    ///
    /// By the cluster's id, which is no proof that it is the same one: etcd makes it of the members'
    /// names and addresses, so that all servers that were started with the defaults have the same.
    ///
    /// This is "the same task" in the sense that matters: a sibling in a `join!` is polled outside
    /// the other's gate and waits properly, a spawned task is another one.
    pub(super) fn held_here(&self) -> Vec<Here> {
        let inside = INSIDE.with_borrow(Clone::clone);
        // A body that runs on without its lock waits for it like anybody else.
        let held = inside.iter().rev().filter_map(Weak::upgrade);
        held.filter(|owner| owner.hold().loss().is_none())
            .filter_map(|outer| {
                let lock = outer.hold().identity();
                let (covers, overlaps) = (lock.covers(self), lock.overlaps(self));
                overlaps.then_some(Here { outer, covers })
            })
            .collect()
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0.cluster == other.0.cluster
            && (self.0.queues.iter()).any(|queue| other.0.queues.contains(queue))
    }

    fn covers(&self, other: &Self) -> bool {
        self.0.cluster == other.0.cluster
            && (other.0.queues.iter()).all(|queue| self.0.queues.contains(queue))
            && self.0.mode.covers(other.0.mode)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// On the stack for the length of one poll, also if that panics.
struct Inside;

impl Inside {
    fn enter(owner: &Weak<Ownership>) -> Self {
        INSIDE.with_borrow_mut(|inside| inside.push(owner.clone()));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(|inside| inside.pop());
    }
}

pin_project! {
    /// See the [module](self). A struct, not an `async fn`: that would hold the body twice.
    pub(super) struct Gate<F> {
        hold: Arc<Hold>,
        owner: Weak<Ownership>,
        on_lost: OnLost,
        span: tracing::Span,
        lost: Pin<Box<dyn Future<Output = LostReason> + Send>>,
        #[pin]
        body: Option<F>,
    }
}

impl<F> Gate<F> {
    pub(super) fn new(guard: &LockGuard, body: F) -> Self {
        Self {
            hold: guard.hold().clone(),
            owner: Arc::downgrade(guard.owner()),
            on_lost: guard.on_lost(),
            span: guard.span(),
            lost: Box::pin(guard.hold().clone().lost()),
            body: Some(body),
        }
    }
}

impl<F: Future> Future for Gate<F> {
    type Output = Result<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let loss = match this.on_lost {
            OnLost::Continue => None,
            OnLost::Cancel | OnLost::Abort => {
                this.hold
                    .loss()
                    .or_else(|| match this.lost.as_mut().poll(cx) {
                        Poll::Ready(reason) => Some(reason),
                        Poll::Pending => None,
                    })
            }
        };
        if let Some(reason) = loss {
            // A close is the program's own doing, with an end of its own.
            if *this.on_lost == OnLost::Abort && reason != LostReason::Closed {
                warden::abort(this.hold, reason);
            }
            this.body.set(None);
            return Poll::Ready(Err(this.hold.error(reason)));
        }
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            // Polled again after it was done; a future may do anything then but not be wrong.
            return Poll::Pending;
        };
        let output = {
            let _inside = Inside::enter(this.owner);
            let _span = this.span.enter();
            ready!(body.poll(cx))
        };
        // What the body has captured goes before the lock does.
        this.body.set(None);
        // It may have taken long over its last step; or have dropped the last of the coordinator with it,
        // which is its end and no loss, unless it took longer than a close waits for it.
        match this.hold.loss() {
            None => Poll::Ready(Ok(output)),
            Some(LostReason::Closed) if this.hold.is_leased() => Poll::Ready(Ok(output)),
            Some(_) if *this.on_lost == OnLost::Continue => Poll::Ready(Ok(output)),
            Some(reason) => Poll::Ready(Err(this.hold.error(reason))),
        }
    }
}

impl<F> fmt::Debug for Gate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

/// A second acquire of a lock from inside its own body.
pub(super) fn would_deadlock(name: &str) -> Error {
    Error::WouldDeadlock {
        context: crate::error::Context::new("acquire lock").key(name),
    }
}
