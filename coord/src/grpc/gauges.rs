//! [`Gauges`]: a channel's endpoints by state, as a metric.

use metrics::{Gauge, gauge};

use super::ready::Summary;
use crate::metrics::GRPC_ENDPOINTS;

const STATES: [&str; 5] = ["ready", "connecting", "backing_off", "ejected", "draining"];

/// A channel's part in gauges that all channels to a service share; dropped, it has none.
pub(super) struct Gauges {
    gauges: [Gauge; STATES.len()],
    shown: [usize; STATES.len()],
}

impl Gauges {
    pub(super) fn new(service: &str) -> Self {
        let gauge =
            |state| gauge!(GRPC_ENDPOINTS, "service" => service.to_owned(), "state" => state);
        Self {
            gauges: STATES.map(gauge),
            shown: Default::default(),
        }
    }

    pub(super) fn set(&mut self, summary: &Summary) {
        self.show([
            summary.ready,
            summary.connecting,
            summary.backing_off,
            summary.ejected,
            summary.draining,
        ]);
    }

    fn show(&mut self, new: [usize; STATES.len()]) {
        let old = std::mem::replace(&mut self.shown, new);
        for (gauge, (old, new)) in self.gauges.iter().zip(old.into_iter().zip(new)) {
            // Counts of endpoints are exact in a float.
            #[expect(clippy::cast_precision_loss)]
            if old != new {
                gauge.increment(new as f64 - old as f64);
            }
        }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.show(Default::default());
    }
}
