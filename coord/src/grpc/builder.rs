//! [`ChannelBuilder`]: what a channel is to be like. [`Strategy`]: which instance a call goes to.

use std::{future::IntoFuture, pin::Pin, time::Duration};

use super::{channel::Channel, keeper, shared::Settings};
use crate::{engine::Engine, error::Result, options::TlsOptions, registry::Registry};

/// Which instance a call goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Of two drawn at random the one with the smaller expected wait: the peak of its recent
    /// latencies times the calls that it has, over its weight. The default.
    #[default]
    P2c,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// In proportion to the weights, evenly spread.
    Weighted,
    /// The one with the fewest calls in flight, relative to its weight.
    LeastConnections,
}

/// Makes a [`Channel`]; await it. Made by [`Coordinator::channel`](crate::Coordinator::channel).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct ChannelBuilder {
    registry: Registry,
    engine: Engine,
    service: String,
    settings: Settings,
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

    /// Calls go to instances in this zone, as long as enough of its share can take them.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.settings.zone = Some(zone.into());
        self
    }

    /// Only instances whose version fulfils this requirement, in Cargo's notation: `^1.4`.
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
    /// [`caller`](super::caller()). Default: the name of the service or the module, if there is one.
    pub fn caller(mut self, name: impl Into<String>) -> Self {
        self.settings.caller = Some(name.into());
        self
    }

    /// How long a new endpoint takes to reach its full share. Default: zero.
    pub fn slow_start(mut self, ramp: Duration) -> Self {
        self.settings.slow_start = ramp;
        self
    }

    /// Connects with TLS.
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.settings.tls = Some(tls);
        self
    }
}

impl IntoFuture for ChannelBuilder {
    type Output = Result<Channel>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Channel>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let view = self.registry.view(&self.service).await?;
            Ok(keeper::start(&self.engine, view, self.settings))
        })
    }
}
