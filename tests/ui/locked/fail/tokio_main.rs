#[tokio::main]
#[coord::locked("a")]
async fn main() -> coord::Result<()> {
    Ok(())
}
