//! [`Followed`]: one watch of a service's records, for all who look at that service here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    events::Unread,
    read,
    set::{InstanceSet, Resolved},
    shared::Shared,
};
use crate::{
    client::Span,
    engine::Engine,
    key::Prefix,
    watch::{Update, WatchStatus, Watcher},
};

/// What is known of a service.
#[derive(Debug)]
pub(super) struct Followed {
    /// The newest; it stays as it is while etcd is gone. Only `Resolved::publish` stores one.
    pub(super) set: ArcSwap<InstanceSet>,
    /// Locked for single steps only.
    told: Mutex<Told>,
    pub(super) status: watch::Receiver<WatchStatus>,
}

#[derive(Debug, Default)]
struct Told {
    resolved: Resolved,
    readers: Vec<Weak<Mutex<Unread>>>,
}

/// Somebody who looks: as long as there is one, the watch goes on.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) followed: Arc<Followed>,
    /// Ends with the watch, when the coordinator is closed.
    pub(super) news: watch::Receiver<()>,
}

impl Look {
    /// Events from here on, after those that make the instances that are there.
    pub(super) fn unread(&self) -> Arc<Mutex<Unread>> {
        let mut told = self.followed.told();
        let mut unread = Unread::default();
        for (key, instance) in told.resolved.all() {
            unread.change(key, Some(instance.clone()), false);
        }
        let unread = Arc::new(Mutex::new(unread));
        told.readers.push(Arc::downgrade(&unread));
        unread
    }
}

impl Followed {
    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing panics while it is held.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task behind it.
pub(super) struct Following {
    shared: Shared,
    watcher: Watcher,
    service: String,
    prefix: Prefix,
    followed: Arc<Followed>,
    news: watch::Sender<()>,
}

impl Following {
    pub(super) fn new(engine: &Engine, shared: Shared, service: &str, prefix: Prefix) -> Self {
        let name = format!("instances of {service}");
        let watcher = engine.watcher(name, Span::prefix(&prefix));
        let followed = Arc::new(Followed {
            set: ArcSwap::default(),
            told: Mutex::default(),
            status: watcher.status(),
        });
        Self {
            shared,
            watcher,
            service: service.to_owned(),
            prefix,
            followed,
            news: watch::Sender::new(()),
        }
    }

    pub(super) fn followed(&self) -> &Arc<Followed> {
        &self.followed
    }

    pub(super) fn news(&self) -> &watch::Sender<()> {
        &self.news
    }

    pub(super) async fn run(mut self) {
        loop {
            let update = tokio::select! {
                update = self.watcher.next() => update,
                () = self.news.closed() => {
                    // Unless somebody has begun to look again.
                    if self.shared.unfollow(&self.service, &self.followed) {
                        return;
                    }
                    continue;
                }
            };
            self.apply(&update);
            self.news.send_replace(());
        }
    }

    fn apply(&self, update: &Update) {
        let mut told = self.followed.told();
        let Told { resolved, readers } = &mut *told;
        readers.retain(|reader| reader.strong_count() > 0);
        let readers: Vec<_> = readers.iter().filter_map(Weak::upgrade).collect();
        // Not even a set without instances is told before the first list.
        let mut changed = self.followed.set.load().revision() == 0;
        for change in &update.changes {
            let seen = change.new.as_ref();
            let seen = seen.and_then(|kv| read(&self.service, &self.prefix, kv));
            let seen = seen.map(Arc::new);
            for reader in &readers {
                let mut unread = reader.lock().unwrap_or_else(PoisonError::into_inner);
                unread.change(&change.key, seen.clone(), change.new.is_none());
            }
            changed |= resolved.change(&change.key, seen);
        }
        if changed {
            resolved.publish(&self.followed.set, update.revision);
        }
    }
}

impl Drop for Following {
    /// Cancelled, with the coordinator: nobody may find it any more.
    fn drop(&mut self) {
        self.shared.forget(&self.service, &self.followed);
    }
}
