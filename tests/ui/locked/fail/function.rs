#[coord::locked("a")]
fn not_async() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a")]
async fn returns_nothing() {}

#[coord::locked("a")]
const fn constant() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a")]
async unsafe fn not_safe() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a")]
async extern "C" fn foreign() -> coord::Result<()> {
    Ok(())
}

#[coord::locked("a")]
struct NotAFunction;

struct Shop;

#[coord::locked("a")]
impl Shop {
    async fn ship(&self) -> coord::Result<()> {
        Ok(())
    }
}

trait Ships {
    #[coord::locked("a")]
    async fn ship(&self) -> coord::Result<()>;
}

#[coord::locked("a")]
fn unknown_future() -> impl Future<Output = coord::Result<()>> {
    Box::pin(async move { Ok(()) })
}

fn main() {}
