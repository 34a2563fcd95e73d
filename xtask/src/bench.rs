//! `cargo xtask bench`: what coord costs, beside doing the same by hand.

use std::process::Command;

use xtask::etcd::{BIN_VARIABLE, REQUIRE_VARIABLE};

use crate::cargo;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Measure one part alone: `config`, `embedded`, `grpc`, `instance_id`, `lock`, `registry`.
    part: Option<String>,
}

/// The command that measures; the etcd is there when this returns.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<Command> {
    let etcd = xtask::etcd::ensure()?;
    let mut command = cargo::command(&["bench", "--package", "coord-tests", "--bench", "coord"]);
    command.arg("--").args(&arguments.part);
    command
        .env(REQUIRE_VARIABLE, "1")
        .env(BIN_VARIABLE, etcd.server);
    Ok(command)
}
