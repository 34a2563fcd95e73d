//! Unpacks Debian's etcd below the workspace, without touching the system.
//!
//! apt gets a configuration, a sources list, a state and a cache of its own, so this needs neither
//! root nor a change of the machine's sources. Two things are the machine's own on purpose: the
//! mirror it is set to (with proxies and credentials), and the keyring that signatures are checked
//! with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use super::{Etcd, probe, sources, sources::Source};

/// The releases of Debian that have a supported etcd, newest first. The machine's own comes last:
/// it may be newer than this list.
const SUITES: [&str; 2] = ["forky", "trixie"];

/// The server, and `etcdctl`.
const PACKAGES: [&str; 2] = ["etcd-server", "etcd-client"];

/// Unpacks the newest etcd that the machine's mirror has and that runs here, into a folder of
/// `home` that is named by its version.
///
/// Two calls side by side each fetch their own; the second to finish uses what the first put there.
pub(super) fn fetch(home: &Path) -> anyhow::Result<Etcd> {
    for tool in ["apt-get", "dpkg-deb"] {
        let runs = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        ensure!(
            runs.is_ok_and(|s| s.success()),
            "this machine has no {tool}"
        );
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let codename = field("VERSION_CODENAME").map(|name| name.trim_matches('"'));
    let sources = sources::distribution(Path::new("/etc/apt"), codename);
    ensure!(
        !sources.is_empty(),
        "no apt source in /etc/apt has this machine's release"
    );

    let mut failures = Vec::new();
    for suite in SUITES.into_iter().chain(codename) {
        for source in &sources {
            // The address is left out of what is printed: it may carry a password.
            eprintln!("xtask: looking for etcd in {suite}, from this machine's own mirror");
            match fetch_from(source, suite, home) {
                Ok(etcd) => return Ok(etcd),
                Err(error) => failures.push(format!("{suite}: {error:#}")),
            }
        }
    }
    bail!(
        "apt has no etcd for this machine:\n  {}",
        failures.join("\n  ")
    )
}

fn fetch_from(source: &Source, suite: &str, home: &Path) -> anyhow::Result<Etcd> {
    fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
    // Beside its destination, so that the rename stays on one file system; hidden, so that no
    // search sees it half done; removed on every way out.
    let work = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(home)?;
    let apt = Apt::lay_out(work.path(), &source.stanza(suite))?;
    apt.run(&["update"])?;
    apt.run(&[&["download"], &PACKAGES[..]].concat())?;

    let tree = work.path().join("tree");
    for package in fs::read_dir(&apt.downloads)?
        .flatten()
        .map(|entry| entry.path())
    {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree))?;
    }
    let fetched = tree.join("usr").join("bin");
    let version = probe(&fetched.join("etcd"), &[])?.version;
    let place = home.join(version.to_string());
    if let Err(error) = fs::rename(&fetched, &place) {
        // Another call put the same version there first; anything else fails in the probe.
        ensure!(
            place.is_dir(),
            "cannot move etcd to {}: {error}",
            place.display()
        );
    }
    probe(&place.join("etcd"), &[])
}

/// An apt whose every file lies below one folder.
struct Apt {
    config: PathBuf,
    downloads: PathBuf,
}

impl Apt {
    fn lay_out(dir: &Path, sources: &str) -> anyhow::Result<Self> {
        let [state, cache, downloads] = ["state", "cache", "downloads"].map(|name| dir.join(name));
        for folder in [
            &state.join("lists/partial"),
            &cache.join("archives/partial"),
            &downloads,
        ] {
            fs::create_dir_all(folder)?;
        }
        let [status, list, config] = [
            state.join("status"),
            dir.join("coord.sources"),
            dir.join("apt.conf"),
        ];
        fs::write(&status, "")?;
        fs::write(&list, sources)?;
        // Read after the machine's configuration. The hooks there act on the system's own apt
        // state; its pins and default release name suites that are not in our list.
        let text = format!(
            "#clear APT::Update;\n#clear APT::Default-Release;\n#clear DPkg::Pre-Invoke;\n\
             #clear DPkg::Post-Invoke;\n\
             Dir::State {state:?};\nDir::State::status {status:?};\nDir::State::lists {:?};\n\
             Dir::Cache {cache:?};\nDir::Cache::archives {:?};\n\
             Dir::Etc::sourcelist {list:?};\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\nAPT::Get::List-Cleanup \"false\";\n\
             // As root apt would hand its folders to another user, who may not reach them here.\n\
             APT::Sandbox::User \"root\";\n",
            state.join("lists"),
            cache.join("archives"),
        );
        fs::write(&config, text)?;
        Ok(Self { config, downloads })
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("apt-get");
        command
            .arg("--quiet=2")
            .arg("--config-file")
            .arg(&self.config)
            .args(arguments);
        run(command.current_dir(&self.downloads))
    }
}

/// Runs a command; its output is shown only in the error, if it fails.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
