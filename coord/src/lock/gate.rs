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
    guard::{Hold, LockGuard, Ownership},
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

/// Which lock: the cluster and the queue on it, under the name that the user gave. Cheap to clone.
#[derive(Clone)]
pub(super) struct Identity(Arc<(u64, Prefix, String)>);

impl Identity {
    pub(super) fn new(cluster: u64, queue: Prefix, name: String) -> Self {
        Self(Arc::new((cluster, queue, name)))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.2
    }

    /// In the poll of a body that holds this lock: its hold. Whoever waits for it there waits for
    /// itself.
    ///
    /// This is "the same task" in the sense that matters: a sibling in a `join!` is polled outside
    /// the other's gate and waits properly, a spawned task is another one.
    pub(super) fn held_here(&self) -> Option<Arc<Ownership>> {
        let inside = INSIDE.with_borrow(Clone::clone);
        let mut inside = inside.iter().rev().filter_map(Weak::upgrade);
        // A body that runs on without the lock waits for it like anybody else.
        inside.find(|owner| owner.hold().identity().is(self) && owner.hold().loss().is_none())
    }

    fn is(&self, other: &Self) -> bool {
        (self.0.0, &self.0.1) == (other.0.0, &other.0.1)
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
            if *this.on_lost == OnLost::Abort {
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
            ready!(body.poll(cx))
        };
        // What the body has captured goes before the lock does.
        this.body.set(None);
        // It may have taken long over its last step.
        match this.hold.loss() {
            Some(reason) if *this.on_lost != OnLost::Continue => {
                Poll::Ready(Err(this.hold.error(reason)))
            }
            _ => Poll::Ready(Ok(output)),
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
