//! `coord-fuzz <sequences> <seed> <operations> <pairs>`: compares the embedded server with a real
//! etcd; started by `cargo xtask fuzz`, which says what each number means.

use std::{process::ExitCode, time::Instant};

use anyhow::Context as _;
use coord_tests::differential;

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
    let seeds = seed..seed.saturating_add(sequences);
    let found = differential::fuzz(&mut pairs, seeds, usize::try_from(operations)?).await;
    let seconds = started.elapsed().as_secs_f64();
    match found {
        Ok(tally) => {
            println!("{tally}, in {seconds:.0} s");
            Ok(ExitCode::SUCCESS)
        }
        Err(found) => {
            println!("{found:?}");
            println!(
                "after {seconds:.0} s; again: cargo xtask fuzz --seed {} --sequences 1 --ops {operations}",
                found.seed
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
