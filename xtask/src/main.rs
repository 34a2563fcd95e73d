//! The project's own commands: `cargo xtask <command>`.

mod bench;
mod cargo;
mod ci;
mod demo;
mod fuzz;
mod model;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    /// Find an etcd, or unpack one below target/tools, and print its path.
    Etcd,
    /// Run all tests with a real etcd, which is fetched if there is none.
    Test(test::Arguments),
    /// Run the demo on a real etcd, with several processes.
    Demo(demo::Arguments),
    /// Measure what coord costs, beside doing the same by hand; prints a Markdown table.
    Bench(bench::Arguments),
    /// Compare the embedded server with a real etcd, with random operations.
    Fuzz(fuzz::Arguments),
    /// Look at every state of the lock protocol's model, within large bounds.
    Model,
    /// Check everything that CI checks.
    Ci,
}

fn main() -> ExitCode {
    run(Xtask::parse()).unwrap_or_else(|error| {
        // What it says is for whoever called it; where in here it was said is not.
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Xtask) -> anyhow::Result<ExitCode> {
    match command {
        Xtask::Etcd => println!("{}", xtask::etcd::ensure()?.server.display()),
        Xtask::Test(arguments) => return cargo::run(&mut test::command(&arguments)?),
        Xtask::Demo(arguments) => return cargo::run(&mut demo::command(&arguments)?),
        Xtask::Bench(arguments) => return cargo::run(&mut bench::command(&arguments)?),
        Xtask::Fuzz(arguments) => return cargo::run(&mut fuzz::command(&arguments)?),
        Xtask::Model => return cargo::run(&mut model::command()),
        Xtask::Ci => return Ok(ci::run()),
    }
    Ok(ExitCode::SUCCESS)
}
