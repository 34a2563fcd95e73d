//! The project's own commands: `cargo xtask <command>`.

use clap::Parser;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    /// Find an etcd, or unpack one below target/tools, and print its path.
    Etcd,
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Etcd => println!("{}", xtask::etcd::ensure()?.server.display()),
    }
    Ok(())
}
