//! [`Shared`]: what all registries of one coordinator have in common.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    follow::{Followed, Following, Look},
    registration::Member,
};
use crate::{engine::Engine, error::Result};

/// So many registrations write at once. More than etcd can take it refuses, with "too many requests":
/// that is retried, but this is faster.
const IN_FLIGHT: usize = 256;

/// The registrations of one coordinator. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// When the coordinator was connected.
    started_ms: u64,
    /// By the instance's key; each as long as the task that keeps it.
    members: Mutex<HashMap<Arc<str>, Member>>,
    turns: Arc<Semaphore>,
    /// By service; each as long as somebody looks at it.
    views: Mutex<HashMap<String, View>>,
}

#[derive(Debug)]
struct View {
    followed: Arc<Followed>,
    news: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(started_ms: u64) -> Self {
        Self(Arc::new(Inner {
            started_ms,
            members: Mutex::default(),
            turns: Arc::new(Semaphore::new(IN_FLIGHT)),
            views: Mutex::default(),
        }))
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.0.started_ms
    }

    /// Waits until one more may write, in the order of who asked.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = self.0.turns.clone().acquire_owned().await;
        turn.expect("nobody closes the semaphore")
    }

    pub(super) fn enroll(&self, member: Member) -> Enrolled {
        let mut members = self.members();
        members.insert(member.instance.clone(), member.clone());
        Enrolled {
            shared: self.clone(),
            member,
        }
    }

    /// The registration of `service` with this key, or else the last one whose owner gave it this name.
    pub(super) fn member(&self, service: &str, instance: &str) -> Option<Member> {
        let members = self.members();
        let of_service = |member: &&Member| *member.service == *service;
        let by_key = members.get(instance).filter(of_service);
        let named = || {
            let named = |member: &&Member| member.name.as_deref() == Some(instance);
            let all = members.values().filter(of_service).filter(named);
            all.max_by_key(|member| member.wish.borrow().record.registered_ms)
        };
        by_key.or_else(named).cloned()
    }

    /// All of them leave; done when they have.
    pub(crate) async fn leave(&self) {
        let members: Vec<Member> = self.members().values().cloned().collect();
        join_all(members.iter().map(Member::leave)).await;
    }

    /// How many instances `service` has, as far as is known here.
    pub(super) fn fleet(&self, service: &str) -> usize {
        let own = |member: &&Member| *member.service == *service;
        let own = self.members().values().filter(own).count();
        let seen = self
            .views()
            .get(service)
            .map(|view| view.followed.set.load().len());
        own.max(seen.unwrap_or(0))
    }

    /// Looks at `service`, over the watch that is there or a new one.
    pub(super) fn look(&self, engine: &Engine, service: &str) -> Result<Look> {
        let prefix = engine.layout.instances(service)?;
        let mut views = self.views();
        if let Some(view) = views.get(service) {
            return Ok(Look {
                followed: view.followed.clone(),
                news: view.news.subscribe(),
            });
        }
        let following = Following::new(engine, self.clone(), service, prefix);
        let (followed, news) = (following.followed().clone(), following.news().clone());
        let look = Look {
            followed: followed.clone(),
            news: news.subscribe(),
        };
        views.insert(service.to_owned(), View { followed, news });
        drop(views);
        engine.tasks.spawn(following.run());
        Ok(look)
    }

    /// Nobody looks at `followed` any more. False: somebody does.
    pub(super) fn unfollow(&self, service: &str, followed: &Arc<Followed>) -> bool {
        let mut views = self.views();
        let own = views
            .get(service)
            .filter(|view| Arc::ptr_eq(&view.followed, followed));
        let unused = own.is_none_or(|view| view.news.receiver_count() == 0);
        if own.is_some() && unused {
            views.remove(service);
        }
        unused
    }

    /// The watch behind `followed` has ended.
    pub(super) fn forget(&self, service: &str, followed: &Arc<Followed>) {
        let mut views = self.views();
        let own = views
            .get(service)
            .is_some_and(|view| Arc::ptr_eq(&view.followed, followed));
        if own {
            views.remove(service);
        }
    }

    fn views(&self) -> MutexGuard<'_, HashMap<String, View>> {
        // Nothing panics while it is held.
        self.0.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> MutexGuard<'_, HashMap<Arc<str>, Member>> {
        // Nothing panics while it is held.
        self.0
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registration is among the coordinator's for as long as this lives.
#[derive(Debug)]
pub(super) struct Enrolled {
    shared: Shared,
    member: Member,
}

impl Enrolled {
    pub(super) fn member(&self) -> &Member {
        &self.member
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.shared.members().remove(&self.member.instance);
    }
}
