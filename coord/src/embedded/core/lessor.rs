//! [`Lessor`]: the leases. What time it is comes from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::refusal::Refusal;

/// The shortest lease that an etcd with its default election timeout grants, in seconds.
const MIN_TTL: i64 = 2;
/// The longest one.
const MAX_TTL: i64 = 9_000_000_000;

#[derive(Clone, Debug)]
struct Lease {
    ttl: i64,
    /// When it runs out, on the server's clock.
    deadline: Duration,
    keys: BTreeSet<Vec<u8>>,
    /// The store's revision when it was granted.
    granted: i64,
}

/// A lease that is over: a store that is restored to a time before that has it again.
#[derive(Clone, Debug)]
struct Ended {
    id: i64,
    ttl: i64,
    granted: i64,
    /// The first revision of the store without it.
    ended: i64,
}

/// Leases and the keys that hang on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lessor {
    leases: BTreeMap<i64, Lease>,
    /// The leases in the order in which they run out.
    due: BTreeSet<(Duration, i64)>,
    ended: Vec<Ended>,
    last_id: i64,
}

impl Lessor {
    /// Grants a lease, and says its id and its TTL, which may be longer than what was asked for.
    pub(super) fn grant(
        &mut self,
        now: Duration,
        revision: i64,
        id: i64,
        ttl: i64,
    ) -> Result<(i64, i64), Refusal> {
        if ttl > MAX_TTL {
            return Err(Refusal::TTL_TOO_LARGE);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LEASE_EXISTS);
        }
        let id = if id == 0 { self.fresh_id() } else { id };
        self.insert(now, id, ttl.max(MIN_TTL), revision);
        Ok((id, ttl.max(MIN_TTL)))
    }

    /// In the style of etcd's ids: large, and never the same again.
    fn fresh_id(&mut self) -> i64 {
        const FIRST: i64 = 0x6c6f_6361_6c00_0000;
        loop {
            self.last_id = self.last_id.max(FIRST) + 1;
            if !self.leases.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn insert(&mut self, now: Duration, id: i64, ttl: i64, granted: i64) {
        let lease = Lease {
            ttl,
            deadline: deadline(now, ttl),
            keys: BTreeSet::new(),
            granted,
        };
        self.due.insert((lease.deadline, id));
        self.leases.insert(id, lease);
    }

    pub(super) fn knows(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Starts the countdown again; the TTL, or none if there is no such lease.
    pub(super) fn renew(&mut self, now: Duration, id: i64) -> Option<i64> {
        let lease = self.leases.get_mut(&id)?;
        self.due.remove(&(lease.deadline, id));
        lease.deadline = deadline(now, lease.ttl);
        self.due.insert((lease.deadline, id));
        Some(lease.ttl)
    }

    /// What is left of a lease in whole seconds, its TTL and its keys.
    pub(super) fn status(&self, now: Duration, id: i64) -> Option<(i64, i64, &BTreeSet<Vec<u8>>)> {
        let lease = self.leases.get(&id)?;
        let left = lease.deadline.saturating_sub(now).as_secs();
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        Some((left, lease.ttl, &lease.keys))
    }

    /// All leases, in the order in which they will run out.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.due.iter().map(|&(_, id)| id).collect()
    }

    /// When the next lease runs out.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.due.first().map(|&(deadline, _)| deadline)
    }

    /// A lease that has run out, the longest overdue first.
    pub(super) fn overdue(&self, now: Duration) -> Option<i64> {
        let first = self.due.first().filter(|(deadline, _)| *deadline <= now);
        first.map(|&(_, id)| id)
    }

    /// Ends a lease at the store's revision; the keys that have to be deleted, in their order.
    pub(super) fn end(&mut self, id: i64, revision: i64) -> Option<BTreeSet<Vec<u8>>> {
        let lease = self.leases.remove(&id)?;
        self.due.remove(&(lease.deadline, id));
        // With keys its end is a revision.
        let ended = revision + i64::from(!lease.keys.is_empty());
        // Else there is no revision at which it was there: nobody can go back to it.
        if lease.granted < ended {
            self.ended.push(Ended {
                id,
                ttl: lease.ttl,
                granted: lease.granted,
                ended,
            });
        }
        Some(lease.keys)
    }

    /// Hangs a key on a lease; 0 is none.
    pub(super) fn attach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.to_vec());
        }
    }

    pub(super) fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// The store cannot go back to before this revision any more.
    pub(super) fn forget(&mut self, revision: i64) {
        self.ended.retain(|ended| ended.ended > revision);
    }

    /// Goes back to the leases that there were at a revision. Every one begins its countdown anew,
    /// as after a change of leader; which keys hang on them the caller tells.
    pub(super) fn restore(&mut self, now: Duration, revision: i64) {
        self.leases.retain(|_, lease| lease.granted <= revision);
        self.due.clear();
        for (&id, lease) in &mut self.leases {
            lease.deadline = deadline(now, lease.ttl);
            lease.keys.clear();
            self.due.insert((lease.deadline, id));
        }
        let (again, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(|ended| ended.ended > revision);
        self.ended = still;
        for ended in again.into_iter().filter(|ended| ended.granted <= revision) {
            self.insert(now, ended.id, ended.ttl, ended.granted);
        }
    }
}

fn deadline(now: Duration, ttl: i64) -> Duration {
    now.saturating_add(Duration::from_secs(ttl.unsigned_abs()))
}
