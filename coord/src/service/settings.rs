//! [`Settings`]: the words with the environment laid over them, all faults at once.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    address::Advertise,
    builder::{Given, GivenId, GivenRuntime, Named, OnExhausted, OnIdLost, Ready},
    environment::{
        Environment, choice, duration, duration_or_off, list, number, over_addresses, over_entries,
        over_listeners, plain,
    },
};
use crate::{
    error::{Context, Error, Result},
    instance_id,
    options::Options,
    registry::InstanceSpec,
};

const OPERATION: &str = "start service";

const READY: &[(&str, Ready)] = &[
    ("manual", Ready::Manual),
    ("listening", Ready::Listening),
    ("immediate", Ready::Immediate),
];
const ORDER: &[(&str, bool)] = &[("any", false), ("dense", true)];
const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];
const ON_ID_LOST: &[(&str, OnIdLost)] = &[("exit", OnIdLost::Exit), ("degrade", OnIdLost::Degrade)];
const ON_EXHAUSTED: &[(&str, OnExhausted)] =
    &[("wait", OnExhausted::Wait), ("fail", OnExhausted::Fail)];

/// How a service is run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) options: Options,
    pub(super) listen: Named<SocketAddr>,
    pub(super) advertise: Named<Advertise>,
    /// The address that the platform gave this process.
    pub(super) platform_ip: Option<IpAddr>,
    pub(super) zone: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) tags: Vec<String>,
    pub(super) metadata: Named<String>,
    pub(super) ttl: Duration,
    pub(super) ready: Ready,
    /// It was asked for in so many words that `main` says when: then nothing else does.
    #[cfg_attr(
        not(feature = "grpc"),
        expect(dead_code, reason = "nothing else would")
    )]
    pub(super) ready_by_hand: bool,
    pub(super) id: Option<IdSettings>,
    pub(super) drain: Duration,
    #[cfg_attr(
        not(feature = "grpc"),
        expect(dead_code, reason = "no requests are heard of")
    )]
    pub(super) quiet: Option<Duration>,
    pub(super) shutdown_timeout: Duration,
    /// How long the user's runtime may be stuck before the registration is no longer renewed.
    pub(super) watchdog: Option<Duration>,
    /// How long an etcd that does not answer is waited for at the start.
    pub(super) etcd_down: Duration,
    pub(super) runtime: GivenRuntime,
    /// What is not the default, and who said so: for one line of the log.
    pub(super) won: Vec<String>,
}

/// The instance id that is claimed.
#[derive(Clone, Debug)]
pub(super) struct IdSettings {
    pub(super) pool: String,
    pub(super) max: u32,
    pub(super) hold: Option<Duration>,
    pub(super) cool_down: Option<Duration>,
    pub(super) window: Option<Duration>,
    pub(super) dense: bool,
    pub(super) sticky: bool,
    pub(super) on_lost: OnIdLost,
    pub(super) on_exhausted: OnExhausted,
}

impl Settings {
    /// `options` are the environment's, or what is wrong with them. `read` reads a variable.
    pub(super) fn resolve(
        given: Given,
        options: Result<Options>,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut env = Environment::new(read);
        let mut options = match options {
            Ok(options) => options,
            Err(Error::Invalid { faults, .. }) => {
                env.faults = faults;
                Options::default()
            }
            Err(error) => return Err(error),
        };
        let name = env.pick("name", "COORD_SERVICE_NAME", given.name, plain);
        let name = env.or_cargo("name", name, given.crate_name);
        if name.is_none() {
            env.fault("the service has no name: set `name` or COORD_SERVICE_NAME");
        }
        let name = name.unwrap_or_default();
        let version = env.pick("version", "COORD_SERVICE_VERSION", given.version, plain);
        let version = env.or_cargo("version", version, given.crate_version);
        connection(&mut env, &mut options, given.endpoints, given.namespace);
        let zone = env.pick("zone", "COORD_ZONE", given.zone, plain);
        let zone = zone.and_then(|zone| match zone.strip_prefix("env:") {
            Some(variable) => env.text(variable),
            None => Some(zone),
        });
        let listen = listen(&mut env, given.listen);
        let advertise = advertise(&mut env, given.advertise, &listen);
        let platform = env.text("POD_IP").or_else(|| env.text("HOST_IP"));
        let metadata = metadata(&mut env, given.metadata);
        let ttl = env.pick("ttl", "COORD_TTL", given.ttl, duration);
        let ttl = ttl.unwrap_or(options.registry.ttl);
        let watchdog = env.pick(
            "watchdog",
            "COORD_WATCHDOG",
            given.watchdog,
            duration_or_off,
        );
        if watchdog == Some(Some(Duration::ZERO)) {
            env.fault("the watchdog's limit must be above zero; `off` switches it off");
        }
        let ready = env.pick("ready", "COORD_READY", given.ready, choice(READY));
        let ready_by_hand = ready == Some(Ready::Manual);
        let ready = ready.unwrap_or_default();
        if ready == Ready::Listening && listen.is_empty() && env.faults.is_empty() {
            env.fault("`ready = listening` needs `listen`: there is no listener to be taken");
        }
        let quiet = env.pick("quiet", "COORD_QUIET", given.quiet, duration);
        let mut time = |word, variable, given, default| {
            env.pick(word, variable, given, duration)
                .unwrap_or(Duration::from_secs(default))
        };
        let drain = time("drain", "COORD_DRAIN", given.drain, 10);
        let shutdown_timeout = time(
            "shutdown_timeout",
            "COORD_SHUTDOWN_TIMEOUT",
            given.shutdown_timeout,
            15,
        );
        let etcd_down = time("etcd_down", "COORD_ETCD_DOWN", given.etcd_down, 60);
        let mut settings = Self {
            weight: env.pick("weight", "COORD_WEIGHT", given.weight, number),
            tags: env
                .pick("tags", "COORD_TAGS", given.tags, list)
                .unwrap_or_default(),
            id: given.id.map(|id| id_settings(&mut env, id, &name)),
            runtime: runtime(&mut env, given.runtime),
            platform_ip: platform.and_then(|ip| ip.parse().ok()),
            watchdog: watchdog.unwrap_or(Some(Duration::from_secs(15))),
            name,
            version,
            options,
            listen,
            advertise,
            zone,
            metadata,
            ttl,
            ready,
            ready_by_hand,
            drain,
            quiet,
            shutdown_timeout,
            etcd_down,
            won: std::mem::take(&mut env.won),
        };
        settings.check(&mut env);
        settings.set_variables();
        match env.faults.is_empty() {
            true => Ok(settings),
            false => Err(Error::Invalid {
                context: Context::new(OPERATION),
                faults: env.faults,
            }),
        }
    }

    /// For the prefixes of configs. What is set for this very purpose wins.
    fn set_variables(&mut self) {
        for (name, value) in [("version", &self.version), ("zone", &self.zone)] {
            if let Some(value) = value {
                let vars = &mut self.options.vars;
                vars.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
    }

    /// What others are told of it, without its further addresses.
    pub(super) fn spec(&self, address: &str) -> InstanceSpec {
        let mut spec = InstanceSpec::new(&*self.name, address).ttl(self.ttl);
        if let Some(version) = &self.version {
            spec = spec.version(version);
        }
        if let Some(zone) = &self.zone {
            spec = spec.zone(zone);
        }
        if let Some(weight) = self.weight {
            spec = spec.weight(weight);
        }
        for (key, value) in &self.metadata {
            spec = spec.metadata(key, value);
        }
        spec.tags(&self.tags)
    }

    /// What would be refused later is told before anything is connected or bound.
    fn check(&self, env: &mut Environment<'_>) {
        // Any address: what is wrong with theirs has been told.
        env.faults.extend(self.spec("localhost:1").faults(self.ttl));
        let zone = self.zone.as_deref().unwrap_or_default();
        let layout = self.options.layout();
        let mut results = vec![self.options.validate()];
        if !self.name.is_empty() {
            results.push(layout.instances(&self.name).map(drop));
            results.push(layout.instance("service", zone, "instance").map(drop));
        }
        if let Some(id) = &self.id {
            // That the service's name cannot be is told already.
            let pool = match id.pool == self.name {
                true => "service",
                false => &id.pool,
            };
            let [hold, cool_down, window] = [id.hold, id.cool_down, id.window];
            let checked = instance_id::check(&layout, pool, 0..=id.max, hold, cool_down, window);
            results.push(checked);
        }
        for result in results {
            if let Err(Error::Invalid { faults, .. }) = result {
                env.faults.extend(faults);
            }
        }
    }
}

impl Environment<'_> {
    /// What neither a variable nor the program says.
    fn or_cargo(
        &mut self,
        word: &str,
        picked: Option<String>,
        cargo: Option<&'static str>,
    ) -> Option<String> {
        picked.or_else(|| {
            let value = cargo?;
            self.won(word, &value, "Cargo");
            Some(value.to_owned())
        })
    }
}

/// The options that are words, too. The environment's are read already.
fn connection(
    env: &mut Environment<'_>,
    options: &mut Options,
    endpoints: Option<Vec<String>>,
    namespace: Option<String>,
) {
    match endpoints {
        Some(endpoints) if options.endpoints.is_empty() => {
            env.won("endpoints", &endpoints, "the program");
            options.endpoints = endpoints;
        }
        _ if options.endpoints.is_empty() => {}
        _ => env.won("endpoints", &options.endpoints, "the environment"),
    }
    match namespace {
        Some(namespace) if options.namespace.is_empty() => {
            env.won("namespace", &namespace, "the program");
            options.namespace = namespace;
        }
        _ if options.namespace.is_empty() => {}
        _ => env.won("namespace", &options.namespace, "the environment"),
    }
}

fn listen(env: &mut Environment<'_>, given: Option<Named<String>>) -> Named<SocketAddr> {
    let listen = env.pick_named("listen", "COORD_LISTEN", given, over_listeners);
    let mut addresses = Named::new();
    for (name, text) in listen {
        match text.parse() {
            Ok(address) => addresses.push((name, address)),
            Err(_) => env.fault(format!(
                "the address to listen on, {text:?}, is not an IP address and a port"
            )),
        }
    }
    if addresses.len() > 1 && addresses.iter().any(|(name, _)| name.is_empty()) {
        env.fault("one of several listeners has no name");
    }
    addresses
}

fn advertise(
    env: &mut Environment<'_>,
    given: Option<Named<String>>,
    listen: &Named<SocketAddr>,
) -> Named<Advertise> {
    let variable = "COORD_ADVERTISE";
    let advertise = env.pick_named("advertise", variable, given, over_addresses);
    let mut read = Named::new();
    for (name, text) in advertise {
        let said = match text.strip_prefix("env:") {
            // As good as not said at all.
            Some(variable) => env.text(variable).unwrap_or_else(|| "auto".to_owned()),
            None => text,
        };
        match said.parse::<Advertise>() {
            Ok(advertise) => read.push((name, advertise)),
            Err(fault) => env.fault(fault),
        }
    }
    let named = |name: &str| listen.iter().any(|(known, _)| known == name);
    for (name, said) in &read {
        if name.is_empty() {
            if listen.len() > 1 && said.port().is_some() {
                env.fault("`advertise` has a port, and there are several listeners: name them");
            }
        } else if !listen.is_empty() && !named(name) {
            env.fault(format!("`advertise` names `{name}`, which listens nowhere"));
        }
    }
    read
}

fn metadata(env: &mut Environment<'_>, given: Option<Named<String>>) -> Named<String> {
    let mut metadata = env.pick_named("metadata", "COORD_METADATA", given, over_entries);
    if metadata.iter().any(|(key, _)| key.is_empty()) {
        env.fault("COORD_METADATA is no `KEY=VALUE`");
        metadata.retain(|(key, _)| !key.is_empty());
    }
    metadata
}

/// Without the word there is nobody to use the id, so no variable asks for one.
fn id_settings(env: &mut Environment<'_>, given: GivenId, service: &str) -> IdSettings {
    let word = "instance_id(max)";
    let variable = "COORD_INSTANCE_ID_MAX";
    let max = env.pick(word, variable, Some(given.max), number);
    let variable = "COORD_INSTANCE_ID_POOL";
    let pool = env.pick("instance_id(pool)", variable, given.pool, plain);
    let mut time = |word, variable, given| env.pick(word, variable, given, duration);
    let hold = time("instance_id(hold)", "COORD_INSTANCE_ID_HOLD", given.hold);
    let cool_down = time(
        "instance_id(cool_down)",
        "COORD_INSTANCE_ID_COOL_DOWN",
        given.cool_down,
    );
    let window = time(
        "instance_id(window)",
        "COORD_INSTANCE_ID_WINDOW",
        given.window,
    );
    let mut switch = |word, variable, given: bool, choices| {
        let given = given.then_some(true);
        let picked = env.pick(word, variable, given, choice(choices));
        picked.unwrap_or_default()
    };
    let variable = "COORD_INSTANCE_ID_ORDER";
    let dense = switch("instance_id(dense)", variable, given.dense, ORDER);
    let variable = "COORD_INSTANCE_ID_STICKY";
    let sticky = switch("instance_id(sticky)", variable, given.sticky, SWITCH);
    let on_lost = env.pick(
        "instance_id(on_lost)",
        "COORD_INSTANCE_ID_ON_LOST",
        given.on_lost,
        choice(ON_ID_LOST),
    );
    let on_exhausted = env.pick(
        "instance_id(on_exhausted)",
        "COORD_INSTANCE_ID_ON_EXHAUSTED",
        given.on_exhausted,
        choice(ON_EXHAUSTED),
    );
    IdSettings {
        pool: pool.unwrap_or_else(|| service.to_owned()),
        max: max.unwrap_or(given.max),
        hold,
        cool_down,
        window,
        dense,
        sticky,
        on_lost: on_lost.unwrap_or_default(),
        on_exhausted: on_exhausted.unwrap_or_default(),
    }
}

fn runtime(env: &mut Environment<'_>, mut given: GivenRuntime) -> GivenRuntime {
    let variable = "COORD_WORKER_THREADS";
    let threads = given.worker_threads.take();
    let threads = env.pick("worker_threads", variable, threads, number);
    if threads == Some(0) {
        env.fault("a runtime has at least one worker thread");
    }
    given.worker_threads = threads;
    given
}

#[cfg(test)]
mod tests;
