//! The search order, on machines laid out in a temporary folder.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::*;

/// A file cannot be run while any process has it open for writing, and a process that another
/// thread is starting has, for a moment, everything that this one has open.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A folder with room for a machine: its home, and one folder of `PATH`.
struct Machine {
    dir: tempfile::TempDir,
    named: Option<PathBuf>,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            dir,
            named: None,
            _alone: alone,
        }
    }

    /// Puts a script there that says it is etcd of this version.
    fn etcd(&self, place: &str, version: &str) -> PathBuf {
        let file = self.dir.path().join(place);
        fs::create_dir_all(file.parent().expect("inside the folder")).expect("created");
        fs::write(
            &file,
            format!("#!/bin/sh\necho 'etcd Version: {version}'\n"),
        )
        .expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("made executable");
        file
    }

    fn find(&self) -> Result<Etcd, Missing> {
        let [home, path] = ["home", "path"].map(|name| self.dir.path().join(name));
        Places {
            named: self.named.clone(),
            home,
            path: path.into_os_string(),
        }
        .find()
    }
}

#[test]
fn the_named_one_wins_and_is_never_replaced() {
    let mut machine = Machine::new();
    let named = machine.etcd("elsewhere/my etcd", "3.5.9");
    machine.etcd("home/3.5.30/etcd", "3.5.30");
    machine.named = Some(named.clone());
    assert_eq!(machine.find().expect("found").server, named);

    machine.etcd("elsewhere/my etcd", "3.4.23");
    assert!(matches!(machine.find(), Err(Missing::Refused(why)) if why.contains("3.4.23")));
    fs::remove_file(&named).expect("removed");
    assert!(matches!(machine.find(), Err(Missing::Refused(_))));
}

#[test]
fn of_the_unpacked_ones_the_newest_wins_over_path() {
    let machine = Machine::new();
    machine.etcd("home/3.5.9/etcd", "3.5.9");
    let newest = machine.etcd("home/3.5.16/etcd", "3.5.16");
    let ctl = machine.etcd("home/3.5.16/etcdctl", "3.5.16");
    machine.etcd("home/.fetch-1/etcd", "3.6.0");
    machine.etcd("path/etcd", "3.6.0");
    let found = machine.find().expect("found");
    assert_eq!((found.server, found.ctl), (newest, Some(ctl)));
}

#[test]
fn what_is_too_old_is_passed_over_and_told() {
    let machine = Machine::new();
    assert!(matches!(machine.find(), Err(Missing::Nowhere(seen)) if seen.is_empty()));
    machine.etcd("home/3.5.1/etcd", "3.5.1");
    let missing = machine.find().expect_err("too old").to_string();
    assert!(missing.contains("3.5.1, older than 3.5.8"), "{missing}");
    let good = machine.etcd("path/etcd", "3.5.8");
    assert_eq!(machine.find().expect("found").server, good);
}
