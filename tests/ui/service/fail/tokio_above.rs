#[tokio::main]
#[coord::service(name = "a")]
async fn main() {}
