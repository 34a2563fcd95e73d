//! Live config: a struct that always holds what etcd holds.
//!
//! Every field is one key below the struct's prefix, as plain as `etcdctl put` writes it. A change is
//! decoded aside, as a whole; only if every field is good does it become the value that
//! [`Config::load`] returns, in one step for all keys of one transaction. Anything wrong leaves the
//! value from before in use and is told by [`Config::status`].

pub(crate) mod apart;
mod builder;
pub mod bytes;
mod cache;
mod center;
mod commit;
pub(crate) mod decode;
pub(crate) mod document;
mod encode;
pub(crate) mod encoder;
mod events;
mod history;
mod list;
mod live;
mod past;
mod record;
mod reloader;
mod rollback;
mod save;
mod seed;
pub(crate) mod shape;
mod status;
mod subscription;
mod template;
mod transaction;
mod value;
mod version;
mod whole;

use std::{convert::Infallible, fmt, ops::Deref, sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

pub(crate) use self::cache::Cache;
use self::live::{Readers, Seen, Step, Store, Writer};
pub use self::{
    builder::ConfigBuilder,
    center::ConfigCenter,
    decode::{Fault, UnknownKey, Warning},
    events::{ConfigEvent, ConfigEvents, EventKind},
    past::{HistoryEntry, HistoryKind},
    shape::{CoordConfig, Field, WriteConfig},
    status::{Phase, Refusal, Status},
    subscription::{Change, Changes, ProjectionSubscription, Subscription},
    transaction::ConfigTransaction,
    value::ConfigValue,
    version::Version,
};
use crate::{
    clock::Clock,
    error::{Context, Error, Result},
    retry::Backoff,
    watch::{Phase as WatchPhase, WatchStatus},
};

/// A struct that always holds what etcd holds. Cheap to clone; every clone is the same one.
///
/// Dropping the last clone, with the subscriptions made from it, ends its watch.
///
/// ```
/// use coord::Config;
///
/// // What a test hands to code that takes a `Config`.
/// let config = Config::fixed(("eu", 443));
/// let now = config.load();
/// assert_eq!(now.1, 443);
/// ```
pub struct Config<T> {
    store: Arc<Store<T>>,
    inner: Arc<Inner<T>>,
}

/// Held by every handle: when the last is gone, so is the watch.
struct Inner<T> {
    prefix: String,
    steps: watch::Receiver<Step<T>>,
    seen: watch::Receiver<Seen>,
    origin: Origin<T>,
}

enum Origin<T> {
    Watched {
        clock: Clock,
        status: watch::Receiver<WatchStatus>,
        /// Somebody waits for a revision.
        asked: Arc<Notify>,
        _alive: DropGuard,
    },
    /// Keeps the channels open: what is fixed is not closed.
    Fixed(#[allow(dead_code, reason = "held for its drop")] Writer<T>),
}

impl<T> Config<T> {
    /// A value that never changes and stands on no etcd: for unit tests of what takes a `Config`. It
    /// is never closed either: whoever waits for a change waits for ever.
    #[must_use]
    pub fn fixed(value: T) -> Self {
        let (writer, readers) = Writer::new(String::new(), Arc::new(value), i64::MAX);
        Self::new(String::new(), readers, Origin::Fixed(writer))
    }

    fn new(prefix: String, readers: Readers<T>, origin: Origin<T>) -> Self {
        Self {
            store: readers.store,
            inner: Arc::new(Inner {
                prefix,
                steps: readers.steps,
                seen: readers.seen,
                origin,
            }),
        }
    }

    /// The value now: one lock-free load. Load once per unit of work, so that the work sees one value
    /// throughout; holding it across an await is fine.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.store.value.load_full()
    }

    /// The value now, without counting a reference: for hot loops. Do not hold it across an await;
    /// there [`load`](Self::load) is the right one.
    #[must_use]
    pub fn load_guard(&self) -> impl Deref<Target = T> + use<T> {
        Loaded(self.store.value.load())
    }

    /// A cursor over the values: the current one first.
    ///
    /// ```
    /// # #[derive(coord::CoordConfig)]
    /// # #[coord(prefix = "app")]
    /// # struct App {
    /// #     #[coord(default = 100)]
    /// #     size: u32,
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// # let config = coordinator.config::<App>().start().await?;
    /// let mut values = config.subscribe();
    /// println!("starts with {}", values.current().size);
    /// # coordinator.config_center().set("app/size", &7).await?;
    /// # let mut seen = Vec::new();
    /// // Until the coordinator is closed.
    /// while let Ok(value) = values.changed().await {
    ///     println!("now {}", value.size);
    /// #     seen.push(value.size);
    /// #     coordinator.close().await;
    /// }
    /// # assert_eq!(seen, [7]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> Subscription<T> {
        Subscription::new(self.inner.clone())
    }

    /// The changes from now on, each with the values before and after it and the fields that differ.
    #[must_use]
    pub fn changes(&self) -> Changes<T>
    where
        T: Send + Sync + 'static,
    {
        Changes::new(self.subscribe())
    }

    /// A part of the value, for code that need not know the rest.
    ///
    /// ```
    /// let config = coord::Config::fixed(("eu", 443));
    /// let port = config.project(|c| &c.1);
    /// assert_eq!(*port.load(), 443);
    /// ```
    #[must_use]
    pub fn project<U>(&self, part: fn(&T) -> &U) -> Projection<T, U> {
        Projection {
            config: self.clone(),
            part,
        }
    }

    /// How this config stands to etcd: whether changes arrive, and why the last one was refused.
    #[must_use]
    pub fn status(&self) -> Status {
        // Before the record: what was looked at up to this revision is in the record by now.
        let revision = self.inner.seen.borrow().revision;
        let record = self.store.record().clone();
        let status = Status {
            prefix: self.inner.prefix.clone(),
            phase: Phase::Fixed,
            revision,
            applied_revision: record.applied_revision,
            heard: None,
            verified: None,
            refusal: record.refusal,
            refusals: record.refusals,
            unknown: record.unknown,
            warnings: record.warnings,
            reconnects: 0,
            trouble: None,
        };
        let Origin::Watched {
            clock,
            status: watch,
            ..
        } = &self.inner.origin
        else {
            return Status {
                revision: 0,
                applied_revision: 0,
                ..status
            };
        };
        let closed = self.inner.steps.has_changed().is_err();
        let watch = watch.borrow();
        let ago = |at: Option<crate::clock::Instant>| at.map(|at| clock.now().since(at));
        Status {
            phase: match watch.phase {
                _ if closed => Phase::Closed,
                WatchPhase::Watching => Phase::Watching,
                WatchPhase::Listing | WatchPhase::Opening | WatchPhase::BackingOff => {
                    Phase::Reconnecting
                }
            },
            heard: ago(watch.alive_at),
            verified: ago(watch.verified_at),
            reconnects: watch.reconnects,
            trouble: watch.trouble.clone(),
            ..status
        }
    }

    /// Waits until every change up to the store's `revision` was looked at: taken, or refused and in
    /// [`status`](Self::status). A write returns its revision; waiting for it here is reading one's
    /// own write. A revision that the store has not reached is waited for without limit.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed) if the coordinator is closed first;
    /// [`Conflict`](Error::Conflict) if the store was restored to an older state meanwhile.
    ///
    /// # Cancel safety
    /// Safe to drop at any time.
    pub async fn wait_for_revision(&self, revision: impl Into<i64>) -> Result<()> {
        let revision = revision.into();
        let mut seen = self.inner.seen.clone();
        let before = seen.borrow().regressions;
        let reached = seen.wait_for(|it| it.revision >= revision || it.regressions != before);
        let now = tokio::select! {
            biased;
            now = reached => now.map(|seen| *seen).map_err(|_| self.inner.closed())?,
            never = self.inner.ask() => match never {},
        };
        // The new history may have a revision of that number too: another one.
        if now.regressions == before {
            return Ok(());
        }
        Err(Error::Conflict {
            context: self.inner.context("wait for a revision of"),
            current: now.revision,
        })
    }
}

impl<T> Inner<T> {
    fn context(&self, operation: &'static str) -> Context {
        Context::new(operation).key(self.prefix.as_str())
    }

    /// Asks how far the store is, again and again: no event tells of a write outside the prefix, and
    /// the first answer may come from a member that has not seen it yet. Not before an event of a
    /// write inside it would have come.
    async fn ask(&self) -> Infallible {
        let Origin::Watched { clock, asked, .. } = &self.origin else {
            return std::future::pending().await;
        };
        let mut backoff = Backoff::endless(Duration::from_millis(4), Duration::from_secs(10));
        loop {
            clock.sleep(backoff.next_delay()).await;
            asked.notify_one();
        }
    }

    fn closed(&self) -> Error {
        Error::Closed {
            context: self.context("follow config"),
        }
    }
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            inner: self.inner.clone(),
        }
    }
}

/// Shows where it stands, never the value: it may hold secrets.
impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("prefix", &self.inner.prefix)
            .field("revision", &self.store.record().applied_revision)
            .finish_non_exhaustive()
    }
}

struct Loaded<T>(arc_swap::Guard<Arc<T>>);

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A part of a config. See [`Config::project`].
#[derive(Debug)]
pub struct Projection<T, U> {
    config: Config<T>,
    part: fn(&T) -> &U,
}

impl<T, U> Projection<T, U> {
    /// The part's value now.
    #[must_use]
    pub fn load(&self) -> impl Deref<Target = U> + use<T, U> {
        Part {
            whole: self.config.load(),
            part: self.part,
        }
    }

    /// A cursor over the part's values, the current one first: it is told of a change only if the
    /// part is another.
    ///
    /// ```
    /// # #[derive(coord::CoordConfig)]
    /// # #[coord(prefix = "app")]
    /// # struct App {
    /// #     #[coord(default = 100)]
    /// #     size: u32,
    /// #     #[coord(default = "info")]
    /// #     level: String,
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// # let config = coordinator.config::<App>().start().await?;
    /// let mut levels = config.project(|c| &c.level).subscribe();
    /// assert_eq!(levels.current(), "info");
    /// # let center = coordinator.config_center();
    /// # center.set("app/size", &7).await?;
    /// # center.set("app/level", "debug").await?;
    /// // Changes of other fields are passed over.
    /// assert_eq!(levels.changed().await?, "debug");
    /// # coordinator.close().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> ProjectionSubscription<T, U>
    where
        U: PartialEq,
    {
        ProjectionSubscription::new(self.config.subscribe(), self.part)
    }
}

impl<T, U> Clone for Projection<T, U> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            part: self.part,
        }
    }
}

struct Part<T, U> {
    whole: Arc<T>,
    part: fn(&T) -> &U,
}

impl<T, U> Deref for Part<T, U> {
    type Target = U;

    fn deref(&self) -> &U {
        (self.part)(&self.whole)
    }
}
