//! [`InstanceEvents`]: a service's instances as they come and go.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    follow::Look,
    instance::{Instance, InstanceHealth},
};

/// What became of an instance. Only healthy ones are told of: one that turns unhealthy has left, and
/// is registered again when it recovers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstanceEvent {
    /// It can be used from now on.
    Registered(Arc<Instance>),
    /// Its record was changed.
    Updated {
        /// As it was told before.
        old: Arc<Instance>,
        /// As it is.
        new: Arc<Instance>,
    },
    /// It said that it is to be given no new requests; it finishes those that it has. Its `health`
    /// says why: it leaves ([draining](InstanceHealth::Draining)), or is not well. The rest is as it
    /// was told before.
    Left(Arc<Instance>),
    /// Its record is gone and it had not said that it leaves: it crashed, or lost its connection to
    /// etcd for longer than its TTL. (Also after an outage of this watch in which it went either
    /// way.)
    Expired(Arc<Instance>),
}

/// A [`Stream`] of [`InstanceEvent`]s. Made by [`Registry::watch`](super::Registry::watch); dropping
/// it ends the watch. It ends by itself only when the coordinator is closed.
///
/// Who reads slowly sees fewer events, not older ones: an instance that came and went unread is
/// never told of, and of several changes the last is.
#[must_use = "a stream does nothing unless it is polled"]
pub struct InstanceEvents(Pin<Box<dyn Stream<Item = InstanceEvent> + Send + Sync>>);

impl InstanceEvents {
    /// The watch is read by a task, however slowly the stream is: an unread watch would block the
    /// others on its connection.
    pub(super) fn new(look: Look) -> Self {
        let unread = look.unread();
        Self(Box::pin(futures_util::stream::unfold(
            (unread, look),
            |(unread, mut look)| async move {
                loop {
                    let event = unread.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    if let Some(event) = event {
                        return Some((event, (unread, look)));
                    }
                    // An error: the task has ended, and what it left has been read.
                    look.news.changed().await.ok()?;
                }
            },
        )))
    }
}

impl Stream for InstanceEvents {
    type Item = InstanceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<InstanceEvent>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for InstanceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceEvents").finish_non_exhaustive()
    }
}

/// The difference between what the reader has been told and what is there now. It never holds more
/// than one entry for an instance.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// As the reader was told last.
    told: BTreeMap<Vec<u8>, Arc<Instance>>,
    /// What the reader has not been told yet.
    news: BTreeMap<Vec<u8>, Result<Arc<Instance>, End>>,
    /// The keys of `news`, in the order in which they came.
    queue: VecDeque<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It is this instead of healthy.
    Left(InstanceHealth),
    Expired,
}

impl Unread {
    /// `seen`: the record `key` as it can be read now. `gone`: there is none.
    pub(super) fn change(&mut self, key: &[u8], seen: Option<Arc<Instance>>, gone: bool) {
        let marked = match self.news.get(key) {
            Some(Err(End::Left(health))) => Some(*health),
            _ => None,
        };
        let new = match seen {
            Some(instance) if instance.health == InstanceHealth::Healthy => Ok(instance),
            // The mark: it says itself that it takes nothing.
            Some(instance) => Err(End::Left(instance.health)),
            None => Err(match marked {
                Some(health) if gone => End::Left(health),
                _ => End::Expired,
            }),
        };
        if self.news.insert(key.to_vec(), new).is_none() {
            self.queue.push_back(key.to_vec());
        }
    }

    fn pop(&mut self) -> Option<InstanceEvent> {
        while let Some(key) = self.queue.pop_front() {
            let news = self.news.remove(&key);
            let event = match (self.told.remove(&key), news?) {
                (Some(old), Err(End::Left(health))) => InstanceEvent::Left(Arc::new(Instance {
                    health,
                    ..Instance::clone(&old)
                })),
                (Some(old), Err(End::Expired)) => InstanceEvent::Expired(old),
                (None, Err(_)) => continue,
                (told, Ok(new)) => {
                    self.told.insert(key, new.clone());
                    match told {
                        None => InstanceEvent::Registered(new),
                        Some(old) if old == new => continue,
                        Some(old) => InstanceEvent::Updated { old, new },
                    }
                }
            };
            return Some(event);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(version: &str, health: InstanceHealth) -> Arc<Instance> {
        Arc::new(Instance {
            version: Some(version.into()),
            health,
            ..Instance::bare("s", "u", "a:1")
        })
    }

    fn change(unread: &mut Unread, seen: Option<Arc<Instance>>) {
        let gone = seen.is_none();
        unread.change(b"k", seen, gone);
    }

    fn told(version: &str) -> Unread {
        let mut unread = Unread::default();
        change(
            &mut unread,
            Some(instance(version, InstanceHealth::Healthy)),
        );
        let first = InstanceEvent::Registered(instance(version, InstanceHealth::Healthy));
        assert_eq!(unread.pop(), Some(first));
        unread
    }

    #[test]
    fn a_deletion_after_the_mark_is_leaving_and_one_without_is_expiry() {
        for health in [InstanceHealth::Draining, InstanceHealth::Unhealthy] {
            let marked = instance("1", health);
            for read_between in [true, false] {
                let mut unread = told("1");
                change(&mut unread, Some(marked.clone()));
                let left = read_between.then(|| unread.pop()).flatten();
                change(&mut unread, None);
                assert_eq!(
                    left.or_else(|| unread.pop()),
                    Some(InstanceEvent::Left(marked.clone()))
                );
                assert_eq!(unread.pop(), None);
            }
        }
        let mut unread = told("1");
        change(&mut unread, None);
        let old = instance("1", InstanceHealth::Healthy);
        assert_eq!(unread.pop(), Some(InstanceEvent::Expired(old)));
    }

    #[test]
    fn a_slow_reader_sees_the_last_of_several_changes() {
        let mut unread = told("1");
        change(&mut unread, Some(instance("2", InstanceHealth::Healthy)));
        change(&mut unread, Some(instance("3", InstanceHealth::Healthy)));
        let (old, new) = (
            instance("1", InstanceHealth::Healthy),
            instance("3", InstanceHealth::Healthy),
        );
        assert_eq!(unread.pop(), Some(InstanceEvent::Updated { old, new }));
        assert_eq!(unread.pop(), None);
    }

    #[test]
    fn what_came_and_went_unread_is_never_told() {
        let mut unread = Unread::default();
        change(&mut unread, Some(instance("1", InstanceHealth::Healthy)));
        change(&mut unread, None);
        assert_eq!(unread.pop(), None);
        assert!(unread.news.is_empty() && unread.told.is_empty());
    }

    #[test]
    fn an_unchanged_instance_is_no_event() {
        let mut unread = told("1");
        change(&mut unread, Some(instance("1", InstanceHealth::Healthy)));
        assert_eq!(unread.pop(), None);
    }
}
