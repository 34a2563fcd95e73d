use std::time::Duration;

const SECONDS: u32 = 7;

#[coord::service(ttl = SECONDS)]
async fn ttl() {}

fn with_argument(_: Duration) {}

#[coord::service(before = with_argument)]
async fn before() {}

fn main() {}
