//! [`Picker`]: which endpoint a call goes to.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{
    builder::Strategy,
    endpoint::Endpoint,
    ready::{Member, ReadySet},
};
use crate::clock::Instant;

/// What a strategy works out when the set changes, so that a pick does not.
#[derive(Debug, Default)]
pub(super) struct Tables {}

/// Picks. Shared by all calls of a channel, without a lock.
#[derive(Debug)]
pub(super) struct Picker {
    strategy: Strategy,
    next: AtomicUsize,
}

impl Picker {
    pub(super) fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            next: AtomicUsize::new(rand::random::<u16>().into()),
        }
    }

    /// Before a set is published.
    pub(super) fn tables(&self, members: &[Member]) -> Tables {
        let _ = (self.strategy, members);
        Tables {}
    }

    /// One whose connection is open and that is not among `tried`; `None`: there is none.
    pub(super) fn pick<'s>(
        &self,
        set: &'s ReadySet,
        tried: &[Arc<Endpoint>],
        now: Instant,
    ) -> Option<&'s Arc<Endpoint>> {
        let _ = now;
        let members = &set.members;
        let first = self.next.fetch_add(1, Relaxed);
        (0..members.len())
            .map(|i| &members[first.wrapping_add(i) % members.len()].endpoint)
            .find(|one| one.open().is_some() && !tried.iter().any(|tried| Arc::ptr_eq(tried, one)))
    }
}
