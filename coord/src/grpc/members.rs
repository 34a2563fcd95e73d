//! [`Members`]: the endpoints of a channel, and what follows for all from what happens to one.
//!
//! Without IO and without a clock, as [`Life`] is: what is to be dialled is [queued](Members::dials).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::uri::Authority;

use super::{
    endpoint::Endpoint,
    load::FAILURES,
    probe::Probe,
    ready::Summary,
    state::{Action, Event, Life, Link},
};
use crate::{
    clock::Instant,
    metrics,
    registry::{Instance, InstanceHealth},
};

/// At most one of so many registered ones is ejected at once; of fewer, one.
const EJECTED: usize = 10;

/// A record's key below the service: its zone, and what its owner calls it.
pub(super) type Name = (Option<String>, String);

pub(super) fn name(instance: &Instance) -> Name {
    (instance.zone.clone(), instance.instance.clone())
}

/// An endpoint, and what the registry says of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<Instance>,
    pub(super) authority: Authority,
    pub(super) life: Life,
    /// While it is connected.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// While it is probed.
    pub(super) probe: Option<Probe>,
    /// It has its whole share from its start: it was there when the channel was made.
    pub(super) warm: bool,
    /// The dial under way, or the one that made its connection.
    dial: u64,
    /// Why it could not be connected, and when.
    failure: Option<(Instant, Arc<str>)>,
}

/// What is to be dialled. Its number comes back with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dial {
    pub(super) number: u64,
    pub(super) authority: Authority,
}

/// What the registry says, at one moment.
#[derive(Debug)]
pub(super) struct Seen<'s> {
    /// What it names, and what suits the channel.
    pub(super) suitable: &'s [Arc<Instance>],
    /// What it names, and what does not.
    pub(super) filtered: &'s [Arc<Instance>],
    /// Those that have said that they take no more, and why.
    pub(super) left: &'s HashMap<Name, InstanceHealth>,
}

/// All endpoints of a channel, also those that the registry does not name any more.
#[derive(Debug, Default)]
pub(super) struct Members {
    service: Arc<str>,
    /// By number, the oldest first.
    all: BTreeMap<u64, Entry>,
    /// The newest of each name.
    named: HashMap<Name, u64>,
    /// By the number of its dial.
    dialled: HashMap<u64, u64>,
    /// Those whose address is none.
    odd: BTreeMap<Name, Arc<str>>,
    filtered: usize,
    numbers: u64,
    dials: Vec<Dial>,
    /// The registry has spoken.
    seen: bool,
    /// Since that was asked last.
    changed: bool,
}

impl Members {
    pub(super) fn new(service: Arc<str>) -> Self {
        Self {
            service,
            ..Self::default()
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.all.values()
    }

    /// Whether anything has changed since this was asked last.
    pub(super) fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether it stands for anything that is named so.
    pub(super) fn knows(&self, name: &Name) -> bool {
        self.named.contains_key(name)
    }

    /// Whether the result of this dial is of use.
    pub(super) fn wants(&self, dial: u64) -> bool {
        self.dialled.contains_key(&dial)
    }

    pub(super) fn probes(&self) -> impl Iterator<Item = Probe> {
        self.entries().filter_map(|entry| entry.probe.clone())
    }

    /// What is to be dialled since this was asked last.
    pub(super) fn dials(&mut self) -> Vec<Dial> {
        std::mem::take(&mut self.dials)
    }

    /// When to call [`due`](Self::due).
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.entries().filter_map(|entry| entry.life.due()).min()
    }

    /// The registry has changed.
    pub(super) fn see(&mut self, seen: &Seen<'_>, now: Instant) {
        let warm = !std::mem::replace(&mut self.seen, true);
        self.changed = true;
        let odd = std::mem::take(&mut self.odd);
        self.filtered = seen.filtered.len();
        let mut gone: BTreeMap<u64, Event> = BTreeMap::new();
        for (name, &number) in &self.named {
            let event = match seen.left.get(name) {
                None => Event::Vanished,
                Some(InstanceHealth::Draining) => Event::Left,
                Some(_) => Event::Barred,
            };
            gone.insert(number, event);
        }
        for record in seen.filtered {
            if let Some(number) = self.named.get(&name(record)) {
                gone.insert(*number, Event::Barred);
            }
        }
        for record in seen.suitable {
            let name = name(record);
            let known = self.named.get(&name).copied();
            let same = known.filter(|number| address(&self.all[number].record) == address(record));
            if let Some(number) = same {
                gone.remove(&number);
                self.registered(number, record, now);
                continue;
            }
            if let Some(moved) = known {
                // Until the new one is connected.
                gone.insert(moved, Event::Vanished);
            }
            match authority(address(record)) {
                Some(authority) => self.insert(name, record.clone(), authority, warm, now),
                None => {
                    let known = odd.get(&name).filter(|known| ***known == *address(record));
                    if known.is_none() {
                        tracing::warn!(target: "coord::grpc", service = &*self.service,
                            instance = record.instance, address = address(record),
                            "the address is not host:port; the instance is left out");
                    }
                    self.odd.insert(name, address(record).into());
                }
            }
        }
        for (number, event) in gone {
            self.step(number, event, now);
        }
        self.look(now);
    }

    fn registered(&mut self, number: u64, record: &Arc<Instance>, now: Instant) {
        self.step(number, Event::Registered, now);
        let Some(entry) = self.all.get_mut(&number) else {
            return;
        };
        let old = std::mem::replace(&mut entry.record, record.clone());
        if old != *record {
            self.step(number, Event::Changed, now);
        }
    }

    fn insert(
        &mut self,
        name: Name,
        record: Arc<Instance>,
        authority: Authority,
        warm: bool,
        now: Instant,
    ) {
        let number = self.number();
        let entry = Entry {
            record,
            authority,
            life: Life::new(now),
            endpoint: None,
            probe: None,
            warm,
            dial: 0,
            failure: None,
        };
        self.all.insert(number, entry);
        self.named.insert(name, number);
        self.step(number, Event::Due, now);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The dial `number` has made `endpoint`. It is not kept if nobody wants it any more.
    pub(super) fn connected(&mut self, number: u64, endpoint: Arc<Endpoint>, now: Instant) {
        let Some(&id) = self.dialled.get(&number) else {
            return;
        };
        let Some(entry) = self.all.get_mut(&id) else {
            return;
        };
        entry.endpoint = Some(endpoint);
        if entry.failure.take().is_some() {
            tracing::info!(target: "coord::grpc", service = &*self.service,
                address = address(&entry.record), instance = entry.record.instance,
                "connected to the instance");
        }
        let (name, address) = (name(&entry.record), address(&entry.record).to_owned());
        self.step(id, Event::Connected, now);
        let replaced = self.those(|other| {
            self::address(&other.record) == address || self::name(&other.record) == name
        });
        for number in replaced {
            // None that is registered takes notice.
            self.step(number, Event::Replaced, now);
        }
        self.look(now);
    }

    /// The dial `number` has made no connection.
    pub(super) fn refused(&mut self, number: u64, reason: &str, now: Instant) {
        let Some(id) = self.dialled.remove(&number) else {
            return;
        };
        if let Some(entry) = self.all.get_mut(&id) {
            let text = format!("{}: {reason}", address(&entry.record));
            // Once, and not for each try.
            if entry.failure.is_none() {
                tracing::warn!(target: "coord::grpc", service = &*self.service,
                    address = address(&entry.record), instance = entry.record.instance, reason,
                    "cannot connect to the instance; trying on");
            }
            entry.failure = Some((now, text.into()));
        }
        self.step(id, Event::Refused, now);
    }

    /// No more calls can be sent on the connection that the dial `number` has made.
    pub(super) fn broke(&mut self, number: u64, now: Instant) {
        let Some(&id) = self.dialled.get(&number) else {
            return;
        };
        let Some(entry) = self.all.get_mut(&id) else {
            return;
        };
        // Else its dial has not come back yet, and will say so itself.
        if let Some(endpoint) = entry.endpoint.take() {
            entry.warm = false;
            self.dialled.remove(&number);
            let served = endpoint.load.latency(now).is_some();
            self.step(id, Event::Broke { served }, now);
            self.look(now);
        }
    }

    /// The time has come for some.
    pub(super) fn due(&mut self, now: Instant) {
        let due = |entry: &Entry| entry.life.due().is_some_and(|at| at <= now);
        let alone = self.none(|life| life.ready_since().is_some());
        for number in self.those(due) {
            // It leaves, and is all that there is: as long as it answers, it is kept.
            let needed = alone && self.all[&number].life.is_spare();
            self.step(number, if needed { Event::Needed } else { Event::Due }, now);
        }
        self.look(now);
    }

    /// Calls have failed, or a probe has ended.
    pub(super) fn trouble(&mut self, now: Instant) {
        for number in self.those(|entry| entry.probe.is_some()) {
            let probe = self.all[&number].probe.as_ref();
            if let Some(passed) = probe.and_then(Probe::passed) {
                self.step(number, Event::Probed { passed }, now);
            }
        }
        let failing = |entry: &Entry| {
            let endpoint = entry.endpoint.as_ref();
            endpoint.is_some_and(|endpoint| endpoint.load.failures() >= FAILURES)
        };
        for number in self.those(failing) {
            if self.may_eject() {
                self.step(number, Event::Failing, now);
            }
        }
        self.look(now);
    }

    /// One more: some stay, whatever they answer.
    fn may_eject(&self) -> bool {
        let count = |of: fn(&Entry) -> bool| self.entries().filter(|entry| of(entry)).count();
        let registered = count(|entry| entry.life.is_registered());
        let ejected = count(|entry| entry.life.is_ejected());
        let ready = count(|entry| entry.life.ready_since().is_some());
        ejected < (registered / EJECTED).max(1) && ready > 1
    }

    /// If no other is left, not even one that leaves, the ejected ones are.
    fn look(&mut self, now: Instant) {
        if self.none(|life| life.ready_since().is_some() || life.is_spare()) {
            for number in self.those(|entry| entry.life.could_serve()) {
                self.step(number, Event::Needed, now);
            }
        }
    }

    fn none(&self, suits: impl Fn(&Life) -> bool) -> bool {
        !self.entries().any(|entry| suits(&entry.life))
    }

    fn those(&self, suits: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let those = self.all.iter().filter(|(_, entry)| suits(entry));
        those.map(|(number, _)| *number).collect()
    }

    fn step(&mut self, number: u64, event: Event, now: Instant) {
        let Some(entry) = self.all.get_mut(&number) else {
            return;
        };
        let (service, address) = (&*self.service, address(&entry.record));
        let before = entry.life.place();
        let action = entry.life.step(event, now);
        self.changed |= before != entry.life.place();
        match action {
            Some(Action::Dial) => {
                self.numbers += 1;
                entry.dial = self.numbers;
                self.dialled.insert(entry.dial, number);
                self.dials.push(Dial {
                    number: entry.dial,
                    authority: entry.authority.clone(),
                });
            }
            Some(Action::Eject(time)) => {
                entry.warm = false;
                ::metrics::counter!(metrics::GRPC_EJECTIONS, "service" => service.to_owned())
                    .increment(1);
                tracing::warn!(target: "coord::grpc", service, address, instance = entry.record.instance,
                    ?time, "calls to the instance fail: it is ejected");
            }
            Some(Action::Pardon) => {
                if let Some(endpoint) = &entry.endpoint {
                    endpoint.load.renew();
                }
                tracing::info!(target: "coord::grpc", service, address, instance = entry.record.instance,
                    "the instance takes calls again");
            }
            Some(Action::Forget) => {
                self.dialled.remove(&entry.dial);
                let name = name(&entry.record);
                if self.named.get(&name) == Some(&number) {
                    self.named.remove(&name);
                }
                self.all.remove(&number);
                return;
            }
            None => {}
        }
        // A probe that has ended is another's no more.
        let wanted = entry.life.wants_probe();
        if !wanted || entry.probe.as_ref().is_some_and(|p| p.passed().is_some()) {
            entry.probe = None;
        }
        if wanted && entry.probe.is_none() {
            entry.probe = entry.endpoint.clone().map(Probe::new);
        }
    }

    /// What the registry and the connections look like.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary {
            registered: self.odd.len(),
            filtered: self.filtered,
            ..Summary::default()
        };
        for Entry { life, .. } in self.entries() {
            summary.registered += usize::from(life.is_registered());
            let state = match life.place().1 {
                Link::Waiting { .. } => &mut summary.backing_off,
                Link::Connecting => &mut summary.connecting,
                _ if life.ready_since().is_some() => &mut summary.ready,
                _ if life.could_serve() => &mut summary.ejected,
                _ if life.is_spare() => &mut summary.draining,
                _ => continue,
            };
            *state += 1;
        }
        let failures = self.entries().filter_map(|entry| entry.failure.as_ref());
        let last = failures
            .max_by_key(|(at, _)| *at)
            .map(|(_, text)| text.clone());
        let odd = || {
            let (_, address) = self.odd.first_key_value()?;
            Some(format!("{address}: it is not host:port").into())
        };
        summary.last_error = last.or_else(odd);
        summary
    }
}

/// Where its gRPC is: of several listeners the one of that name.
fn address(instance: &Instance) -> &str {
    let named = instance.endpoints.get("grpc");
    named.unwrap_or(&instance.address)
}

/// `host:port`, or nothing.
fn authority(address: &str) -> Option<Authority> {
    let authority = Authority::try_from(address).ok()?;
    let usable = authority.port_u16().is_some_and(|port| port > 0)
        && !authority.host().is_empty()
        && !address.contains('@');
    usable.then_some(authority)
}

#[cfg(test)]
pub(super) mod tests;
