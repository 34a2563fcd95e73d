//! The processes that tests start beside themselves: `coord-worker COMMAND ARGUMENT…`.
//!
//! A command is a function over its arguments in a file of its own, and one line in [`COMMANDS`].
//! It talks to the test through [`coord_tests::worker::wire`].

mod echo;
mod etcd;
mod global;
mod grpc;
mod instance_id;
mod lock;
mod member;
mod service;
mod service_words;

use std::process::ExitCode;

type Command = fn(Vec<String>) -> anyhow::Result<()>;

const COMMANDS: &[(&str, Command)] = &[
    ("echo", echo::run),
    ("etcd", etcd::run),
    ("global", global::run),
    ("instance-id", instance_id::run),
    ("snowflakes", instance_id::snowflakes),
    ("lock-abort", lock::abort),
    ("lock-hold", lock::hold),
    ("lock-sections", lock::sections),
    ("lock-write", lock::write),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    // Each is a `main` of its own, with its own exit code.
    match name.as_str() {
        "service" => return service::main(),
        "service-by-hand" => return service::by_hand(),
        "service-grpc" => return grpc::main(),
        "service-member" => return member::main(),
        "service-sync" => return service_words::blocking(),
        "service-words" => return service_words::every(),
        _ => {}
    }
    let Some((_, command)) = COMMANDS.iter().find(|(known, _)| *known == name) else {
        eprintln!("coord-worker: no command {name:?}");
        return ExitCode::from(2);
    };
    match command(arguments.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coord-worker {name}: {error:?}");
            ExitCode::FAILURE
        }
    }
}
