//! The compiler whose messages the UI tests compare with.

use std::process::Command;

/// Its version, without the patch. Other versions word their messages differently; move it together
/// with the expected messages.
pub const UI_VERSION: &str = "1.95";

/// Whether the compiler of this build is the one that the UI tests compare with.
///
/// # Panics
///
/// If there is no `rustc`.
#[must_use]
pub fn is_ui_version() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("rustc runs");
    // `rustc 1.95.0 (59807616e 2026-04-14)`
    let version = String::from_utf8_lossy(&output.stdout);
    version
        .split_whitespace()
        .nth(1)
        .is_some_and(is_of_ui_version)
}

fn is_of_ui_version(version: &str) -> bool {
    version
        .strip_prefix(UI_VERSION)
        .is_some_and(|patch| patch.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_patch_may_differ() {
        assert!(is_of_ui_version(&format!("{UI_VERSION}.1")));
        assert!(!is_of_ui_version(&format!("{UI_VERSION}0.1")));
        assert!(!is_of_ui_version("1.88.0"));
    }
}
