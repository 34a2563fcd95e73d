//! What `cargo xtask` and the test kit have in common: where the workspace is, where an etcd
//! is, and which compiler's messages are compared.

pub mod etcd;
pub mod rustc;

use std::path::{Path, PathBuf};

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask lies in a folder of the workspace")
        .to_path_buf()
}

/// The folder for tools that are built or unpacked for this workspace alone.
///
/// Always below the workspace, never below `CARGO_TARGET_DIR`: `xtask/protoc` knows only this one.
#[must_use]
pub fn tools() -> PathBuf {
    root().join("target").join("tools")
}
