//! [`ServiceView`]: a service's instances, as a value that is always at hand.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{follow::Look, set::InstanceSet};
use crate::{
    clock::Clock,
    engine::Engine,
    error::{Context, Error, Result},
};

const VIEW: &str = "view instances";

/// A service's healthy instances, kept up to date in the background. Made by
/// [`Registry::view`](crate::Registry::view); cheap to clone, and all views of a service share one watch.
///
/// While etcd cannot be reached the set stays as it is, and [`age`](Self::age) grows: that the registry
/// is silent does not mean that the instances are gone.
///
/// It is a cursor too: [`changed`](Self::changed) waits for what this clone has not seen.
#[derive(Clone, Debug)]
pub struct ServiceView {
    service: Arc<str>,
    look: Look,
    /// It is only compared: no view keeps a set from being made into a newer one.
    seen: Weak<InstanceSet>,
    clock: Clock,
}

impl ServiceView {
    pub(super) fn new(engine: &Engine, service: &str, look: Look) -> Self {
        Self {
            service: service.into(),
            seen: Arc::downgrade(&look.followed.set.load()),
            look,
            clock: engine.clock.clone(),
        }
    }

    /// Waits until etcd has been read once.
    pub(super) async fn listed(&mut self, limit: Duration) -> Result<()> {
        let clock = self.clock.clone();
        let listed = async {
            let mut set = self.load();
            while set.revision() == 0 {
                set = self.changed().await?;
            }
            self.seen = Arc::downgrade(&set);
            Ok(())
        };
        match clock.timeout(limit, listed).await {
            Ok(listed) => listed,
            Err(_) => {
                let trouble = self.look.followed.status.borrow().trouble.clone();
                let detail = trouble.unwrap_or_else(|| {
                    format!("no answer within {}", humantime::format_duration(limit))
                });
                Err(Error::Unavailable {
                    context: Context::new(VIEW).key(&*self.service),
                    maybe_applied: false,
                    detail,
                })
            }
        }
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The set as it is now: no wait, no lock.
    #[must_use]
    pub fn load(&self) -> Arc<InstanceSet> {
        self.look.followed.set.load_full()
    }

    /// Waits for a set that this view has not seen, and returns the newest. Who is slow skips sets.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed) when the coordinator is closed; the last set stays.
    ///
    /// # Cancel safety
    /// Safe: what is new is seen only when this returns it.
    pub async fn changed(&mut self) -> Result<Arc<InstanceSet>> {
        loop {
            let newest = self.load();
            let newer = Arc::downgrade(&newest);
            if !newer.ptr_eq(&self.seen) {
                self.seen = newer;
                return Ok(newest);
            }
            let news = self.look.news.changed().await;
            news.map_err(|_| Error::closed(VIEW))?;
        }
    }

    /// How long ago anything was heard from etcd about this service. An idle etcd says something every
    /// ten seconds or so; what happened longer ago than this is in the set.
    #[must_use]
    pub fn age(&self) -> Duration {
        let status = self.look.followed.status.borrow();
        let heard = status.alive_at.max(status.verified_at);
        // A view is made of a list, so something was.
        heard.map_or(Duration::ZERO, |at| self.clock.now().since(at))
    }
}
