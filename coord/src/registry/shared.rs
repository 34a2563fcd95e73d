//! [`Shared`]: what all registries of one coordinator have in common.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::registration::Member;

/// So many writes of registrations are under way at once. More than etcd can take in one turn it refuses,
/// with "too many requests": that is retried, but this is faster.
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
    turns: Semaphore,
}

impl Shared {
    pub(crate) fn new(started_ms: u64) -> Self {
        Self(Arc::new(Inner {
            started_ms,
            members: Mutex::default(),
            turns: Semaphore::new(IN_FLIGHT),
        }))
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.0.started_ms
    }

    /// Waits until one more write may be sent.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.0.turns.acquire().await;
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

    /// How many instances `service` has, as far as is known here.
    pub(super) fn fleet(&self, service: &str) -> usize {
        let members = self.members();
        members
            .values()
            .filter(|member| *member.service == *service)
            .count()
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
