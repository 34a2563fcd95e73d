//! [`ReadySet`]: what a call is picked from.

use std::{fmt::Write, sync::Arc, time::Duration};

use super::{
    endpoint::Endpoint,
    pick::Tables,
    probe::{Permit, Probe},
};

/// An idle etcd says something every ten seconds or so: this long without a word is worth telling.
const SILENT: Duration = Duration::from_secs(30);

/// The endpoints that can take calls, at one moment. Immutable: the keeper makes another.
#[derive(Debug, Default)]
pub(super) struct ReadySet {
    /// Picked from; connected when the set was made.
    pub(super) members: Box<[Member]>,
    /// Ejected ones, not among the members, each of which one call may try.
    pub(super) probes: Box<[Probe]>,
    /// What the strategy has worked out beforehand.
    pub(super) tables: Tables,
    /// Why there is nothing to pick from, or not more: for people.
    pub(super) summary: Summary,
}

impl ReadySet {
    /// The right to make the one call that an ejected endpoint is given; a call asks for it before it
    /// picks.
    pub(super) fn probe(&self) -> Option<Permit> {
        self.probes.iter().find_map(Probe::take)
    }

    /// The summary as of now: who has hung up since the set was made is not ready any more.
    pub(super) fn summary(&self) -> Summary {
        let members = self.members.iter();
        let closed = members.filter(|one| !one.endpoint.is_open()).count();
        let mut summary = self.summary.clone();
        // Without a ready one the members are those that leave.
        let state = match summary.ready {
            0 => &mut summary.draining,
            _ => &mut summary.ready,
        };
        *state = state.saturating_sub(closed);
        summary.just_closed = closed;
        summary
    }
}

/// An endpoint and its share.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// As the registry says, less while it starts slowly; above zero.
    pub(super) weight: f64,
}

/// What the registry and the connections look like, for the text of a call that found no endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// The keeper has ended, with the coordinator or with the runtime that the channel was made on:
    /// there will be no other set.
    pub(super) closed: bool,
    /// Instances that the registry names, and that pass the filters.
    pub(super) registered: usize,
    /// Instances that the registry names, and that do not.
    pub(super) filtered: usize,
    pub(super) ready: usize,
    pub(super) connecting: usize,
    /// Those that wait before they are dialled again.
    pub(super) backing_off: usize,
    /// Those that failed too often, probed ones among them.
    pub(super) ejected: usize,
    /// Those that leave, and that calls go to while none is ready.
    pub(super) draining: usize,
    /// Those whose connection was closed since.
    pub(super) just_closed: usize,
    /// The last failure to connect, with the address, among those that are not connected.
    pub(super) last_error: Option<Arc<str>>,
}

impl Summary {
    /// In words. `age`: how long ago anything was heard from etcd about the service; `filters`: what the
    /// channel asks of instances.
    pub(super) fn describe(&self, age: Duration, filters: &str) -> String {
        if self.closed {
            return "the channel's coordinator is closed, or the runtime it was made on has ended"
                .into();
        }
        let mut text = match (self.registered, self.filtered) {
            (0, 0) => "registry: no instance has this name".to_owned(),
            (0, filtered) => format!(
                "registry: none of {} suits the channel ({filters})",
                count(filtered)
            ),
            (registered, 0) => format!("registry: {}", count(registered)),
            (registered, filtered) => {
                format!(
                    "registry: {} ({filtered} filtered out by {filters})",
                    count(registered + filtered)
                )
            }
        };
        // Whole seconds: nobody reads more.
        let age = Duration::from_secs(age.as_secs());
        let silent = if age > SILENT {
            ", and etcd is silent"
        } else {
            ""
        };
        // What is written to a `String` arrives.
        let _ = write!(
            text,
            ", heard of {} ago{silent}",
            humantime::format_duration(age)
        );
        let states = [
            (self.ready, "ready"),
            (self.connecting, "connecting"),
            (self.backing_off, "backing off"),
            (self.ejected, "ejected"),
            (self.draining, "draining"),
            (self.just_closed, "just closed"),
        ];
        let states: Vec<_> = states
            .into_iter()
            .filter(|&(count, _)| count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !states.is_empty() {
            let _ = write!(text, "; connections: {}", states.join(", "));
        }
        if let Some(error) = &self.last_error {
            let _ = write!(text, "; last failure: {error}");
        }
        text
    }
}

fn count(instances: usize) -> String {
    match instances {
        1 => "1 instance".into(),
        more => format!("{more} instances"),
    }
}
