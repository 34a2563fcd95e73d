//! [`Shared`]: what all registries of one coordinator have in common.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    follow::{Followed, Following, Look},
    instance::Family,
    own::{OwnKey, OwnKeys},
    registration::Member,
    wish::Stage,
};
use crate::{
    client::Span,
    clock::Instant,
    engine::Engine,
    error::Result,
    key::{Key, Prefix},
};

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
    /// When one of them was confirmed last.
    confirmed_at: Mutex<Option<Instant>>,
    family: Family,
    /// By range; each as long as there is a key in it.
    own: Mutex<HashMap<Span, Weak<OwnKeys>>>,
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
            confirmed_at: Mutex::default(),
            family: Family::new(),
            own: Mutex::default(),
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

    /// Etcd has confirmed what somebody wanted of a registration.
    pub(super) fn confirmed(&self, now: Instant) {
        let at = &self.0.confirmed_at;
        *at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    pub(super) fn confirmed_at(&self) -> Option<Instant> {
        let at = &self.0.confirmed_at;
        *at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the keys of this coordinator's instances have in common.
    pub(super) fn family(&self) -> Family {
        self.0.family
    }

    /// `key`, of an instance of this coordinator below `prefix`, over the watch of all of them there.
    pub(super) fn own(&self, engine: &Engine, prefix: &Prefix, key: &Key) -> OwnKey {
        let (from, end) = self.0.family.interval(prefix);
        let span = Span::Interval(from, end);
        // Nothing panics while it is held.
        let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = own.get(&span).and_then(Weak::upgrade).unwrap_or_else(|| {
            own.retain(|_, keys| keys.strong_count() > 0);
            let name = format!("registrations below {prefix}");
            let keys = Arc::new(OwnKeys::watch(engine, &name, span.clone()));
            own.insert(span, Arc::downgrade(&keys));
            keys
        });
        keys.key(key)
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
            all.max_by_key(|member| {
                let wish = member.wish.borrow();
                // One that is leaving does not stand for one that stays.
                (wish.stage < Stage::Withdrawn, wish.record.registered_ms)
            })
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
