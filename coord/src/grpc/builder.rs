//! [`ChannelBuilder`]: what a channel is to be like. [`Strategy`]: which instance a call goes to.

use std::{future::IntoFuture, pin::Pin, time::Duration};

use super::{channel::Channel, dial::Dialer, filter::Filter, keeper, shared::Settings};
use crate::{
    engine::Engine,
    error::{Context, Error, Result},
    options::TlsOptions,
    registry::Registry,
};

const CHANNEL: &str = "make a channel";

/// Which instance a call goes to.
///
/// All of them pass over instances that are not connected, and those that have refused this call. The
/// weights of the instances count in all but [`RoundRobin`](Self::RoundRobin) and
/// [`Random`](Self::Random), and so does the [slow start](ChannelBuilder::slow_start); a change of weight
/// counts from the next call on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Of two, drawn at random by weight, the one that is likely to answer first. The default.
    ///
    /// Compared is the time until an answer begins, times the calls that the new one would share the
    /// instance with, relative to its weight. That time is an average which rises at once with a slow
    /// answer, and falls with a hundred fast ones or within some ten seconds: so an instance that
    /// becomes slow soon has fewer calls, and has its share again within a minute after it has become
    /// fast. One that fails fast counts as
    /// slow until it answers; a new one as fast as the others, until it has answered.
    #[default]
    P2c,
    /// One after the other, from a random one on: each has as many calls.
    RoundRobin,
    /// Any, each as likely.
    Random,
    /// In proportion to the weights, evenly spread: also a few calls are in proportion.
    Weighted,
    /// The one with the fewest calls in flight, relative to its weight; of more than eight instances
    /// the best of three that are drawn by weight. A call is in flight until the end of its answer: for
    /// streams that live long.
    LeastConnections,
}

/// Makes a [`Channel`]; await it. Made by [`Coordinator::channel`](crate::Coordinator::channel).
///
/// It is made once etcd has said which instances there are, and connects to them in the background: a
/// first call waits until one is connected, if it has to. It belongs to the runtime that awaits it, and
/// ends with that, with the coordinator, or with its last clone.
///
/// # Errors
/// [`Invalid`](Error::Invalid), with every fault: a name that cannot be a service's (a URL), a version
/// requirement that is none, certificates that cannot be read, a limit of zero;
/// [`Unavailable`](Error::Unavailable) if etcd does not answer within the request timeout;
/// [`Closed`](Error::Closed).
///
/// # Cancel safety
/// Safe.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct ChannelBuilder {
    registry: Registry,
    engine: Engine,
    service: String,
    settings: Settings,
}

/// What a keeper is to do, checked.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) settings: Settings,
    pub(super) filter: Filter,
    pub(super) dialer: Dialer,
}

impl ChannelBuilder {
    pub(crate) fn new(registry: Registry, engine: Engine, service: impl Into<String>) -> Self {
        Self {
            registry,
            engine,
            service: service.into(),
            settings: Settings::default(),
        }
    }

    /// Which instance a call goes to. Default: [`Strategy::P2c`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.settings.strategy = strategy;
        self
    }

    /// Calls go to instances in this zone as long as those that can take them have 70 % of its weight;
    /// below that, to all. Default: zones do not count.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.settings.zone = Some(zone.into());
        self
    }

    /// Only instances whose version fulfils this requirement, in Cargo's notation: see
    /// [`Discover::version`](crate::registry::Discover::version).
    pub fn version(mut self, requirement: impl Into<String>) -> Self {
        self.settings.version = Some(requirement.into());
        self
    }

    /// Only instances with this tag; of several tags, with all.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.settings.tags.insert(tag.into());
        self
    }

    /// For how long a call waits for an endpoint, when none is ready; zero: it fails at once. A call
    /// with an earlier deadline waits until that. Default: 3 s.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.settings.wait = limit;
        self
    }

    /// How long a call may take at most, from the call to the end of its answer: a caller's own deadline
    /// (`Request::set_timeout`) counts if it is earlier. The server is told of it. Default: no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = Some(limit);
        self
    }

    /// What servers are told of who calls, in the header [`CALLER`](super::CALLER); they read it with
    /// [`caller`](super::caller()). Default: the name of the service or the module, if there is one. It
    /// names no instance: whoever wants to know which one calls gives its id, too
    /// (`format!("orders/{}", ctx.instance_id()?)`).
    pub fn caller(mut self, name: impl Into<String>) -> Self {
        self.settings.caller = Some(name.into());
        self
    }

    /// How long a new endpoint takes to reach its full share of the calls, from a tenth of it on: for
    /// servers that are slow until their caches are filled. Those that are there when the channel is
    /// made have it from the start. Default: zero.
    pub fn slow_start(mut self, ramp: Duration) -> Self {
        self.settings.slow_start = ramp;
        self
    }

    /// How long a connection may take to be made: TCP, TLS, and the server's first word. Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// Asks a server that has calls and says nothing for this long whether it is there, by an HTTP/2
    /// PING, and closes the connection if it does not answer for as long. For a proxy between the two
    /// that goes on living when the server does not: a machine that has died is found without.
    ///
    /// A server may close connections that ask more often than it allows. Go's allow one PING in five
    /// minutes if they are not told otherwise; tonic's do not count. Default: never.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.settings.keep_alive = Some(interval);
        self
    }

    /// Connects with TLS. What the options say of etcd holds for the instances: the authority that
    /// signed their certificates, the caller's own certificate and key. Their certificates are checked
    /// against the hosts of their addresses, or else against
    /// [`server_name`](TlsOptions::server_name), which instances that are registered by their IP addresses
    /// mostly need. Default: plain text.
    ///
    /// ```
    /// # async fn secured(coordinator: &coord::Coordinator) -> coord::Result<()> {
    /// let mut tls = coord::TlsOptions::default();
    /// tls.ca = Some("/etc/ssl/users-ca.pem".into()); // a path, or PEM text; without: the machine's own
    /// tls.server_name = Some("users.internal".into());
    /// let channel = coordinator.channel("user-service").tls(tls).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// With another clock.
    #[cfg(test)]
    pub(super) fn clock(mut self, clock: crate::clock::Clock) -> Self {
        self.engine.clock = clock;
        self
    }

    async fn check(&self) -> Result<(Filter, Dialer)> {
        let settings = &self.settings;
        let mut faults = Vec::new();
        if let Err(Error::Invalid { faults: named, .. }) =
            self.engine.layout.instances(&self.service)
        {
            let what =
                "a channel takes the name that instances are registered under, not an address";
            faults.extend(named.iter().map(|fault| format!("{fault}: {what}")));
        }
        let filter = Filter::new(settings.version.as_deref(), &settings.tags);
        let filter = filter.map_err(|fault| faults.push(fault)).ok();
        let limits = [
            ("connect_timeout", Some(settings.connect_timeout)),
            ("keep_alive", settings.keep_alive),
        ];
        for (what, limit) in limits {
            if limit.is_some_and(|limit| limit.is_zero()) {
                faults.push(format!("`{what}` is zero"));
            }
        }
        let tasks = self.engine.tasks.here();
        let clock = self.engine.clock.clone();
        let dialer = Dialer::new(tasks, clock, settings.connect_timeout, settings.keep_alive);
        let dialer = self.secured(dialer).await;
        let dialer = dialer.map_err(|all| faults.extend(all)).ok();
        match (filter, dialer) {
            (Some(filter), Some(dialer)) if faults.is_empty() => Ok((filter, dialer)),
            _ => Err(Error::Invalid {
                context: Context::new(CHANNEL).key(&*self.service),
                faults,
            }),
        }
    }

    #[cfg(feature = "tls")]
    async fn secured(&self, dialer: Dialer) -> Result<Dialer, Vec<String>> {
        match &self.settings.tls {
            Some(options) => {
                let tls = super::tls::Tls::read(options, &self.engine.tasks).await?;
                Ok(dialer.tls(tls))
            }
            None => Ok(dialer),
        }
    }

    #[cfg(not(feature = "tls"))]
    async fn secured(&self, dialer: Dialer) -> Result<Dialer, Vec<String>> {
        match &self.settings.tls {
            Some(_) => Err(vec!["TLS needs the feature `tls` of this crate".into()]),
            None => Ok(dialer),
        }
    }
}

impl IntoFuture for ChannelBuilder {
    type Output = Result<Channel>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Channel>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (filter, dialer) = self.check().await?;
            let events = self.registry.watch(&self.service)?;
            let view = self.registry.view(&self.service).await?;
            let wanted = Wanted {
                settings: self.settings,
                filter,
                dialer,
            };
            Ok(keeper::start(&self.engine, view, events, wanted))
        })
    }
}
