//! [`Keeper`]: the one task of a channel. It follows the registry, connects, and publishes the ready set.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    channel::Channel,
    pick::Picker,
    ready::ReadySet,
    shared::{Owned, Settings, Shared},
};
use crate::{engine::Engine, registry::ServiceView};

/// Starts a channel's keeper on the runtime of who calls this.
pub(super) fn start(engine: &Engine, view: ServiceView, settings: Settings) -> Channel {
    let ended = CancellationToken::new();
    let shared = Arc::new(Shared {
        service: view.service().into(),
        clock: engine.clock.clone(),
        picker: Picker::new(settings.strategy),
        view: view.clone(),
        ready: ArcSwap::from_pointee(ReadySet::default()),
        changed: Notify::new(),
        trouble: Arc::new(Notify::new()),
        settings,
    });
    let keeper = Keeper {
        shared: shared.clone(),
        view,
    };
    let tasks = engine.tasks.here();
    let end = ended.clone();
    drop(tasks.spawn(async move { end.run_until_cancelled(keeper.run()).await }));
    Channel::new(Owned {
        shared,
        _keeper: ended.drop_guard(),
    })
}

#[derive(Debug)]
struct Keeper {
    shared: Arc<Shared>,
    view: ServiceView,
}

impl Keeper {
    async fn run(mut self) {
        while self.view.changed().await.is_ok() {
            self.shared.changed.notify_waiters();
        }
    }
}
