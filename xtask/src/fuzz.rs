//! `cargo xtask fuzz`: the embedded server against a real etcd, with random operations.

use std::process::Command;

use xtask::etcd::{BIN_VARIABLE, REQUIRE_VARIABLE};

use crate::cargo;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many sequences of operations.
    #[arg(long, default_value_t = 2_000)]
    sequences: u64,
    /// The seed of the first; each other has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many operations each has.
    #[arg(long, default_value_t = 200)]
    ops: u64,
    /// How many sequences run side by side, each on an etcd of its own.
    #[arg(long, default_value_t = 6)]
    pairs: u64,
}

/// The command that compares; the etcd is there when this returns.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<Command> {
    let etcd = xtask::etcd::ensure()?;
    let mut command = cargo::command(&["run", "--package", "coord-tests", "--bin", "coord-fuzz"]);
    let Arguments {
        sequences,
        seed,
        ops,
        pairs,
    } = arguments;
    command
        .arg("--")
        .args([sequences, seed, ops, pairs].map(ToString::to_string))
        .env(REQUIRE_VARIABLE, "1")
        .env(BIN_VARIABLE, etcd.server);
    Ok(command)
}
