//! [`Subscription`] and [`Changes`]: being told of new values.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::watch;

use super::{Inner, live::Step};
use crate::error::Result;

/// A cursor over a config's values. See [`Config::subscribe`](super::Config::subscribe).
///
/// It goes to the newest value each time: whoever is slow skips values, and is never told of one
/// twice.
pub struct Subscription<T> {
    inner: Arc<Inner<T>>,
    steps: watch::Receiver<Step<T>>,
    current: Step<T>,
}

impl<T> Subscription<T> {
    pub(super) fn new(inner: Arc<Inner<T>>) -> Self {
        let mut steps = inner.steps.clone();
        let current = steps.borrow_and_update().clone();
        Self {
            inner,
            steps,
            current,
        }
    }

    /// The value that the cursor stands on.
    #[must_use]
    pub fn current(&self) -> &Arc<T> {
        &self.current.value
    }

    /// The revision that made it the value.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.current.revision
    }

    /// Waits for a newer value and goes to the newest.
    ///
    /// # Errors
    /// [`Closed`](crate::Error::Closed) when the coordinator is closed.
    ///
    /// # Cancel safety
    /// Safe to drop at any time: the cursor moves only when this returns.
    pub async fn changed(&mut self) -> Result<&Arc<T>> {
        self.steps
            .changed()
            .await
            .map_err(|_| self.inner.closed())?;
        self.current = self.steps.borrow_and_update().clone();
        Ok(&self.current.value)
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("prefix", &self.inner.prefix)
            .field("revision", &self.current.revision)
            .finish_non_exhaustive()
    }
}

/// A cursor over a part of a config's values. See
/// [`Projection::subscribe`](super::Projection::subscribe).
pub struct ProjectionSubscription<T, U> {
    /// May stand on a newer value than `shown`, whose part is equal.
    whole: Subscription<T>,
    shown: Arc<T>,
    part: fn(&T) -> &U,
}

impl<T, U: PartialEq> ProjectionSubscription<T, U> {
    pub(super) fn new(whole: Subscription<T>, part: fn(&T) -> &U) -> Self {
        Self {
            shown: whole.current().clone(),
            whole,
            part,
        }
    }

    /// The part that the cursor stands on.
    #[must_use]
    pub fn current(&self) -> &U {
        (self.part)(&self.shown)
    }

    /// Waits for a value whose part is another, and goes to the newest. A part that was changed and
    /// changed back while nobody looked is no news.
    ///
    /// # Errors
    /// [`Closed`](crate::Error::Closed) when the coordinator is closed.
    ///
    /// # Cancel safety
    /// Safe to drop at any time: the cursor moves only when this returns.
    pub async fn changed(&mut self) -> Result<&U> {
        loop {
            let now = self.whole.changed().await?;
            if (self.part)(now) != (self.part)(&self.shown) {
                self.shown = now.clone();
                return Ok(self.current());
            }
        }
    }
}

/// Shows where it stands, never the value: it may be secret.
impl<T, U> fmt::Debug for ProjectionSubscription<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionSubscription")
            .field("prefix", &self.whole.inner.prefix)
            .finish_non_exhaustive()
    }
}

/// A step from one value to another; several, if they came faster than they were read.
#[non_exhaustive]
pub struct Change<T> {
    /// The value before.
    pub old: Arc<T>,
    /// The value now.
    pub new: Arc<T>,
    /// The paths of the fields whose keys were written or deleted in between: `db.port`. A field
    /// that was changed and changed back while nobody looked is among them.
    pub fields: Vec<Arc<str>>,
    /// The store's revision that made `new` the value.
    pub revision: i64,
}

impl<T> Change<T> {
    /// True if the field at `path`, or one inside it, is among the changed ones. `db` covers
    /// `db.port`.
    #[must_use]
    pub fn touches(&self, path: &str) -> bool {
        self.fields.iter().any(|field| {
            field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                // A struct that is written as one document changes as a whole.
                || path.strip_prefix(&**field).is_some_and(|rest| rest.starts_with('.'))
        })
    }
}

/// Shows which fields changed, not their values: they may be secret.
impl<T> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("fields", &self.fields)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A stream of [`Change`]s that ends when the coordinator is closed. See
/// [`Config::changes`](super::Config::changes).
pub struct Changes<T> {
    stream: Pin<Box<dyn Stream<Item = Change<T>> + Send>>,
}

impl<T: Send + Sync + 'static> Changes<T> {
    pub(super) fn new(subscription: Subscription<T>) -> Self {
        let step = |mut subscription: Subscription<T>| async move {
            let before = subscription.current.clone();
            subscription.changed().await.ok()?;
            let now = &subscription.current;
            let change = Change {
                old: before.value,
                new: now.value.clone(),
                fields: now
                    .changed
                    .iter()
                    .filter(|(_, generation)| **generation > before.generation)
                    .map(|(field, _)| field.clone())
                    .collect(),
                revision: now.revision,
            };
            Some((change, subscription))
        };
        Self {
            stream: Box::pin(futures_util::stream::unfold(subscription, step)),
        }
    }

    /// The next change; `None` when the coordinator is closed.
    ///
    /// # Cancel safety
    /// Safe to drop at any time: no change is lost.
    pub async fn next(&mut self) -> Option<Change<T>> {
        std::future::poll_fn(|cx| self.stream.as_mut().poll_next(cx)).await
    }
}

impl<T> Stream for Changes<T> {
    type Item = Change<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change<T>>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
