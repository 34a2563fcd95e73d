//! Tests of code that uses coord. README shows what follows.

use coord::{Coordinator, Error, Held, LostReason, embedded::Server, locked, testing::FakeLock};

#[locked("orders/{id}", wait = "5s", guard = held)]
async fn ship(id: u64) -> Result<i64, Error> {
    write_label(id, held).await
}

async fn write_label(id: u64, held: &Held) -> Result<i64, Error> {
    held.verify().await?;
    println!("order {id}: for whoever has the lock");
    Ok(held.fencing_token().get())
}

#[coord::test]
async fn every_shipment_has_a_larger_token() -> Result<(), Error> {
    let first = ship(42).await?; // on a server of this test's own
    let second = tokio::spawn(ship(42)).await.unwrap()?; // in tasks, too
    assert!(first < second);
    Ok(())
}

#[coord::test]
async fn a_dead_worker_holds_up_nothing(coordinator: Coordinator, server: &Server) {
    let dead = coordinator.lock("orders/42").acquire().await.unwrap();
    server.advance(std::time::Duration::from_secs(60)); // its clock: every lease runs out
    dead.lost().await;
    ship(42).await.unwrap();
}

#[tokio::test]
async fn no_label_without_the_lock() {
    let lock = FakeLock::new("orders/42", 7); // needs no server
    assert_eq!(write_label(42, &lock).await.unwrap(), 7);
    lock.lose(LostReason::Expired);
    assert!(write_label(42, &lock).await.is_err());
}
