//! The README's Rust is compiled, each block in a function of its own, with the names that it takes
//! for granted; and run on an embedded server, but for what wants an etcd of the environment's.

use std::{fmt::Write as _, fs, path::Path};

/// What the examples mention and do not define.
const TAKEN_FOR_GRANTED: &str = r#"
#![allow(dead_code, unused_imports, unused_variables)]

pub struct Receipt;

#[derive(Debug)]
pub struct ShipError;

impl From<coord::Error> for ShipError {
    fn from(_: coord::Error) -> Self {
        Self
    }
}

pub async fn post(_order: u64) -> Result<Receipt, ShipError> {
    Ok(Receipt)
}

pub async fn serve<T>(
    _listener: tokio::net::TcpListener,
    _config: coord::Config<T>,
    _id: coord::InstanceId,
    _shutdown: coord::Shutdown,
) -> anyhow::Result<()> {
    Ok(())
}

pub async fn serve_both(
    _grpc: tokio::net::TcpListener,
    _http: tokio::net::TcpListener,
    _id: coord::InstanceId,
    _shutdown: coord::Shutdown,
) -> anyhow::Result<()> {
    Ok(())
}

pub fn init_logging() {}

pub use users::{UserClient, UserId, UserServer, Users};

/// As tonic would generate it.
mod users {
    use coord::grpc::Channel;
    use coord_tests::echo::{EchoHandler, pb::echo_server::EchoServer};
    use tonic::{Response, Status};

    pub struct UserId {
        pub id: u64,
    }

    pub struct User {
        pub name: String,
    }

    pub struct UserClient(Channel);

    impl UserClient {
        pub fn new(channel: Channel) -> Self {
            Self(channel)
        }

        pub async fn get(&mut self, _id: UserId) -> Result<Response<User>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    pub struct Users;

    pub struct UserServer;

    impl UserServer {
        pub fn new(_users: Users) -> EchoServer<EchoHandler> {
            EchoHandler::new("users").service()
        }
    }
}

pub async fn write_with_token(_order: u64, _token: i64) -> Result<(), coord::Error> {
    Ok(())
}
"#;

fn in_repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compiled as a part of a program, a test is nothing: so what the README shows of tests is a file
/// that is run.
#[test]
fn the_tests_shown_are_run() {
    let tests = in_repository("examples/tests/testing.rs");
    let (_, shown) = tests.split_once("\n\n").expect("below the title");
    assert!(in_repository("README.md").contains(&format!("```rust\n{shown}```")));
}

#[test]
fn every_rust_block_compiles_and_runs() {
    let readme = in_repository("README.md");
    let mut source = TAKEN_FOR_GRANTED.to_owned();
    let blocks: Vec<_> = readme
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(blocks.len() >= 4, "{} blocks found", blocks.len());
    let mut main = String::new();
    for (number, block) in blocks.iter().enumerate() {
        // A block may declare everything again that another one declares.
        write!(
            source,
            "mod block_{number} {{\n    use super::*;\n    pub async fn block(coordinator: coord::Coordinator) -> coord::Result<()> {{\n{}{block}\nOk(())\n}}\n}}\n",
            if block.contains("struct Db") { "" } else { "#[derive(coord::CoordConfig)]\nstruct Db { host: String }\n" },
        )
        .expect("memory");
        if !block.contains("from_env()") {
            writeln!(
                main,
                "block_{number}::block(server.coordinator().await.unwrap()).await.unwrap();"
            )
            .expect("memory");
        }
    }
    assert!(main.lines().count() >= 3, "{main}");
    write!(
        source,
        "#[tokio::main]\nasync fn main() {{\nlet server = coord::embedded::Server::start().await.unwrap();\n{main}}}\n"
    )
    .expect("memory");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme.rs");
    fs::write(&file, source).expect("a file below target");
    trybuild::TestCases::new().pass(file);
}
