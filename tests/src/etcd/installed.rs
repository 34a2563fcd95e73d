//! Whether tests with a real etcd can run on this machine.

use std::{
    env,
    io::{self, Write as _},
    sync::OnceLock,
    thread,
};

use xtask::etcd::{Etcd, Missing, REQUIRE_VARIABLE};

/// Looks once for this process: each look runs what it finds, to ask for its version.
pub(super) fn find() -> Result<&'static Etcd, &'static Missing> {
    static FOUND: OnceLock<Result<Etcd, Missing>> = OnceLock::new();
    FOUND.get_or_init(xtask::etcd::find).as_ref()
}

/// The etcd of this machine; `None` if there is none, and then the calling test is to return.
///
/// That a test was left out is told on standard error, past the capture of test output: a test that
/// silently does nothing looks as if it had passed.
///
/// # Panics
///
/// If there is none and `COORD_REQUIRE_ETCD` is `1`, as `cargo xtask test` and CI set it; and if
/// `COORD_ETCD_BIN` names one that cannot be used.
#[must_use]
pub fn installed() -> Option<&'static Etcd> {
    let missing = match find() {
        Ok(etcd) => return Some(etcd),
        Err(missing) => missing,
    };
    let required = env::var_os(REQUIRE_VARIABLE).is_some_and(|value| value == "1");
    assert!(!required, "{REQUIRE_VARIABLE} is 1, and: {missing}");
    // Whoever names one wants the tests to run with it.
    assert!(!matches!(missing, Missing::Refused(_)), "{missing}");

    let test = thread::current().name().unwrap_or("a test").to_owned();
    let told = format!("\nLEFT OUT: {test}: {missing}\n  (`cargo xtask etcd` gets one)\n");
    let _ = io::stderr().write_all(told.as_bytes());
    None
}
