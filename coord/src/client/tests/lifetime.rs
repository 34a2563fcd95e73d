//! What a client and its calls outlive, and what ends with them.

use std::{
    collections::BTreeSet,
    pin::pin,
    task::{Poll, Waker},
};

use super::*;

#[tokio::test]
async fn after_the_tasks_were_closed_calls_say_so() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    here.tasks.close().await;
    let error = client.range(read()).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::NotSent, Reason::Closed)
    );
    let error = here.open(&of(&[&member])).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn the_last_clone_closes_the_connection() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    drop(client.clone());
    assert_eq!(asks(&client).await, 1);
    assert_eq!(member.open(), 1);
    drop(client);
    here.until("closed", || member.open() == 0).await;
}

/// Polls `make()`'s future to its n-th await and drops it there, for every n until it is done.
async fn drop_at_every_await<F: Future>(mut make: impl FnMut() -> F) {
    for polls in 1.. {
        assert!(polls < 10_000, "never done");
        let mut future = pin!(make());
        let mut left = polls;
        let done = std::future::poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            future.as_mut().poll(cx).map(|_| true)
        });
        if done.await {
            return;
        }
    }
}

#[tokio::test]
async fn open_and_calls_can_be_dropped_at_every_await() {
    let here = Here::new();
    let member = Member::start(1).await;
    let options = of(&[&member]);
    drop_at_every_await(|| here.open(&options)).await;
    let client = here.open(&options).await.unwrap();
    drop_at_every_await(|| client.range(read())).await;
    drop_at_every_await(|| client.keep_alives()).await;
    assert_eq!(asks(&client).await, 1);
    // Nothing is left of what was dropped: one connection is open, and then none.
    here.until("closed", || member.open() == 1).await;
    drop(client);
    here.until("closed", || member.open() == 0).await;
}

#[tokio::test]
async fn an_answer_survives_a_dropped_wait_for_it() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    let mut stream = client.keep_alives().await.unwrap();
    let mut answered = BTreeSet::new();
    for lease in 0..50 {
        stream.send(lease).await.unwrap();
    }
    while answered.len() < 50 {
        let mut next = pin!(stream.next());
        if let Poll::Ready(answer) = futures_util::poll!(next.as_mut()) {
            answered.insert(answer.unwrap().unwrap().lease);
        } else {
            here.clock.sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(answered.len(), 50);
}

#[test]
fn a_client_outlives_the_runtime_that_opened_it_and_works_on_any_executor() {
    let here = Here::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (member, client) = first.block_on(async {
        let member = Member::start(1).await;
        let client = here.open(&of(&[&member])).await.unwrap();
        assert_eq!(asks(&client).await, 1);
        (member, client)
    });
    drop(first);
    assert_eq!(runtime().block_on(asks(&client)), 1);
    // A failover too is made without the caller's runtime.
    member.close_connections();
    bare(here.until("dialled", || member.counts().0 == 2));
    assert_eq!(bare(asks(&client)), 1);
}

/// The least executor there is.
fn bare<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
        {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn calls_can_be_spawned() {
    fn is_send<T: Send>(_: impl Fn(Client) -> T) {}
    is_send(|client| async move {
        let _ = client.range(read()).await;
        let _ = client.txn(Txn::default()).await;
        let mut stream = client.keep_alives().await.unwrap();
        let _ = stream.next().await;
        let _ = client.refresh_token().await;
    });
}
