//! The session engine against a real etcd.
//!
//! Without an etcd these tests say so and pass, unless `COORD_REQUIRE_ETCD` is set.

use std::time::Duration;

use super::*;
use crate::{
    client::{
        Client, KeyValue, Range, Span, Txn,
        tests::{Etcd, Here},
    },
    key::{Key, Layout},
};

/// The least that etcd grants by default.
const TTL: Duration = Duration::from_secs(2);

struct Rig {
    keeper: Keeper,
    client: Client,
    here: Here,
    _etcd: Etcd,
}

impl Rig {
    async fn start() -> Option<Self> {
        let etcd = Etcd::start()?;
        let here = Here::new();
        let (calls, heartbeat) = (etcd.client(&here).await, etcd.client(&here).await);
        Some(Self {
            keeper: Keeper::start(
                calls.clone(),
                heartbeat,
                here.clock.clone(),
                here.tasks.clone(),
                here.tasks.clone(),
            ),
            client: calls,
            here,
            _etcd: etcd,
        })
    }

    async fn open(&self, ttl: Duration, past_deadline: PastDeadline) -> Session {
        let spec = SessionSpec {
            purpose: "test",
            ttl,
            hold: None,
            renew_interval: None,
            past_deadline,
        };
        self.keeper.open(spec).await.unwrap()
    }

    /// A key that is on etcd under the session's lease.
    async fn put(&self, session: &Session, key: Key, fence: Option<Key>) -> LeasedKey {
        let mut leased = LeasedKey::prepare(session, vec![key], fence, None, self.keeper.undo());
        leased.sent();
        let put = Txn {
            then: leased.puts(b"me").collect(),
            ..Txn::default()
        };
        self.client.txn(put).await.unwrap();
        leased.applied();
        leased
    }

    async fn get(&self, key: &Key) -> Option<KeyValue> {
        let range = Range::new(Span::key(key));
        self.client.range(range).await.unwrap().kvs.pop()
    }

    async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let waited = self.here.clock.timeout(Duration::from_secs(60), async {
            while !done().await {
                self.here.clock.sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}");
    }
}

fn layout() -> Layout {
    Layout::new("", "config/", "coord/", "coord/")
}

fn entry(name: &str) -> Key {
    layout().lock_queue("test").unwrap().key(name)
}

#[tokio::test]
async fn leases_outlive_their_ttl_over_one_stream() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    // Long enough for a machine that is busy.
    const TTL: Duration = Duration::from_secs(8);
    let sessions = [
        rig.open(TTL, PastDeadline::Dead).await,
        rig.open(TTL, PastDeadline::Resume).await,
        rig.open(TTL * 2, PastDeadline::Verify).await,
    ];
    let opened = rig.here.clock.now();
    for session in &sessions {
        rig.until("it outlives its TTL", async || {
            assert!(session.is_live());
            rig.here.clock.now() > opened + session.ttl()
        })
        .await;
        let found = rig.client.lease_time_to_live(session.lease()).await;
        assert!(found.unwrap().remaining.is_some());
    }
    assert_eq!(rig.keeper.health().len(), 3);
}

#[tokio::test]
async fn more_is_granted_than_was_asked_for() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let session = rig.open(Duration::from_secs(1), PastDeadline::Dead).await;
    assert_eq!(session.ttl(), TTL);
}

#[tokio::test]
async fn a_lease_revoked_from_outside_is_lost() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let session = rig.open(TTL, PastDeadline::Resume).await;
    rig.client.lease_revoke(session.lease()).await.unwrap();
    let lost = rig
        .here
        .clock
        .timeout(Duration::from_secs(60), session.lost())
        .await;
    assert_eq!(lost, Ok(crate::LostReason::Revoked));
}

#[tokio::test]
async fn a_dropped_key_is_deleted_and_a_release_says_what_was_there() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let session = rig.open(TTL * 10, PastDeadline::Dead).await;
    let dropped = rig.put(&session, entry("a"), None).await;
    let released = rig.put(&session, entry("b"), None).await;
    let created = rig.get(&entry("b")).await.unwrap().create_revision;
    drop(dropped);
    let found = released.release().done().await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().create_revision, created);
    rig.until("both are gone", async || {
        rig.get(&entry("a")).await.is_none() && rig.get(&entry("b")).await.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_fence_rewrites_the_session_key_with_its_lease() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let session = rig.open(TTL * 10, PastDeadline::Dead).await;
    let session_key = layout().lock_session(session.lease());
    let own = rig.put(&session, session_key.clone(), None).await;
    let before = rig.get(&session_key).await.unwrap();
    let mut unsure = rig
        .put(&session, entry("a"), Some(session_key.clone()))
        .await;
    unsure.unknown();
    assert!(unsure.release().done().await.unwrap()[0].is_some());
    assert_eq!(rig.get(&entry("a")).await, None);
    let after = rig.get(&session_key).await.unwrap();
    assert!(after.mod_revision > before.mod_revision);
    assert_eq!(after.lease, session.lease());

    // Of a lease that is gone: done, with what went with it, and nothing else waits for it.
    let mut unsure = rig
        .put(&session, entry("b"), Some(session_key.clone()))
        .await;
    unsure.unknown();
    rig.keeper.end(&session).await.unwrap();
    assert_eq!(unsure.release().done().await.unwrap(), [None]);
    assert_eq!(rig.get(&session_key).await, None);
    own.forget();
}

#[tokio::test]
async fn many_keys_are_released_in_few_transactions() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let session = rig.open(TTL * 10, PastDeadline::Dead).await;
    let mut keys = Vec::new();
    for n in 0..500 {
        keys.push(rig.put(&session, entry(&n.to_string()), None).await);
    }
    let before = rig.get(&entry("499")).await.unwrap().mod_revision;
    let receipts: Vec<Receipt> = keys.into_iter().map(LeasedKey::release).collect();
    for receipt in receipts {
        assert!(receipt.done().await.unwrap()[0].is_some());
    }
    let put = rig.put(&session, entry("last"), None).await;
    let after = rig.get(&put.keys()[0]).await.unwrap().mod_revision;
    // The worker may be between two of the releases while they are pushed.
    assert!(after - before < 100, "{} transactions", after - before);
}

#[tokio::test]
async fn closing_revokes_every_lease_but_the_abandoned() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let ended = rig.open(TTL * 10, PastDeadline::Dead).await;
    let left = rig.open(TTL * 10, PastDeadline::Verify).await;
    let gone = rig.put(&ended, entry("a"), None).await;
    let stays = rig.put(&left, entry("b"), None).await;
    rig.keeper.abandon(&left);
    rig.keeper.close(Duration::from_secs(60)).await;
    assert_eq!(rig.get(&gone.keys()[0]).await, None);
    assert!(rig.get(&stays.keys()[0]).await.is_some());
    let opened = rig.keeper.open(SessionSpec {
        purpose: "test",
        ttl: TTL,
        hold: None,
        renew_interval: None,
        past_deadline: PastDeadline::Dead,
    });
    assert_eq!(opened.await.unwrap_err().code(), "closed");
}
