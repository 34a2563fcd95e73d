//! [`Keeper`]: the one task of a channel. It follows the registry, connects, and publishes the ready set.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
};

use arc_swap::ArcSwap;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use http::uri::Scheme;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    builder::Wanted,
    caller::Caller,
    channel::Channel,
    connection::Connection,
    dial::Dialer,
    endpoint::Endpoint,
    filter::Filter,
    gauges::Gauges,
    load::Load,
    members::{Dial, Members, Name, Seen, name},
    meter::Meter,
    pick::Picker,
    ready::{ReadySet, Summary},
    shared::{Owned, Shared},
    shares::{Shares, shares},
};
use crate::{
    clock::{Clock, Instant},
    engine::Engine,
    metrics,
    registry::{InstanceEvent, InstanceEvents, InstanceHealth, InstanceSet, ServiceView},
};

/// So many dials are under way at once; a service may have thousands of instances.
const DIALS: usize = 32;
/// A set is published after so many events at the latest, however fast they come.
const BATCH: usize = 64;

/// Starts a channel's keeper on the runtime of who calls this.
pub(super) fn start(
    engine: &Engine,
    view: ServiceView,
    events: InstanceEvents,
    wanted: Wanted,
) -> Channel {
    let ended = CancellationToken::new();
    let service: Arc<str> = view.service().into();
    let Wanted {
        settings,
        filter,
        dialer,
    } = wanted;
    let scheme = if settings.tls.is_some() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    let shared = Arc::new(Shared {
        service: service.clone(),
        clock: engine.clock.clone(),
        meter: Meter::new(&service),
        caller: settings
            .caller
            .as_deref()
            .or(engine.module.as_deref())
            .map(Caller::new),
        picker: Picker::new(settings.strategy),
        view: view.clone(),
        ready: ArcSwap::from_pointee(ReadySet::default()),
        changed: Notify::new(),
        trouble: Arc::new(Notify::new()),
        settings,
    });
    let (broken, breaks) = mpsc::unbounded_channel();
    let mut keeper = Keeper {
        gauges: Gauges::new(service.clone()),
        members: Members::new(service),
        shared: shared.clone(),
        scheme,
        view,
        events,
        left: HashMap::new(),
        filter,
        dialer,
        queue: VecDeque::new(),
        dials: FuturesUnordered::new(),
        broken,
        breaks,
        ramp: None,
    };
    // A first call finds out whom it waits for.
    keeper.see(&keeper.view.load());
    keeper.publish(engine.clock.now());
    let tasks = engine.tasks.here();
    let end = ended.clone();
    drop(tasks.spawn(async move { end.run_until_cancelled(keeper.run()).await }));
    Channel::new(Owned {
        shared,
        _keeper: ended.drop_guard(),
    })
}

struct Keeper {
    shared: Arc<Shared>,
    scheme: Scheme,
    view: ServiceView,
    /// Tell one that left from one that vanished, which the view does not.
    events: InstanceEvents,
    /// Those that have said that they take no more, and why; as far as they are known here.
    left: HashMap<Name, InstanceHealth>,
    filter: Filter,
    members: Members,
    dialer: Dialer,
    /// To be dialled, once fewer are under way.
    queue: VecDeque<Dial>,
    dials: FuturesUnordered<Dialling>,
    /// The numbers of the dials whose connections can take no more calls.
    broken: mpsc::UnboundedSender<u64>,
    breaks: mpsc::UnboundedReceiver<u64>,
    /// When the shares change by themselves.
    ramp: Option<Instant>,
    gauges: Gauges,
}

type Dialling = Pin<Box<dyn Future<Output = (Dial, Result<Connection, String>)> + Send>>;

enum Happened {
    Seen(Arc<InstanceSet>),
    Told(InstanceEvent),
    Trouble,
    Dialled(Dial, Result<Connection, String>),
    Broke(u64),
    Due,
    /// Nothing, for now.
    Quiet,
}

impl Keeper {
    async fn run(mut self) {
        // Events since a set was published.
        let mut unpublished = 0;
        loop {
            self.dial();
            let due = self.members.due_at().into_iter().chain(self.ramp).min();
            let happened = tokio::select! {
                biased;
                set = self.view.changed() => match set {
                    Ok(set) => Happened::Seen(set),
                    // The coordinator is closed.
                    Err(_) => return,
                },
                event = self.events.next() => match event {
                    Some(event) => Happened::Told(event),
                    None => return,
                },
                () = self.shared.trouble.notified() => Happened::Trouble,
                Some((dial, made)) = self.dials.next() => Happened::Dialled(dial, made),
                Some(number) = self.breaks.recv() => Happened::Broke(number),
                () = until(&self.shared.clock, due) => Happened::Due,
                () = std::future::ready(()), if unpublished > 0 => Happened::Quiet,
            };
            let now = self.shared.clock.now();
            let quiet = matches!(happened, Happened::Quiet);
            match happened {
                Happened::Seen(set) => self.see(&set),
                // A set may be seen before the event that says why somebody is not in it any more.
                Happened::Told(event) => {
                    if self.told(&event) {
                        self.see(&self.view.load());
                    }
                }
                Happened::Trouble => self.members.trouble(now),
                Happened::Dialled(dial, made) => self.dialled(&dial, made, now),
                Happened::Broke(number) => self.members.broke(number, now),
                Happened::Due => self.members.due(now),
                Happened::Quiet => {}
            }
            let ramps = self.ramp.is_some_and(|at| at <= now);
            if self.members.changed() || ramps || unpublished > 0 {
                unpublished += 1;
            }
            // Many that happen at once make one set.
            if quiet || unpublished > BATCH {
                self.publish(now);
                unpublished = 0;
            }
        }
    }

    /// True: somebody has left.
    fn told(&mut self, event: &InstanceEvent) -> bool {
        match event {
            InstanceEvent::Left(instance) => {
                self.left.insert(name(instance), instance.health);
                true
            }
            InstanceEvent::Registered(instance) | InstanceEvent::Expired(instance) => {
                self.left.remove(&name(instance));
                false
            }
            InstanceEvent::Updated { new, .. } => {
                self.left.remove(&name(new));
                false
            }
        }
    }

    fn see(&mut self, set: &InstanceSet) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.told(&event);
        }
        let (suitable, filtered): (Vec<_>, Vec<_>) = set
            .iter()
            .cloned()
            .partition(|instance| self.filter.suits(instance));
        let seen = Seen {
            suitable: &suitable,
            filtered: &filtered,
            left: &self.left,
        };
        self.members.see(&seen, self.shared.clock.now());
        self.left.retain(|name, _| self.members.knows(name));
    }

    /// Begins what is to be dialled.
    fn dial(&mut self) {
        self.queue.extend(self.members.dials());
        while self.dials.len() < DIALS {
            // Somebody has forgotten it meanwhile.
            let Some(dial) = self.queue.pop_front() else {
                return;
            };
            if !self.members.wants(dial.number) {
                continue;
            }
            let (dialer, broken) = (self.dialer.clone(), self.broken.clone());
            self.dials.push(Box::pin(async move {
                let number = dial.number;
                let ended = move || {
                    // An error: the keeper has ended.
                    let _ = broken.send(number);
                };
                let made = dialer.dial(&dial.authority, ended).await;
                (dial, made)
            }));
        }
    }

    fn dialled(&mut self, dial: &Dial, made: Result<Connection, String>, now: Instant) {
        let (service, address) = (&*self.shared.service, dial.authority.as_str());
        let connection = match made {
            Ok(connection) => connection,
            Err(reason) => {
                ::metrics::counter!(metrics::GRPC_CONNECT_FAILURES, "service" => service.to_owned())
                    .increment(1);
                tracing::debug!(target: "coord::grpc", service, address, reason, "cannot connect");
                self.members.refused(dial.number, &reason, now);
                return;
            }
        };
        tracing::debug!(target: "coord::grpc", service, address, "connected");
        let endpoint = Arc::new(Endpoint {
            scheme: self.scheme.clone(),
            authority: dial.authority.clone(),
            load: Load::default(),
            clock: self.shared.clock.clone(),
            connection,
            trouble: self.shared.trouble.clone(),
        });
        self.members.connected(dial.number, endpoint.clone(), now);
        // It may have ended before it was known here: then its end was told too early.
        if !endpoint.is_open() {
            self.members.broke(dial.number, now);
        }
    }

    fn publish(&mut self, now: Instant) {
        let shared = &self.shared;
        let settings = &shared.settings;
        let Shares { members, until } = shares(
            &self.members,
            settings.zone.as_deref(),
            settings.slow_start,
            now,
        );
        let summary = self.members.summary();
        self.gauges.set(&summary);
        self.ramp = until;
        let set = ReadySet {
            tables: shared.picker.tables(&members),
            members: members.into(),
            probes: self.members.probes().collect(),
            summary,
        };
        shared.ready.store(Arc::new(set));
        shared.changed.notify_waiters();
        ::metrics::counter!(metrics::GRPC_UPDATES, "service" => shared.service.to_string())
            .increment(1);
    }
}

impl Drop for Keeper {
    /// With the channel, the coordinator or the runtime: calls that wait, wait for nothing.
    fn drop(&mut self) {
        let summary = Summary {
            closed: true,
            ..Summary::default()
        };
        self.shared.ready.store(Arc::new(ReadySet {
            summary,
            ..ReadySet::default()
        }));
        self.shared.changed.notify_waiters();
    }
}

/// Done at `at`; never, if there is none.
async fn until(clock: &Clock, at: Option<Instant>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
