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

#[coord::locked("a", busy = skip)]
async fn nothing_to_skip_with() -> coord::Result<u64> {
    Ok(1)
}

#[coord::locked("a", map_err = std::convert::identity)]
async fn mapped_to_another_error() -> Result<u64, NoFrom> {
    Ok(1)
}

#[coord::locked("a", map_err = NoFrom)]
async fn mapped_by_no_function() -> Result<u64, NoFrom> {
    Ok(1)
}

fn main() {}
