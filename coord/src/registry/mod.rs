//! The registry: who runs, who can be used, and where.
//!
//! A registered instance has two records: one under the service's prefix *exactly while it is
//! routable*, so that naive readers (Go's `naming/endpoints` resolver) are right too, and one that
//! follows its whole life, for operators. [`Registration`] keeps both true; the rules of how are in
//! `chain.rs`.

mod chain;
mod events;
mod record;
mod registration;
mod watchdog;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use chain::Chain;
pub use events::{InstanceEvent, InstanceEvents};
use record::Record;
pub use record::{Instance, Status};
use registration::OPERATION;
pub use registration::Registration;

use crate::{
    client::{KeyValue, Range, Span},
    engine::Engine,
    error::{Context, Error, Result},
    key::Prefix,
    metrics,
    tasks::Runtime,
};

const DISCOVER: &str = "discover instances";

/// How many records one page of a list has.
const PAGE: i64 = 1_000;

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
}

/// What is registered. See [`Registry::register`].
#[derive(Clone, Debug)]
#[must_use]
pub struct InstanceSpec {
    service: String,
    address: String,
    version: Option<String>,
    ttl: Option<Duration>,
    watchdog: Option<Duration>,
    id: Option<(u32, i64)>,
}

impl InstanceSpec {
    /// An instance of `service` that is reached at `address`, as `host:port`.
    pub fn new(service: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            address: address.into(),
            version: None,
            ttl: None,
            watchdog: None,
            id: None,
        }
    }

    /// The service's version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// How long the instance stays listed after a crash. Whole seconds. Default:
    /// [`RegistryOptions::ttl`](crate::RegistryOptions::ttl).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Keeps the instance registered only while the runtime that
    /// [`register`](Registry::register) is called on runs tasks: if it has run none for `limit`, its
    /// lease is no longer renewed, and the instance expires as a crashed one does, a TTL later at
    /// most. When the runtime runs tasks again, the instance is registered again. A runtime that is
    /// busy, or blocked for less than `limit`, loses nothing. Default: not watched, since the
    /// registration outlives that runtime otherwise.
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = Some(limit);
        self
    }

    /// The instance id that it holds, and its fencing token.
    pub(crate) fn id(mut self, id: u32, fencing_token: i64) -> Self {
        self.id = Some((id, fencing_token));
        self
    }
}

impl Registry {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Registers an instance and returns once etcd has confirmed that it is routable. From then on
    /// it stays registered until the handle is dropped or [`deregister`](Registration::deregister)
    /// is called: through restarts of etcd, lost leases, and records that somebody deleted.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), before anything is written, for a name with `/` or control
    /// characters, an address that is not `host:port`, a TTL that is not whole seconds;
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) if it is not confirmed
    /// within the request timeout; [`Denied`](Error::Denied). What was written by then is removed.
    ///
    /// # Cancel safety
    /// Safe: what was written by then is removed in the background.
    pub async fn register(&self, spec: InstanceSpec) -> Result<Registration> {
        let registration = self.enroll(spec)?;
        registration.publish();
        registration.published(&self.engine).await?;
        Ok(registration)
    }

    /// Begins a registration that is not routable before
    /// [`publish`](Registration::publish); returns at once.
    pub(crate) fn enroll(&self, spec: InstanceSpec) -> Result<Registration> {
        self.engine.check_open(OPERATION)?;
        let engine = &self.engine;
        let instance = uuid::Uuid::new_v4().to_string();
        let life_cycle = engine.layout.life_cycle(&spec.service, &instance)?;
        let routable = engine.layout.instance(&spec.service, "", &instance)?;
        let ttl = spec.ttl.unwrap_or(engine.options.registry.ttl);
        let mut faults = Vec::new();
        if !is_address(&spec.address) {
            faults.push(format!("the address {:?} is not `host:port`", spec.address));
        }
        let ip = spec.address.parse().map(|address: SocketAddr| address.ip());
        if ip.is_ok_and(|ip| ip.is_unspecified()) {
            faults.push(format!(
                "nobody can connect to {}: name an address of this machine",
                spec.address
            ));
        }
        if ttl.is_zero() || ttl.subsec_nanos() != 0 {
            let ttl = humantime::format_duration(ttl);
            faults.push(format!(
                "the TTL of {ttl} is not a whole number of seconds above zero"
            ));
        }
        let watched = spec.watchdog.map(|limit| (limit, Runtime::current()));
        let watched = match watched {
            None => None,
            Some((limit, Some(runtime))) if !limit.is_zero() => Some((limit, runtime)),
            Some((_, runtime)) => {
                faults.push(match runtime {
                    Some(_) => "the watchdog's limit is zero".to_owned(),
                    None => "the watchdog has no tokio runtime to watch".to_owned(),
                });
                None
            }
        };
        if !faults.is_empty() {
            return Err(Error::Invalid {
                context: Context::new(OPERATION).key(spec.service),
                faults,
            });
        }
        let record = Record {
            service: spec.service.clone(),
            instance: instance.clone(),
            address: spec.address,
            version: spec.version,
            id: spec.id,
            module: engine.module.as_deref().map(Into::into),
            host: crate::host::name(),
            pid: std::process::id(),
            started_ms: engine.clock.unix_ms(),
        };
        let gate = watched
            .map(|(limit, runtime)| watchdog::start(engine, life_cycle.as_str(), runtime, limit));
        let chain = Chain::new(life_cycle, routable, record);
        Ok(Registration::start(
            engine,
            &spec.service,
            &instance,
            ttl,
            gate,
            chain,
        ))
    }

    /// The healthy instances of a service, in the order of their records' keys. Of two with one
    /// address the younger counts: the other is a crashed one whose record has not run out yet.
    ///
    /// A record that cannot be read is left out, and said in the log.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a name that cannot be a service's;
    /// [`Unavailable`](Error::Unavailable) or [`Timeout`](Error::Timeout) after the retries that the
    /// options allow; [`Closed`](Error::Closed).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn discover(&self, service: &str) -> Result<Vec<Instance>> {
        self.engine.check_open(DISCOVER)?;
        let prefix = self.engine.layout.instances(service)?;
        let records = self.list(service, &prefix).await?;
        let readable = records.iter().filter_map(|kv| read(service, &prefix, kv));
        Ok(youngest(readable.filter(|i| i.status == Status::Healthy)))
    }

    /// All records below `prefix` at one revision.
    async fn list(&self, service: &str, prefix: &Prefix) -> Result<Vec<KeyValue>> {
        let mut records: Vec<KeyValue> = Vec::new();
        let mut range = Range::new(Span::prefix(prefix));
        range.limit = PAGE;
        loop {
            let reply = self.engine.read(range.clone()).await;
            let reply =
                reply.map_err(|error| error.into_error(Context::new(DISCOVER).key(service)))?;
            if range.revision == 0 {
                range.revision = reply.header.revision;
            }
            records.extend(reply.kvs);
            match records.last() {
                Some(last) if reply.more => {
                    let after = [last.key.as_slice(), &[0]].concat();
                    range.span = Span::Interval(after, prefix.end());
                }
                _ => return Ok(records),
            }
        }
    }

    /// What becomes of a service's healthy instances: those that are there now come first, as
    /// registered.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a name that cannot be a service's; [`Closed`](Error::Closed).
    pub fn watch(&self, service: &str) -> Result<InstanceEvents> {
        self.engine.check_open("watch instances")?;
        let prefix = self.engine.layout.instances(service)?;
        Ok(InstanceEvents::start(&self.engine, service, prefix))
    }
}

fn is_address(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        !host.is_empty()
            && !host.contains(odd)
            // An IPv6 address stands in brackets.
            && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
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

/// One instance for each address.
fn youngest(instances: impl Iterator<Item = Instance>) -> Vec<Instance> {
    let mut all: Vec<Instance> = instances.collect();
    let mut newest: HashMap<String, i64> = HashMap::new();
    for instance in &all {
        let created = newest.entry(instance.address.clone()).or_default();
        *created = instance.created.max(*created);
    }
    all.retain(|instance| newest.get(&instance.address) == Some(&instance.created));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["10.0.0.5:50051", "[::1]:80", "db.internal:5432"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "10.0.0.5",
            ":80",
            "a:0",
            "a:b",
            "a b:80",
            "::1:80",
            "http://a:80",
            "a:80\n",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
