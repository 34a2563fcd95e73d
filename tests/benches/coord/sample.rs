//! [`Samples`]: how long something took, many times.

use std::time::{Duration, Instant};

/// Sorted durations.
#[derive(Debug)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn median(&self) -> Duration {
        self.at(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(99)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        let mut samples: Vec<_> = samples.into_iter().collect();
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_unstable();
        Self(samples)
    }
}

/// How often each is run before it counts.
const WARM_UP: usize = 50;

/// Times two things in turns; each is given the number of its turn.
pub(crate) async fn in_turns(
    turns: usize,
    mut ours: impl AsyncFnMut(usize),
    mut other: impl AsyncFnMut(usize),
) -> (Samples, Samples) {
    let mut samples = (Vec::new(), Vec::new());
    for turn in 0..WARM_UP + turns {
        let start = Instant::now();
        ours(turn).await;
        let middle = Instant::now();
        other(turn).await;
        let end = Instant::now();
        if turn >= WARM_UP {
            samples.0.push(middle - start);
            samples.1.push(end - middle);
        }
    }
    (
        samples.0.into_iter().collect(),
        samples.1.into_iter().collect(),
    )
}
