//! [`ConfigBuilder`]: binds a struct to its prefix.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Origin,
    center::ConfigCenter,
    live,
    reloader::Reloader,
    shape::CoordConfig,
    template::{self, Variables},
};
use crate::{
    client::Span,
    engine::Engine,
    error::{Context, Error, Result},
    key::Prefix,
};

const BIND: &str = "bind config";

/// Binds a struct to its prefix.
#[derive(Debug)]
#[must_use = "nothing is bound before `start`"]
pub struct ConfigBuilder<T> {
    pub(super) center: ConfigCenter,
    prefix: Option<String>,
    vars: BTreeMap<String, String>,
    of: PhantomData<fn() -> T>,
}

impl<T: CoordConfig> ConfigBuilder<T> {
    pub(crate) fn new(center: ConfigCenter) -> Self {
        Self {
            center,
            prefix: None,
            vars: BTreeMap::new(),
            of: PhantomData,
        }
    }

    /// Where the keys stand, instead of the struct's own `#[coord(prefix = "…")]`. May hold
    /// placeholders too. With a leading `/` it is the key itself; without, it is below the
    /// coordinator's config prefix.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// What stands for `{name}` in the prefix. Wins over [`Options::vars`](crate::Options::vars),
    /// which win over what the coordinator knows of itself: `{service}` (its module's or service's
    /// name) and `{namespace}`.
    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Reads the struct and keeps it current from then on.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) lists every placeholder without a value, or every field that is
    /// missing or wrong; [`Unavailable`](Error::Unavailable) if etcd does not answer within the
    /// connect and the request timeout together.
    ///
    /// # Cancel safety
    /// Safe to drop at any time: the watch ends.
    pub async fn start(self) -> Result<Config<T>> {
        let engine = self.engine();
        engine.check_open(BIND)?;
        let prefix = self.resolve(BIND)?;
        let span = self.span(&prefix);
        let place = match &span {
            Span::Key(_) => prefix.itself().as_str().to_owned(),
            Span::Interval(..) => prefix.as_str().to_owned(),
        };
        let watcher = engine.watcher(format!("config {place}"), span);
        let status = watcher.status();
        let (first, bound) = oneshot::channel();
        let ended = CancellationToken::new();
        let reloader = Reloader::new(prefix);
        let tasks = engine.tasks.clone();
        let asked = Arc::new(Notify::new());
        let follow = live::follow::<T, _>(
            tasks,
            watcher,
            reloader,
            place.clone(),
            asked.clone(),
            first,
        );
        // Runs until it is cancelled: by the guard, or with the coordinator's tasks.
        drop(
            engine
                .tasks
                .spawn(ended.clone().run_until_cancelled_owned(follow)),
        );
        let alive = ended.drop_guard();

        let context = || Context::new(BIND).key(place.as_str());
        let limit = engine.options.connect_timeout + engine.options.request_timeout;
        match engine.clock.timeout(limit, bound).await {
            Ok(Ok(Ok(readers))) => Ok(Config::new(
                place,
                readers,
                Origin::Watched {
                    clock: engine.clock.clone(),
                    status,
                    asked,
                    _alive: alive,
                },
            )),
            Ok(Ok(Err(refusal))) => Err(Error::Invalid {
                context: context(),
                faults: refusal.faults.iter().map(ToString::to_string).collect(),
            }),
            Ok(Err(_)) => Err(Error::Closed { context: context() }),
            Err(_) => Err(Error::Unavailable {
                context: context(),
                maybe_applied: false,
                detail: status.borrow().trouble.clone().unwrap_or_else(|| {
                    format!(
                        "etcd did not answer within {}",
                        humantime::format_duration(limit)
                    )
                }),
            }),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        self.center.engine()
    }

    pub(super) fn resolve(&self, operation: &'static str) -> Result<Prefix> {
        let template = self.prefix.as_deref().or(T::PREFIX).ok_or_else(|| {
            Error::invalid(
                operation,
                format!(
                    "`{}` names no prefix: write `#[coord(prefix = \"…\")]` on it, or call \
                     `.prefix(\"…\")`",
                    std::any::type_name::<T>()
                ),
            )
        })?;
        let engine = self.engine();
        let variables = Variables {
            own: &self.vars,
            shared: &engine.options.vars,
            service: engine.module.as_deref(),
            namespace: &engine.options.namespace,
        };
        let path = template::fill(template, variables).map_err(|faults| Error::Invalid {
            context: Context::new(operation).key(template),
            faults,
        })?;
        engine.layout.config(operation, &path)
    }
}
