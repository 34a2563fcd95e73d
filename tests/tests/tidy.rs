//! The rules of the house that can be checked mechanically.
//!
//! Each rule is a function over source text, and each has a test that shows it a file that breaks
//! it: a rule that cannot fail says nothing.

// Beside this file they would each be a test binary of its own.
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/private.rs"]
mod private;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use code::Code;
use tree::Tree;

/// Fails with every fault of every file, so that they are put right in one go.
#[track_caller]
fn assert_none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}:\n  {}\n", faults.join("\n  "));
}

#[test]
fn imports_run_downwards() {
    let library = Tree::of(&["coord/src"]).library();
    let names = imports::root_names(&library);
    let faults = library
        .iter()
        .flat_map(|code| imports::faults(code, &names))
        .collect();
    assert_none(
        "Imports run downwards only; the layers are in tests/tests/tidy/imports.rs",
        faults,
    );
}

#[test]
fn tasks_clock_and_client_are_used_in_their_rooms() {
    let library = Tree::of(&["coord/src"]).library();
    let faults = library.iter().flat_map(rooms::faults).collect();
    assert_none("Used outside of its room", faults);
}

#[test]
fn private_has_no_logic() {
    let library = Tree::of(&["coord/src"]).library();
    let in_private = |code: &&Code| code.room() == Some("private");
    let faults = library
        .iter()
        .filter(in_private)
        .flat_map(private::faults)
        .collect();
    assert_none("`private` only re-exports, and calls once", faults);
}

#[test]
fn nothing_is_left_for_later() {
    let sources = [
        "coord/src",
        "coord-macros/src",
        "examples",
        "tests/src",
        "xtask/src",
    ];
    let faults = Tree::of(&sources).check(text::left_for_later);
    assert_none("Left for later", faults);
}

#[test]
fn every_documented_example_is_compiled() {
    let everything = [
        "coord",
        "coord-macros",
        "examples",
        "tests/src",
        "xtask/src",
        "*.md",
    ];
    let faults = Tree::of(&everything).check(text::ignored_fences);
    assert_none(
        "Examples that nobody compiles; use `no_run`, or `text` if it is not Rust",
        faults,
    );
}

#[test]
fn no_test_is_ignored() {
    let everything = ["coord", "coord-macros", "examples", "tests", "xtask"];
    let faults = Tree::of(&everything).check(text::ignored_tests);
    assert_none("Tests that nobody runs", faults);
}

#[test]
fn a_file_is_a_room() {
    let faults = Tree::of(&["coord/src", "coord-macros/src"]).check(text::too_long);
    assert_none(
        "Longer than a file may be; split it by what it is about",
        faults,
    );
}
