//! What an etcd is started with.

/// How an etcd of the tests is started: plain, unless told otherwise.
#[derive(Clone, Debug, Default)]
pub struct EtcdConfig {
    pub(super) tls: bool,
    pub(super) auth: bool,
    pub(super) arguments: Vec<String>,
}

impl EtcdConfig {
    /// A plain one: no TLS, no users.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients must use TLS and show a certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Clients must name a user; there is [`ROOT_USER`](super::ROOT_USER).
    #[must_use]
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// One more argument for etcd itself, as `--auth-token-ttl=1`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}
