//! `cargo xtask test`: all tests, and none left out for the want of an etcd.

use std::process::Command;

use xtask::etcd::{BIN_VARIABLE, REQUIRE_VARIABLE};

use crate::cargo;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// For `cargo test`, as `-p coord-tests --test kit -- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Arguments {
    /// Every test binary runs, also after one has failed.
    pub(crate) fn to_the_end() -> Self {
        Self {
            arguments: vec!["--no-fail-fast".to_owned()],
        }
    }
}

/// The command that runs the tests; the etcd is there when this returns.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<Command> {
    let etcd = xtask::etcd::ensure()?;
    let mut command = cargo::command(&["test"]);
    let chosen = |argument: &String| argument == "--package" || argument.starts_with("-p");
    if !arguments.arguments.iter().any(chosen) {
        command.arg("--workspace");
    }
    command
        .args(&arguments.arguments)
        .env(REQUIRE_VARIABLE, "1")
        .env(BIN_VARIABLE, etcd.server);
    Ok(command)
}
