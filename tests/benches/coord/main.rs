//! What coord costs beside doing the same by hand: `cargo xtask bench [part]`.
//!
//! Every figure is taken beside the one that it is compared with, in turns, in one process and on
//! one server, so that a busy machine slows both. The ratios mean something; the times are this
//! machine's.

mod config;
mod embedded;
mod grpc;
mod instance_id;
mod lock;
mod registry;
mod sample;
mod table;

use std::process::ExitCode;

use table::Table;

fn main() -> ExitCode {
    // Cargo adds an argument of its own.
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let table = runtime.block_on(measure(part.as_deref()));
    print!("{table}");
    if table.is_empty() {
        eprintln!("bench: there is no part {}", part.unwrap_or_default());
        return ExitCode::FAILURE;
    }
    table.verdict()
}

async fn measure(part: Option<&str>) -> Table {
    let wanted = |name| part.is_none_or(|part| part == name);
    let mut table = Table::default();
    if wanted("config") {
        config::measure(&mut table).await;
    }
    if wanted("embedded") {
        embedded::measure(&mut table).await;
    }
    if wanted("grpc") {
        grpc::measure(&mut table).await;
    }
    if wanted("instance_id") {
        instance_id::measure(&mut table).await;
    }
    if wanted("lock") {
        lock::measure(&mut table).await;
    }
    if wanted("registry") {
        registry::measure(&mut table).await;
    }
    table
}
