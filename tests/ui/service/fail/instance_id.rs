#[coord::service(instance_id)]
async fn no_words() {}

#[coord::service(instance_id())]
async fn nothing() {}

#[coord::service(instance_id(pool = "workers"))]
async fn no_max() {}

#[coord::service(instance_id(maximum = 7))]
async fn unknown() {}

#[coord::service(instance_id(max = 5_000_000_000))]
async fn too_large() {}

#[coord::service(instance_id(max = 7, max = 8))]
async fn max_twice() {}

#[coord::service(instance_id(max = 7), instance_id(max = 8))]
async fn twice() {}

#[coord::service(instance_id(max = 7, pool = 1, hold = 20, cool_down = "long", window = "1"))]
async fn values() {}

#[coord::service(instance_id(max = 7, order = "dense", sticky = yes, on_lost = panic, on_exhausted = error))]
async fn choices() {}

fn main() {}
