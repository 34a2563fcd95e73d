//! What `#[locked]` says about wrong uses: each error, under the token that is wrong.

#[test]
fn wrong_uses_are_explained_under_the_wrong_token() {
    if !xtask::ui::is_reference_rustc() {
        eprintln!("left out: the texts are of rustc {}", xtask::ui::RUSTC);
        return;
    }
    trybuild::TestCases::new().compile_fail("ui/locked/*.rs");
}
