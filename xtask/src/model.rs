//! `cargo xtask model`: the model of the lock protocol, with more that may go wrong.

use std::process::Command;

use crate::cargo;

/// The command that runs it. `cargo xtask test` runs it as well, within small bounds.
pub(crate) fn command() -> Command {
    let mut command = cargo::command(&["test", "--package", "coord-model", "--"]);
    // One scenario at a time: each may want gigabytes.
    command
        .args(["--nocapture", "--test-threads", "1"])
        .env("COORD_MODEL", "large");
    command
}
