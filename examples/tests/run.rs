//! Each example ends by itself with exit code 0: on an etcd in its own memory, as it stands, and on
//! the one that `COORD_ENDPOINTS` names.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use coord_tests::{Etcd, EtcdConfig};

/// Those that are run here.
const ENDING: [&str; 5] = ["config", "grpc", "lock", "quickstart", "service"];

/// Those that are not: `cargo xtask demo` runs the first, and the second serves until it is stopped.
const OTHERS: [&str; 2] = ["demo", "embedded-server"];

#[test]
fn every_example_is_known_here() {
    let sources = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    let sources = sources.expect("the examples' folder");
    let found = sources.map(|entry| entry.expect("a file of it").path());
    let found: BTreeSet<_> = found
        .map(|path| path.file_stem().expect("a name").to_owned())
        .collect();
    let known: BTreeSet<_> = ENDING.iter().chain(&OTHERS).map(Into::into).collect();
    assert_eq!(found, known);
}

#[test]
fn without_an_etcd() {
    for name in ENDING {
        run(name, &[]);
    }
}

#[test]
fn with_none_at_all() {
    // Without an etcd each process is alone, and that one needs several.
    for name in ENDING.into_iter().filter(|name| *name != "grpc") {
        run(name, &[("COORD_MODE", "off")]);
    }
}

/// No example has a subscriber for warnings here: whoever tries a service first has none.
#[test]
fn with_one_that_is_away_a_service_says_what_it_waits_for() {
    let environment = [
        ("COORD_ENDPOINTS", "http://127.0.0.1:1"),
        ("COORD_ETCD_DOWN", "500ms"),
    ];
    let output = command("quickstart", &environment).output();
    let output = output.expect("it runs");
    assert!(!output.status.success());
    let err = String::from_utf8_lossy(&output.stderr);
    let said = err.matches("etcd does not answer; trying for 500ms: ");
    assert_eq!(said.count(), 1, "{err}");
    assert!(err.contains("http://127.0.0.1:1"), "{err}");
}

#[tokio::test]
async fn with_a_real_etcd() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    for name in ENDING {
        run(name, &[("COORD_ENDPOINTS", &etcd.endpoint())]);
    }
    // It was that one, and nothing of them is left on it but what was once written.
    let revision = etcd.etcdctl(&["get", "x", "--write-out=fields"]).await;
    assert!(!revision.contains("\"Revision\" : 1\n"), "{revision}");
    let left = etcd.etcdctl(&["get", "--prefix", "", "--keys-only"]).await;
    let left: Vec<_> = left
        .lines()
        .filter(|key| !key.is_empty() && !key.starts_with("coord/history/"))
        .collect();
    assert_eq!(left, [""; 0]);
}

fn command(name: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(built(name));
    // Whoever runs the tests may have an etcd of their own.
    for (variable, _) in env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"COORD_") {
            command.env_remove(variable);
        }
    }
    command.envs(environment.iter().copied());
    command
}

fn run(name: &str, environment: &[(&str, &str)]) {
    let output = command(name, environment).output().expect("it runs");
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    assert!(
        output.status.success(),
        "{name}: {}\n{out}{err}",
        output.status
    );
    assert!(!out.is_empty(), "{name} says nothing");
}

/// Where cargo puts the examples that it builds along with these tests.
fn built(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    let debug = test.ancestors().nth(2).expect("it lies in deps/");
    let built = debug.join("examples").join(name);
    assert!(
        built.exists(),
        "{} is not built: `cargo test -p coord-examples` does",
        built.display()
    );
    built
}
