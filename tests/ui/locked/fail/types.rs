#[coord::locked("a", wait = 2 + 3)]
async fn wait_of_another_type() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", via = "coordinator")]
async fn via_of_another_type() -> coord::Result<()> {
    Ok(())
}

struct NoDisplay;

#[coord::locked("a/{argument}")]
async fn hole_without_display(argument: NoDisplay) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a", permits = "4".len(), take = -1_i32, label = String::new())]
async fn numbers_of_another_type() -> coord::Result<()> {
    Ok(())
}

fn main() {}
