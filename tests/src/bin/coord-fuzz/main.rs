//! `coord-fuzz <sequences> <seed> <operations> <pairs>`: compares the embedded server with a real
//! etcd; started by `cargo xtask fuzz`, which says what each number means.

use std::{process::ExitCode, time::Instant};

use anyhow::Context as _;
use coord_tests::differential;

/// After how many sequences it says how far it is.
const PART: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|n| n.parse()).collect();
    let numbers = numbers.context("four numbers are wanted")?;
    let [sequences, seed, operations, pairs] = numbers[..] else {
        anyhow::bail!("four numbers are wanted, not {}", numbers.len());
    };
    let etcd = coord_tests::etcd::installed().context("there is no etcd")?;
    println!("embedded against etcd {}", etcd.version);
    for known in differential::known::in_version(etcd.version) {
        println!("left out, as in that version {}", known.what);
    }

    let started = Instant::now();
    let pairs = differential::pairs(usize::try_from(pairs)?).await;
    let mut pairs = pairs.context("there is no etcd")?;
    let operations = usize::try_from(operations)?;
    let end = seed.saturating_add(sequences);
    for part in (seed..end).step_by(PART) {
        let seeds = part..end.min(part + PART as u64);
        match differential::fuzz(&mut pairs, seeds.clone(), operations).await {
            Ok(tally) if seeds.end == end => println!("{tally}"),
            Ok(_) => {}
            Err(found) => {
                println!("{found:?}");
                let again = format!("--seed {} --sequences 1 --ops {operations}", found.seed);
                println!("again: cargo xtask fuzz {again}");
                return Ok(ExitCode::FAILURE);
            }
        }
        let seconds = started.elapsed().as_secs();
        println!("{} of {sequences} in {seconds} s", seeds.end - seed);
    }
    Ok(ExitCode::SUCCESS)
}
