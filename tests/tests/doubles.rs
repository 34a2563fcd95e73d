//! Doubles that need no server, as a user's unit test has them.

use std::{pin::pin, sync::Arc, time::Duration};

use coord::{
    Config, Error, Held, InstanceId, LockGuard, LostReason,
    config::Phase,
    testing::{FakeInstanceId, FakeLock},
};
use futures_util::{FutureExt as _, poll};

fn is_lost<T>(result: &Result<T, Error>, expected: LostReason) -> bool {
    matches!(result, Err(Error::Lost { reason, .. }) if *reason == expected)
}

#[tokio::test]
async fn a_fake_lock_is_held_until_it_is_lost() {
    async fn step(held: &Held) -> Result<i64, Error> {
        held.verify().await?;
        Ok(held.fencing_token().get())
    }

    let lock = FakeLock::new("orders/42", 7);
    assert_eq!((lock.key(), lock.is_held()), ("orders/42", true));
    assert!(lock.remaining() > Duration::from_secs(5));
    assert_eq!(lock.remaining(), lock.remaining());
    assert_eq!(step(&lock).await.unwrap(), 7);
    let mut lost = pin!(lock.lost());
    assert!(poll!(lost.as_mut()).is_pending());

    lock.lose(LostReason::Expired);
    lock.lose(LostReason::Revoked);
    assert_eq!(lost.await, LostReason::Expired);
    assert_eq!((lock.is_held(), lock.remaining()), (false, Duration::ZERO));
    let result = step(&lock).await;
    assert!(is_lost(&result, LostReason::Expired), "{result:?}");
    assert!(result.unwrap_err().to_string().contains("orders/42"));
}

#[tokio::test]
async fn its_guards_are_given_back_as_long_as_it_is_held() {
    async fn work(guard: LockGuard) -> Result<bool, Error> {
        let token = guard.fencing_token().get();
        assert_eq!(token, 7);
        Ok(guard.unlock().await?.confirmed)
    }

    let lock = FakeLock::new("orders/42", 7);
    assert!(work(lock.guard()).await.unwrap());
    drop(lock.guard());
    assert!(lock.is_held());
    let guard = lock.guard();
    lock.lose(LostReason::Revoked);
    assert!(!guard.is_held());
    let result = work(guard).await;
    assert!(is_lost(&result, LostReason::Revoked), "{result:?}");
    // A task that owns a guard learns of the loss.
    let lock = FakeLock::new("orders/43", 8);
    let guard = lock.guard();
    let waiting = tokio::spawn(async move { guard.lost().await });
    lock.lose(LostReason::Expired);
    assert_eq!(waiting.await.unwrap(), LostReason::Expired);
}

#[test]
#[should_panic(expected = "the key is empty")]
fn a_key_that_no_lock_has_is_refused() {
    let _ = FakeLock::new("", 7);
}

#[test]
#[should_panic(expected = "above zero")]
fn a_token_that_no_lock_has_is_refused() {
    let _ = FakeLock::new("orders/42", 0);
}

#[tokio::test]
async fn a_fake_id_is_held_unconfirmed_confirmed_and_lost() {
    let fake = FakeInstanceId::new("user-service", 3);
    let id: InstanceId = fake.id();
    assert_eq!((id.get().unwrap(), id.fencing_token()), (3, 1));
    let mut lost = pin!(id.lost());
    for _ in 0..2 {
        fake.unconfirm();
        let unconfirmed = id.get();
        assert!(
            is_lost(&unconfirmed, LostReason::Unconfirmed),
            "{unconfirmed:?}"
        );
        assert!(poll!(lost.as_mut()).is_pending());
        fake.confirm();
        fake.confirm();
        assert_eq!(id.get().unwrap(), 3);
    }
    fake.lose(LostReason::Expired);
    assert_eq!(lost.await, LostReason::Expired);
    fake.confirm();
    assert!(is_lost(&id.get(), LostReason::Expired));
    // There is nothing to give back.
    id.release().await.unwrap();
}

#[tokio::test]
async fn a_fake_id_can_be_given_back() {
    let fake = FakeInstanceId::new("user-service", 3);
    let id = fake.id();
    id.release().await.unwrap();
    assert!(is_lost(&id.get(), LostReason::Closed));
    assert_eq!(id.lost().now_or_never(), Some(LostReason::Closed));
    id.release().await.unwrap();
    // By the last drop, too.
    let fake = FakeInstanceId::new("user-service", 3);
    let lost = fake.lost();
    drop(fake.id());
    assert_eq!(fake.get().unwrap(), 3);
    drop(fake);
    assert_eq!(lost.now_or_never(), Some(LostReason::Closed));
}

#[tokio::test]
async fn a_fixed_config_stays_and_is_never_closed() {
    let config = Config::fixed(("eu", 443));
    assert_eq!(*config.load(), ("eu", 443));
    assert_eq!(config.load_guard().1, 443);
    assert_eq!(*config.project(|c| &c.0).load(), "eu");
    assert_eq!(config.status().phase, Phase::Fixed);
    assert!(Arc::ptr_eq(&config.load(), &config.clone().load()));
    config.wait_for_revision(i64::MAX).await.unwrap();

    let (mut values, mut changes) = (config.subscribe(), config.changes());
    assert_eq!(**values.current(), ("eu", 443));
    // Not even when nobody else has it: code that follows a config would take that for the end.
    drop(config);
    assert!(values.changed().now_or_never().is_none());
    assert!(changes.next().now_or_never().is_none());
}
