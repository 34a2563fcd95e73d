//! The watchdog: an instance whose runtime runs no tasks serves nobody, so it is not kept registered.
//!
//! coord's own threads renew the lease, and would go on for ever: they are what a busy runtime does
//! not starve, and what does not notice one that is dead-locked.

use std::time::Duration;

use tokio::sync::watch;

use crate::{clock::Clock, engine::Engine, session::Gate, tasks::Tasks};

/// The limit is counted in so many parts, and as often the runtime is asked: so a pause of the whole
/// process counts as one of them, however long it was.
const PARTS: u32 = 5;

/// A gate that is closed while the runtime of who calls this has run no task for `limit`.
pub(super) fn start(engine: &Engine, instance: &str, limit: Duration) -> Gate {
    let (lever, gate) = Gate::new();
    let watching = Watching {
        clock: engine.clock.clone(),
        instance: instance.to_owned(),
        user: engine.tasks.here(),
        limit,
    };
    engine.tasks.spawn(async move {
        tokio::select! {
            () = lever.closed() => {}
            () = watching.run(&lever) => {}
        }
    });
    gate
}

struct Watching {
    clock: Clock,
    instance: String,
    user: Tasks,
    limit: Duration,
}

impl Watching {
    /// Ends with the runtime.
    async fn run(&self, lever: &watch::Sender<bool>) {
        let part = self.limit / PARTS;
        loop {
            let mut answer = self.user.spawn(async {});
            let mut silent = 0;
            let answered = loop {
                match self.clock.timeout(part, &mut answer).await {
                    Ok(answered) => break answered,
                    Err(_elapsed) => silent += 1,
                }
                if silent == PARTS {
                    lever.send_replace(false);
                    tracing::warn!(target: "coord::registry", instance = self.instance,
                        "the service's runtime has run no task for {}: its registration is left to \
                         expire", humantime::format_duration(self.limit));
                    break (&mut answer).await;
                }
            };
            if answered.is_none() {
                // Nothing that is registered here is served any more.
                lever.send_replace(false);
                tracing::debug!(target: "coord::registry", instance = self.instance,
                    "the service's runtime has ended");
                return;
            }
            if !lever.send_replace(true) {
                tracing::warn!(target: "coord::registry", instance = self.instance,
                    "the service's runtime runs tasks again, and its registration is kept again");
            }
            self.clock.sleep(part).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const LIMIT: Duration = Duration::from_secs(15);

    /// A watched runtime that runs only when it is told to.
    struct Rig {
        runtime: tokio::runtime::Runtime,
        hand: ManualClock,
        gate: Gate,
    }

    impl Rig {
        fn start() -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.expect("a runtime");
            let (clock, hand) = Clock::manual();
            let (lever, gate) = Gate::new();
            let watching = Watching {
                clock,
                instance: "inst/u".into(),
                user: {
                    let _entered = runtime.enter();
                    Tasks::current()
                },
                limit: LIMIT,
            };
            tokio::spawn(async move { watching.run(&lever).await });
            Self {
                runtime,
                hand,
                gate,
            }
        }

        /// Time passes in steps of this length, each of which everybody notices.
        async fn pass(&self, step: Duration, steps: u32) {
            rest().await;
            for _ in 0..steps {
                self.hand.advance(step);
                rest().await;
            }
        }

        /// A runtime is not dropped where others run.
        fn end(self) {
            self.runtime.shutdown_background();
        }

        async fn runs(&self) {
            std::thread::scope(|scope| {
                let turn = || self.runtime.block_on(tokio::task::yield_now());
                scope.spawn(turn).join().expect("no panic");
            });
            rest().await;
        }
    }

    async fn rest() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_gate_is_closed_after_the_limit_and_opened_by_the_next_answer() {
        let rig = Rig::start();
        for _ in 0..3 {
            rig.pass(LIMIT / PARTS, PARTS - 1).await;
            assert!(rig.gate.is_open(), "busy, for less than the limit");
            rig.runs().await;
            // Until the next question.
            rig.pass(LIMIT / PARTS, 1).await;
        }
        rig.pass(LIMIT / PARTS, PARTS).await;
        assert!(!rig.gate.is_open());
        rig.pass(LIMIT, 5).await;
        assert!(!rig.gate.is_open());
        rig.runs().await;
        assert!(rig.gate.is_open());
        rig.end();
    }

    /// After it the runtime has had no more time to answer than the watchdog had to ask.
    #[tokio::test]
    async fn a_pause_of_the_whole_process_closes_nothing() {
        let rig = Rig::start();
        rig.pass(LIMIT * 100, PARTS - 1).await;
        assert!(rig.gate.is_open());
        rig.runs().await;
        assert!(rig.gate.is_open());
        rig.end();
    }

    #[tokio::test]
    async fn a_runtime_that_has_ended_closes_it_for_good() {
        let Rig {
            runtime,
            hand,
            gate,
        } = Rig::start();
        rest().await;
        runtime.shutdown_background();
        rest().await;
        hand.advance(LIMIT * 2);
        rest().await;
        assert!(!gate.is_open());
    }
}
