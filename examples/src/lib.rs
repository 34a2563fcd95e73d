//! What the examples share: where their etcd is.

use std::{env, sync::OnceLock, thread};

use coord::{Error, Options, embedded::Server};
use tokio::runtime::Builder;

/// The options of the environment; if it names no etcd, on one in this process's memory.
///
/// # Errors
///
/// If a variable of the environment is wrong.
pub fn options() -> coord::Result<Options> {
    let mut options = Options::from_env()?;
    if options.endpoints.is_empty() {
        options.endpoints = endpoints();
    }
    Ok(options)
}

/// For `#[coord::service(endpoints = …)]`: an etcd in this process's memory, which ends with the
/// process; none if `COORD_ENDPOINTS` is set, because what that names is used.
///
/// # Panics
///
/// If it does not start.
pub fn endpoints() -> Vec<String> {
    static SERVER: OnceLock<Server> = OnceLock::new();
    if env::var_os("COORD_ENDPOINTS").is_some_and(|named| !named.is_empty()) {
        return Vec::new();
    }
    let start = || -> Result<Server, Error> {
        let runtime = Builder::new_current_thread().build();
        runtime.expect("a runtime starts").block_on(Server::start())
    };
    let server = SERVER.get_or_init(|| {
        // On a thread of its own, because the caller may be in a runtime already.
        let started = thread::spawn(start).join().expect("no panic");
        started.expect("an embedded etcd starts")
    });
    vec![server.endpoint().to_owned()]
}
