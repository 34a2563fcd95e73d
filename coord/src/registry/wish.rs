//! [`Wish`]: what the owner of a registration wants of it, from several sides.

use std::sync::Arc;

use super::{
    chain::{Place, Target},
    instance::InstanceHealth,
    record::Record,
};

/// What is wanted of one registration.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Counts the changes.
    pub(super) number: u64,
    pub(super) stage: Stage,
    pub(super) record: Arc<Record>,
    /// What the owner says. Anything but healthy counts more than the check.
    pub(super) said: InstanceHealth,
    /// What the health check found last; without a check it is healthy.
    pub(super) checked: InstanceHealth,
}

/// How far its life has come. It moves forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Not ready yet.
    Starting,
    Serving,
    /// Leaving: not routable any more, still there.
    Withdrawn,
    Gone,
}

impl Wish {
    /// `checked`: by a health check, which has not run yet.
    pub(super) fn new(record: Record, checked: bool) -> Self {
        Self {
            number: 0,
            stage: Stage::Starting,
            record: Arc::new(record),
            said: InstanceHealth::Healthy,
            checked: match checked {
                true => InstanceHealth::Unknown,
                false => InstanceHealth::Healthy,
            },
        }
    }

    pub(super) fn target(&self) -> Target {
        let health = match self.said {
            InstanceHealth::Healthy => self.checked,
            said => said,
        };
        Target {
            place: match (self.stage, health) {
                (Stage::Starting, _) => Place::Hidden(InstanceHealth::Starting),
                (Stage::Serving, InstanceHealth::Healthy) => Place::Shown,
                (Stage::Serving, health) => Place::Hidden(health),
                (Stage::Withdrawn, _) => Place::Hidden(InstanceHealth::Draining),
                (Stage::Gone, _) => Place::Gone,
            },
            record: self.record.clone(),
        }
    }

    /// Whether others are to find it.
    #[cfg(feature = "grpc")]
    pub(super) fn is_shown(&self) -> bool {
        self.target().place == Place::Shown
    }

    /// True if that is news.
    pub(super) fn forward(&mut self, to: Stage) -> bool {
        let forward = to > self.stage;
        if forward {
            self.stage = to;
            self.number += 1;
        }
        forward
    }
}
