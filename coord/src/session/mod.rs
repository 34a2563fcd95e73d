//! Sessions: the engine under everything that lives with a lease.
//!
//! A [`Session`] is one life of one lease. The [`Keeper`] renews all of them over one stream, on a
//! thread of its own. A [`LeasedKey`] is a key that lives with a session and owns its undo; what a
//! drop must undo goes through the [`UndoQueue`] as plain data.
//!
//! # Invariants
//! 1. Only the Keeper sends keep-alives.
//! 2. The deadline counts from the instant a confirmed renewal was *sent* (the grant counts as one,
//!    and the first one sent, if it was repeated): etcd restarts its countdown after that, so it
//!    cannot give the keys away before. A broken stream is not a lost lease; only a TTL ≤ 0 or
//!    "not found" says that it is gone.
//! 3. A lease that is gone never lives again: the next one has a new id, drawn fresh.
//! 4. What a passed deadline means is given by the session's user ([`PastDeadline`]).
//! 5. Nothing blocks in `Drop`, and nothing needs a runtime there.

mod keeper;
mod leased_key;
mod undo;

use std::{sync::Arc, time::Duration};

pub(crate) use keeper::{Keeper, SessionHealth};
pub(crate) use leased_key::LeasedKey;
pub(crate) use undo::{Receipt, Undo, UndoQueue};

use crate::{clock::Instant, error::LostReason};

/// What it means that a session's local deadline passed while its lease may still live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PastDeadline {
    /// Over (locks): reported lost at once, the lease is revoked and never renewed again; going on
    /// with it would bring the entries of lost attempts back to life.
    Dead,
    /// Harmless (registrations): renewed again as soon as etcd answers.
    Resume,
    /// Suspended (instance ids): renewed on, but not believed until the user has verified after a
    /// fresh renewal that what it holds is still its own.
    Verify,
}

/// What to open. See [`Keeper::open`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionSpec {
    /// In the health report: `lock`, `registration`, `instance id`.
    pub(crate) purpose: &'static str,
    /// The TTL asked of etcd. Whole seconds.
    pub(crate) ttl: Duration,
    /// How long a confirmed renewal is believed, if shorter than the TTL that etcd grants. The rest
    /// of the TTL is a cool-down that nobody else's clock can eat.
    pub(crate) hold: Option<Duration>,
    /// Default: a third of `hold` or TTL.
    pub(crate) renew_interval: Option<Duration>,
    pub(crate) past_deadline: PastDeadline,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// Before its deadline.
    Live,
    /// Past its deadline, policy `Resume` or `Verify`: not confirmed at the moment.
    Overdue,
    /// Policy `Verify`: renewed again after having been overdue; the user is to verify and then to
    /// call [`Session::verified`].
    Unverified,
    /// For good.
    Lost(LostReason),
}

/// One life of one lease. Cheap to clone; every clone is the same session.
#[derive(Clone, Debug)]
pub(crate) struct Session(Arc<()>);

impl Session {
    pub(crate) fn lease(&self) -> i64 {
        todo!()
    }

    /// The TTL that etcd granted.
    pub(crate) fn ttl(&self) -> Duration {
        todo!()
    }

    /// Until when a confirmed renewal is believed: one atomic read.
    pub(crate) fn deadline(&self) -> Instant {
        todo!()
    }

    /// The state by the clock: `Live` only before the deadline, whether or not the Keeper has
    /// noticed its passing yet. One clock read, two atomic reads.
    pub(crate) fn state(&self) -> SessionState {
        todo!()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state() == SessionState::Live
    }

    /// The time until the deadline; zero if not live.
    pub(crate) fn remaining(&self) -> Duration {
        todo!()
    }

    /// Done when the session is lost: for a `Dead` session also the moment its deadline passes.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) fn lost(&self) -> impl Future<Output = LostReason> + Send + Sync + 'static + use<> {
        std::future::pending()
    }

    /// The next change of state, and each one after it.
    pub(crate) fn states(&self) -> tokio::sync::watch::Receiver<SessionState> {
        todo!()
    }

    /// Declares it lost (its user saw its key deleted): keep-alives stop, waiters wake. The first
    /// reason stays.
    pub(crate) fn mark_lost(&self, _reason: LostReason) {
        todo!()
    }

    /// Policy `Verify`: the user has read, after the renewal that made it `Unverified`, that its key
    /// is its own. Live again if the deadline of that renewal has not passed.
    pub(crate) fn verified(&self) {
        todo!()
    }
}
