#[coord::service(name = "a")]
#[tokio::main]
async fn main(_ctx: coord::Context) {}
