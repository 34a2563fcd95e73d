//! A real etcd for tests of this crate's inside.
//!
//! Without one these tests say so and pass, unless `COORD_REQUIRE_ETCD` is set.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;

/// One member, gone with this value or with the process.
pub(crate) struct Etcd {
    pub(crate) endpoint: String,
    guard: Child,
    _data: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // Before its folder is removed.
        let _ = self.guard.wait();
    }
}

fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("COORD_ETCD_BIN").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/etcd");
    let own = std::fs::read_dir(tools).into_iter().flatten().flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.map(|version| version.path())
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("etcd"))
        .find(|file| version(file) >= Some(Version::new(3, 5, 8)))
}

fn version(binary: &Path) -> Option<Version> {
    let output = Command::new(binary).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Version::parse(text.lines().next()?.strip_prefix("etcd Version: ")?)
}

pub(super) async fn open_once_up(here: &Here, options: &Options) -> Client {
    let start = here.clock.now();
    loop {
        match here.open(options).await {
            Ok(client) => return client,
            Err(error) => {
                let up = matches!(error, Error::Unavailable { .. });
                assert!(up && here.clock.now().since(start) < HANG, "{error}");
            }
        }
    }
}

impl Etcd {
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("http", &[])
    }

    pub(super) fn start_with(scheme: &str, arguments: &[String]) -> Option<Self> {
        let Some(binary) = binary() else {
            assert!(
                std::env::var_os("COORD_REQUIRE_ETCD").is_none(),
                "COORD_REQUIRE_ETCD is set, but there is no etcd"
            );
            eprintln!("LEFT OUT: no etcd was found; `cargo xtask etcd` gets one");
            return None;
        };
        let [client, peer] = [scheme, "http"].map(|scheme| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("{scheme}://{}", free.local_addr().unwrap())
        });
        let data = match tempfile::tempdir_in("/dev/shm") {
            Ok(memory) => memory,
            Err(_) => tempfile::tempdir().unwrap(),
        };
        // The shell outlives a killed test: it ends the server once its input is closed.
        let guard = Command::new("sh")
            .args([
                "-c",
                r#""$@" >/dev/null 2>&1 </dev/null & cat; kill -9 $!"#,
                "sh",
            ])
            .arg(binary)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            endpoint: client,
            guard,
            _data: data,
        })
    }

    pub(crate) async fn client(&self, here: &Here) -> Client {
        open_once_up(here, &self.options()).await
    }

    pub(super) fn options(&self) -> Options {
        Options {
            endpoints: vec![self.endpoint.clone()],
            ..Options::default()
        }
    }
}
