//! [`Gauges`]: a channel's endpoints by state, as a metric.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::gauge;

use super::ready::Summary;
use crate::metrics::GRPC_ENDPOINTS;

const STATES: [&str; 5] = ["ready", "connecting", "backing_off", "ejected", "draining"];

type Counts = [usize; STATES.len()];

/// Of all channels of the process, by service: a recorder that is installed later is told how many there
/// are, and not what has changed since.
static ALL: Mutex<BTreeMap<Arc<str>, Counts>> = Mutex::new(BTreeMap::new());

/// A channel's part in gauges that all channels to a service share; dropped, it has none.
pub(super) struct Gauges {
    service: Arc<str>,
    shown: Counts,
}

impl Gauges {
    pub(super) fn new(service: Arc<str>) -> Self {
        Self {
            service,
            shown: Counts::default(),
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

    fn show(&mut self, new: Counts) {
        let old = std::mem::replace(&mut self.shown, new);
        // Until the gauges are set: another channel's newer counts would else be told before these.
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(self.service.clone()).or_default();
        for (at, state) in STATES.into_iter().enumerate() {
            // What is taken off was added before.
            counts[at] = counts[at] + new[at] - old[at];
            // Counts of endpoints are exact in a float.
            #[expect(clippy::cast_precision_loss)]
            let count = counts[at] as f64;
            gauge!(GRPC_ENDPOINTS, "service" => self.service.clone(), "state" => state).set(count);
        }
        if *counts == Counts::default() {
            all.remove(&self.service);
        }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.show(Counts::default());
    }
}
