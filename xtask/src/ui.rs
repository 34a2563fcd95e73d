//! Compile-error tests: which compiler their texts are of.

use std::process::Command;

/// The rustc whose messages stand in `tests/ui`: others word them in other ways.
pub const RUSTC: &str = "1.95";

/// Whether the compiler in use is that one.
#[must_use]
pub fn is_reference_rustc() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(version) = Command::new(rustc).arg("--version").output() else {
        return false;
    };
    let version = String::from_utf8_lossy(&version.stdout);
    version.starts_with(&format!("rustc {RUSTC}."))
}
