//! An acquire that arrives long after its sender has given it up.

use std::time::Duration;

use coord::{Coordinator, LockGuard};
use coord_tests::{Backend, Flow, Proxy, eventually, on_both};
use etcd_client::Client;

use super::{connect, options, queue, queue_is};

on_both! {
    a_late_copy_of_an_acquire_puts_nothing_after_the_release,
    a_late_copy_of_a_cancelled_acquire_puts_nothing,
    a_late_copy_of_several_entries_puts_none_of_them,
}

/// Long enough to be seen on its way.
pub(super) fn name() -> String {
    "late/".repeat(100) + "x"
}

pub(super) struct Late {
    pub(super) proxy: Proxy,
    pub(super) coordinator: Coordinator,
    /// What it writes comes late as well, and is seen.
    marker: LockGuard,
    late: Option<coord_tests::proxy::Late>,
}

impl Late {
    pub(super) async fn new(server: &Backend) -> Self {
        let proxy = Proxy::start(&server.endpoint()).await;
        let mut options = options(proxy.endpoint(), 600);
        options.request_timeout = Duration::from_secs(30);
        let coordinator = Coordinator::connect(options).await.unwrap();
        let marker = coordinator.lock(format!("marker/{}", proxy.address()));
        let marker = marker.acquire().await.unwrap();
        proxy.requests(Flow::Hold);
        Self {
            proxy,
            coordinator,
            marker,
            late: None,
        }
    }

    pub(super) async fn on_its_way(&self, before: u64) {
        eventually("it is on its way", async || {
            self.proxy.sent().arrived - before > name().len() as u64
        })
        .await;
    }

    /// The request stays on its way, and behind it others; the connection breaks for their senders.
    pub(super) async fn overtake(&mut self, before: u64) {
        self.on_its_way(before).await;
        let mut marks = Vec::new();
        // The end of a request is sent by itself, after what can be seen. It is on its way once the
        // next one is: so there is one more, whose own end may be missing.
        for key in ["marker", "behind"] {
            let before = self.proxy.sent().arrived;
            let mark = self.marker.transaction().put(key, name());
            marks.push(tokio::spawn(mark.commit()));
            self.on_its_way(before).await;
        }
        self.late = Some(self.proxy.detach().await);
        for mark in marks {
            assert!(mark.await.unwrap().unwrap_err().maybe_applied());
        }
    }

    /// It arrives, and etcd has looked at it.
    pub(super) async fn arrives(&mut self, store: &mut Client) {
        let late = self.late.as_mut().unwrap();
        assert!(late.bytes() > 2 * name().len());
        late.deliver().await;
        eventually("what was sent after it is there", async || {
            store.get("marker", None).await.unwrap().count() == 1
        })
        .await;
    }
}

async fn a_late_copy_of_an_acquire_puts_nothing_after_the_release(server: Backend) {
    for tried in [false, true] {
        let mut net = Late::new(&server).await;
        let mut store = server.client().await;
        let before = net.proxy.sent().arrived;
        let lock = net.coordinator.lock(name()).wait_forever();
        let acquire = tokio::spawn(async move {
            match tried {
                true => lock.try_acquire().await,
                false => lock.acquire().await,
            }
        });
        net.overtake(before).await;
        net.proxy.heal().await;
        let guard = acquire.await.unwrap().unwrap();
        assert!(guard.unlock().await.unwrap().confirmed);
        queue_is(&store, &name(), 0).await;
        net.arrives(&mut store).await;
        assert!(queue(&mut store, &name()).await.is_empty());
        let next = connect(&server).await;
        drop(next.lock(name()).try_acquire().await.unwrap());
        queue_is(&store, &name(), 0).await;
        store.delete("marker", None).await.unwrap();
    }
}

async fn a_late_copy_of_a_cancelled_acquire_puts_nothing(server: Backend) {
    let mut net = Late::new(&server).await;
    let mut store = server.client().await;
    let before = net.proxy.sent().arrived;
    let acquire = tokio::spawn(net.coordinator.lock(name()).acquire());
    net.overtake(before).await;
    // It knows that its first copy is lost, and has sent no other.
    acquire.abort();
    assert!(acquire.await.unwrap_err().is_cancelled());
    net.proxy.heal().await;
    eventually("it is fenced off", async || {
        net.coordinator.health().undo_backlog == 0
    })
    .await;
    net.arrives(&mut store).await;
    assert!(queue(&mut store, &name()).await.is_empty());
}

async fn a_late_copy_of_several_entries_puts_none_of_them(server: Backend) {
    let mut net = Late::new(&server).await;
    let mut store = server.client().await;
    let before = net.proxy.sent().arrived;
    let lock = net.coordinator.lock_all([name(), "second".into()]);
    let acquire = tokio::spawn(lock.downgradable().acquire());
    net.overtake(before).await;
    net.proxy.heal().await;
    let guard = acquire.await.unwrap().unwrap();
    // While it is held as well: its entries are there.
    guard.downgrade().await.unwrap();
    net.arrives(&mut store).await;
    queue_is(&store, "second", 1).await;
    queue_is(&store, &name(), 1).await;
    guard.verify().await.unwrap();
    assert!(guard.unlock().await.unwrap().confirmed);
    queue_is(&store, "second", 0).await;
    queue_is(&store, &name(), 0).await;
}
