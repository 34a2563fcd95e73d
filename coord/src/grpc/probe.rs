//! [`Probe`]: an ejected endpoint that one call may try. [`Permit`]: that call's.

use std::sync::{
    Arc,
    atomic::{
        AtomicU8,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use super::endpoint::{Endpoint, Outcome};

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const PASSED: u8 = 2;
const FAILED: u8 = 3;

/// An ejected endpoint whose time is over: how one call to it ends decides whether it is taken in
/// again. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Probe(Arc<Trial>);

#[derive(Debug)]
struct Trial {
    endpoint: Arc<Endpoint>,
    state: AtomicU8,
}

impl Probe {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self(Arc::new(Trial {
            endpoint,
            state: AtomicU8::new(FREE),
        }))
    }

    /// For the one call; `None`: another call has it.
    pub(super) fn take(&self) -> Option<Permit> {
        let state = &self.0.state;
        // Most calls see here that it is taken, and write nothing.
        let free = state.load(Relaxed) == FREE && self.0.endpoint.is_open();
        let taken = free && state.compare_exchange(FREE, TAKEN, AcqRel, Relaxed).is_ok();
        taken.then(|| Permit(self.0.clone()))
    }

    /// Whether the server answered; `None`: that is not known yet.
    pub(super) fn passed(&self) -> Option<bool> {
        match self.0.state.load(Acquire) {
            PASSED => Some(true),
            FAILED => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
impl Probe {
    /// As if a call had ended so.
    pub(super) fn decide(&self, passed: bool) {
        let state = if passed { PASSED } else { FAILED };
        self.0.state.store(state, Release);
    }
}

/// The right to make the one call. Dropped, it is given back.
#[derive(Debug)]
#[must_use = "dropped, it is given back"]
pub(super) struct Permit(Arc<Trial>);

impl Permit {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    /// How the call ended, or began to be answered. Of a [broken](Outcome::Broken) connection and an
    /// [unknown](Outcome::Unknown) end nothing follows: another call may try.
    pub(super) fn ended(self, outcome: Outcome) {
        let state = match outcome {
            Outcome::Answered | Outcome::Overloaded => PASSED,
            Outcome::Failed => FAILED,
            Outcome::Late | Outcome::Broken | Outcome::Unknown => return,
        };
        self.0.state.store(state, Release);
        self.0.endpoint.trouble.notify_one();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Unless it has ended.
        let _ = self.0.state.compare_exchange(TAKEN, FREE, Release, Relaxed);
    }
}
