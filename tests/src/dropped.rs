//! Dropping a future at each of its awaits.

use std::{pin::pin, task::Poll};

/// Drops `future` when it is woken after `polls` polls; `None` if it was not done by then.
///
/// With 1, 2, 3 … polls it has been dropped at every await, once it is done in the end:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut drops = 0;
/// for polls in 1.. {
///     let task = async {
///         tokio::task::yield_now().await;
///         tokio::task::yield_now().await;
///     };
///     match coord_tests::dropped_after(polls, task).await {
///         None => drops += 1,
///         Some(()) => break,
///     }
/// }
/// assert_eq!(drops, 2);
/// # });
/// ```
pub async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), polls);
    std::future::poll_fn(|cx| match left {
        0 => Poll::Ready(None),
        _ => {
            left -= 1;
            future.as_mut().poll(cx).map(Some)
        }
    })
    .await
}
