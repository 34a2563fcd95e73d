//! One etcd process: its ports, its folder, its life.

use std::{
    ffi::OsString,
    fmt, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use etcd_client::{Client, ConnectOptions};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{EtcdConfig, access::Access};
use crate::{guardian, ports::Port, process::Process};

/// The folder of its data, in its own.
pub(crate) const DATA: &str = "data";

/// How long one answer is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// How long a start may take, with a machine's other work going on.
const START: Duration = Duration::from_secs(60);

/// A port was taken by something else between the choice and the start.
#[derive(Debug)]
pub(super) struct PortsTaken;

impl fmt::Display for PortsTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port was taken")
    }
}

impl std::error::Error for PortsTaken {}

#[derive(Debug)]
pub(super) struct Member {
    name: String,
    server: PathBuf,
    arguments: Vec<OsString>,
    scheme: &'static str,
    client: Port,
    /// Held for the lock on it; other members know its number.
    _peer: Port,
    process: Mutex<Option<Process>>,
    // After the process: its folder is removed once it is dead.
    dir: TempDir,
}

impl Member {
    /// The members of one cluster, not started.
    pub(super) fn lay_out(
        etcd: &xtask::etcd::Etcd,
        size: usize,
        config: &EtcdConfig,
        access: &Access,
    ) -> anyhow::Result<Vec<Self>> {
        let ports: Vec<_> = (0..size).map(|_| (Port::take(), Port::take())).collect();
        let url = |(i, (_, peer)): (usize, &(Port, Port))| {
            format!("member{i}=http://127.0.0.1:{}", peer.number())
        };
        let cluster = ports
            .iter()
            .enumerate()
            .map(url)
            .collect::<Vec<_>>()
            .join(",");

        let member = |(i, (client, peer)): (usize, (Port, Port))| {
            let name = format!("member{i}");
            let dir = guardian::scratch(&format!("{name}-"));
            let scheme = access.scheme();
            let client_url = format!("{scheme}://127.0.0.1:{}", client.number());
            let peer_url = format!("http://127.0.0.1:{}", peer.number());
            let mut arguments: Vec<OsString> = [
                ("--name", name.as_str()),
                ("--listen-client-urls", &client_url),
                ("--advertise-client-urls", &client_url),
                ("--listen-peer-urls", &peer_url),
                ("--initial-advertise-peer-urls", &peer_url),
                ("--initial-cluster", &cluster),
                // Short, so that leases of a second are granted and elections do not take long.
                ("--heartbeat-interval", "50"),
                ("--election-timeout", "500"),
            ]
            .into_iter()
            .flat_map(|(option, value)| [option.into(), value.into()])
            .collect();
            arguments.extend(["--data-dir".into(), dir.path().join(DATA).into_os_string()]);
            arguments.extend(access.server_arguments());
            arguments.extend(config.arguments.iter().map(OsString::from));
            let server = etcd.server.clone();
            let process = Mutex::new(None);
            Self {
                name,
                server,
                arguments,
                scheme,
                client,
                _peer: peer,
                process,
                dir,
            }
        };
        Ok(ports.into_iter().enumerate().map(member).collect())
    }

    /// Starts the process, and does not wait for it.
    pub(super) fn launch(&self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = Command::new(&self.server);
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // etcd reads its options from the environment too, where the caller may have a client's.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"ETCD_") {
                command.env_remove(variable);
            }
        }
        let process = Process::spawn(&self.name, &mut command)
            .with_context(|| format!("cannot start {}", self.server.display()))?;
        *self.process() = Some(process);
        Ok(())
    }

    /// Waits until it answers a read that needs a leader.
    pub(super) async fn ready(&self, options: ConnectOptions) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let answer = async {
                let mut client = self.connect(options.clone()).await?;
                client
                    .get("coord-tests-ready", None)
                    .await
                    .context("it does not answer")
            };
            let error = match timeout(ANSWER, answer).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error,
                Err(elapsed) => elapsed.into(),
            };
            let ended = self.process().as_ref().and_then(Process::exited);
            if ended.is_none() && started.elapsed() < START {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            let log = self.log();
            if ended.is_some() && log.contains("address already in use") {
                return Err(PortsTaken.into());
            }
            let tail: Vec<_> = log.lines().rev().take(10).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!(
                "{} is not ready: {error:#}; ended: {ended:?}; its log:\n{tail}",
                self.name
            );
        }
    }

    pub(super) async fn connect(&self, options: ConnectOptions) -> anyhow::Result<Client> {
        Client::connect([self.endpoint()], Some(options))
            .await
            .context("cannot connect")
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client.number())
    }

    pub(super) fn with_process<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        act(self
            .process()
            .as_ref()
            .unwrap_or_else(|| panic!("{} is not running", self.name)))
    }

    pub(super) fn kill(&self) {
        self.with_process(Process::kill);
        self.kill_if_running();
    }

    pub(super) fn kill_if_running(&self) {
        // Dropping it kills it.
        drop(self.process().take());
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("etcd.log")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
