//! [`ReadySet`]: what a call is picked from.

use std::sync::Arc;

use super::{endpoint::Endpoint, pick::Tables};

/// The endpoints that can take calls, at one moment. Immutable: the keeper makes another.
#[derive(Debug, Default)]
pub(super) struct ReadySet {
    /// Picked from; connected when the set was made.
    pub(super) members: Box<[Member]>,
    /// What the strategy has worked out beforehand.
    pub(super) tables: Tables,
    /// Why there is nothing to pick from, or not more: for people.
    pub(super) summary: Summary,
}

/// An endpoint and its share.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// As the registry says, less while it starts slowly; above zero.
    pub(super) weight: f64,
}

/// What the registry and the connections look like, for the text of a call that found no endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// Instances that the registry names, and that pass the filters.
    pub(super) registered: usize,
    /// Instances that the registry names, and that do not.
    pub(super) filtered: usize,
    pub(super) connecting: usize,
    pub(super) ejected: usize,
    /// The last failure to connect, with the address.
    pub(super) last_error: Option<Arc<str>>,
}
