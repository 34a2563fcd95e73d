struct Order {
    id: u64,
}

#[coord::locked("")]
async fn empty() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("jobs!")]
async fn terminator() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{id")]
async fn open(id: u64) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/id}")]
async fn closed(id: u64) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{}")]
async fn nothing(id: u64) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders//{id}")]
async fn empty_segment(id: u64) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{1 +}")]
async fn no_expression() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{order_di}")]
async fn misspelt(order_id: u64) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{ordre.id:04}")]
async fn misspelt_field(order: &Order) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{id}")]
async fn no_arguments() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{self.id}")]
async fn no_self(id: u64) -> coord::Result<()> {
    Ok(())
}

#[coord::locked("orders/{type}")]
async fn keyword(r#type: u64) -> coord::Result<()> {
    Ok(())
}

// The items stay: only the errors above.
fn main() {
    let _ = (empty(), misspelt(1), no_self(1));
}
