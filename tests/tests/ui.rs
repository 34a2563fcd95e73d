//! Compile-time behaviour of the macros: what must compile, and what a mistake is told.
//!
//! After a message has changed on purpose: `TRYBUILD=overwrite cargo test -p coord-tests --test ui`,
//! then read the difference. Expected messages are never written by hand.

use std::{fs, path::Path, process::Command};

use xtask::rustc;

/// Relative to the package, as trybuild wants them.
const PASS: &str = "ui/*/pass/*.rs";
const FAIL: &str = "ui/*/fail/*.rs";

/// Where another compiler's messages go, which nobody compares.
const COPIES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/ui");

#[test]
fn what_must_compile_does_and_mistakes_are_told() {
    let cases = trybuild::TestCases::new();
    cases.pass(PASS);
    if rustc::is_ui_version() {
        cases.compile_fail(FAIL);
    } else {
        only_that_they_fail();
    }
}

/// Other compilers word their messages differently: then the cases are copied, and whatever is said
/// of the copies is taken as expected. A case that compiles is an error all the same.
fn only_that_they_fail() {
    let _ = fs::remove_dir_all(COPIES);
    copy(Path::new("ui"), Path::new(COPIES));
    let status = Command::new(std::env::current_exe().expect("the test's own path"))
        .args(["--exact", "copies"])
        .env("TRYBUILD", "overwrite")
        .env("COORD_UI_COPIES", COPIES)
        .status()
        .expect("the test runs again");
    assert!(status.success(), "a case of {FAIL} compiles");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory below target");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if from.extension().is_some_and(|it| it == "rs") {
            fs::copy(&from, &to).expect("a file below target");
        }
    }
}

/// The second half of [`only_that_they_fail`], in a process with another environment.
#[test]
fn copies() {
    if let Ok(copies) = std::env::var("COORD_UI_COPIES") {
        trybuild::TestCases::new().compile_fail(format!("{copies}/*/fail/*.rs"));
    }
}
