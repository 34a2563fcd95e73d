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
//! 5. Whether a lease may be renewed at the moment can be given by the session's user ([`Gate`]).
//! 6. Nothing blocks in `Drop`, and nothing needs a runtime there.

mod gate;
mod grant;
mod handle;
mod heart;
mod heartbeat;
mod keeper;
mod leased_key;
#[cfg(test)]
mod live_tests;
mod nonce;
#[cfg(test)]
mod script;
mod server;
mod terms;
mod undo;

use std::time::Duration;

pub(crate) use gate::Gate;
pub(crate) use handle::Session;
pub(crate) use keeper::Keeper;
pub(crate) use leased_key::LeasedKey;
pub(crate) use nonce::{Nonce, Nonces};
pub(crate) use undo::{Receipt, Turn, Undo, UndoQueue};

use crate::error::LostReason;

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
    /// Default: a third of `hold` or TTL. Kept between a thirtieth and a half of it.
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
    /// Policy `Verify`: renewed again after having been overdue; the user is to ask for the renewal
    /// ([`Session::unverified`]), to read its key, and then to call [`Session::verified`].
    Unverified,
    /// For good.
    Lost(LostReason),
}
