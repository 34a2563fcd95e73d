//! All kinds of locks at once, while connections and the server fail at random, entries are deleted by hand
//! and the store is put back to older states: nobody meets whom it must not, no token is given twice, no
//! write is done without the lock, nothing is left behind.
//!
//! A failure prints its seed; `COORD_CHAOS_SEED` repeats what was done, though not when.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coord::{Coordinator, Error, Held, LockBuilder, LockGuard};
use coord_tests::{
    Backend, Flow, History, Mode, Proxy, eventually, eventually_within,
    history::{self, Asking},
    on_both,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::options;

on_both! {
    whatever_fails_nobody_meets_whom_it_must_not,
    a_store_that_is_put_back_while_things_fail_is_locked_again,
}

/// How long things fail.
const ACTIVE: Duration = Duration::from_secs(12);
/// How often the store is put back.
const RESTORES: usize = 4;
/// Short enough to run out in some of the failures.
const TTL: u64 = 4;
const PERMITS: u32 = 3;

/// One who takes locks, again and again.
struct Actor {
    coordinator: Coordinator,
    random: StdRng,
    mixed: History,
    other: History,
    led: History,
    ended: Arc<AtomicBool>,
}

impl Actor {
    async fn run(mut self) {
        while !self.ended.load(Ordering::SeqCst) {
            let done = match self.random.random_range(0..10) {
                0..6 => self.mixed().await,
                6 => self.both().await,
                7 => self.again().await,
                _ => self.lead().await,
            };
            match done {
                Ok(()) => {}
                // What failures may cost.
                Err(
                    Error::Timeout { .. }
                    | Error::Unavailable { .. }
                    | Error::Busy { .. }
                    | Error::Lost { .. },
                ) => self.pause(50).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    async fn pause(&mut self, up_to_ms: u64) {
        let pause = self.random.random_range(0..=up_to_ms);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Sometimes it gives up at once, and sometimes at any moment.
    async fn acquire(&mut self, lock: LockBuilder) -> coord::Result<Option<LockGuard>> {
        let lock = lock.wait(Duration::from_secs(3));
        match self.random.random_range(0..8) {
            0 => lock.try_acquire().await.map(Some),
            1 => {
                let limit = Duration::from_micros(self.random.random_range(0..20_000));
                let acquire = tokio::time::timeout(limit, lock.acquire());
                acquire.await.ok().transpose()
            }
            _ => lock.acquire().await.map(Some),
        }
    }

    /// All modes in one queue.
    async fn mixed(&mut self) -> coord::Result<()> {
        let lock = self.coordinator.lock("mixed");
        let take = self.random.random_range(1..=PERMITS);
        let (lock, mode) = match self.random.random_range(0..5) {
            0 => (lock.read(), Mode::Read),
            1 | 2 => {
                let of = PERMITS;
                (lock.permits(of).take(take), Mode::Permits { take, of })
            }
            3 => (lock.downgradable(), Mode::Exclusive),
            _ => (lock.write(), Mode::Exclusive),
        };
        let downgrades = mode == Mode::Exclusive && self.random.random();
        let queue = [self.mixed.asks()];
        let Some(guard) = self.acquire(lock).await? else {
            return Ok(());
        };
        self.stay(&guard, mode, &queue).await?;
        if downgrades {
            match guard.downgrade().await {
                Ok(()) => {
                    self.stay(&guard, Mode::Read, &queue).await?;
                }
                // Not one that can be.
                Err(Error::Invalid { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.leave(guard, &queue).await
    }

    /// By a handle that counts.
    async fn again(&mut self) -> coord::Result<()> {
        let lock = self.coordinator.lock("other").wait(Duration::from_secs(3));
        let (lock, queue) = (lock.into_reentrant(), [self.other.asks()]);
        let token = lock.acquire().await?;
        assert_eq!(lock.acquire().await?, token);
        let held = lock.held().unwrap();
        self.stay(&held, Mode::Exclusive, &queue).await?;
        assert_eq!(lock.release().await?, None);
        let released = lock.release().await?;
        assert!(!held.is_held());
        if released.unwrap().confirmed {
            queue[0].confirmed(token.get());
        }
        Ok(())
    }

    async fn both(&mut self) -> coord::Result<()> {
        let lock = self.coordinator.lock_all(["other", "mixed"]);
        let queues = [self.mixed.asks(), self.other.asks()];
        let Some(guard) = self.acquire(lock).await? else {
            return Ok(());
        };
        self.stay(&guard, Mode::Exclusive, &queues).await?;
        self.leave(guard, &queues).await
    }

    /// In a body: it is stopped, and does not have to look.
    async fn lead(&mut self) -> coord::Result<()> {
        let election = self
            .coordinator
            .election("led")
            .wait(Duration::from_secs(3));
        let queue = self.led.asks();
        let leadership = election.campaign("first").await?;
        let steps = self.random.random_range(0..10);
        let proclaims = self.random.random();
        let token = leadership.fencing_token().get();
        let mut inside = None;
        let body = async {
            // It was let in.
            let inside = inside.insert(queue.enter(Mode::Exclusive, token));
            for _ in 0..steps {
                inside.runs();
                sleep(Duration::from_millis(1)).await;
            }
            inside.runs();
            if proclaims {
                return leadership.proclaim("second").await;
            }
            Ok(())
        };
        let led = leadership.run(body).await;
        drop(inside);
        led??;
        if self.random.random() {
            leadership.resign().await?;
        }
        Ok(())
    }

    /// In by hand: it looks before each step.
    async fn stay(&mut self, held: &Held, mode: Mode, queues: &[Asking]) -> coord::Result<()> {
        let token = held.fencing_token().get();
        let mut insides: Vec<history::Inside> = Vec::new();
        for step in 0..self.random.random_range(1..10) {
            if !held.is_held() {
                break;
            }
            if step == 0 {
                insides.extend(queues.iter().map(|queue| queue.enter(mode, token)));
            }
            insides.iter_mut().for_each(history::Inside::runs);
            self.pause(2).await;
        }
        if self.random.random_range(0..3) == 0 {
            // Whether it is held still only etcd knows.
            let write = held.transaction().put("written", token.to_string());
            let revision = write.commit().await?;
            insides.iter_mut().for_each(|inside| inside.wrote(revision));
        }
        Ok(())
    }

    async fn leave(&mut self, guard: LockGuard, queues: &[Asking]) -> coord::Result<()> {
        match self.random.random_range(0..4) {
            0 => {
                let ttl = Duration::from_secs(TTL + 1);
                guard.set_ttl(ttl).await?;
                guard.verify().await?;
                Ok(())
            }
            1 => {
                let token = guard.fencing_token().get();
                if guard.unlock().await?.confirmed {
                    queues.iter().for_each(|queue| queue.confirmed(token));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The actors, and what is done to them.
struct Chaos {
    server: Backend,
    random: StdRng,
    proxies: Vec<Proxy>,
    histories: [History; 3],
    actors: Vec<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

impl Chaos {
    async fn begin(server: Backend) -> Self {
        let seed = match env::var("COORD_CHAOS_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => rand::random(),
        };
        println!("COORD_CHAOS_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let store = server.client().await;
        let mixed = History::of(&store, "coord/lock/mixed!/").await;
        let other = History::of(&store, "coord/lock/other!/").await;
        let led = History::of(&store, "coord/election/led!/").await;
        let ended = Arc::new(AtomicBool::new(false));
        let (mut proxies, mut actors) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let proxy = Proxy::start(&server.endpoint()).await;
            let connected = Coordinator::connect(options(proxy.endpoint(), TTL)).await;
            let coordinator = connected.unwrap();
            proxies.push(proxy);
            for _ in 0..3 {
                let actor = Actor {
                    coordinator: coordinator.clone(),
                    random: StdRng::seed_from_u64(random.random()),
                    mixed: mixed.clone(),
                    other: other.clone(),
                    led: led.clone(),
                    ended: ended.clone(),
                };
                actors.push(tokio::spawn(actor.run()));
            }
        }
        Self {
            server,
            random,
            proxies,
            histories: [mixed, other, led],
            actors,
            ended,
        }
    }

    async fn fail(&mut self) {
        let Self {
            server,
            random,
            proxies,
            histories,
            ..
        } = self;
        let proxy = &proxies[random.random_range(0..proxies.len())];
        // Sometimes as long as no lease lives.
        let long = Duration::from_millis(match random.random_range(0..4) {
            0 => random.random_range(0..5_500),
            _ => random.random_range(0..500),
        });
        match random.random_range(0..11) {
            0 | 1 => {
                proxy.cut().await;
            }
            2 => proxy.half_open(),
            3 => proxy.flow(Flow::Discard),
            4 => proxy.requests(Flow::Hold),
            5 => proxy.replies(Flow::Discard),
            6 => proxy.flow(Flow::Delay(long / 4)),
            7 => {
                server.kill();
                sleep(long / 2).await;
                server.restart().await;
            }
            8 => {
                server.stop();
                sleep(long / 2).await;
                server.cont();
            }
            _ => {
                let store = server.client().await;
                for _ in 0..random.random_range(1..4) {
                    let history = &histories[random.random_range(0..histories.len())];
                    let which = random.random_range(0..100);
                    history.delete_one(&store, which).await;
                }
            }
        }
        sleep(long).await;
        if random.random() {
            proxy.heal().await;
        }
    }

    /// Nobody waits for what is gone, what was told was right, and nothing is left.
    async fn end(self) {
        for proxy in &self.proxies {
            proxy.heal().await;
        }
        for (name, history) in ["mixed", "other", "led"].iter().zip(&self.histories) {
            let (what, before) = (format!("{name} goes round again"), history.len());
            let limit = Duration::from_secs(120);
            eventually_within(limit, &what, async || history.len() > before + 10).await;
        }
        self.ended.store(true, Ordering::SeqCst);
        for actor in self.actors {
            actor.await.unwrap();
        }
        let store = self.server.client().await;
        for history in &self.histories {
            history.check(&store).await;
        }
        eventually("nothing is left to undo", async || {
            let keys = etcd_client::GetOptions::new()
                .with_prefix()
                .with_count_only();
            let left = store.kv_client().get("coord/lock/", Some(keys)).await;
            left.is_ok_and(|left| left.count() == 0)
        })
        .await;
    }
}

async fn whatever_fails_nobody_meets_whom_it_must_not(server: Backend) {
    let mut chaos = Chaos::begin(server).await;
    let began = Instant::now();
    while began.elapsed() < ACTIVE {
        chaos.fail().await;
    }
    chaos.end().await;
}

/// Whoever was in when it was put back may meet others until it is told; from then on nobody may.
async fn a_store_that_is_put_back_while_things_fail_is_locked_again(server: Backend) {
    let mut chaos = Chaos::begin(server).await;
    for _ in 0..RESTORES {
        let saved = chaos.server.save().await;
        for _ in 0..chaos.random.random_range(1..4) {
            chaos.fail().await;
        }
        chaos.histories.iter().for_each(History::goes_back);
        chaos.server.restore(&saved).await;
        chaos.histories.iter().for_each(History::went_back);
        for _ in 0..chaos.random.random_range(0..3) {
            chaos.fail().await;
        }
    }
    chaos.end().await;
}
