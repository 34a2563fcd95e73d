//! [`Shared`]: what a channel's clones, its calls and its keeper have in common.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::{builder::Strategy, caller::Caller, meter::Meter, pick::Picker, ready::ReadySet};
use crate::{clock::Clock, options::TlsOptions, registry::ServiceView};

/// What the caller wants; checked by the builder.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) strategy: Strategy,
    pub(super) zone: Option<String>,
    pub(super) version: Option<String>,
    pub(super) tags: BTreeSet<String>,
    pub(super) wait: Duration,
    /// Of each call that has no earlier deadline; `None`: as long as it takes.
    pub(super) timeout: Option<Duration>,
    /// What servers are told of who calls; `None`: the module's name.
    pub(super) caller: Option<String>,
    pub(super) slow_start: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) keep_alive: Option<Duration>,
    pub(super) tls: Option<TlsOptions>,
}

impl Settings {
    /// What it asks of instances, for people: `version ^1.4, tag blue`.
    fn filters(&self) -> String {
        let version = self.version.iter().map(|it| format!("version {it}"));
        let tags = self.tags.iter().map(|it| format!("tag {it}"));
        version.chain(tags).collect::<Vec<_>>().join(", ")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            zone: None,
            version: None,
            tags: BTreeSet::new(),
            wait: Duration::from_secs(3),
            timeout: None,
            caller: None,
            slow_start: Duration::ZERO,
            connect_timeout: Duration::from_secs(5),
            keep_alive: None,
            tls: None,
        }
    }
}

/// What a channel's clones and its calls have in common. The keeper has all but the guard: it ends
/// when the last clone is gone.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) service: Arc<str>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) picker: Picker,
    /// What the metrics are told.
    pub(super) meter: Meter,
    /// What goes with each call.
    pub(super) caller: Option<Caller>,
    /// For its age.
    pub(super) view: ServiceView,
    /// Written by the keeper alone.
    pub(super) ready: ArcSwap<ReadySet>,
    /// After each change of `ready`: wakes the calls that wait.
    pub(super) changed: Notify,
    /// Something happened to an endpoint: the keeper looks at all of them.
    pub(super) trouble: Arc<Notify>,
}

impl Shared {
    /// What the registry and the connections look like, for the text of a call that found no endpoint:
    /// `registry: 3 instances (1 filtered out by tag blue), heard of 2s ago; connections: 1 backing off; last
    /// failure: 10.0.0.5:50051: connection refused`.
    pub(super) fn describe(&self, set: &ReadySet) -> String {
        set.summary()
            .describe(self.view.age(), &self.settings.filters())
    }
}

/// Ends the keeper when the last clone of the channel is gone.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) shared: Arc<Shared>,
    pub(super) _keeper: DropGuard,
}
