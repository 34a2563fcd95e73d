//! Doubles: a lock and an instance id that stand on no etcd.
//!
//! They are the real types over a real [`Session`], whose clock stands still and which nobody renews:
//! what is believed, and who is told of its loss, is decided by the same code as in production.

use std::{ops::Deref, sync::Arc, time::Duration};

use crate::{
    clock::{Clock, ManualClock},
    error::LostReason,
    instance_id::InstanceId,
    lock::{Held, LockGuard},
    options::Options,
    session::{PastDeadline, Session, SessionSpec},
};

/// The TTL of what a double holds.
const TTL: Duration = Duration::from_secs(10);

fn session(purpose: &'static str, past_deadline: PastDeadline) -> (Session, Clock, ManualClock) {
    let (clock, hand) = Clock::manual();
    let spec = SessionSpec {
        purpose,
        ttl: TTL,
        hold: None,
        renew_interval: None,
        past_deadline,
    };
    let session = Session::new(&spec, 0, TTL, clock.now(), clock.clone(), Arc::default());
    (session, clock, hand)
}

/// A lock that is held without an etcd, until the test says that it is lost.
///
/// It points to a [`Held`], and gives [guards](Self::guard) to code that wants to own one. Time stands
/// still for it: [`remaining`](Held::remaining) is always the same, a little below 10 s.
///
/// ```
/// use coord::{Held, LostReason, testing::FakeLock};
///
/// /// The token that the store compares, while the lock is held.
/// fn token(held: &Held) -> Option<i64> {
///     held.is_held().then(|| held.fencing_token().get())
/// }
///
/// let lock = FakeLock::new("orders/42", 7);
/// assert_eq!(token(&lock), Some(7));
/// lock.lose(LostReason::Expired);
/// assert_eq!(token(&lock), None);
/// ```
#[derive(Debug)]
pub struct FakeLock {
    held: Held,
    session: Session,
}

impl FakeLock {
    /// The lock `key`, held with the fencing token `token`.
    ///
    /// # Panics
    /// If no lock can have this key, or this token: tokens are above zero.
    #[must_use]
    #[track_caller]
    pub fn new(key: &str, token: i64) -> Self {
        assert!(token > 0, "a fencing token is above zero, not {token}");
        let (session, ..) = session("lock", PastDeadline::Dead);
        match Held::detached(&Options::test().layout(), key, token, session.clone()) {
            Ok(held) => Self { held, session },
            Err(error) => panic!("{error}"),
        }
    }

    /// A guard of this lock, for code that takes one by value. Its
    /// [`unlock`](LockGuard::unlock) succeeds until the lock is lost; there is nothing to release.
    pub fn guard(&self) -> LockGuard {
        LockGuard::detached(&self.held)
    }

    /// The lock is lost: `is_held` is false from now on, `lost` is done, whatever fails fails with
    /// this reason. The first reason stays.
    pub fn lose(&self, reason: LostReason) {
        self.session.mark_lost(reason);
    }
}

impl Deref for FakeLock {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

/// An instance id that is held without an etcd, until the test says otherwise.
///
/// ```
/// use coord::{InstanceId, LostReason, testing::FakeInstanceId};
///
/// /// Every number is used once, as long as nobody else has this instance's id.
/// fn next(id: &InstanceId, count: &mut u64) -> coord::Result<u64> {
///     *count += 1;
///     Ok(u64::from(id.get()?) << 32 | *count)
/// }
///
/// let mut count = 0;
/// let id = FakeInstanceId::new("user-service", 3);
/// assert_eq!(next(&id, &mut count).unwrap(), 3 << 32 | 1);
/// id.unconfirm(); // etcd has not answered for a while
/// assert!(next(&id, &mut count).is_err());
/// id.confirm();
/// assert!(next(&id, &mut count).is_ok());
/// id.lose(LostReason::Revoked);
/// assert!(next(&id, &mut count).is_err());
/// ```
#[derive(Debug)]
pub struct FakeInstanceId {
    id: InstanceId,
    session: Session,
    clock: Clock,
    hand: ManualClock,
}

impl FakeInstanceId {
    /// The id `number` of the pool `pool`. Its fencing token is 1.
    ///
    /// # Panics
    /// If no pool can have this name.
    #[must_use]
    #[track_caller]
    pub fn new(pool: &str, number: u32) -> Self {
        let (session, clock, hand) = session("instance id", PastDeadline::Verify);
        let layout = Options::test().layout();
        match InstanceId::detached(&layout, pool, number, session.clone(), clock.clone()) {
            Ok(id) => Self {
                id,
                session,
                clock,
                hand,
            },
            Err(error) => panic!("{error}"),
        }
    }

    /// The id itself, for code that takes it by value.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id.clone()
    }

    /// etcd has not answered in time: `get` fails with
    /// [`Unconfirmed`](LostReason::Unconfirmed), until [`confirm`](Self::confirm).
    pub fn unconfirm(&self) {
        self.hand.advance(TTL);
    }

    /// etcd has answered, and shows that the id is still held.
    pub fn confirm(&self) {
        self.session.renewed(self.clock.now(), TTL);
        if let Some(renewal) = self.session.unverified() {
            self.session.verified(renewal);
        }
    }

    /// The id is lost for good: `get` fails with this reason, and `lost` is done. The first reason
    /// stays. (For what passes: [`unconfirm`](Self::unconfirm).)
    pub fn lose(&self, reason: LostReason) {
        self.session.mark_lost(reason);
    }
}

impl Deref for FakeInstanceId {
    type Target = InstanceId;

    fn deref(&self) -> &InstanceId {
        &self.id
    }
}
