//! Cargo from inside of `cargo run`.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

/// Cargo in the workspace's root, as if it were called from the shell.
///
/// What the outer cargo tells this program about its own package must not reach the inner one: the
/// build scripts that look at it (ring's does) would run again at every change between the two.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(xtask::root());
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    command
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy());
    std::iter::once("cargo".into())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs the command and passes its exit code on.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<ExitCode> {
    eprintln!("xtask: {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    // No code: a signal ended it.
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
