//! [`Settings`]: the words with the environment laid over them, all faults at once.

use std::{fmt::Display, net::SocketAddr, str::FromStr, time::Duration};

use super::builder::Given;
use crate::{
    error::{Context, Error, Result},
    options::Options,
};

const OPERATION: &str = "start service";

/// How a service is run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) options: Options,
    pub(super) listen: Option<SocketAddr>,
    /// `host:port`, or a host for the listener's port.
    pub(super) advertise: Option<String>,
    /// The address that the platform gave this process.
    pub(super) pod_ip: Option<String>,
    pub(super) ttl: Duration,
    pub(super) max_id: Option<u32>,
    pub(super) drain: Duration,
    pub(super) shutdown_timeout: Duration,
    /// How long an etcd that does not answer is waited for at the start.
    pub(super) etcd_down: Duration,
    pub(super) current_thread: bool,
    pub(super) worker_threads: Option<usize>,
}

/// The environment, and what was wrong with it so far.
struct Env<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

impl Settings {
    /// `options` are the environment's, or what is wrong with them. `env` reads a variable; an empty
    /// one is as good as none.
    pub(super) fn resolve(
        given: Given,
        options: Result<Options>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut env = Env {
            read: env,
            faults: Vec::new(),
        };
        let mut options = match options {
            Ok(options) => options,
            Err(Error::Invalid { faults, .. }) => {
                env.faults = faults;
                Options::default()
            }
            Err(error) => return Err(error),
        };
        let name = env.text("COORD_SERVICE_NAME").or(given.name);
        if name.is_none() {
            let fault = "the service has no name: set `name` or COORD_SERVICE_NAME";
            env.faults.push(fault.to_owned());
        }
        if options.endpoints.is_empty() {
            options.endpoints = given.endpoints;
        }
        let listen = env.text("COORD_LISTEN").or(given.listen);
        let listen = listen.and_then(|text| env.parse("the address to listen on", &text));
        let ttl = env.duration("COORD_TTL").or(given.ttl);
        let ttl = ttl.unwrap_or(options.registry.ttl);
        if ttl.is_zero() || ttl.subsec_nanos() != 0 {
            let fault = "the TTL must be whole seconds above zero";
            env.faults.push(fault.to_owned());
        }
        let max_id = match (env.text("COORD_INSTANCE_ID_MAX"), given.max_id) {
            // Without the word there is nobody to use the id.
            (Some(text), Some(_)) => env.parse("COORD_INSTANCE_ID_MAX", &text),
            (_, given) => given,
        };
        let seconds = Duration::from_secs;
        let version = env.text("COORD_SERVICE_VERSION").or(given.version);
        if let Some(version) = &version {
            // For `{version}` in a config's prefix.
            let vars = &mut options.vars;
            vars.entry("version".to_owned())
                .or_insert_with(|| version.clone());
        }
        let settings = Self {
            name: name.unwrap_or_default(),
            version,
            listen,
            advertise: env.text("COORD_ADVERTISE"),
            pod_ip: env.text("POD_IP"),
            ttl,
            max_id,
            drain: env.either("COORD_DRAIN", given.drain, seconds(10)),
            shutdown_timeout: env.either(
                "COORD_SHUTDOWN_TIMEOUT",
                given.shutdown_timeout,
                seconds(15),
            ),
            etcd_down: env.either("COORD_ETCD_DOWN", None, seconds(60)),
            current_thread: given.current_thread,
            worker_threads: given.worker_threads,
            options,
        };
        if let Err(Error::Invalid { faults, .. }) = settings.options.validate() {
            env.faults.extend(faults);
        }
        // What becomes a key is checked before anything is connected or bound.
        if let Err(Error::Invalid { faults, .. }) =
            settings.options.layout().instances(&settings.name)
            && !settings.name.is_empty()
        {
            env.faults.extend(faults);
        }
        match env.faults.is_empty() {
            true => Ok(settings),
            false => Err(Error::Invalid {
                context: Context::new(OPERATION),
                faults: env.faults,
            }),
        }
    }
}

impl Env<'_> {
    fn text(&self, variable: &str) -> Option<String> {
        (self.read)(variable).filter(|text| !text.is_empty())
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, what: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.faults.push(format!("{what}: {text:?}: {error}"));
                None
            }
        }
    }

    fn duration(&mut self, variable: &str) -> Option<Duration> {
        let text = self.text(variable)?;
        match humantime::parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                let fault = format!("{variable}: {text:?} is no duration like `5s`: {error}");
                self.faults.push(fault);
                None
            }
        }
    }

    fn either(&mut self, variable: &str, given: Option<Duration>, default: Duration) -> Duration {
        self.duration(variable).or(given).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: Given, env: &[(&str, &str)]) -> Result<Settings> {
        let read = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(given, Ok(Options::default()), &read)
    }

    fn given() -> Given {
        Given {
            name: Some("given".into()),
            version: Some("1".into()),
            endpoints: vec!["http://given:1".into()],
            listen: Some("0.0.0.0:1".into()),
            drain: Some(Duration::from_secs(3)),
            max_id: Some(7),
            ..Given::default()
        }
    }

    #[test]
    fn the_environment_wins_over_the_words_and_these_over_the_defaults() {
        let settings = resolve(given(), &[]).expect("valid");
        assert_eq!(
            (settings.name.as_str(), settings.max_id),
            ("given", Some(7))
        );
        assert_eq!(settings.options.endpoints, ["http://given:1"]);
        assert_eq!(settings.drain, Duration::from_secs(3));
        assert_eq!(settings.shutdown_timeout, Duration::from_secs(15));
        assert_eq!(settings.ttl, Duration::from_secs(10));

        let over = [
            ("COORD_SERVICE_NAME", "env"),
            ("COORD_SERVICE_VERSION", "2"),
            ("COORD_LISTEN", "127.0.0.1:2"),
            ("COORD_DRAIN", "1s"),
            ("COORD_TTL", "4s"),
            ("COORD_INSTANCE_ID_MAX", "9"),
            ("COORD_ADVERTISE", ""),
        ];
        let settings = resolve(given(), &over).expect("valid");
        assert_eq!((settings.name.as_str(), settings.max_id), ("env", Some(9)));
        assert_eq!(settings.version.as_deref(), Some("2"));
        assert_eq!(settings.options.vars["version"], "2");
        assert_eq!(settings.listen, "127.0.0.1:2".parse().ok());
        assert_eq!(settings.drain, Duration::from_secs(1));
        assert_eq!(settings.ttl, Duration::from_secs(4));
        assert_eq!(settings.advertise, None);
    }

    #[test]
    fn a_variable_that_is_set_wins_over_what_the_service_knows() {
        let mut options = Options::default();
        options.vars.insert("version".into(), "canary".into());
        let settings = Settings::resolve(given(), Ok(options), &|_| None).expect("valid");
        assert_eq!(settings.options.vars["version"], "canary");
        assert_eq!(settings.version.as_deref(), Some("1"));
    }

    #[test]
    fn all_faults_come_at_once() {
        let bad = [
            ("COORD_SERVICE_NAME", "a/b"),
            ("COORD_LISTEN", "here"),
            ("COORD_DRAIN", "soon"),
            ("COORD_TTL", "1500ms"),
            ("COORD_INSTANCE_ID_MAX", "-1"),
        ];
        let Err(Error::Invalid { faults, .. }) = resolve(given(), &bad) else {
            panic!("all of it is wrong");
        };
        assert_eq!(faults.len(), bad.len(), "{faults:?}");
        let Err(Error::Invalid { faults, .. }) = resolve(Given::default(), &[]) else {
            panic!("it has no name");
        };
        assert!(faults[0].contains("COORD_SERVICE_NAME"), "{faults:?}");
    }

    #[test]
    fn the_options_faults_are_among_them() {
        let read = |name: &str| (name == "COORD_DRAIN").then(|| "soon".to_owned());
        let faults = |options| match Settings::resolve(given(), options, &read) {
            Err(Error::Invalid { faults, .. }) => faults.join("\n"),
            other => panic!("the drain is wrong: {other:?}"),
        };
        let unread = Err(Error::invalid("read", "COORD_LOCK_TTL: no"));
        let mut unusable = Options::default();
        unusable.lock.ttl = Duration::from_millis(1500);
        for (options, named) in [(unread, "COORD_LOCK_TTL"), (Ok(unusable), "lock.ttl")] {
            let faults = faults(options);
            assert!(faults.contains(named), "{faults}");
            assert!(faults.contains("COORD_DRAIN"), "{faults}");
        }
    }

    /// Without the word in the attribute nothing could receive an id.
    #[test]
    fn the_environment_alone_claims_no_id() {
        let without = Given {
            max_id: None,
            ..given()
        };
        let settings = resolve(without, &[("COORD_INSTANCE_ID_MAX", "9")]).expect("valid");
        assert_eq!(settings.max_id, None);
    }
}
