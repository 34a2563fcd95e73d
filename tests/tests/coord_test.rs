//! `#[coord::test]`: each test has a server and a coordinator of its own, and nothing of it is left.
#![allow(
    unnameable_test_items,
    reason = "a test that is about a test calls it: its inner function is not for the harness"
)]

use std::{
    any::Any,
    net::TcpStream,
    panic::catch_unwind,
    rc::Rc,
    sync::{Barrier, Mutex, mpsc},
    thread,
    time::Duration,
};

use coord::{
    Config, Context, CoordConfig, Coordinator, Error, Held, Service,
    embedded::Server,
    locked,
    testing::{FromTest, Test},
};
use tokio::{runtime::Handle, sync::oneshot};

/// `Busy` where the test's coordinator holds the lock `taken`; there is no other coordinator.
#[locked("taken", try)]
async fn try_taken() -> Result<(), Error> {
    Ok(())
}

fn assert_busy(result: Result<(), Error>) {
    assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
}

#[coord::test]
async fn locked_functions_use_the_tests_coordinator_wherever_they_run(coordinator: Coordinator) {
    let taken = coordinator.lock("taken").acquire().await.unwrap();
    assert_busy(try_taken().await);
    assert_busy(tokio::spawn(try_taken()).await.unwrap());
    let spawned_by_spawned = tokio::spawn(async { tokio::spawn(try_taken()).await.unwrap() });
    assert_busy(spawned_by_spawned.await.unwrap());
    let blocking = tokio::task::spawn_blocking(|| Handle::current().block_on(try_taken()));
    assert_busy(blocking.await.unwrap());
    assert_busy(tokio::task::block_in_place(|| {
        Handle::current().block_on(try_taken())
    }));
    taken.unlock().await.unwrap();
    try_taken().await.unwrap();
}

#[coord::test(runtime(flavor = current_thread))]
async fn so_they_do_on_one_thread(coordinator: Coordinator) {
    let _taken = coordinator.lock("taken").acquire().await.unwrap();
    assert_busy(try_taken().await);
    let here = thread::current().id();
    let spawned = tokio::spawn(async move {
        assert_eq!(thread::current().id(), here);
        try_taken().await
    });
    assert_busy(spawned.await.unwrap());
    let blocking = tokio::task::spawn_blocking(|| Handle::current().block_on(try_taken()));
    assert_busy(blocking.await.unwrap());
}

#[coord::test]
async fn the_global_coordinator_is_the_tests(coordinator: Coordinator) {
    let _taken = coordinator.lock("taken").acquire().await.unwrap();
    let global = coord::global().await.unwrap();
    let result = global.lock("taken").try_acquire().await;
    assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
}

/// Not on one that the environment or the service's own words name.
#[coord::test]
async fn a_service_in_a_test_runs_on_the_tests_server(coordinator: Coordinator) {
    let _taken = coordinator.lock("taken").acquire().await.unwrap();
    let (done, is_done) = oneshot::channel();
    let service = tokio::task::spawn_blocking(|| {
        let service = Service::new("shop").endpoints(["http://127.0.0.1:1"]);
        service.run(async move |context: Context| {
            let coordinator = context.coordinator().clone();
            let by_hand = coordinator.lock("taken").try_acquire().await.map(drop);
            done.send((by_hand, try_taken().await)).unwrap();
        })
    });
    let (by_hand, by_macro) = is_done.await.expect("it starts");
    assert_busy(by_hand);
    assert_busy(by_macro);
    service.await.unwrap();
}

#[derive(CoordConfig)]
#[coord(prefix = "shop")]
struct Shop {
    #[coord(default = "welcome")]
    greeting: String,
}

#[coord::test]
async fn configs_live_on_the_tests_server(coordinator: Coordinator) {
    let shop = coordinator.config::<Shop>().start().await.unwrap();
    assert_eq!(shop.load().greeting, "welcome");
    let center = coordinator.config_center();
    let revision = center.set("shop/greeting", "hello").await.unwrap();
    shop.wait_for_revision(revision).await.unwrap();
    assert_eq!(shop.load().greeting, "hello");
}

/// What etcd does in bad times, at one's call.
#[coord::test]
async fn the_server_has_its_faults_on_demand(coordinator: Coordinator, server: &Server) {
    #[locked("mortal")]
    async fn never_done(inside: oneshot::Sender<()>) -> Result<(), Error> {
        inside.send(()).unwrap();
        std::future::pending().await
    }

    let (inside, is_inside) = oneshot::channel();
    let task = tokio::spawn(never_done(inside));
    is_inside.await.unwrap();
    let lease = coordinator.health().sessions[0].lease;
    assert!(server.expire_lease(lease));
    let result = task.await.unwrap();
    assert!(matches!(result, Err(Error::Lost { .. })), "{result:?}");
}

/// Made from what the test has; keeps a loan of the server; is not `Send`.
struct Seeded<'t> {
    shop: Config<Shop>,
    server: &'t Server,
    local: Rc<u8>,
}

impl<'t> FromTest<'t> for Seeded<'t> {
    type Error = Error;

    async fn from_test(test: &'t Test) -> Result<Self, Error> {
        let coordinator = test.coordinator();
        let center = coordinator.config_center();
        center.set("shop/greeting", "seeded").await?;
        Ok(Self {
            shop: coordinator.config().start().await?,
            server: test.server(),
            local: Rc::new(7),
        })
    }
}

#[coord::test]
async fn arguments_come_in_any_order(
    server: &Server,
    Seeded { shop, local, .. }: Seeded<'_>,
    mut coordinator: Coordinator,
    seeded: Seeded<'_>,
) -> Result<(), Error> {
    assert_eq!(*local, 7);
    assert_eq!(shop.load().greeting, "seeded");
    assert_eq!(seeded.server.endpoint(), server.endpoint());
    coordinator = coordinator.module("m");
    coordinator.ping().await?;
    Ok(())
}

#[coord::test(runtime(worker_threads = 4))]
async fn there_are_as_many_workers_as_asked_for() {
    assert_eq!(Handle::current().metrics().num_workers(), 4);
}

#[coord::test]
#[should_panic(expected = "of its own accord")]
async fn a_test_may_panic(coordinator: Coordinator) {
    coordinator.ping().await.unwrap();
    panic!("of its own accord");
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

/// Runs a test as the harness does; not for longer than a hang.
fn harness<R: Send + 'static>(test: fn() -> R) -> thread::Result<R> {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(catch_unwind(test)));
    ended
        .recv_timeout(Duration::from_secs(60))
        .expect("the test ends")
}

#[test]
fn two_at_once_share_nothing() {
    static BOTH: Barrier = Barrier::new(2);

    #[coord::test]
    async fn alone(coordinator: Coordinator) {
        // Each holds the lock while the other does, and sees none but its own value.
        let _taken = coordinator.lock("taken").try_acquire().await.unwrap();
        let center = coordinator.config_center();
        tokio::task::spawn_blocking(|| BOTH.wait()).await.unwrap();
        let shop = coordinator.config::<Shop>().start().await.unwrap();
        assert_eq!(shop.load().greeting, "welcome");
        let revision = center.set("shop/greeting", "mine").await.unwrap();
        shop.wait_for_revision(revision).await.unwrap();
        tokio::task::spawn_blocking(|| BOTH.wait()).await.unwrap();
        // Both have written by now.
        assert_eq!(shop.status().applied_revision, i64::from(revision));
        assert_busy(try_taken().await);
    }

    let other = thread::spawn(|| harness(alone));
    harness(alone).unwrap();
    other.join().unwrap().unwrap();
}

#[test]
fn an_error_is_returned() {
    #[coord::test]
    async fn fails(coordinator: Coordinator) -> Result<(), Error> {
        let _taken = coordinator.lock("taken").acquire().await?;
        try_taken().await
    }

    let result = harness(fails).unwrap();
    assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
}

/// What a test had: to look at when it has ended.
static HAD: Mutex<Vec<(Coordinator, String)>> = Mutex::new(Vec::new());

fn had(coordinator: Coordinator, server: &Server) {
    HAD.lock()
        .unwrap()
        .push((coordinator, server.endpoint().to_owned()));
}

#[test]
fn nothing_of_a_test_is_left_whatever_became_of_it() {
    /// Says so when it goes.
    struct Gone(mpsc::Sender<()>);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    static GONE: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);

    #[coord::test]
    async fn returns(coordinator: Coordinator, server: &Server) {
        had(coordinator, server);
    }

    #[coord::test]
    async fn panics(coordinator: Coordinator, server: &Server) {
        had(coordinator.clone(), server);
        let _taken = coordinator.lock("taken").acquire().await.unwrap();
        panic!("as a failed assertion does");
    }

    /// One that waits for ever, and one that blocks a thread for ever.
    #[coord::test]
    async fn leaves_tasks(coordinator: Coordinator, server: &Server) {
        had(coordinator.clone(), server);
        let gone = Gone(GONE.lock().unwrap().take().unwrap());
        tokio::spawn(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        });
        tokio::task::spawn_blocking(|| {
            loop {
                thread::park();
            }
        });
    }

    /// The coordinator has something to give back, and nobody who takes it.
    #[coord::test]
    async fn leaves_the_server_stalled(coordinator: Coordinator, server: &Server) {
        had(coordinator.clone(), server);
        let _taken = coordinator.lock("taken").acquire().await.unwrap();
        server.stall();
    }

    let (gone, is_gone) = mpsc::channel();
    *GONE.lock().unwrap() = Some(gone);
    harness(returns).unwrap();
    let panic = harness(panics).unwrap_err();
    assert_eq!(message(&*panic), "as a failed assertion does");
    harness(leaves_tasks).unwrap();
    // The task had gone before the test ended.
    is_gone.try_recv().unwrap();
    harness(leaves_the_server_stalled).unwrap();

    let had = std::mem::take(&mut *HAD.lock().unwrap());
    assert_eq!(had.len(), 4);
    for (coordinator, endpoint) in had {
        assert!(coordinator.health().closed);
        let address = endpoint.strip_prefix("http://").unwrap();
        let refused = TcpStream::connect(address);
        assert!(refused.is_err(), "something still listens on {address}");
    }
}

/// A thread that was left behind does not end up on whatever cluster the environment names.
#[test]
fn a_thread_that_outlives_its_test_has_no_coordinator() {
    type Ends = (mpsc::Receiver<()>, mpsc::Sender<Result<Coordinator, Error>>);
    static ENDS: Mutex<Option<Ends>> = Mutex::new(None);

    #[coord::test]
    async fn leaves_a_thread() {
        let (test_ended, found) = ENDS.lock().unwrap().take().unwrap();
        tokio::task::spawn_blocking(move || {
            test_ended.recv().unwrap();
            let global = Handle::current().block_on(coord::global());
            found.send(global).unwrap();
        });
    }

    let (end, test_ended) = mpsc::channel();
    let (found, finds) = mpsc::channel();
    *ENDS.lock().unwrap() = Some((test_ended, found));
    harness(leaves_a_thread).unwrap();
    end.send(()).unwrap();
    let global = finds.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(global, Err(Error::Closed { .. })), "{global:?}");
}

/// Never to be had.
#[derive(Debug)]
struct Impossible;

impl FromTest<'_> for Impossible {
    type Error = Error;

    async fn from_test(test: &Test) -> Result<Self, Error> {
        let coordinator = test.coordinator();
        coordinator.close().await;
        coordinator.ping().await?;
        Ok(Self)
    }
}

struct Broken;

impl FromTest<'_> for Broken {
    type Error = Error;

    async fn from_test(_: &Test) -> Result<Self, Error> {
        panic!("as a failed assertion does");
    }
}

#[test]
fn a_test_that_cannot_begin_has_failed() {
    #[coord::test]
    async fn never_begins(_: Impossible) {
        unreachable!("its argument cannot be made");
    }

    /// If it panicked, the harness would take it for good.
    #[coord::test]
    #[should_panic]
    async fn never_panics(_: Impossible) {
        unreachable!("its argument cannot be made");
    }

    /// Its fixture is broken, not what it tests.
    #[coord::test]
    #[should_panic]
    async fn does_not_count(_: Broken) {
        unreachable!("its argument cannot be made");
    }

    let panic = harness(never_begins).unwrap_err();
    let message = message(&*panic);
    assert!(message.contains("did not begin"), "{message}");
    harness(never_panics).unwrap();
    harness(does_not_count).unwrap();
}

#[locked("outer", guard = held)]
#[coord::test]
async fn a_test_may_run_under_a_lock(coordinator: Coordinator) -> Result<(), Error> {
    let held: &Held = held;
    assert!(held.is_held());
    let busy = coordinator.lock("outer").try_acquire().await;
    assert!(
        matches!(busy, Err(Error::Busy { .. } | Error::WouldDeadlock { .. })),
        "{busy:?}"
    );
    Ok(())
}
