//! A real etcd for the tests and the demo: where it is looked for, and how one is got.
//!
//! The order is: what [`BIN_VARIABLE`] names, the workspace's own tools, `PATH`. What the variable
//! names is used or refused, never silently replaced. [`find`] only looks; [`ensure`] also unpacks
//! one from the system's package manager.

mod apt;
mod sources;
mod version;

pub use version::{OLDEST, Version};

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

/// The environment variable that names the `etcd` to use.
pub const BIN_VARIABLE: &str = "COORD_ETCD_BIN";

/// The environment variable that turns a missing etcd from tests left out into tests that fail.
pub const REQUIRE_VARIABLE: &str = "COORD_REQUIRE_ETCD";

/// An etcd that runs on this machine and is new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// The server.
    pub server: PathBuf,
    /// `etcdctl`, if it lies beside the server or on `PATH`.
    pub ctl: Option<PathBuf>,
    /// What the server says of itself.
    pub version: Version,
}

/// Why there is no etcd to use.
#[derive(Debug)]
pub enum Missing {
    /// The one that [`BIN_VARIABLE`] names cannot be used.
    Refused(String),
    /// There is none, or only such as are too old: one line for each that was looked at.
    Nowhere(Vec<String>),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "{BIN_VARIABLE} cannot be used: {why}"),
            Self::Nowhere(seen) => {
                write!(
                    f,
                    "no etcd {OLDEST} or newer in {BIN_VARIABLE}, target/tools/etcd, PATH"
                )?;
                seen.iter()
                    .try_for_each(|line| write!(f, "\n  not used: {line}"))
            }
        }
    }
}

impl std::error::Error for Missing {}

/// Looks for an etcd, without fetching one.
///
/// # Errors
///
/// [`Missing`], with what was looked at.
pub fn find() -> Result<Etcd, Missing> {
    Places::of_this_machine().find()
}

/// Looks for an etcd, and unpacks one from the system's package manager if there is none.
///
/// # Errors
///
/// If what [`BIN_VARIABLE`] names cannot be used, or if none could be fetched; the error says what
/// to install.
pub fn ensure() -> anyhow::Result<Etcd> {
    match find() {
        Ok(etcd) => Ok(etcd),
        Err(refused @ Missing::Refused(_)) => Err(refused.into()),
        Err(nowhere @ Missing::Nowhere(_)) => {
            eprintln!("xtask: {nowhere}");
            let etcd = apt::fetch(&home()).with_context(|| {
                format!(
                    "no etcd could be fetched. Install etcd {OLDEST} or newer with etcdctl \
                     (Debian: etcd-server and etcd-client; macOS: brew install etcd; else a \
                     release of the etcd project), or set {BIN_VARIABLE} to the path of one"
                )
            })?;
            eprintln!(
                "xtask: etcd {} is now in {}",
                etcd.version,
                etcd.server.display()
            );
            Ok(etcd)
        }
    }
}

/// The folder that holds the unpacked ones, each in a folder named by its version.
fn home() -> PathBuf {
    crate::tools().join("etcd")
}

/// Where to look: a value, so that tests can lay out a machine of their own.
struct Places {
    named: Option<PathBuf>,
    home: PathBuf,
    path: OsString,
}

impl Places {
    fn of_this_machine() -> Self {
        Self {
            named: env::var_os(BIN_VARIABLE)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from),
            home: home(),
            path: env::var_os("PATH").unwrap_or_default(),
        }
    }

    fn find(&self) -> Result<Etcd, Missing> {
        let on_path: Vec<PathBuf> = env::split_paths(&self.path).collect();
        if let Some(named) = &self.named {
            return probe(named, &on_path).map_err(|error| Missing::Refused(format!("{error:#}")));
        }
        let mut seen = Vec::new();
        let mut take = |server: PathBuf| {
            probe(&server, &on_path)
                .map_err(|error| seen.push(format!("{error:#}")))
                .ok()
        };
        // Of several unpacked ones the newest, which is not the order of the folders' names.
        let own = folders(&self.home)
            .into_iter()
            .filter_map(|dir| server_in(&dir));
        let newest = own.filter_map(&mut take).max_by_key(|etcd| etcd.version);
        newest
            .or_else(|| {
                on_path
                    .iter()
                    .filter_map(|dir| server_in(dir))
                    .find_map(&mut take)
            })
            .ok_or(Missing::Nowhere(seen))
    }
}

fn folders(home: &Path) -> Vec<PathBuf> {
    // Hidden ones are fetches under way.
    let hidden = |path: &Path| {
        path.file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut all = vec![home.to_path_buf()];
    let entries = fs::read_dir(home)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    all.extend(entries.filter(|path| path.is_dir() && !hidden(path)));
    all
}

fn server_in(dir: &Path) -> Option<PathBuf> {
    executable_in(dir, "etcd")
}

fn executable_in(dir: &Path, name: &str) -> Option<PathBuf> {
    let file = dir.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    file.is_file().then_some(file)
}

/// Runs `server --version` and accepts it if it is new enough.
fn probe(server: &Path, on_path: &[PathBuf]) -> anyhow::Result<Etcd> {
    let shown = server.display();
    let output = Command::new(server)
        .arg("--version")
        .output()
        .with_context(|| format!("{shown} does not run"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version: Version = text.parse().map_err(|()| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said = text.lines().chain(complaint.lines()).next();
        let said = said.unwrap_or_default();
        anyhow::anyhow!("{shown} --version does not answer as etcd does: {said}")
    })?;
    anyhow::ensure!(
        version >= OLDEST,
        "{shown} is etcd {version}, older than {OLDEST}"
    );
    let beside = server.parent().map(Path::to_path_buf);
    let ctl = beside
        .iter()
        .chain(on_path)
        .find_map(|dir| executable_in(dir, "etcdctl"));
    Ok(Etcd {
        server: server.to_path_buf(),
        ctl,
        version,
    })
}

#[cfg(test)]
mod tests;
