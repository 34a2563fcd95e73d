//! The registry: who runs, who can be used, and where.
//!
//! A registered instance has two records: one under the service's prefix *exactly while it is
//! routable*, so that naive readers (Go's `naming/endpoints` resolver) are right too, and one that
//! follows its whole life, for operators. [`Registration`] keeps both true; the rules of how are in
//! `chain.rs`.

mod chain;
mod check;
mod discover;
mod events;
#[cfg(feature = "embedded")]
mod fixed;
mod follow;
mod instance;
mod keeping;
mod namesake;
mod own;
mod record;
mod registration;
mod set;
mod shared;
mod spec;
mod view;
mod watchdog;
mod wish;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use chain::Chain;
pub use discover::Discover;
#[cfg(feature = "grpc")]
pub(crate) use discover::{requirement, satisfies};
pub use events::{InstanceEvent, InstanceEvents};
pub use instance::{Instance, InstanceHealth};
use keeping::Keeping;
pub use registration::Registration;
use registration::{DEREGISTER, Member, Progress, REGISTER, UPDATE};
pub use set::InstanceSet;
pub(crate) use shared::Shared;
pub use spec::{InstanceSpec, InstanceUpdate};
use tokio::sync::watch;
pub use view::ServiceView;
use wish::Wish;

use crate::{
    client::KeyValue,
    engine::Engine,
    error::{Context, Error, Result},
    key::Prefix,
    metrics,
};

/// Registers and finds instances. Made by [`Coordinator::registry`](crate::Coordinator::registry);
/// cheap to clone.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> coord::Result<()> {
/// # let server = coord::embedded::Server::start().await?;
/// # let coordinator = server.coordinator().await?;
/// use coord::InstanceSpec;
///
/// let registry = coordinator.registry();
/// let registration = registry
///     .register(InstanceSpec::new("user-service", "10.0.0.5:50051").version("1.4.0"))
///     .await?;
/// for instance in registry.discover("user-service").await? {
///     assert_eq!(instance.address, "10.0.0.5:50051");
/// }
/// registration.deregister().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    engine: Engine,
    shared: Shared,
}

impl Registry {
    pub(crate) fn new(engine: Engine, shared: Shared) -> Self {
        Self { engine, shared }
    }

    /// Registers an instance and returns once etcd has confirmed it: from then on others find it, if it
    /// has no [health check](InstanceSpec::health_check) that has yet to say that it is healthy. It
    /// stays registered until the handle is dropped or [`deregister`](Registration::deregister) is
    /// called: through restarts of etcd, lost leases, and records that somebody deleted.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), before anything is written and with every fault, for a name with
    /// `/` or control characters, an address that is not `host:port`, a weight of zero, a TTL that is
    /// not whole seconds, a record of more than 512 KiB; [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) if it is
    /// not confirmed within the request timeout; [`Denied`](Error::Denied). What was written by then is
    /// removed. A few hundred registrations of a coordinator are written at once; of more, each has its
    /// timeout from its turn on.
    ///
    /// # Cancel safety
    /// Safe: what was written by then is removed in the background.
    pub async fn register(&self, spec: InstanceSpec) -> Result<Registration> {
        let registration = self.enroll(spec)?;
        registration.publish();
        registration.registered().await?;
        Ok(registration)
    }

    /// Begins a registration that is not routable before
    /// [`publish`](Registration::publish); returns at once. The runtime of who calls
    /// this is the one that a health check runs on and that a watchdog watches.
    pub(crate) fn enroll(&self, spec: InstanceSpec) -> Result<Registration> {
        self.engine.check_open(REGISTER)?;
        let engine = &self.engine;
        let instance = self.shared.family().instance();
        let zone = spec.zone.as_deref().unwrap_or_default();
        let life_cycles = engine.layout.life_cycles(&spec.service)?;
        let routables = engine.layout.instances_in(&spec.service, zone)?;
        let (life_cycle, routable) = (life_cycles.key(&instance), routables.key(&instance));
        let ttl = spec.ttl.unwrap_or(engine.options.registry.ttl);
        let faults = spec.faults(ttl);
        if !faults.is_empty() {
            return Err(Error::Invalid {
                context: Context::new(REGISTER).key(spec.service),
                faults,
            });
        }
        let gate = spec
            .watchdog
            .map(|limit| watchdog::start(engine, life_cycle.as_str(), limit));
        let check = spec.check.clone();
        let check = check.filter(|_| engine.options.registry.health_check);
        let mut record = spec.record();
        record.instance.clone_from(&instance);
        record.module = engine.module.as_deref().map(Into::into);
        record.host = crate::host::name();
        record.pid = std::process::id();
        record.started_ms = self.shared.started_ms();

        let service = Arc::from(record.service.as_str());
        let name = record.name.as_deref().map(Arc::from);
        let (wish, wanted) = watch::channel(Wish::new(record, check.is_some()));
        let (progress, reached) = watch::channel(Progress::default());
        let member = Member {
            engine: engine.clone(),
            shared: self.shared.clone(),
            service,
            instance: instance.into(),
            name,
            wish: Arc::new(wish),
            progress: reached,
        };
        let keeping = Keeping {
            engine: engine.clone(),
            shared: self.shared.clone(),
            ttl,
            life_cycle: self.shared.own(engine, &life_cycles, &life_cycle),
            routable: self.shared.own(engine, &routables, &routable),
            chain: Chain::new(life_cycle, routable),
            gate,
            wish: wanted,
            progress,
            enrolled: self.shared.enroll(member.clone()),
            given_up: false,
            turn: None,
        };
        engine.tasks.spawn(keeping.run());
        if member.name.is_some() {
            engine.tasks.spawn(namesake::look(member.clone()));
        }
        if let Some(check) = check {
            let user = engine.tasks.here();
            let run = check.run(engine.clone(), user, member.wish.clone());
            engine.tasks.spawn(run);
        }
        Ok(Registration::new(member))
    }

    /// As [`Registration::update`], of a registration that this coordinator has: `instance` is its
    /// [key](Registration::instance), or the name that [its spec](InstanceSpec::instance) gave it (of
    /// several with one name, the last).
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) if this coordinator has no such registration; else as there.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn update(
        &self,
        service: &str,
        instance: &str,
        update: InstanceUpdate,
    ) -> Result<()> {
        self.member(UPDATE, service, instance)?.update(update).await
    }

    /// As [`Registration::deregister`], of a registration that this coordinator has: named as for
    /// [`update`](Self::update). Its handle is of no use from then on.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) if this coordinator has no such registration; else as there.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn deregister(&self, service: &str, instance: &str) -> Result<()> {
        self.member(DEREGISTER, service, instance)?
            .deregister()
            .await
    }

    fn member(&self, operation: &'static str, service: &str, instance: &str) -> Result<Member> {
        self.engine.check_open(operation)?;
        let member = self.shared.member(service, instance);
        member.ok_or_else(|| Error::NotFound {
            context: Context::new(operation).key(format!("{service}/{instance}")),
        })
    }

    /// The healthy instances of a service, or those that the returned value is told to look for:
    /// `await` it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// let registry = coordinator.registry();
    /// let all = registry.discover("user-service").await?;
    /// let some = registry.discover("user-service").version("1.4").zone("a").tag("blue").await?;
    /// assert!(some.len() <= all.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn discover(&self, service: &str) -> Discover {
        Discover::new(self.engine.clone(), service)
    }

    /// What becomes of a service's healthy instances: those that are there now come first, as
    /// registered.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a name that cannot be a service's; [`Closed`](Error::Closed).
    pub fn watch(&self, service: &str) -> Result<InstanceEvents> {
        self.engine.check_open("watch instances")?;
        let look = self.shared.look(&self.engine, service)?;
        Ok(InstanceEvents::new(look))
    }

    /// A service's healthy instances as a value that is always at hand, once etcd has been read.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// # let server = coord::embedded::Server::start().await?;
    /// # let coordinator = server.coordinator().await?;
    /// # use coord::InstanceSpec;
    /// let registry = coordinator.registry();
    /// let mut view = registry.view("user-service").await?;
    /// assert!(view.load().is_empty());
    ///
    /// let spec = InstanceSpec::new("user-service", "10.0.0.5:50051");
    /// let registration = registry.register(spec).await?;
    /// for instance in view.changed().await?.iter() {
    ///     println!("{} with weight {}", instance.address, instance.weight);
    /// }
    /// println!("nothing older than {:?} is missing", view.age());
    /// # registration.deregister().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a name that cannot be a service's;
    /// [`Unavailable`](Error::Unavailable) if etcd does not answer within the request timeout;
    /// [`Closed`](Error::Closed).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn view(&self, service: &str) -> Result<ServiceView> {
        self.engine.check_open("view instances")?;
        let look = self.shared.look(&self.engine, service)?;
        let mut view = ServiceView::new(&self.engine, service, look);
        view.listed(self.engine.options.request_timeout).await?;
        Ok(view)
    }

    /// When `instance` was last heard of by etcd: the last renewal of the lease under which its record
    /// lives, to the second and by this machine's clock. It is asked of etcd, and written nowhere.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) if its lease has ended, or if its record has none;
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) after the retries that the
    /// options allow; [`Denied`](Error::Denied); [`Closed`](Error::Closed).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn last_heartbeat(&self, instance: &Instance) -> Result<SystemTime> {
        const OPERATION: &str = "ask for the last heartbeat";
        self.engine.check_open(OPERATION)?;
        let context =
            || Context::new(OPERATION).key(format!("{}/{}", instance.service, instance.instance));
        let not_found = || Error::NotFound { context: context() };
        if instance.lease == 0 {
            return Err(not_found());
        }
        let asked = self.engine.time_to_live(instance.lease).await;
        let lease = asked.map_err(|error| error.into_error(context()))?;
        let remaining = lease.remaining.ok_or_else(not_found)?;
        let since = lease.granted.saturating_sub(remaining);
        let now = Duration::from_millis(self.engine.clock.unix_ms());
        Ok(SystemTime::UNIX_EPOCH + now.saturating_sub(since))
    }
}

/// The record, or `None` with a line in the log: one bad record must not hide the others.
fn read(service: &str, prefix: &Prefix, kv: &KeyValue) -> Option<Instance> {
    let read = record::decode(service, prefix, kv);
    read.inspect_err(|fault| {
        ::metrics::counter!(metrics::BAD_RECORDS).increment(1);
        tracing::warn!(target: "coord::registry", key = %String::from_utf8_lossy(&kv.key), fault,
            "a record cannot be read and is left out");
    })
    .ok()
}
