//! `cargo xtask demo`: the demo on a real etcd.

use std::process::{Command, ExitCode};

use xtask::etcd::BIN_VARIABLE;

use crate::cargo;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// For the demo itself.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The command that runs the demo, which starts the etcd that [`BIN_VARIABLE`] names. All examples
/// are built first: the demo starts another one of them as a process.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<Command> {
    let etcd = xtask::etcd::ensure()?;
    let built = cargo::run(&mut cargo::command(&[
        "build",
        "--package",
        "coord-examples",
        "--examples",
    ]))?;
    anyhow::ensure!(built == ExitCode::SUCCESS, "the examples do not build");
    let mut command = cargo::command(&["run", "--package", "coord-examples", "--example", "demo"]);
    if !arguments.arguments.is_empty() {
        command.arg("--").args(&arguments.arguments);
    }
    command.env(BIN_VARIABLE, etcd.server);
    Ok(command)
}
