//! Runs the `protoc` that the crate `protoc-bin-vendored` ships, with this program's arguments.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let protoc = match protoc_bin_vendored::protoc_bin_path() {
        Ok(path) => path,
        Err(error) => {
            eprintln!("protoc-shim: no protoc is shipped for this platform: {error}");
            eprintln!("protoc-shim: install protoc, or set PROTOC to its path");
            return ExitCode::FAILURE;
        }
    };
    match Command::new(&protoc).args(std::env::args_os().skip(1)).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("protoc-shim: cannot run {}: {error}", protoc.display());
            ExitCode::FAILURE
        }
    }
}
