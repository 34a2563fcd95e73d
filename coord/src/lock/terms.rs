//! [`Terms`]: what holds for a section under a lock: how long it may take, what its loss means, how it
//! ends.

use std::time::Duration;

use super::LockBuilder;

/// What becomes of a body when its lock is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLost {
    /// It is dropped where it stands, and the call is [`Error::Lost`](crate::Error::Lost).
    #[default]
    Cancel,
    /// It runs on; [`Held::is_held`](crate::Held::is_held) and [`Held::lost`](crate::Held::lost) tell it.
    Continue,
    /// The process is aborted, from a thread of coord's own: also code that does not await, and what
    /// the body has spawned, goes no further. A [close](crate::Coordinator::close) of the coordinator is
    /// the program's own doing and drops the body as `Cancel` does.
    Abort,
}

/// When a section's call returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// As soon as the body is done; the lock is given back in the background.
    #[default]
    Background,
    /// When etcd has confirmed that the lock is given back.
    Wait,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) max_hold: Option<Duration>,
    pub(super) on_lost: OnLost,
    pub(super) confirm: bool,
    pub(super) release: Release,
    pub(super) reentrant: bool,
    pub(super) label: Option<&'static str>,
}

impl LockBuilder {
    /// Holds the lock for at most `limit`, above zero, although its lease could be renewed: for work that
    /// may hang.
    /// Then it is lost, with [`LostReason::MaxHold`](crate::LostReason::MaxHold), and given back a moment
    /// later, whether or not the guard has been dropped.
    pub fn max_hold(mut self, limit: Duration) -> Self {
        self.terms.max_hold = Some(limit);
        self
    }

    /// What becomes of the body of [`run`](Self::run) when the lock is lost. (Of a guard held by hand:
    /// whether the process is aborted then.)
    pub fn on_lost(mut self, what: OnLost) -> Self {
        self.terms.on_lost = what;
        self
    }

    /// Makes [`run`](Self::run) succeed only if its release proves that the queue entry was there from
    /// the grant to the end, so that nobody else held the lock meanwhile, whatever the clocks did; else
    /// it is [`Error::Lost`](crate::Error::Lost) with
    /// [`LostReason::Unconfirmed`](crate::LostReason::Unconfirmed). It then waits for the release.
    pub fn confirm(mut self) -> Self {
        self.terms.confirm = true;
        self
    }

    /// When [`run`](Self::run) returns.
    pub fn release(mut self, when: Release) -> Self {
        self.terms.release = when;
        self
    }

    /// What the lock is called in metrics and in spans, where its name would make a series of its own
    /// of each order: of all of them together. Of `#[locked]` the template, as it is written.
    pub fn label(mut self, label: &'static str) -> Self {
        self.terms.label = Some(label);
        self
    }

    /// Inside of a body that holds this lock, acquires it at once: what is inside runs within the outer
    /// hold, under its token, and with its limits; the lock is given back with the last guard. Without
    /// this an acquire in there is [`Error::WouldDeadlock`](crate::Error::WouldDeadlock). Default:
    /// [`LockOptions::reentrant`](crate::LockOptions::reentrant).
    ///
    /// "Inside" is what the body itself awaits: not a task that it spawns, and not another branch of a
    /// `join!` that it stands in. See [`into_reentrant`](Self::into_reentrant) for those.
    pub fn reentrant(mut self) -> Self {
        self.terms.reentrant = true;
        self
    }
}
