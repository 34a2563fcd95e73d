//! [`Coordinator`]: the handle. Connects, gives out the parts, closes.

#[cfg(feature = "embedded")]
mod off;

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, ConnectionState, Dialer, Purpose, Range, Span},
    clock::Clock,
    config::{Cache, ConfigBuilder, ConfigCenter, CoordConfig},
    engine::{Engine, Watched},
    error::{Context, Error, Result},
    instance_id::InstanceIds,
    lock::{Election, LockBuilder, LockStatus, Locks},
    options::{Mode, Options},
    registry::{self, Registry},
    session::{Keeper, PastDeadline, SessionState},
    tasks::{Tasks, Thread},
    watch::Phase,
};

const OPERATION: &str = "connect to etcd";

/// How long closing may take: revoking a lease is one call, and what is not revoked runs out.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A connection to the cluster and everything that lives on it. Cheap to clone: every clone, and
/// every [module](Self::module), shares the same connections, sessions and keys.
///
/// It runs on threads of its own, so it serves any number of runtimes, outlives them, and loses
/// nothing while they are busy.
///
/// When the last clone is dropped everything is released in the background, as
/// [`close`](Self::close) does it in the foreground: so keep one for as long as a lock guard, a live
/// config or a registration is to live.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// use coord::{Coordinator, Options};
///
/// # let server = coord::embedded::Server::start().await?;
/// # let endpoint = server.endpoint();
/// let coordinator = Coordinator::connect(Options::development().endpoints([endpoint])).await?;
/// println!("etcd answers in {:?}", coordinator.ping().await?);
/// coordinator.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Coordinator {
    /// Its drop, with the last clone's, starts the closing.
    alive: Arc<Alive>,
    engine: Engine,
}

#[derive(Debug)]
struct Alive {
    /// Cancelled by the first close, and by the drop of the last handle: the closer waits for it.
    closing: CancellationToken,
    /// Cancelled when the closer is done.
    closed: CancellationToken,
    engine: Engine,
    locks: Locks,
    /// What the config centers have read.
    cache: Cache,
    registrations: registry::Shared,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Closes a coordinator: the one task that does, so that closing begins once and goes on to its end,
/// however many wait for it and whoever of them gives up.
#[derive(Debug)]
struct Closer {
    /// What is registered leaves first: a deletion without a mark would be taken for a crash.
    registrations: registry::Shared,
    clock: Clock,
    keeper: Keeper,
    locks: Locks,
    /// The parts' background work. Ends before what it stands on.
    parts: Tasks,
    /// The connections and the keeper. End last.
    base: Tasks,
    heartbeat: Tasks,
    /// The threads end with their last clone.
    _threads: [Thread; 2],
}

impl Closer {
    async fn close(self) {
        let leaving = self.registrations.leave();
        let _ = self.clock.timeout(CLOSE_LIMIT, leaving).await;
        self.parts.close().await;
        self.locks.close().await;
        self.keeper.close(CLOSE_LIMIT).await;
        self.base.close().await;
        self.heartbeat.close().await;
    }
}

impl Coordinator {
    /// Connects to etcd; to nothing at all if the [mode](Options::mode) is [`Off`](Mode::Off).
    ///
    /// # Errors
    /// [`NotConfigured`](Error::NotConfigured) if the options name no endpoint;
    /// [`Invalid`](Error::Invalid) with every fault of the options at once;
    /// [`Unavailable`](Error::Unavailable), within the connect timeout, with each endpoint and what
    /// became of it; [`Denied`](Error::Denied) if etcd refuses the user.
    ///
    /// # Cancel safety
    /// Safe: what was opened is closed.
    pub async fn connect(options: Options) -> Result<Self> {
        match options.mode {
            Mode::Etcd => Self::open(options, None).await,
            // Boxed, as in `open`.
            #[cfg(feature = "embedded")]
            Mode::Off => Box::pin(off::connect(options)).await,
            #[cfg(not(feature = "embedded"))]
            Mode::Off => Err(Error::invalid(
                OPERATION,
                "the mode `off` needs the feature `embedded` of the crate `coord`",
            )),
        }
    }

    /// `dialer`: to something that is not at the options' endpoints.
    async fn open(options: Options, dialer: Option<Dialer>) -> Result<Self> {
        if options.endpoints.is_empty() {
            return Err(Error::NotConfigured {
                context: Context::new(OPERATION),
                detail: "no endpoint is set: set COORD_ENDPOINTS or Options::endpoints, or use \
                         Options::development() for localhost"
                    .into(),
            });
        }
        options.validate()?;

        let thread = |name| {
            Thread::start(name).map_err(|error| Error::Unavailable {
                context: Context::new(OPERATION).cause(error),
                maybe_applied: false,
                detail: "the machine gave no thread".into(),
            })
        };
        let (io, heart) = (thread("coord-io")?, thread("coord-heartbeat")?);
        let root = CancellationToken::new();
        // Until this is defused, dropping the future ends the connections opened so far.
        let cancel = root.clone().drop_guard();
        let (base, parts) = (io.tasks(&root), io.tasks(&root));
        let heartbeat = heart.tasks(&root);
        let clock = Clock::real(io.clone());
        let heart_clock = Clock::real(heart.clone());

        // Boxed: it is polled once in a program's life, and would be most of the size of every
        // future that may have to connect, as those of all functions with `#[locked]` do.
        let dialer = dialer.as_ref();
        let opened = Box::pin(async {
            futures_util::try_join!(
                Client::open(Purpose::Calls, &options, dialer, &clock, &base),
                Client::open(Purpose::Watches, &options, dialer, &clock, &base),
                Client::open(
                    Purpose::KeepAlives,
                    &options,
                    dialer,
                    &heart_clock,
                    &heartbeat
                ),
            )
        });
        let (calls, watches, beats) = opened.await?;
        let keeper = Keeper::start(
            calls.clone(),
            beats.clone(),
            heart_clock,
            base.clone(),
            heartbeat.clone(),
        );
        let registrations = registry::Shared::new(clock.unix_ms());
        let engine = Engine {
            calls,
            watches,
            heartbeat: beats,
            keeper: keeper.clone(),
            clock,
            tasks: parts.clone(),
            layout: Arc::new(options.layout()),
            options: Arc::new(options),
            module: None,
            watched: Watched::default(),
        };
        let locks = Locks::new(engine.clone());
        let closer = Closer {
            registrations: registrations.clone(),
            clock: engine.clock.clone(),
            keeper,
            locks: locks.clone(),
            parts,
            base: base.clone(),
            heartbeat,
            _threads: [io.clone(), heart],
        };
        cancel.disarm();

        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        // Tracked by nobody: it ends right after everything else has.
        io.tasks(&CancellationToken::new()).spawn({
            let (closing, closed) = (closing.clone(), closed.clone().drop_guard());
            async move {
                closing.cancelled().await;
                closer.close().await;
                drop(closed);
            }
        });
        let alive = Arc::new(Alive {
            closing,
            closed,
            locks,
            cache: Cache::default(),
            registrations,
            engine: engine.clone(),
        });
        Ok(Self { alive, engine })
    }

    /// The coordinator of a part of the program: the same connections, sessions and keys; its name
    /// stands in log spans and in the records that it writes. Only
    /// [`Options::namespace`](crate::Options::namespace) separates keys.
    #[must_use]
    pub fn module(&self, name: &str) -> Self {
        let mut module = self.clone();
        module.engine.module = Some(name.into());
        module
    }

    /// The module's name; `None` for the root.
    #[must_use]
    pub fn module_name(&self) -> Option<&str> {
        self.engine.module.as_deref()
    }

    /// The lock `key`, to be acquired: one holder at a time among all processes, first come first
    /// served.
    ///
    /// `key` is taken as it is: segments between `/`, none of them empty, of any characters but `!` and
    /// control characters, 1 KiB at most; what is not is refused when it is acquired. One `/` in front is
    /// part of the name: `/jobs` is another lock than `jobs`. What `#[locked]` fills into its holes is
    /// percent-encoded; by hand, do so with what comes from users.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// use std::time::Duration;
    ///
    /// // Runs under the lock, or not at all: if the lock is lost, the body is dropped.
    /// let total = coordinator
    ///     .lock("orders/42")
    ///     .wait(Duration::from_secs(5))
    ///     .run(async |held| {
    ///         println!("token {}, for another {:?}", held.fencing_token(), held.remaining());
    ///         7
    ///     })
    ///     .await?;
    ///
    /// // The same by hand.
    /// let guard = coordinator.lock("orders/42").acquire().await?;
    /// println!("{total}; {} is ours", guard.key());
    /// let released = guard.unlock().await?;
    /// assert!(released.confirmed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self, key: impl Into<String>) -> LockBuilder {
        self.locks().lock(key)
    }

    /// Several locks at once: all of them, or none yet. A name that is given twice is one lock.
    ///
    /// They are asked for in one transaction and stand at the same place in every queue, so two calls
    /// with the same names in any order never wait for each other. They are held, lost and released
    /// together, all in one [mode](LockBuilder#modes), and have one fencing token. At most 42 names.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let (from, to) = (17, 4);
    /// coordinator
    ///     .lock_all([format!("accounts/{from}"), format!("accounts/{to}")])
    ///     .run(async |held| println!("{} with token {}", held.key(), held.fencing_token()))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock_all<K: Into<String>>(&self, keys: impl IntoIterator<Item = K>) -> LockBuilder {
        self.locks().lock_all(keys.into_iter().map(K::into))
    }

    /// Who holds the lock `path` and the locks below it (`orders` and `orders/42`, not `orders2`), and who
    /// waits for them, as etcd has it at one revision; all locks of this namespace and lock prefix if
    /// `path` is empty. In the order of their names; those that nobody holds or waits for are not there.
    ///
    /// It reads their queues, and tells nobody. [Raw](LockBuilder::raw) locks and elections stand
    /// elsewhere; for these: [`Election::candidates`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let guard = coordinator.lock("orders/42").acquire().await?;
    /// for lock in coordinator.inspect_locks("orders").await? {
    ///     for holder in &lock.holders {
    ///         println!("{}: {}, token {}", lock.name, holder.owner, holder.fencing_token);
    ///     }
    ///     println!("{} wait", lock.waiters.len());
    /// }
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for an impossible path, [`Error::Unavailable`] or [`Error::Timeout`] if etcd
    /// could not say, [`Error::Denied`], [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn inspect_locks(&self, path: &str) -> Result<Vec<LockStatus>> {
        self.locks().inspect(path).await
    }

    /// The election `name`: one leader at a time among all candidates. See [`Election`].
    pub fn election(&self, name: impl Into<String>) -> Election {
        self.locks().election(name.into())
    }

    pub(crate) fn locks(&self) -> Locks {
        self.alive.locks.for_module(self.engine.module.clone())
    }

    /// A live config: binds the struct `T` to its prefix.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// #[derive(coord::CoordConfig)]
    /// #[coord(prefix = "app")]
    /// struct App {
    ///     #[coord(default = 100)]
    ///     max_connections: u32,
    /// }
    ///
    /// let config = coordinator.config::<App>().start().await?;
    /// assert_eq!(config.load().max_connections, 100); // or what /config/app/max_connections says
    /// # Ok(())
    /// # }
    /// ```
    pub fn config<T: CoordConfig>(&self) -> ConfigBuilder<T> {
        ConfigBuilder::new(self.config_center())
    }

    /// The config center: typed reads and writes of single values, with their history.
    #[must_use]
    pub fn config_center(&self) -> ConfigCenter {
        ConfigCenter::new(self.engine.clone(), self.alive.cache.clone())
    }

    /// The registry: registers and finds instances of services.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::new(self.engine.clone(), self.alive.registrations.clone())
    }

    /// A gRPC channel to `service`, for every client that tonic generates:
    /// `UserClient::new(coordinator.channel("user-service").await?)`. It finds the instances in the
    /// registry, follows them, and balances calls over them. Of an instance with several addresses it
    /// uses the one called `grpc`, else the first.
    #[cfg(feature = "grpc")]
    pub fn channel(&self, service: impl Into<String>) -> crate::grpc::ChannelBuilder {
        crate::grpc::ChannelBuilder::new(self.registry(), self.engine.clone(), service)
    }

    /// Instance ids of the pool `pool`: small integers, each with one live holder at most.
    pub fn instance_ids(&self, pool: &str, range: RangeInclusive<u32>) -> InstanceIds {
        #[cfg(feature = "embedded")]
        if let Some(number) = off::first_id(&self.engine.options, &range) {
            return InstanceIds::new(self.engine.clone(), pool, range).prefer(number);
        }
        InstanceIds::new(self.engine.clone(), pool, range)
    }

    /// One linearizable round trip to etcd, and how long it took.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) after the retries that the
    /// options allow; [`Closed`](Error::Closed).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<Duration> {
        const OPERATION: &str = "ping etcd";
        self.engine.check_open(OPERATION)?;
        let key = self.engine.layout.lock_session(0);
        let mut range = Range::new(Span::key(&key));
        range.count_only = true;
        let sent = self.engine.clock.now();
        self.engine
            .read(range)
            .await
            .map_err(|error| error.into_error(Context::new(OPERATION)))?;
        Ok(self.engine.clock.now().since(sent))
    }

    /// What this coordinator knows of itself at the moment: nothing is asked of etcd.
    #[must_use]
    pub fn health(&self) -> Health {
        let engine = &self.engine;
        let now = engine.clock.now();
        let connection = |purpose, client: &Client| {
            let mut health = ConnectionHealth {
                purpose,
                endpoint: None,
                version: None,
                trouble: None,
            };
            match client.connection() {
                ConnectionState::Connected { endpoint, version } => {
                    health.endpoint = Some(endpoint);
                    health.version = version.map(|version| version.to_string());
                }
                ConnectionState::Connecting => health.trouble = Some("connecting".to_owned()),
                ConnectionState::Down { errors } => health.trouble = Some(describe(&errors)),
            }
            health
        };
        Health {
            closed: engine.tasks.cancelled().is_cancelled(),
            connections: vec![
                connection("calls", &engine.calls),
                connection("watches", &engine.watches),
                connection("heartbeat", &engine.heartbeat),
            ],
            sessions: engine
                .keeper
                .health()
                .into_iter()
                .map(|session| SessionHealth {
                    purpose: session.purpose,
                    lease: session.lease,
                    live: session.state == SessionState::Live,
                    remaining: session.remaining,
                })
                .collect(),
            watches: engine
                .watched
                .statuses()
                .into_iter()
                .map(|(name, status)| WatchHealth {
                    name,
                    current: status.phase == Phase::Watching,
                    revision: status.revision,
                    verified: status.verified_at.map(|at| now.since(at)),
                    reconnects: status.reconnects,
                    trouble: status.trouble,
                })
                .collect(),
            undo_backlog: engine.keeper.undo().len(),
        }
    }

    /// Releases everything and ends the connections: registrations leave, as by
    /// [`deregister`](crate::Registration::deregister); locks are given back and ids removed (each by
    /// revoking its lease), live configs stop at their last value. Locks that are held are lost before
    /// others can have them: until their bodies have stopped, and their guards are dropped, for as much
    /// as a twentieth of their TTL (and at most a second), they stay taken. Takes at most three seconds
    /// or so; what could not be released by then runs out with its lease. Every later call is
    /// [`Closed`](Error::Closed). A second close waits for the first.
    ///
    /// # Cancel safety
    /// Safe: from the first poll on the closing goes on in the background.
    pub async fn close(&self) {
        self.alive.closing.cancel();
        self.alive.closed.cancelled().await;
    }

    /// Ends belief in every instance id and leaves them to expire on etcd, also when the coordinator
    /// is closed: somewhere they may still be in use.
    pub(crate) fn abandon_ids(&self) {
        self.engine.keeper.abandon_all(PastDeadline::Verify);
    }

    /// What it was connected with.
    pub(crate) fn options(&self) -> &Options {
        &self.engine.options
    }

    /// True for clones and modules of one coordinator.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.alive, &other.alive)
    }

    pub(crate) fn downgrade(&self) -> WeakCoordinator {
        WeakCoordinator {
            alive: Arc::downgrade(&self.alive),
            module: self.engine.module.clone(),
        }
    }
}

/// A coordinator that does not keep itself from being closed.
#[derive(Clone, Debug)]
pub(crate) struct WeakCoordinator {
    alive: Weak<Alive>,
    module: Option<Arc<str>>,
}

impl WeakCoordinator {
    pub(crate) fn upgrade(&self) -> Option<Coordinator> {
        let alive = self.alive.upgrade()?;
        let mut engine = alive.engine.clone();
        engine.module.clone_from(&self.module);
        Some(Coordinator { alive, engine })
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("module", &self.module_name())
            .field("endpoints", &self.engine.options.endpoints)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "embedded")]
impl crate::embedded::Server {
    /// The options of a coordinator on this server: [`Options::test`] with its endpoint. For one that
    /// gives up earlier, or has shorter leases, [connect](Coordinator::connect) with a change to them.
    #[must_use]
    pub fn options(&self) -> Options {
        Options::test().endpoints([self.endpoint()])
    }

    /// A coordinator on this server, with its [options](Self::options).
    ///
    /// # Errors
    /// As [`Coordinator::connect`].
    ///
    /// # Cancel safety
    /// Safe: what was opened is closed.
    pub async fn coordinator(&self) -> Result<Coordinator> {
        Coordinator::connect(self.options()).await
    }
}

fn describe(errors: &[(String, String)]) -> String {
    let each: Vec<_> = errors
        .iter()
        .map(|(endpoint, error)| format!("{endpoint}: {error}"))
        .collect();
    each.join("; ")
}

/// See [`Coordinator::health`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The coordinator has been closed.
    pub closed: bool,
    /// One for each purpose.
    pub connections: Vec<ConnectionHealth>,
    /// Every lease that is kept alive.
    pub sessions: Vec<SessionHealth>,
    /// Every watch that is open.
    pub watches: Vec<WatchHealth>,
    /// Keys that were given up and are not yet known to be deleted.
    pub undo_backlog: usize,
}

impl Health {
    /// True if every connection stands, every lease is renewed in time and every watch is current.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.closed
            && self
                .connections
                .iter()
                .all(|connection| connection.endpoint.is_some())
            && self.sessions.iter().all(|session| session.live)
            && self.watches.iter().all(|watch| watch.current)
    }
}

/// One connection. See [`Health`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionHealth {
    /// `calls`, `watches` or `heartbeat`.
    pub purpose: &'static str,
    /// The endpoint that it stands to; `None` while there is none.
    pub endpoint: Option<String>,
    /// The version of the server there, if it told one.
    pub version: Option<String>,
    /// Why there is no connection.
    pub trouble: Option<String>,
}

/// One lease. See [`Health`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionHealth {
    /// What it holds: `lock`, `registration` or `instance id`.
    pub purpose: &'static str,
    /// etcd's id of the lease.
    pub lease: i64,
    /// Renewed in time.
    pub live: bool,
    /// Until it would have to be given up if no renewal succeeded.
    pub remaining: Duration,
}

/// One watch. See [`Health`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WatchHealth {
    /// What it follows.
    pub name: String,
    /// Events flow, or would.
    pub current: bool,
    /// The revision that its view equals; 0 before the first list.
    pub revision: i64,
    /// How long ago the view was last known to be complete; `None`: never yet.
    pub verified: Option<Duration>,
    /// How often its stream was opened again.
    pub reconnects: u64,
    /// The last trouble, while it lasts.
    pub trouble: Option<String>,
}
