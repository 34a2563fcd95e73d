//! `cargo xtask ci`: everything that CI checks, in one target directory.
//!
//! A step that fails does not stop the others: one run shows everything there is to put right.

use std::{
    env,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use crate::{cargo, demo, test};

struct Step {
    name: &'static str,
    command: fn() -> anyhow::Result<Command>,
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        command: || Ok(cargo::command(&["fmt", "--all", "--check"])),
    },
    Step {
        name: "lints",
        command: lints,
    },
    Step {
        name: "no features",
        command: no_features,
    },
    Step {
        name: "gRPC alone",
        command: grpc_alone,
    },
    Step {
        name: "default features",
        command: default_features,
    },
    Step {
        name: "documentation",
        command: documentation,
    },
    Step {
        name: "tests",
        command: || test::command(&test::Arguments::to_the_end()),
    },
    Step {
        name: "demo",
        command: || demo::command(&demo::Arguments::default()),
    },
];

fn lints() -> anyhow::Result<Command> {
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    Ok(cargo::command(&lints))
}

/// The library without what a user can turn off. In the workspace as a whole every feature is on.
fn no_features() -> anyhow::Result<Command> {
    Ok(alone(&["--no-default-features"]))
}

/// gRPC as the only one, which brings no TLS with it.
fn grpc_alone() -> anyhow::Result<Command> {
    Ok(alone(&["--no-default-features", "--features", "grpc"]))
}

/// What a user has who says nothing.
fn default_features() -> anyhow::Result<Command> {
    Ok(alone(&[]))
}

fn alone(features: &[&str]) -> Command {
    let mut command = cargo::command(&["clippy", "--package", "coord"]);
    command.args(features).args(["--", "--deny", "warnings"]);
    command
}

fn documentation() -> anyhow::Result<Command> {
    let mut command = cargo::command(&["doc", "--workspace", "--no-deps"]);
    let flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    command.env(
        "RUSTDOCFLAGS",
        format!("{flags} --deny warnings").trim_start(),
    );
    Ok(command)
}

/// What became of a step.
struct Outcome {
    name: &'static str,
    passed: bool,
    took: Duration,
}

pub(crate) fn run() -> ExitCode {
    let outcomes: Vec<Outcome> = STEPS.iter().map(run_step).collect();
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    println!();
    for Outcome { name, passed, took } in &outcomes {
        let word = if *passed { "passed" } else { "FAILED" };
        println!("{word} {:7.1} s  {name}", took.as_secs_f64());
    }
    println!("ci: {} passed, {failed} failed", outcomes.len() - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_step(step: &Step) -> Outcome {
    let started = Instant::now();
    println!("\n=== {} ===", step.name);
    let ended = (step.command)().and_then(|mut command| cargo::run(&mut command));
    let passed = match ended {
        Ok(code) => code == ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            false
        }
    };
    Outcome {
        name: step.name,
        passed,
        took: started.elapsed(),
    }
}
