//! [`Options`]: what a coordinator is told: where etcd is, how long to wait, where keys stand.

mod env;
mod validate;

pub(crate) use validate::{endpoint_uri, ttl_fault};

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// A value that is never shown: `Debug` prints `***`, and nothing else in this crate prints it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A certificate or key: where it is, or the PEM text itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum Pem {
    /// Read when the coordinator connects.
    Path(PathBuf),
    /// PEM text.
    Inline(Secret),
}

#[cfg(feature = "tls")]
impl Pem {
    /// The PEM text.
    pub(crate) async fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Path(path) => tokio::fs::read(path).await,
            Self::Inline(text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }
}

impl From<String> for Pem {
    /// Text with a `-----BEGIN` line is PEM; anything else is a path.
    fn from(text: String) -> Self {
        if text.contains("-----BEGIN") {
            Self::Inline(Secret::new(text))
        } else {
            Self::Path(PathBuf::from(text))
        }
    }
}

impl From<&str> for Pem {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Inline(_) => f.write_str("(PEM text)"),
        }
    }
}

/// How to connect and what the parts do by default.
///
/// Every field has a default, so a settings file names only what differs:
///
/// ```
/// let options: coord::Options = serde_json::from_str(
///     r#"{ "endpoints": ["etcd-0:2379"], "requestTimeout": "3s", "lock": { "ttl": "10s" } }"#,
/// )?;
/// assert_eq!(options.request_timeout, std::time::Duration::from_secs(3));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Whether there is an etcd at all. Default: there is.
    pub mode: Mode,
    /// What stands in for other processes when there is no etcd.
    pub off: OffOptions,
    /// etcd's client URLs, tried in this order: `host:port`, `http://…` or `https://…`.
    /// Default: none, and connecting fails with [`NotConfigured`](crate::Error::NotConfigured);
    /// only [`development`](Self::development) fills in localhost.
    pub endpoints: Vec<String>,
    /// etcd user. Default: none.
    pub user: Option<String>,
    /// The user's password. Default: none.
    pub password: Option<Secret>,
    /// TLS for `https` endpoints. Default: the machine's own certificate authorities, no client certificate.
    pub tls: TlsOptions,
    /// Longest time for one endpoint to accept a connection and answer, and for
    /// [`connect`](crate::Coordinator::connect) as a whole. Default: 5 s.
    #[serde(with = "duration", alias = "connectTimeout")]
    pub connect_timeout: Duration,
    /// Longest time for one call, from sending to the answer. Default: 5 s.
    #[serde(with = "duration", alias = "requestTimeout")]
    pub request_timeout: Duration,
    /// A connection that carries calls is pinged when it was silent for this long; below 5 s etcd
    /// closes it. Default: 10 s.
    #[serde(with = "duration", alias = "keepAliveInterval")]
    pub keep_alive_interval: Duration,
    /// A ping that is not answered for this long breaks the connection. Default: 5 s.
    #[serde(with = "duration", alias = "keepAliveTimeout")]
    pub keep_alive_timeout: Duration,
    /// Put before every key that is not absolute: empty, or without a leading and with a trailing
    /// slash (the trailing one is added). Default: empty.
    pub namespace: String,
    /// Values for placeholders in config prefixes: `{env}` in `#[coord(prefix = "{env}/app")]`.
    pub vars: BTreeMap<String, String>,
    /// How the caller's reads and idempotent calls are repeated. The engines never give up.
    pub retry: RetryOptions,
    /// Config.
    pub config: ConfigOptions,
    /// Locks.
    pub lock: LockOptions,
    /// Registry and instance ids.
    pub registry: RegistryOptions,
}

/// Whether there is an etcd. See [`Options::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// There is; it is at the [endpoints](Options::endpoints).
    #[default]
    Etcd,
    /// There is none, and nothing is coordinated with any other process: for a developer's machine,
    /// where one process of a system is tried alone. Needs the feature `embedded`.
    ///
    /// Everything works, in this process alone: the coordinators of the process share a store in its
    /// memory, which is gone with the last of them. Endpoints, user and TLS are ignored. A config
    /// has its defaults and what the process itself writes; a lock keeps out the process's own
    /// tasks; the first [instance id](OffOptions::instance_id) is fixed; and other services are
    /// found where [the options](OffOptions::endpoints) say.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> coord::Result<()> {
    /// use coord::{Coordinator, Mode, Options};
    ///
    /// let mut options = Options::default(); // or COORD_MODE=off and Options::from_env()
    /// options.mode = Mode::Off;
    /// options.off.instance_id = Some(7);
    /// options.off.endpoints.insert("mail".into(), vec!["127.0.0.1:50051".into()]);
    ///
    /// let coordinator = Coordinator::connect(options).await?;
    /// let id = coordinator.instance_ids("shop", 0..=1023).acquire().await?;
    /// assert_eq!(id.get()?, 7);
    /// let found = coordinator.registry().discover("mail").await?;
    /// assert_eq!(found[0].address, "127.0.0.1:50051");
    /// # id.release().await?;
    /// # coordinator.close().await;
    /// # Ok(())
    /// # }
    /// ```
    Off,
}

/// What other processes would have said. Used while [`Options::mode`] is [`Mode::Off`], and else
/// not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OffOptions {
    /// The id that this process takes first, in every pool; [`Error::Invalid`] from a pool that it is
    /// not in. `COORD_INSTANCE_ID`. Default: each pool's lowest.
    #[serde(alias = "instanceId")]
    pub instance_id: Option<u32>,
    /// Where other services are, by name: `host:port`, each a healthy instance.
    /// `COORD_STATIC_USER_SERVICE=host:port,host:port` names `user-service`, and `user_service` too.
    /// Default: none.
    pub endpoints: BTreeMap<String, Vec<String>>,
}

/// Certificates, for whoever connects: to etcd ([`Options::tls`]), or through a gRPC channel
/// (`ChannelBuilder::tls`) to instances. Below, they are the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsOptions {
    /// The authority that signed the server's certificate. Default: the machine's own authorities.
    pub ca: Option<Pem>,
    /// The client's certificate; needs `key` too.
    pub cert: Option<Pem>,
    /// The client's private key; needs `cert` too.
    pub key: Option<Pem>,
    /// The name to check the server's certificate against, when it is not the host of its address.
    #[serde(alias = "serverName")]
    pub server_name: Option<String>,
}

/// How often and how fast a failed call is repeated. See [`Options::retry`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryOptions {
    /// Tries in all, the first included. 1: never repeat. Default: 3.
    #[serde(alias = "maxAttempts")]
    pub max_attempts: u32,
    /// Bound of the first wait. Default: 50 ms.
    #[serde(with = "duration")]
    pub initial: Duration,
    /// Bound of every wait. Default: 1 s.
    #[serde(with = "duration")]
    pub max: Duration,
    /// Each bound is the one before times this. Default: 2.
    pub multiplier: f64,
    /// Draw each wait from zero to its bound (default), or take the bound itself.
    pub jitter: bool,
}

/// See [`Options::config`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigOptions {
    /// Where prefixes that do not start with `/` stand, below the namespace. Default: `config/`.
    pub prefix: String,
    /// How often the whole prefix is listed and compared, for the case that etcd lost an event (it
    /// has: etcd 3.5.13 and 3.5.18 mend such faults). Zero: never. Default: 5 min.
    #[serde(with = "duration", alias = "syncInterval")]
    pub sync_interval: Duration,
    /// Whether the config center files what it writes over: who wrote what, when and why. Off: a
    /// write is one put, and nothing can be rolled back. Default: on.
    pub versioning: bool,
    /// How many old steps of one key are kept, beside the current one. At least 1. Default: 100. With
    /// very few, a write whose answer is lost while others write the key may have to say that it may
    /// have been done ([`Error::maybe_applied`](crate::Error::maybe_applied)).
    #[serde(alias = "historyLimit")]
    pub history_limit: u32,
    /// How old a value may be that [`ConfigCenter::get`](crate::ConfigCenter::get) answers without
    /// asking etcd. Zero: always ask. Default: zero.
    #[serde(with = "duration", alias = "cacheTtl")]
    pub cache_ttl: Duration,
}

/// See [`Options::lock`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LockOptions {
    /// Where lock keys stand, below the namespace. Default: `coord/`.
    pub prefix: String,
    /// How long a crashed holder's lock stays taken; renewed as long as the holder lives. Whole
    /// seconds. Default: 15 s.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// How often the lease is renewed. Default: a third of the TTL.
    #[serde(with = "optional_duration", alias = "renewInterval")]
    pub renew_interval: Option<Duration>,
    /// Longest time in the queue when the call says nothing. Default: 30 s.
    #[serde(with = "duration")]
    pub wait: Duration,
    /// Whether a body may acquire its own lock again: see
    /// [`LockBuilder::reentrant`](crate::LockBuilder::reentrant). Default: no.
    pub reentrant: bool,
}

/// See [`Options::registry`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// Where records stand, below the namespace. Default: `coord/`.
    pub prefix: String,
    /// How long a crashed instance stays listed. Whole seconds. Default: 10 s.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// Whether the health checks of registrations run. Off: their instances count as healthy.
    /// Default: on.
    #[serde(alias = "healthCheck")]
    pub health_check: bool,
    /// How often a health check runs that does not say it itself, and how long one may take. Default:
    /// 10 s.
    #[serde(with = "duration", alias = "healthCheckInterval")]
    pub health_check_interval: Duration,
}

impl Options {
    /// For a developer's machine: etcd on `localhost:2379`, short leases, so that a killed process
    /// is forgotten quickly. The only preset that fills in an endpoint.
    ///
    /// ```
    /// assert_eq!(coord::Options::development().endpoints, ["http://localhost:2379"]);
    /// ```
    #[must_use]
    pub fn development() -> Self {
        let mut options = Self::test();
        options.endpoints = vec!["http://localhost:2379".into()];
        options
    }

    /// For production: the defaults, with a patient connect timeout for rolling restarts of etcd.
    #[must_use]
    pub fn production() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            ..Self::default()
        }
    }

    /// For tests: the shortest leases that a loaded machine renews safely.
    #[must_use]
    pub fn test() -> Self {
        let mut options = Self::default();
        options.lock.ttl = Duration::from_secs(5);
        options.registry.ttl = Duration::from_secs(5);
        options
    }

    /// A preset by name: `development`, `production` or `test`.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the presets.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "development" => Ok(Self::development()),
            "production" => Ok(Self::production()),
            "test" => Ok(Self::test()),
            _ => Err(Error::invalid(
                "read options",
                format!("no preset `{name}`: there are `development`, `production` and `test`"),
            )),
        }
    }

    /// The defaults with what the environment says over them: `COORD_ENDPOINTS` (comma-separated),
    /// `COORD_REQUEST_TIMEOUT=3s`, `COORD_LOCK_TTL=10s`: `COORD_` and the option's path in capitals.
    /// `COORD_PRESET` chooses what to start from, `COORD_VAR_<NAME>` sets a placeholder, and a secret
    /// can be in a file: `COORD_PASSWORD_FILE`. `COORD_MODE=off` is for a program that is to run
    /// [without etcd](Mode::Off).
    ///
    /// A variable that begins with `COORD_` and is none of these gets a warning with the nearest name.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every variable that does not parse.
    pub fn from_env() -> Result<Self> {
        env::read(std::env::vars_os())
    }

    /// Adds a value for the placeholder `{name}` in config prefixes.
    #[must_use]
    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Sets [`endpoints`](Self::endpoints).
    #[must_use]
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Checks everything that can be checked without etcd.
    /// [`connect`](crate::Coordinator::connect) calls it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault, not only the first.
    pub fn validate(&self) -> Result<()> {
        let faults = validate::faults(self);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid {
                context: Context::new("use these options"),
                faults,
            })
        }
    }

    /// The namespace as keys begin with it: empty, or ending in `/`.
    pub(crate) fn key_namespace(&self) -> String {
        with_slash(&self.namespace)
    }

    /// Where the parts' keys stand.
    pub(crate) fn layout(&self) -> crate::key::Layout {
        crate::key::Layout::new(
            &self.key_namespace(),
            &with_slash(&self.config.prefix),
            &with_slash(&self.lock.prefix),
            &with_slash(&self.registry.prefix),
        )
    }
}

fn with_slash(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('/') {
        prefix.to_owned()
    } else {
        format!("{prefix}/")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            off: OffOptions::default(),
            endpoints: Vec::new(),
            user: None,
            password: None,
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            namespace: String::new(),
            vars: BTreeMap::new(),
            retry: RetryOptions::default(),
            config: ConfigOptions::default(),
            lock: LockOptions::default(),
            registry: RegistryOptions::default(),
        }
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial: Duration::from_millis(50),
            max: Duration::from_secs(1),
            multiplier: 2.0,
            jitter: true,
        }
    }
}

impl Default for ConfigOptions {
    fn default() -> Self {
        Self {
            prefix: "config/".into(),
            sync_interval: Duration::from_secs(300),
            versioning: true,
            history_limit: 100,
            cache_ttl: Duration::ZERO,
        }
    }
}

impl Default for LockOptions {
    fn default() -> Self {
        Self {
            prefix: "coord/".into(),
            ttl: Duration::from_secs(15),
            renew_interval: None,
            wait: Duration::from_secs(30),
            reentrant: false,
        }
    }
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            prefix: "coord/".into(),
            ttl: Duration::from_secs(10),
            health_check: true,
            health_check_interval: Duration::from_secs(10),
        }
    }
}

/// Durations as people write them: `5s`, `1m 30s`.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!("{text:?} is no duration like `5s`: {error}"))
        })
    }
}

mod optional_duration {
    use std::time::Duration;

    use serde::Deserializer;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(from).map(Some)
    }
}
