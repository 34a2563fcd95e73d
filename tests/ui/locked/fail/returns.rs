#[derive(Debug)]
struct NoFrom;

type Alias = Result<u64, NoFrom>;

#[coord::locked("a")]
async fn no_result() -> u64 {
    1
}

#[coord::locked("a")]
async fn no_from() -> Result<u64, NoFrom> {
    Ok(1)
}

#[coord::locked("a")]
async fn aliased() -> Alias {
    Ok(1)
}

fn main() {}
