//! A real etcd, alone or as a cluster.
//!
//! ```no_run
//! # use coord_tests::{Etcd, EtcdConfig};
//! # async fn test() {
//! let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else { return };
//! let mut client = etcd.client().await;
//! client.put("key", "value", None).await.unwrap();
//! etcd.kill();
//! etcd.restart().await;
//! # }
//! ```

mod access;
mod cluster;
mod config;
mod installed;
mod member;
mod tls;

pub use access::{ROOT_PASSWORD, ROOT_USER};
pub use cluster::Cluster;
pub use config::EtcdConfig;
pub use installed::installed;
pub use tls::Tls;

use std::{ffi::OsString, path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, bail};
use etcd_client::{Client, ConnectOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::runtime;
use access::Access;
pub(crate) use member::DATA;
use member::{Member, PortsTaken};

/// How often ports are tried that something else may have: beyond this it is not a coincidence.
const PORT_ATTEMPTS: usize = 5;

/// One real etcd: a single member, or one of a [`Cluster`].
///
/// Data lies in memory if the system has a place there. The shortest lease that it grants has one
/// second: its election timeout is short. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Etcd {
    member: Arc<Member>,
    access: Arc<Access>,
}

impl Etcd {
    /// Starts a single member and waits until it answers.
    ///
    /// # Errors
    ///
    /// If no etcd is found, or if it does not start; the error has the end of its log.
    pub async fn start(config: EtcdConfig) -> anyhow::Result<Self> {
        let mut members = Self::start_members(1, config).await?;
        Ok(members.remove(0))
    }

    /// Starts a single member, or leaves the calling test out, loudly, if there is no etcd.
    ///
    /// # Panics
    ///
    /// If it does not start, or if there is none and `COORD_REQUIRE_ETCD` is `1`.
    pub async fn start_or_skip(config: EtcdConfig) -> Option<Self> {
        installed()?;
        Some(Self::start(config).await.expect("etcd starts"))
    }

    /// The members of one cluster.
    async fn start_members(size: usize, config: EtcdConfig) -> anyhow::Result<Vec<Self>> {
        let etcd = installed::find()?;
        runtime::run(async move {
            let access = Arc::new(Access::new(&config)?);
            for _ in 0..PORT_ATTEMPTS {
                match Self::try_start(etcd, size, &config, &access).await {
                    Err(error) if error.is::<PortsTaken>() => continue,
                    other => return other,
                }
            }
            bail!("{PORT_ATTEMPTS} times the ports of a starting etcd were taken")
        })
        .await
    }

    async fn try_start(
        etcd: &xtask::etcd::Etcd,
        size: usize,
        config: &EtcdConfig,
        access: &Arc<Access>,
    ) -> anyhow::Result<Vec<Self>> {
        let members = Member::lay_out(etcd, size, config, access)?;
        let all: Vec<_> = members
            .into_iter()
            .map(|member| Self {
                member: Arc::new(member),
                access: Arc::clone(access),
            })
            .collect();
        // Each answers only once most of them run.
        all.iter().try_for_each(|etcd| etcd.member.launch())?;
        for etcd in &all {
            etcd.member.ready(access.options_without_user()).await?;
        }
        if config.auth {
            access::enable_auth(all[0].member.connect(access.options_without_user()).await?)
                .await?;
        }
        Ok(all)
    }

    /// Its address with the scheme, as clients take it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.member.endpoint()
    }

    /// The certificates to connect with, if it was started with TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.access.tls()
    }

    /// A raw client, with certificates and the root user where they are needed.
    ///
    /// # Panics
    ///
    /// If it does not connect.
    pub async fn client(&self) -> Client {
        let connected = self.member.connect(self.access.options()).await;
        connected.expect("a raw client connects")
    }

    /// The options of [`client`](Self::client), to connect in another way.
    #[must_use]
    pub fn connect_options(&self) -> ConnectOptions {
        self.access.options()
    }

    /// SIGKILL; returns when it is gone. Its data and its ports stay.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn kill(&self) {
        self.member.kill();
    }

    /// SIGSTOP: it is there and says nothing; returns when it has stopped.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn stop(&self) {
        self.member.with_process(|process| process.stop());
    }

    /// SIGCONT, after [`stop`](Self::stop).
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn cont(&self) {
        self.member.with_process(|process| process.cont());
    }

    /// Starts it again with the same ports and data, and waits until it answers. If it runs it is
    /// killed first.
    ///
    /// # Panics
    ///
    /// If it does not start, or does not answer (as without a quorum).
    pub async fn restart(&self) {
        self.launch();
        self.ready().await;
    }

    /// The first half of [`restart`](Self::restart): does not wait until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn launch(&self) {
        self.member.kill_if_running();
        self.member.launch().expect("etcd starts again");
    }

    /// The second half of [`restart`](Self::restart): waits until it answers.
    ///
    /// # Panics
    ///
    /// If it ends, or does not answer for a minute.
    pub async fn ready(&self) {
        let (member, options) = (Arc::clone(&self.member), self.access.options());
        let ready = runtime::run(async move { member.ready(options).await });
        ready.await.expect("etcd answers");
    }

    /// Runs `etcdctl` on it, with certificates and the root user where they are needed, and returns
    /// what it printed.
    ///
    /// # Panics
    ///
    /// If there is no `etcdctl`, or if it fails; the message has what it printed.
    pub async fn etcdctl(&self, arguments: &[&str]) -> String {
        let access = self.access.etcdctl_arguments();
        etcdctl(&self.endpoint(), &access, arguments).await
    }

    /// What it has logged since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        self.member.log()
    }

    /// The folder with its data and its log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.member.dir()
    }

    /// How many calls of a gRPC method (`Txn`, `Range`) it has taken since it was last started.
    ///
    /// # Panics
    ///
    /// If it does not tell. One with TLS does not.
    pub async fn calls(&self, method: &str) -> u64 {
        let endpoint = self.endpoint();
        let address = endpoint
            .strip_prefix("http://")
            .expect("an endpoint without TLS")
            .to_owned();
        let metrics = runtime::run(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        });
        let metrics = metrics.await.expect("etcd tells its metrics");
        let begin = format!("grpc_server_started_total{{grpc_method=\"{method}\"");
        let counts = metrics.lines().filter(|line| line.starts_with(&begin));
        let counts: Vec<u64> = counts
            .map(|line| line.rsplit(' ').next().and_then(|count| count.parse().ok()))
            .collect::<Option<_>>()
            .expect("counts are whole numbers");
        assert!(!counts.is_empty(), "etcd does not know {method}");
        counts.into_iter().sum()
    }

    /// Whether it leads its cluster, and in which term; `None` if it does not answer.
    pub(crate) async fn leadership(&self) -> Option<(bool, u64)> {
        let (member, options) = (Arc::clone(&self.member), self.access.options());
        let status = runtime::run(async move {
            let status = async {
                member
                    .connect(options)
                    .await?
                    .status()
                    .await
                    .context("status")
            };
            tokio::time::timeout(member::ANSWER, status).await
        });
        let status = status.await.ok()?.ok()?;
        let own = status.header()?.member_id();
        Some((status.leader() == own, status.raft_term()))
    }
}

pub(crate) fn etcdctl_command(endpoint: &str, access: &[OsString], arguments: &[&str]) -> Command {
    let found = installed::find().expect("an etcd was found before");
    let ctl = found.ctl.as_ref();
    let mut command = Command::new(ctl.expect("etcdctl lies beside etcd or on PATH"));
    command.arg("--endpoints").arg(endpoint).args(access);
    // Two and five seconds, if nobody says it: a busy machine takes longer.
    command.args(["--dial-timeout=60s", "--command-timeout=60s"]);
    command.args(arguments).env("ETCDCTL_API", "3");
    command
}

/// Runs `etcdctl` on the server at `endpoint`. It panics as [`Etcd::etcdctl`] says.
pub(crate) async fn etcdctl(endpoint: &str, access: &[OsString], arguments: &[&str]) -> String {
    let mut command = etcdctl_command(endpoint, access, arguments);
    let output = runtime::blocking(move || command.output()).await;
    let output = output.expect("etcdctl runs");
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    assert!(
        output.status.success(),
        "etcdctl {arguments:?} failed: {out}{err}"
    );
    out.into_owned()
}
