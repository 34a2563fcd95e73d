#[coord::locked]
async fn no_key() -> coord::Result<()> {
    Ok(())
}

#[coord::locked(wait = "5s")]
async fn only_words() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", wiat = "5s")]
async fn misspelt() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", colour = "blue", via = 1)]
async fn nothing_near() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", wait = "5 parsecs")]
async fn no_duration() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", wait = 5)]
async fn no_unit() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", wait = "0s")]
async fn no_wait() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", try, wait = std::time::Duration::from_secs(1))]
async fn try_and_wait() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", wait = "1s", wait = forever)]
async fn twice() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", crate = coord)]
async fn relative_path() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", try = true)]
async fn try_with_value() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", guard = "held")]
async fn quoted_guard() -> coord::Result<()> {
    Ok(())
}

#[coord::locked(key = "a")]
async fn named_key() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", timeout = "5s", lease_time = "10s")]
async fn words_of_others() -> coord::Result<()> {
    Ok(())
}

fn main() {}
