#[coord::locked("a", read = "b")]
async fn two_modes() -> coord::Result<()> {
    Ok(())
}

#[coord::locked(read)]
async fn read_what() -> coord::Result<()> {
    Ok(())
}

#[coord::locked(write = key)]
async fn no_literal(key: &str) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", "b!", "c/{d}")]
async fn the_wrong_ones_of_several() -> coord::Result<()> {
    Ok(())
}

#[coord::locked(read = "a", permits = 4)]
async fn read_permits() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", take = 4)]
async fn take_of_what() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", permits = 4, take = 5)]
async fn take_too_many() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", permits = 0)]
async fn no_permits() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", permits = "4")]
async fn quoted_permits() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", ttl = "1500ms")]
async fn half_a_second() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", max_hold = 5)]
async fn no_unit() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", on_lost = "cancel")]
async fn quoted_choice() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", on_lost = abrot)]
async fn misspelt_choice() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", release = 5)]
async fn no_choice() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", confirm, release = background)]
async fn confirmed_in_the_background() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", confirm = true, reentrant = 1, raw = "yes")]
async fn values_that_nobody_takes() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", busy = ignore)]
async fn another_busy() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", busy = skip, wait = forever)]
async fn never_busy() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", map_err = "Mine::of")]
async fn quoted_path() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", label = 5)]
async fn no_text() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", label = "")]
async fn no_label() -> coord::Result<()> {
    Ok(())
}

// The items stay: only the errors above.
fn main() {
    let _ = (two_modes(), no_literal("a"), no_label());
}
