//! [`Numbers`]: a recorder that keeps what the metrics are told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// A recorder: of counters it keeps the sums, of gauges the last value, of histograms how often they were
/// told something. Cheap to clone; every clone is the same one.
///
/// Each has its name and its labels: `calls_total service=users outcome=answered`.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Mutex<BTreeMap<String, i64>>>);

impl Numbers {
    /// All, in the order of their names.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, i64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// One of them; zero, if it was never told anything.
    #[must_use]
    pub fn of(&self, name: &str) -> i64 {
        self.all().get(name).copied().unwrap_or_default()
    }

    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key
            .labels()
            .map(|label| format!(" {}={}", label.key(), label.value()));
        let name = key.name().to_owned() + &labels.collect::<String>();
        Arc::new(One(self.clone(), name))
    }
}

#[derive(Debug)]
struct One(Numbers, String);

impl One {
    fn change(&self, change: impl FnOnce(i64) -> i64) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = all.entry(self.1.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| value.saturating_add_unsigned(by));
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| value + whole(by));
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - whole(by));
    }

    fn set(&self, value: f64) {
        self.change(|_| whole(value));
    }
}

/// Gauges count, too.
#[expect(clippy::cast_possible_truncation, reason = "no test counts that far")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

impl HistogramFn for One {
    fn record(&self, seconds: f64) {
        assert!((0.0..60.0).contains(&seconds), "{seconds} seconds");
        self.change(|value| value + 1);
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}
