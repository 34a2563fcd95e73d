//! Waiting for a condition.

use std::{
    fmt::Debug,
    panic::Location,
    time::{Duration, Instant},
};

/// Long enough for the slowest machine: a test that passes never waits for it.
const BOUND: Duration = Duration::from_secs(120);

/// Polls `condition` until it holds, and returns what it gave.
///
/// A condition is a `bool`, or an [`Option`] or a [`Result`] whose value is wanted. It is polled
/// every few milliseconds.
///
/// # Panics
///
/// If the condition does not hold within two minutes; the message has `what`, the caller's line and
/// what was last seen.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut polls = 0;
/// let third = coord_tests::eventually("the third poll", async || {
///     polls += 1;
///     (polls == 3).then_some(polls)
/// })
/// .await;
/// assert_eq!(third, 3);
/// # });
/// ```
#[track_caller]
pub fn eventually<T: Outcome>(
    what: &str,
    condition: impl AsyncFnMut() -> T,
) -> impl Future<Output = T::Value> {
    eventually_within(BOUND, what, condition)
}

/// [`eventually()`] with another bound than two minutes. It counts on the machine's clock, also where
/// the runtime's is paused.
///
/// # Panics
///
/// If the condition does not hold within `bound`.
#[track_caller]
pub fn eventually_within<T: Outcome>(
    bound: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> T,
) -> impl Future<Output = T::Value> {
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        let mut pause = Duration::from_millis(2);
        loop {
            match condition().await.outcome() {
                Ok(value) => return value,
                Err(seen) if started.elapsed() > bound => {
                    panic!("not within {bound:?}: {what}, at {caller}; last seen: {seen}")
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// What [`eventually()`] can wait for.
pub trait Outcome {
    /// What is had once the condition holds.
    type Value;

    /// The value, or what was seen instead of it.
    ///
    /// # Errors
    ///
    /// If the condition does not hold.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "None".to_owned())
    }
}

impl<T, E: Debug> Outcome for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}
