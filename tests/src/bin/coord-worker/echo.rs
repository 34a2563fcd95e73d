//! `echo [loudly]`: repeats what it is told. The kit's own tests talk to it.

use coord_tests::worker::wire::{Lines, say};

pub(crate) fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    let loudly = arguments.iter().any(|argument| argument == "loudly");
    let mut lines = Lines::open();
    while let Some(line) = lines.blocking_next() {
        anyhow::ensure!(line != "fail", "told to fail");
        say(if loudly { line.to_uppercase() } else { line });
    }
    Ok(())
}
