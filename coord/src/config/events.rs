//! [`ConfigEvents`]: what becomes of keys, as a stream.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Waking, Poll},
    time::SystemTime,
};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};

use super::{record::time, value::typed, version::Version};
use crate::{
    client::{KeyValue, Span},
    clock::Clock,
    engine::Engine,
    error::{Context, Error, Result},
    watch::{Change, Watcher},
};

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// It exists, and did not before.
    Created,
    /// It has another value.
    Updated,
    /// It exists no longer.
    Deleted,
}

/// A change of one key.
#[non_exhaustive]
pub struct ConfigEvent<T> {
    /// What became of the key.
    pub kind: EventKind,
    /// The whole key: what every method of the config center takes.
    pub key: String,
    /// The value before; `None` if there was none, an error if it is no `T`.
    pub old: Option<Result<T>>,
    /// The value now; `None` if there is none, an error if it is no `T`.
    pub new: Option<Result<T>>,
    /// The new value's version. For a deletion, its own; a later revision if it was not seen as it
    /// happened, because the watch had to begin again.
    pub version: Version,
    /// When this process saw it.
    pub seen: SystemTime,
}

/// Shows everything but the values: they may be secret.
impl<T> fmt::Debug for ConfigEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigEvent")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("version", &self.version)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// A [`Stream`] of [`ConfigEvent`]s. Made by [`ConfigCenter::watch`](super::ConfigCenter::watch) and
/// [`watch_prefix`](super::ConfigCenter::watch_prefix); dropping it ends the watch. It ends by itself
/// only when the coordinator is closed.
///
/// A write of the value that is there already is no event. Who reads slowly sees fewer events, not
/// older ones: of several changes of a key it sees the one from the first value to the last.
#[must_use = "a stream does nothing unless it is polled"]
pub struct ConfigEvents<T>(Pin<Box<dyn Stream<Item = ConfigEvent<T>> + Send>>);

impl<T: DeserializeOwned> ConfigEvents<T> {
    pub(super) const WATCH: &'static str = "watch config";

    /// Returns once it is known what is there: every change from then on is an event.
    ///
    /// A task reads the watch, however slowly the stream is read: an unread watch would block the
    /// others on its connection.
    pub(super) async fn start(engine: &Engine, span: Span, place: &str) -> Result<Self> {
        engine.check_open(Self::WATCH)?;
        let unread = Arc::new(Mutex::new(Unread::default()));
        let (more, mut news) = watch::channel(());
        let (listed, begun) = oneshot::channel();
        let watcher = engine.watcher(format!("config {place}"), span);
        let status = watcher.status();
        let following = Following {
            watcher,
            clock: engine.clock.clone(),
            unread: unread.clone(),
            more,
        };
        engine.tasks.spawn(following.run(listed));
        let context = || Context::new(Self::WATCH).key(place);
        let limit = engine.options.connect_timeout + engine.options.request_timeout;
        match engine.clock.timeout(limit, begun).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::Closed { context: context() }),
            Err(_) => {
                return Err(Error::Unavailable {
                    context: context(),
                    maybe_applied: false,
                    detail: status.borrow().trouble.clone().unwrap_or_else(|| {
                        format!(
                            "etcd did not answer within {}",
                            humantime::format_duration(limit)
                        )
                    }),
                });
            }
        }
        news.mark_unchanged();
        Ok(Self(Box::pin(futures_util::stream::unfold(
            (unread, news),
            |(unread, mut news)| async move {
                loop {
                    let event = lock(&unread).pop();
                    if let Some(event) = event {
                        return Some((event.typed(), (unread, news)));
                    }
                    // An error: the task has ended, and what it left has been read.
                    news.changed().await.ok()?;
                }
            },
        ))))
    }
}

impl<T> ConfigEvents<T> {
    /// The next event; `None` when the coordinator is closed.
    ///
    /// # Cancel safety
    /// Safe to drop at any time: no event is lost.
    pub async fn next(&mut self) -> Option<ConfigEvent<T>> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl<T> Stream for ConfigEvents<T> {
    type Item = ConfigEvent<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<Option<ConfigEvent<T>>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for ConfigEvents<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigEvents").finish_non_exhaustive()
    }
}

/// The task behind the stream.
struct Following {
    watcher: Watcher,
    clock: Clock,
    unread: Arc<Mutex<Unread>>,
    /// Its receiver is the stream's.
    more: watch::Sender<()>,
}

impl Following {
    async fn run(mut self, listed: oneshot::Sender<()>) {
        let mut listed = Some(listed);
        loop {
            let update = tokio::select! {
                update = self.watcher.next() => update,
                () = self.more.closed() => return,
            };
            if let Some(listed) = listed.take() {
                // What was there before is no event. If nobody waits for it the next turn ends.
                let _ = listed.send(());
                continue;
            }
            let seen = time(self.clock.unix_ms());
            let mut unread = lock(&self.unread);
            for change in update.changes {
                unread.change(change, update.revision, seen);
            }
            drop(unread);
            // Fails only if the stream was dropped; then the next turn ends.
            let _ = self.more.send(());
        }
    }
}

fn lock(unread: &Mutex<Unread>) -> MutexGuard<'_, Unread> {
    // Nothing panics while it is held.
    unread.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the reader has not been told yet: at most one change of a key.
#[derive(Default)]
struct Unread {
    news: BTreeMap<Vec<u8>, News>,
    /// The keys of `news`, in the order in which they came.
    queue: VecDeque<Vec<u8>>,
}

/// From what the reader knows to what is there.
struct News {
    old: Option<KeyValue>,
    new: Option<KeyValue>,
    revision: i64,
    seen: SystemTime,
}

impl Unread {
    fn change(&mut self, change: Change, revision: i64, seen: SystemTime) {
        let old = match self.news.remove(&change.key) {
            Some(news) => news.old,
            None => {
                self.queue.push_back(change.key.clone());
                change.old
            }
        };
        let news = News {
            old,
            new: change.new,
            revision,
            seen,
        };
        self.news.insert(change.key, news);
    }

    fn pop(&mut self) -> Option<Raw> {
        while let Some(key) = self.queue.pop_front() {
            let news = self.news.remove(&key)?;
            let kind = match (&news.old, &news.new) {
                (None, None) => continue,
                (Some(old), Some(new)) if old.value == new.value => continue,
                (None, Some(_)) => EventKind::Created,
                (Some(_), Some(_)) => EventKind::Updated,
                (Some(_), None) => EventKind::Deleted,
            };
            return Some(Raw { kind, key, news });
        }
        None
    }
}

struct Raw {
    kind: EventKind,
    key: Vec<u8>,
    news: News,
}

impl Raw {
    fn typed<T: DeserializeOwned>(self) -> ConfigEvent<T> {
        let key = String::from_utf8_lossy(&self.key).into_owned();
        let read = |kv: &KeyValue| {
            let version = kv.mod_revision.into();
            typed(ConfigEvents::<T>::WATCH, &key, version, &kv.value)
        };
        let News {
            old,
            new,
            revision,
            seen,
        } = self.news;
        ConfigEvent {
            kind: self.kind,
            old: old.as_ref().map(read),
            new: new.as_ref().map(read),
            version: new.map_or(revision, |kv| kv.mod_revision).into(),
            seen,
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(value: &str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: b"/k".to_vec(),
            value: value.into(),
            mod_revision,
            ..KeyValue::default()
        }
    }

    /// Each state as text and revision; the changes between them come at once.
    fn told(states: &[Option<(&str, i64)>]) -> Option<ConfigEvent<u32>> {
        let mut unread = Unread::default();
        for (pair, revision) in states.windows(2).zip(10..) {
            let [old, new] = [pair[0], pair[1]].map(|it| it.map(|(value, at)| kv(value, at)));
            let key = b"/k".to_vec();
            unread.change(Change { key, old, new }, revision, SystemTime::UNIX_EPOCH);
        }
        let event = unread.pop();
        assert!(unread.pop().is_none() && unread.news.is_empty());
        event.map(Raw::typed)
    }

    #[test]
    fn an_event_says_what_the_reader_does_not_know() {
        use EventKind::{Created, Deleted, Updated};
        for (states, expected) in [
            (&[None, Some(("1", 10))][..], Some((Created, 10))),
            (&[Some(("1", 5)), Some(("2", 10))], Some((Updated, 10))),
            (&[Some(("1", 5)), None], Some((Deleted, 10))),
            (&[Some(("1", 5)), Some(("1", 10))], None),
            // Several, unread: from the first to the last.
            (
                &[None, Some(("1", 10)), Some(("2", 11))],
                Some((Created, 11)),
            ),
            (
                &[Some(("1", 5)), None, Some(("2", 11))],
                Some((Updated, 11)),
            ),
            (
                &[Some(("1", 5)), Some(("2", 10)), None],
                Some((Deleted, 11)),
            ),
            (&[None, Some(("1", 10)), None], None),
            (&[Some(("1", 5)), Some(("2", 10)), Some(("1", 11))], None),
        ] {
            let event = told(states);
            let found = event.map(|event| (event.kind, event.version.revision()));
            assert_eq!(found, expected, "{states:?}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_an_event_that_says_so_and_shows_nothing() {
        let event = told(&[Some(("7", 5)), Some(("hunter2", 10))]).expect("an event");
        assert!(matches!(event.old, Some(Ok(7))));
        let Some(Err(error)) = &event.new else {
            panic!("{event:?}");
        };
        let shown = format!("{event:?} {error} {error:?}");
        assert!(shown.contains("/k") && shown.contains("10"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
