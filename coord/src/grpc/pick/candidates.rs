//! [`Candidates`]: what one call is picked from.

use std::{cmp::Ordering, sync::Arc};

use rand::{Rng, RngCore};

use super::Tables;
use crate::{
    clock::Instant,
    grpc::{
        endpoint::Endpoint,
        ready::{Member, ReadySet},
    },
};

/// How often a strategy may draw what cannot be used, before the rest is searched.
const DRAWS: usize = 8;

/// The members of a set, of which some cannot be used for this call. They are named by their index.
pub(super) struct Candidates<'c> {
    pub(super) members: &'c [Member],
    pub(super) tables: &'c Tables,
    pub(super) now: Instant,
    tried: &'c [Arc<Endpoint>],
}

impl<'c> Candidates<'c> {
    pub(super) fn of(set: &'c ReadySet, tried: &'c [Arc<Endpoint>], now: Instant) -> Self {
        Self {
            members: &set.members,
            tables: &set.tables,
            now,
            tried,
        }
    }

    /// Whether the call can go there, now.
    pub(super) fn usable(&self, index: usize) -> bool {
        let endpoint = &self.members[index].endpoint;
        endpoint.is_open() && !self.tried.iter().any(|one| Arc::ptr_eq(one, endpoint))
    }

    /// The first that can be used of a few that are drawn.
    pub(super) fn drawn(&self, mut draw: impl FnMut() -> usize) -> Option<usize> {
        (0..DRAWS).map(|_| draw()).find(|&index| self.usable(index))
    }

    /// The best of all that can be used; of several equally good ones any, each as likely as its
    /// `share` says. By A. Chao's reservoir of one: each of them takes the place with its share of what
    /// was seen so far.
    pub(super) fn best(
        &self,
        compare: impl Fn(usize, usize) -> Ordering,
        share: impl Fn(usize) -> f64,
        dice: &mut impl RngCore,
    ) -> Option<usize> {
        let mut best = None;
        let mut seen = 0.0;
        for index in (0..self.members.len()).filter(|&index| self.usable(index)) {
            match best.map_or(Ordering::Less, |best| compare(index, best)) {
                Ordering::Less => {
                    best = Some(index);
                    seen = share(index);
                }
                Ordering::Equal => {
                    seen += share(index);
                    if dice.random::<f64>() * seen < share(index) {
                        best = Some(index);
                    }
                }
                Ordering::Greater => {}
            }
        }
        best
    }

    /// Any that can be used, each as likely as its `share` says.
    pub(super) fn any(
        &self,
        share: impl Fn(usize) -> f64,
        dice: &mut impl RngCore,
    ) -> Option<usize> {
        self.best(|_, _| Ordering::Equal, share, dice)
    }

    pub(super) fn weight(&self, index: usize) -> f64 {
        self.members[index].weight
    }
}
